"""What staying put will turn out to earn: a potential that takes the market's luck out of learning.

Prices, outside work and outages do not depend on what the fleet does, so while training in the
simulator the future yield of every network is known, also of those that were not chosen. For rig r
on network n in hour t,

    U[r, n, t] = sum_k gamma^k (yield of r on n in hour t + k), staying for good,

less what warm-up and provisioning still cost, is such knowledge. The reward is shaped by the
potential Phi(state) = U at the rig's own network: r' = r + gamma Phi(s') - Phi(s). That changes no
policy's rank (Ng, Harada, Russell: "Policy invariance under reward transformations", ICML 1999; the
potential is a function of the state and of inputs that no action touches, as in Mao et al.,
"Variance reduction for reinforcement learning in input-driven environments", ICLR 2019), but a
price move that hits a rig wherever it stands leaves r', and a move is credited with its whole later
gain in the hour in which it is made. The gains over staying also feed the critic, never the actor:
what an agent may see is the observation alone.

Potentials may be any function, so this one is simple: pools and demand at the true quotes beside
own work as it stands now, energy at each site's tariff; failures, slippage and sub-pools are left
out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agents.features import squash
from agents.outlook import Observation
from env.exogenous import Quotes
from env.networks.allocation import use_of_supply
from env.observation import column
from env.scenario import BURN_IN_H, Scenario
from env.world import World

LOWEST, HIGHEST, PER_DECADE = -3, 1, 2  # own work over outside work: powers of ten
LEVELS = tuple(
    10.0 ** (k / PER_DECADE) for k in range(PER_DECADE * LOWEST, PER_DECADE * HIGHEST + 1)
)


@dataclass(frozen=True)
class Foresight:
    """Discounted sums over the hours to come, of a batch of worlds; hour 0 starts the episode."""

    yield_usd: Tensor  # [T, B, L, N] of a unit of work, at L levels of the fleet's own work
    energy_usd: Tensor  # [T, B, S, N] of a kW of board power
    scale: Tensor  # [B, N] mean outside work, in which the levels are measured
    gamma: float


def foresee(scenario: Scenario, world: World, gamma: float) -> Foresight:
    """Sum the future of fresh worlds; what happens after the horizon is taken to last for good."""
    rules, economics = scenario.rules, scenario.economics
    hours = world.exogenous.quotes[BURN_IN_H : BURN_IN_H + scenario.horizon_h + 1]
    q = Quotes(*hours.unbind(2))  # [T, B, N] each
    runs = q.up * q.open
    scale = q.outside_work.mean(0)
    sums = torch.stack(
        [_discounted(_pay(scenario, q, level * scale) * runs, gamma) for level in LEVELS], 2
    )
    use = use_of_supply(q.demand_work, q.outside_work, economics.utilisation_cap)
    busy = torch.where(rules.lease > 0, use + economics.idle_power_share * (1 - use), 1.0)
    load = rules.load * busy * runs  # [T, B, N]
    tariff = world.exogenous.tariff[BURN_IN_H : BURN_IN_H + scenario.horizon_h + 1]  # [T, B, S]
    energy = tariff.unsqueeze(-1) * load.unsqueeze(2)
    return Foresight(sums, _discounted(energy, gamma), scale, gamma)


def _pay(scenario: Scenario, q: Quotes, own: Tensor) -> Tensor:
    """USD of a unit of work and hour beside `own` work of the fleet, [T, B, N]."""
    rules = scenario.rules
    kept = 1 - rules.lockup
    supply = q.outside_work + own
    use = use_of_supply(q.demand_work, supply, scenario.economics.utilisation_cap)
    pool = torch.minimum(q.emission * q.token_usd / supply, rules.cap_usd) * kept
    return pool + use * q.fee * q.fee_usd * torch.where(rules.native > 0, kept, 1.0)


def _discounted(values: Tensor, gamma: float) -> Tensor:
    """sum_k gamma^k values[t + k], where the mean of the last day goes on for good."""
    out = torch.empty_like(values)
    total = values[-24:].mean(0) / (1 - gamma)
    for t in range(len(values) - 1, -1, -1):
        total = values[t] + gamma * total
        out[t] = total
    return out


class Prospect(NamedTuple):
    """What staying is worth to each rig of a batch of worlds at an hour, USD."""

    stay: Tensor  # [B, R, N] on each network from now on, if it stood there
    enter: Tensor  # [B, R, N] what a move there costs in leaving, burn and gas; 0 where it is
    phi: Tensor  # [B, R] stay where it is: the potential

    @property
    def gain(self) -> Tensor:
        """What a move brings in hindsight, [B, R, N]."""
        return self.stay - self.enter - self.phi.unsqueeze(-1)


def prospect(
    foresight: Foresight,
    world: World,
    observation: Observation,
    marginal: bool,
    going: Tensor | None = None,
) -> Prospect:
    """Staying values of each rig: at its present warm-up and lease where it is, as a newcomer
    elsewhere.

    marginal counts what a rig's work takes from the fleet's other work there: pay times
    W / (W + others). The others' work is as it stands; with going [B, R, N], the probability that
    each rig is on each network after this hour's orders, it is what they will bring on average.
    Without that, every rig of a fleet would find the same empty network rich.
    """
    scenario, fleet, g = world.scenario, world.fleet, foresight.gamma

    def pair(name: str) -> Tensor:
        return observation["pairs"][..., column("pairs", name)]

    def of(name: str) -> Tensor:
        return observation["rigs"][..., column("rigs", name)].unsqueeze(-1)  # [B, R, 1]

    def on(name: str) -> Tensor:
        return observation["networks"][..., column("networks", name)].unsqueeze(1)  # [B, 1, N]

    here, mass = pair("here"), pair("work")
    away = 1 - here
    hour = world.hour
    theirs = mass * (here if going is None else going)
    others = (theirs.sum(1, keepdim=True) - theirs).clamp_min(0.0)
    income = _at_level(foresight, hour, others + mass) * mass
    if marginal:
        income = income * on("outside_work") / (on("outside_work") + others).clamp_min(1e-9)
    site = fleet.site.unsqueeze(-1).expand_as(here)
    power_kw = (fleet.owned * fleet.power_kw).unsqueeze(-1)
    energy = foresight.energy_usd[hour].gather(1, site) * power_kw
    score = of("score") * here
    waits = of("provisioning_h") * here + scenario.rules.provisioning_h * away
    keep = torch.exp(-1 / scenario.rules.warmup_h.clamp_min(1e-3))  # of a deficit, per hour
    late = torch.exp(waits * math.log(g))
    full = late * (1 - (1 - g) * (1 - score) * keep / (1 - g * keep))
    leased = (1 - torch.exp(of("lease_h") * math.log(g))) / (1 - g)
    q = world.now.quotes
    use = use_of_supply(q.demand_work, q.outside_work, scenario.economics.utilisation_cap)
    usual = income * (1 - g)  # per hour, on average
    # a rig without a lease waits for one longer than the average over time says
    waiting = on("lease") * on("lease_mean_h") * (1 - use.unsqueeze(1)) * usual
    contract = leased * (of("lease_usd_h") - usual) * on("lease") * here
    stay = income * full - energy * late + contract - waiting
    enter = (of("leaving_usd") + on("burn_usd") + on("gas_usd")) * away
    return Prospect(stay, enter, (stay * here).sum(-1))


def _at_level(foresight: Foresight, hour: int, own: Tensor) -> Tensor:
    """Discounted yield of a unit of work beside own work [B, R, N], between two levels."""
    place = torch.log10((own / foresight.scale.unsqueeze(1)).clamp_min(1e-9)) * PER_DECADE
    place = (place - PER_DECADE * LOWEST).clamp(0.0, len(LEVELS) - 1.0)
    low = place.floor().clamp(max=len(LEVELS) - 2.0)
    table = foresight.yield_usd[hour]  # [B, L, N]
    left, right = (table.gather(1, (low + k).long()) for k in (0, 1))
    return left + (place - low) * (right - left)


def critic_features(gain: Tensor, phi: Tensor, legal: Tensor) -> Tensor:
    """What the critic sees of the future: [B, R, FORESIGHT_FEATURES].

    The two best gains of a move and the value of staying; gain [B, R, N] and phi [B, R] in units of
    the reward, legal bool [B, R, N].
    """
    best = gain.masked_fill(~legal, -1.0).clamp_min(-1.0).topk(min(2, gain.shape[-1]), -1).values
    first, second = best[..., 0], best[..., -1]
    return torch.stack(
        (squash(10.0 * first), first.clamp(max=3.0), squash(10.0 * second), squash(phi)), -1
    )

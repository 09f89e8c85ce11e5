"""What an agent may see, in physical units, and which orders are legal.

`facts` gathers what an orchestrator knows at an hour; `derive` turns facts and a memory of moving
averages into the observation. Training and serving share `derive`, so they cannot drift apart.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from env.costs import housing_usd, leaving_usd, marked_burn_usd
from env.hour import Hour
from env.scenario import Scenario
from env.state import Fleet, State, per_network
from env.terms import at, terms


class Column(NamedTuple):
    """One column of the observation."""

    name: str
    unit: str
    meaning: str


RIG_STATIC = (
    Column("gpu_count", "1", "GPUs of the rig"),
    Column("vram_gb", "GB", "memory of one GPU"),
    Column("fp16_tflops", "TFLOPS", "dense FP16 throughput of one GPU"),
    Column("bandwidth_gb_s", "GB/s", "memory bandwidth of one GPU"),
    Column("power_kw", "kW", "draw of the rig at full load with the site's overhead"),
    Column("owned", "0/1", "1 owned, 0 rented"),
    Column("tiebreak", "1", "hash of the rig's id in [0, 1), lets identical rigs split"),
)
RIG_FACTS = (
    *RIG_STATIC,
    Column("tariff_usd_kwh", "USD/kWh", "energy price at the rig's site in this hour"),
    Column("housing_usd_h", "USD/h", "hosting, or rent of a rented rig"),
    Column("up", "0/1", "1 if it can work"),
    Column("provisioning_h", "h", "left until it can work on its network"),
    Column("tenure_h", "h", "worked on its network since provisioning ended"),
    Column("score", "1", "warm-up reached on its network, 0 to 1"),
    Column("lease_h", "h", "left of its lease, 0 = none"),
    Column("lease_usd_h", "USD/h", "rate of its lease"),
    Column("idle_h", "h", "waited for a lease"),
    Column("leaving_usd", "USD", "price of leaving its network now"),
    Column("last_gross_usd", "USD", "earned in the last hour"),
    Column("last_net_usd", "USD", "profit of the last hour"),
)
NETWORK_STATIC = (
    Column("gas_usd", "USD", "transaction cost of entering"),
    Column("provisioning_h", "h", "from the order to the first work"),
    Column("warmup_h", "h", "time constant until full pay"),
    Column("unbonding_h", "h", "collateral stays locked after leaving"),
    Column("lockup", "1", "discount on tokens received, for their vesting"),
    Column("lease", "0/1", "1 if customers lease whole rigs"),
    Column("lease_mean_h", "h", "mean length of a lease"),
    Column("break_h", "h", "hours of lease income lost by leaving early"),
    Column("slots", "1", "miner slots of a tournament, 0 = none"),
    Column("immunity_h", "h", "during which a slot is safe"),
    Column("concentration", "1", "exponent of the score in a tournament"),
    Column("token_daily_sd", "1", "daily log volatility of its token"),
    Column("load", "1", "share of board power drawn"),
    Column("fault_multiple", "1", "of the hour's reward, lost per hour of downtime"),
)
NETWORK_FACTS = (
    *NETWORK_STATIC,
    Column("estimate_usd", "USD/h", "published yield of a work unit"),
    Column("estimate_age_h", "h", "since the estimate last moved"),
    Column("token_usd", "USD", "price of its token"),
    Column("outside_work", "work", "supplied by everyone else"),
    Column("own_work", "work", "in its pool by this fleet"),
    Column("own_rigs", "1", "rigs of this fleet on it"),
    Column("up", "0/1", "1 while it works"),
    Column("open", "0/1", "1 while it can be entered"),
    Column("burn_usd", "USD", "price of a registration now, own surcharge included"),
    Column("collateral_usd", "USD", "locked per work unit"),
    Column("rig_collateral_usd", "USD", "locked per rig"),
    Column("turnover_usd", "USD/day", "traded value of its token"),
    Column("pool_usd", "USD", "quote side of its token's pool, 0 = order book"),
)
EMA_H = (6.0, 48.0, 336.0)  # averages of the estimate
PRICE_EMA_H = (24.0, 168.0)  # averages of the token's price
_LENGTHS_H = torch.tensor(EMA_H + PRICE_EMA_H)[:, None]
NETWORK_DERIVED = (
    Column("ema_6h_usd", "USD/h", "6-hour average of the estimate"),
    Column("ema_48h_usd", "USD/h", "48-hour average of the estimate"),
    Column("ema_336h_usd", "USD/h", "336-hour average of the estimate"),
    Column("price_24h_usd", "USD", "24-hour average of the token's price"),
    Column("price_168h_usd", "USD", "168-hour average of the token's price"),
)
PAIRS = (
    Column("here", "0/1", "1 if the rig is on the network"),
    Column("work", "work", "work the rig would put in the pool, 0 = not eligible"),
    Column("dilution", "1", "share of the published yield left with our own work there"),
    Column("estimate_usd_h", "USD/h", "published yield of this rig less lock-up and energy"),
    Column("ema_usd_h", "USD/h", "the same on the 48-hour average"),
    Column("entry_usd", "USD", "cost of moving there: leaving, burn, gas, hours lost"),
)
MARKET = (
    Column("btc_usd", "USD", "price of Bitcoin"),
    Column("rent_index", "1", "mean GPU rent over the catalogue's"),
    Column("hour_of_day", "h", "UTC"),
    Column("equity_usd", "USD", "equity of the fleet"),
    Column("nominal_usd_h", "USD/h", "full cost of the fleet at the catalogue's date"),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "rigs": RIG_FACTS,
    "networks": NETWORK_FACTS + NETWORK_DERIVED,
    "pairs": PAIRS,
    "market": MARKET,
}
_POSITIONS = {group: {c.name: k for k, c in enumerate(cs)} for group, cs in COLUMNS.items()}


class Facts(NamedTuple):
    """What an orchestrator knows at an hour, float32."""

    rigs: Tensor  # [B, R, len(RIG_FACTS)]
    networks: Tensor  # [B, N, len(NETWORK_FACTS)]
    mass: Tensor  # [1|B, R, N]
    assignment: Tensor  # int64 [B, R]
    market: Tensor  # [B, len(MARKET)]


def column(group: str, name: str) -> int:
    """Position of a named column in its group."""
    return _POSITIONS[group][name]


def rig_static(scenario: Scenario, fleet: Fleet) -> Tensor:
    """The columns of `RIG_STATIC`, float32 [., 1|B, R]."""
    vram, fp16, bandwidth = scenario.gpus[:3, fleet.gpu].unbind(0)
    values = (fleet.gpu_count, vram, fp16, bandwidth, fleet.power_kw, fleet.owned)
    return torch.stack((*values, fleet.tiebreak.expand(fleet.gpu.shape)))


def network_static(scenario: Scenario) -> Tensor:
    """The columns of `NETWORK_STATIC`, float32 [., 1, N]."""
    rules = scenario.rules
    sd = scenario.token_daily_sd[rules.token]
    columns = [sd if c.name == "token_daily_sd" else getattr(rules, c.name) for c in NETWORK_STATIC]
    return torch.stack(columns).unsqueeze(1)


def facts(
    scenario: Scenario, fleet: Fleet, state: State, hour: Hour, static: tuple[Tensor, Tensor]
) -> Facts:
    """Gather the facts of an hour; static is (rig_static, network_static)."""
    rules, q = scenario.rules, hour.quotes
    here = terms(scenario.rule_table, hour, state.assignment)
    work, mass = at(fleet.work, state.assignment), at(fleet.mass, state.assignment)
    broken, unbonding = leaving_usd(scenario, here, state, work)
    worlds, rigs = state.assignment.shape
    n = scenario.network_count
    moving = (
        hour.tariff.gather(1, fleet.site),
        housing_usd(fleet, hour.rent_ratio),
        hour.rig_up,
        state.provisioning_h,
        state.tenure_h,
        state.score,
        state.lease_h,
        state.lease_rate * here.fee_usd,
        state.idle_h,
        broken + unbonding,
        state.last_gross_usd,
        state.last_net_usd,
    )
    own = per_network(torch.stack((mass, torch.ones_like(mass)), 1), state.assignment[:, None], n)
    quoted = (
        q.estimate,
        q.estimate_age_h,
        q.token_usd,
        q.outside_work,
        own[:, 0],
        own[:, 1],
        q.up,
        q.open,
        marked_burn_usd(hour, state),
        rules.collateral_per_work * q.token_usd,
        rules.collateral_per_rig * q.token_usd,
        hour.turnover_usd[:, rules.token],
        (scenario.token_pool_quote * hour.quote_usd)[:, rules.token],
    )
    nominal = fleet.nominal_usd_h.sum(-1)
    rent_index = torch.exp(torch.log(hour.rent_ratio).mean(-1))
    fixed_rigs, fixed_networks = static
    return Facts(
        rigs=_columns(fixed_rigs, moving, (worlds, rigs)),
        networks=_columns(fixed_networks, quoted, (worlds, n)),
        mass=fleet.mass,
        assignment=state.assignment,
        market=torch.stack(
            (hour.btc_usd, rent_index, hour.hour_of_day, state.equity_usd.float(), nominal), -1
        ),
    )


def _columns(fixed: Tensor, moving: tuple[Tensor, ...], shape: tuple[int, int]) -> Tensor:
    """Columns side by side, [B, M, columns]: a view of column-major memory, several times faster
    to write, and to read column by column. fixed is [columns, 1|B, M]."""
    columns = fixed.expand(-1, *shape).unbind(0)
    return torch.stack((*columns, *moving), 1).movedim(1, -1)


def remember(memory: Tensor | None, estimate: Tensor, token_usd: Tensor, dt_h: float) -> Tensor:
    """Moving averages of estimate and price, [B, 5, N]; None starts them at the first values."""
    values = torch.stack((estimate,) * len(EMA_H) + (token_usd,) * len(PRICE_EMA_H), 1)
    if memory is None:
        return values
    rate = 1 - torch.exp(-dt_h / _LENGTHS_H.to(values.device))
    return memory + rate * (values - memory)


def derive(known: Facts, memory: Tensor | None, dt_h: float) -> tuple[dict[str, Tensor], Tensor]:
    """The observation from facts and memory: averages, pair quantities and the action mask."""
    networks = known.networks.movedim(-1, 0).unsqueeze(2)  # [columns, B, 1, N]
    each = known.rigs.movedim(-1, 0).unsqueeze(3)  # [columns, B, R, 1]

    def on(name: str) -> Tensor:
        return networks[column("networks", name)]  # [B, 1, N]

    def of(name: str) -> Tensor:
        return each[column("rigs", name)]  # [B, R, 1]

    memory = remember(memory, on("estimate_usd").squeeze(1), on("token_usd").squeeze(1), dt_h)
    worlds, rigs = known.assignment.shape
    mass = known.mass.expand(worlds, rigs, known.networks.shape[1])
    pick = known.assignment.unsqueeze(-1)
    here = torch.zeros_like(mass).scatter(2, pick, torch.ones_like(pick, dtype=mass.dtype))
    away = 1 - here

    dilution = on("outside_work") / (on("outside_work") + on("own_work") + mass * away)
    energy = of("owned") * of("power_kw") * of("tariff_usd_kwh") * on("load")
    kept = mass * (1 - on("lockup"))
    ema = memory[:, 1].unsqueeze(1) * kept - energy
    lost_h = on("provisioning_h") + on("warmup_h")
    entry = (on("gas_usd") + on("burn_usd")) + lost_h * torch.relu(ema) + of("leaving_usd")
    legal = (mass > 0).to(mass.dtype) * on("open") * away
    pairs = (here, mass, dilution, on("estimate_usd") * kept - energy, ema, entry * away)
    observation = {
        "rigs": known.rigs,
        "networks": torch.cat((known.networks.movedim(-1, 1), memory), 1).movedim(1, -1),
        "pairs": torch.stack(pairs, 1).movedim(1, -1),
        "market": known.market,
        "action_mask": torch.nn.functional.pad(legal, (1, 0), value=1.0),
    }
    return observation, memory

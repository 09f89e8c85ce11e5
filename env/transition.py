"""The step: (scenario, fleet, state, orders, hour) -> (state, outcome); only here time moves."""

from __future__ import annotations

import torch
from torch import Tensor

from env.costs import (
    energy_usd,
    financing_rate_h,
    housing_usd,
    leaving_usd,
    locked_usd,
    registering_usd,
)
from env.hour import Hour
from env.networks.allocation import competitors_below
from env.payout import Market, Pay, market, pay, pool_tokens, slippage
from env.scenario import Scenario
from env.state import LEDGER, Fleet, Outcome, Posting, State, per_network
from env.terms import Terms, at, terms


def executable(fleet: Fleet, hour: Hour, assignment: Tensor, orders: Tensor) -> Tensor:
    """True where an order is a move that can be carried out: bool [B, R].

    Holding, an ineligible or closed network and the network a rig is on are no moves.
    """
    target = (orders - 1).clamp_min(0)
    fits = fleet.eligible.gather(2, target.unsqueeze(-1)).squeeze(-1)
    exists = hour.quotes.open.gather(1, target) > 0
    return (orders > 0) & fits & exists & (target != assignment)


def step(
    scenario: Scenario, fleet: Fleet, state: State, orders: Tensor, hour: Hour
) -> tuple[State, Outcome]:
    """Carry out the orders (int64 [B, R], 0 = hold, i = move to network i - 1) and live an hour."""
    moving = executable(fleet, hour, state.assignment, orders)
    there = terms(scenario.rule_table, hour, state.assignment)
    broken, unbonding = leaving_usd(scenario, there, state, at(fleet.work, state.assignment))
    assignment = torch.where(moving, orders - 1, state.assignment)
    here = terms(scenario.rule_table, hour, assignment)
    post = _post(fleet, state, hour, here, assignment, moving.float())
    met = market(scenario, hour, post)
    paid = pay(scenario, hour, met, here, post, state)
    burn, mark = registering_usd(scenario, state, hour, here, post)
    left = (post.moved * broken, post.moved * unbonding)
    outcome = _settle(scenario, fleet, hour, here, post, met, paid, burn, left)
    tenure_h = state.tenure_h * (1 - post.moved) + post.working
    out = _pruned(fleet, here, post, tenure_h)
    off = torch.full_like(post.assignment, scenario.network_count - 1)
    stays = (~out).float()
    new = State(
        assignment=torch.where(out, off, post.assignment),
        provisioning_h=(post.provisioning_h - post.up).clamp_min(0.0) * stays,
        tenure_h=tenure_h * stays,
        score=post.score * stays,
        lease_h=paid.lease_h,
        lease_rate=paid.lease_rate,
        idle_h=paid.idle_h,
        log_surcharge=mark,
        last_net_usd=outcome.net_usd,
        last_gross_usd=outcome.gross_usd,
        equity_usd=state.equity_usd + outcome.net_usd.sum(-1).double(),
        ledger=state.ledger + _book(scenario, outcome, post.assignment),
        illegal=state.illegal + ((orders > 0) & ~moving).sum(-1),
    )
    return new, outcome


def _post(
    fleet: Fleet, state: State, hour: Hour, here: Terms, assignment: Tensor, moved: Tensor
) -> Posting:
    """What each rig supplies this hour where it now stands."""
    up = hour.rig_up.float()
    left = torch.where(moved > 0, here.provisioning_h, state.provisioning_h)
    working = (1 - left).clamp(0.0, 1.0) * up * here.up * here.open * here.active
    score = state.score * (1 - moved)
    score = score + here.warmup_rate * ((working > 0).float() - score)
    full_mass = at(fleet.mass, assignment)
    warm = torch.exp(here.concentration * torch.log(score.clamp_min(1e-9)))
    return Posting(
        assignment=assignment,
        tier=at(fleet.tier, assignment),
        moved=moved,
        provisioning_h=left,
        up=up,
        working=working,
        score=score,
        work=at(fleet.work, assignment),
        full_mass=full_mass,
        mass=full_mass * warm * working,
    )


def _settle(
    scenario: Scenario,
    fleet: Fleet,
    hour: Hour,
    here: Terms,
    post: Posting,
    met: Market,
    paid: Pay,
    burn: Tensor,
    left: tuple[Tensor, Tensor],
) -> Outcome:
    """Turn pay and costs into the hour's account of each rig."""
    broken, unbonding = left
    locked = locked_usd(here, post.work)
    down = (1 - post.up) * (post.provisioning_h <= 0) * here.active
    missed_usd = pool_tokens(scenario, met, post) * post.full_mass * here.token_usd
    lockup = here.lockup * paid.native_usd
    sold = slippage(scenario, hour, paid.native_usd, scenario.rules.token[post.assignment])
    idle = (post.working - paid.earning).clamp_min(0.0)
    load = here.load * (paid.earning + scenario.economics.idle_power_share * idle)
    charges = {
        "lockup_usd": lockup,
        "slippage_usd": sold * (paid.native_usd - lockup),
        "energy_usd": energy_usd(fleet, hour.tariff, load),
        # a rented rig is not billed while it is down or taken back (assumption: as spot instances)
        "housing_usd": housing_usd(fleet, hour.rent_ratio)
        * torch.where(fleet.owned > 0, 1.0, post.up),
        "burn_usd": burn,
        "penalty_usd": broken
        + down * (here.slash_per_h * locked + here.fault_multiple * missed_usd),
        "financing_usd": unbonding + locked * financing_rate_h(scenario),
    }
    gross = paid.native_usd + paid.cash_usd
    net = gross
    for charge in charges.values():
        net = net - charge
    return Outcome(
        tokens=paid.tokens,
        gross_usd=gross,
        **charges,
        capex_usd=fleet.capex_usd_h,
        earning_h=paid.earning,
        rig_h=torch.ones_like(net),
        moves=post.moved,
        net_usd=net,
        network=post.assignment,
        mass=post.mass,
    )


def _pruned(fleet: Fleet, here: Terms, post: Posting, tenure_h: Tensor) -> Tensor:
    """True where a tournament gives the rig's slot to a newcomer: bool [B, R].

    Each registration of the hour replaces the lowest slot that is past its immunity, so a rig goes
    when fewer competitors score below it than there are registrations. It must register again.
    """
    score = at(fleet.score, post.assignment) + torch.log(post.score.clamp_min(1e-9))
    below = competitors_below(
        score, here.outside_work, here.slots, here.concentration, here.score_sd
    )
    return (here.slots > 0) & (tenure_h > here.immunity_h) & (below < here.registrations)


def _book(scenario: Scenario, outcome: Outcome, assignment: Tensor) -> Tensor:
    """The hour's entries by network, float64 [B, len(LEDGER), N]."""
    rows = torch.stack([getattr(outcome, name) for name in LEDGER], 1).double()  # [B, L, R]
    return per_network(rows, assignment.unsqueeze(1), scenario.network_count)

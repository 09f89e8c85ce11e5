"""What a rig costs: energy, housing, locked collateral, entering and leaving a network."""

from __future__ import annotations

import torch
from torch import Tensor

from env.hour import Hour
from env.networks import registration
from env.scenario import Scenario
from env.state import Fleet, Posting, State, per_network
from env.terms import Terms


def financing_rate_h(scenario: Scenario) -> float:
    """Cost of capital per USD and hour."""
    return scenario.economics.financing_rate_annual / 8760


def energy_usd(fleet: Fleet, tariff: Tensor, load: Tensor) -> Tensor:
    """Energy of the hour, [B, R]; a rented rig's is in its rent. tariff [B, S], load [B, R]."""
    site_tariff = tariff.gather(1, fleet.site)
    return fleet.owned * fleet.power_kw * site_tariff * load


def housing_usd(fleet: Fleet, rent_ratio: Tensor) -> Tensor:
    """Hosting of owned rigs, rent of rented ones at today's level, [B, R]; rent_ratio [B, G]."""
    ratio = rent_ratio.gather(1, fleet.gpu)
    return fleet.housing_usd_h * torch.where(fleet.owned > 0, 1.0, ratio)


def leaving_usd(
    scenario: Scenario, here: Terms, state: State, work: Tensor
) -> tuple[Tensor, Tensor]:
    """Price of leaving the present network now: (broken lease, unbonding), [B, R] each.

    A lease left before its end costs `break_h` hours of its rate, at most what is left of it.
    Collateral stays locked for `unbonding_h`; what that costs in capital is booked when leaving.
    """
    broken = state.lease_rate * here.fee_usd * torch.minimum(state.lease_h, here.break_h)
    unbonding = here.unbonding_h * financing_rate_h(scenario)
    return broken, locked_usd(here, work) * unbonding


def locked_usd(here: Terms, work: Tensor) -> Tensor:
    """Collateral of each rig at today's token price, [B, R]."""
    return (here.collateral_per_work * work + here.collateral_per_rig) * here.token_usd


def marked_burn_usd(hour: Hour, state: State) -> Tensor:
    """Price of one registration now, the mark of our own earlier ones included, [B, N]."""
    return hour.quotes.burn_usd * torch.exp(state.log_surcharge)


def registering_usd(
    scenario: Scenario,
    state: State,
    hour: Hour,
    here: Terms,
    post: Posting,
) -> tuple[Tensor, Tensor]:
    """(burn and gas of each mover [B, R], the mark on the burn [B, N]) for the rigs that enter.

    One registration per rig. Our registrations make the next ones dearer (1.26 times each on
    Bittensor, up to the chain's maximum); the mark halves every `burn_half_life_h`.
    """
    rules = scenario.rules
    entering = per_network(post.moved, post.assignment, scenario.network_count)
    first = marked_burn_usd(hour, state)
    most = rules.burn_max_tokens * hour.quotes.burn_token_usd
    price = torch.minimum(registration.mean_burn(first, entering, rules.burn_step), most)
    mark = registration.bump(state.log_surcharge, entering, rules.burn_step)
    mark = mark * registration.fading(1.0, rules.burn_half_life_h)
    return post.moved * (price.gather(1, post.assignment) + here.gas_usd), mark

"""What a rig's work takes from the rest of its own fleet: the other half of its marginal worth.

A rig is paid the average of its pool, but it also dilutes its colleagues and deepens their price
impact. With f(w) the fleet's pay for own work w, the average pay m f(w) / w of a rig with work m
less what it takes from the others is its marginal pay f(w) - f(w - m). Rigs that learn from the
average crowd a thin network beyond the fleet's optimum; rigs that learn from the margin do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from env.hour import Hour
from env.networks.allocation import pool_rate, use_of_supply, wallet_factor
from env.networks.settlement import amm_impact, square_root_impact
from env.scenario import Scenario
from env.state import Fleet, Outcome, per_network
from env.terms import at


def crowding_usd(scenario: Scenario, fleet: Fleet, hour: Hour, outcome: Outcome) -> Tensor:
    """USD that the others would have earned more in this hour without each rig's work, [B, R].

    Exact for pools (caps and the anti-fleet rule too) and for slippage, each with the other as it
    is. Metered requests and leases share demand in proportion to supply: exact for the former once
    warm, the expectation for the latter. Fault fees of rigs that are down are not counted.
    """
    return _dilution(scenario, fleet, hour, outcome) + _slippage(scenario, hour, outcome)


def _dilution(scenario: Scenario, fleet: Fleet, hour: Hour, outcome: Outcome) -> Tensor:
    rules, q, n = scenario.rules, hour.quotes, scenario.network_count
    here, mass = outcome.network, outcome.mass
    tier = at(fleet.tier, here)
    slot = here + n * tier
    own = per_network(mass, slot, 2 * n)  # [B, 2N]
    rigs = per_network((mass > 0).to(mass.dtype), here, n)
    table = torch.stack((q.emission, q.outside_work, q.demand_work, q.fee * q.fee_usd), 1)
    table = torch.cat((table, torch.stack((q.token_usd, rigs, own[:, :n] + own[:, n:]), 1)), 1)
    index = here.unsqueeze(1).expand(-1, table.shape[1], -1)
    emission, outside, demand, fee, token_usd, crowd, supply = table.gather(2, index).unbind(1)
    share = rules.tier_share[here, tier]
    mine = own.gather(1, slot)
    cap = rules.cap_usd[here] / token_usd

    def paid(work: Tensor, others: Tensor) -> Tensor:
        """Tokens of the others' work when the pool holds `work` of ours and `others` + 1 rigs."""
        rate = torch.minimum(pool_rate(share * emission, share * outside, work), cap)
        factor = wallet_factor(
            others, rules.wallet_free[here], rules.wallet_decay[here], rules.wallet_share[here]
        )
        return rate * factor * (mine - mass)

    def used(work: Tensor) -> Tensor:
        cap = scenario.economics.utilisation_cap
        return use_of_supply(demand, outside + work, cap) * (supply - mass)

    kept = 1 - rules.lockup[here]
    pool = (paid(mine - mass, crowd - 1) - paid(mine, crowd)) * token_usd * kept
    fees = (used(supply - mass) - used(supply)) * fee
    works = (mass > 0).to(mass.dtype)
    return works * (pool + fees * torch.where(rules.native[here] > 0, kept, 1.0))


def _slippage(scenario: Scenario, hour: Hour, outcome: Outcome) -> Tensor:
    token = scenario.rules.token[outcome.network]
    sold = outcome.tokens * hour.quotes.token_usd.gather(1, outcome.network) - outcome.lockup_usd
    total = per_network(sold, token, len(scenario.token_names)).gather(1, token)  # [B, R]
    pool = scenario.token_pool_quote[token]
    reserve = (scenario.token_pool_quote * hour.quote_usd).gather(1, token)

    def share(sale: Tensor) -> Tensor:
        book = square_root_impact(
            24 * sale,
            hour.turnover_usd.gather(1, token),
            scenario.token_daily_sd[token],
            scenario.economics.impact_coefficient,
        )
        return torch.where(pool > 0, amm_impact(sale, reserve), book).clamp(0.0, 1.0)

    rest = (total - sold).clamp_min(0.0)
    return rest * (share(total) - share(rest))

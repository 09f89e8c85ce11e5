"""What the networks' documents say in formulas of their own, behind the catalogue's parameters.

Each function is one sentence of a document, in its symbols. The catalogue's values are derived from
them, and the tests hold both against the document's worked example.
"""

from __future__ import annotations

from typing import NamedTuple

WEEK_H = 168.0


# Render: rendernetwork/RNPs@a7ced774


def render_job_tokens(baseline: float, multiplier: float, hours: float) -> float:
    """RENDER of a compute node for jobs: `baseline x multiplier x hours / 168`, RNP-019 and 021."""
    return baseline * multiplier * hours / WEEK_H


def render_compute_week(multiplier: float, hours: float, uptime: float) -> float:
    """RENDER of a compute node in one weekly epoch: `25 m h / 168 + 2 uptime`, RNP-021."""
    return render_job_tokens(25.0, multiplier, hours) + 2.0 * uptime


# io.net: docs.io.net/docs/io-staking


def io_stake(multiplier: float) -> float:
    """IO to stake for one GPU: `200 max(1, multiplier)`."""
    return 200.0 * max(1.0, multiplier)


# Aethir: docs.aethir.com, staking as a cloud host


def aethir_stake(k_value: float, coefficient: float = 1334.22) -> float:
    """ATH to stake for one container: `K x staking coefficient`."""
    return k_value * coefficient


# Morpheus: MorpheusAIs/Docs@7beede8b, Yellowstone Compute Model and Compute Providers FAQ


def morpheus_budget(balance: float) -> float:
    """MOR that the sessions of a day may cost: 1 % of the contract's balance the day before."""
    return 0.01 * balance


# Chutes: chutes.ai/docs/miner-resources/scoring


def chutes_score(compute: float, invocations: float, unique: float, bounties: float) -> float:
    """Miner's weight from its shares of the four metrics: 55, 25, 15 and 5 %."""
    return 0.55 * compute + 0.25 * invocations + 0.15 * unique + 0.05 * bounties


def window_lag_h(window_days: float) -> float:
    """Hours of pay a newcomer loses when the score is a mean over a trailing window: half."""
    return 24 * window_days / 2


# Clore.ai: docs.clore.ai, "MFP Lock"


class MfpPay(NamedTuple):
    """CLORE a day of one server from one tier of the MFP lock."""

    paid: float
    burned: float


def clore_tier_pool(block_reward: float, share: float, blocks_per_day: float = 1440) -> float:
    """CLORE a day in one tier's basket."""
    return block_reward * share * blocks_per_day


def clore_tier_pay(pool: float, pool_share: float, daily_rent: float) -> MfpPay:
    """A server's share of the basket, at most its daily rent; the surplus is burned."""
    due = pool * pool_share
    return MfpPay(min(due, daily_rent), max(0.0, due - daily_rent))


def clore_stake(points: float, tiers: float) -> float:
    """CLORE locked for `points` of fair price: 1,000 per point, up to 7 times."""
    return 1000.0 * points * min(tiers, 7.0)


# Filecoin: filecoin-project/builtin-actors@b0a3bdd6:actors/miner/src/monies.rs


def filecoin_locked(reward: float) -> float:
    """FIL of a block reward that vest: 3/4."""
    return reward * 3 / 4


def filecoin_fault_fee(day_reward: float) -> float:
    """FIL a faulty sector pays a day: 3.51 days of its expected reward."""
    return 3.51 * day_reward


def filecoin_termination_fee(pledge: float, age_days: float, fault_fee: float) -> float:
    """FIL for ending a sector early, pledge_penalty_for_termination (FIP-0098).

    8.5 % of the pledge, scaled by age up to 140 days; at least 2 % and 1.05 fault fees.
    """
    full = 0.085 * pledge
    base = min(full, age_days * full / 140)
    return max(base, 0.02 * pledge, 1.05 * fault_fee)


# Livepeer: livepeer/protocol@f225b10c, forum.livepeer.org/t/2753


def livepeer_round_h(blocks: float, block_s: float) -> float:
    """Hours of one round."""
    return blocks * block_s / 3600


def livepeer_yield(inflation_year: float, bonded: float) -> float:
    """Yearly yield on bonded LPT: all that is minted goes to the bonded share."""
    return inflation_year / bonded


def livepeer_missed_share(down_h: float, round_h: float) -> float:
    """Expected share of a round's reward lost when down at random: the chance to miss the call."""
    return min(1.0, down_h / round_h)


# Akash: akash-network/AEP@d21edcdf:spec/aep-76/README.md


class AktPayout(NamedTuple):
    """AKT a provider receives for a debt in ACT, and where they come from."""

    paid: float
    from_vault: float
    minted: float


def akash_settle(act: float, twap_usd: float, vault: float) -> AktPayout:
    """Burn ACT at 1 USD each and pay AKT at the TWAP, from the vault first, minted for the rest."""
    owed = act / twap_usd
    used = min(owed, vault)
    return AktPayout(owed, used, owed - used)


def akash_collateral_ratio(vault: float, price_usd: float, outstanding_act: float) -> float:
    """`CR = VaultAKT P / OutstandingACT`; warns below 0.95, new ACT stop below 0.90."""
    return vault * price_usd / outstanding_act


def lease_price_per_hour(paid_usd: float, gpus: float, months: float) -> float:
    """USD per GPU-hour of a flat rental, months of 730.5 hours."""
    return paid_usd / (gpus * months * 730.5)


# Bittensor: opentensor/subtensor@14bc6f9f:pallets/subtensor/src/coinbase/run_coinbase.rs


def miner_share(owner_cut_u16: float) -> float:
    """Share of a subnet's alpha for miners: half of what the owner's cut of 65,535 leaves."""
    return (1 - owner_cut_u16 / 65535) / 2

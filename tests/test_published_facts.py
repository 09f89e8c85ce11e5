"""Published facts as tests: what the documents say against what the simulator computes.

One row names network, fact, our value, the document's value, unit and source. Rows marked `runs`
push the document's own worked example through code that a world runs; the others read the tensors
that its step reads, so that a change of the catalogue fails them.
"""

# ruff: noqa: E501  (one fact a line)

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import scenario
from simulated import (
    entered,
    index,
    lived,
    minted,
    provided,
    provider_share,
    rule,
    schedule,
    vested,
    work,
)

from env import catalog
from env.networks import emission, registration, settlement, vesting

SUBTENSOR = "opentensor/subtensor@14bc6f9f"
ACTORS = "filecoin-project/builtin-actors@b0a3bdd6"
RNP = "rendernetwork/RNPs@a7ced774"
AEP76 = "akash-network/AEP@d21edcdf:spec/aep-76/README.md"
PIP = "Akash community proposal 303"
PROTOCOL = "livepeer/protocol@f225b10c"
MOR = "MorpheusAIs/Docs@7beede8b"
IO_EMISSION = "docs.iog.net/docs/token-emission-schedule"
IO_POOLS = "docs.io.net/docs/proposed-device-block-reward-multiplier"
CLORE = "docs.clore.ai, MFP Lock"
AETHIR = "docs.aethir.com, cloud host pages"
HEURIST = "docs.heurist.ai/protocol-overview/tokenomics"
NODEXO = "nodexo-ai/nodexo@a461e3f9:common/bundled_subnet_config.json"


class Fact(NamedTuple):
    network: str
    fact: str
    ours: Callable[[], float]
    published: float
    unit: str
    source: str
    relative: float = 1e-6
    runs: bool = True


def tao_schedule(issued: float) -> catalog.Schedule:
    return catalog.Schedule(kind="halving", tokens_per_day=7200, issued=issued, cap=21e6)


def io_hours(first: int, count: int) -> float:
    """IO minted in `count` hours from hour `first` (0 = the first of all) of the loaded schedule."""
    start = datetime.date.fromisoformat(schedule("io_net").start_date or "")
    since = 24 * (emission.CATALOGUE_DATE - start).days
    hours = np.arange(first, first + count) - since
    return float(emission.tokens_per_hour(schedule("io_net"), hours).sum())


def theta(q128: int) -> float:
    """A fixed-point number of the actors' golden files."""
    return q128 / 2**128


def bonding_round(rounds: int) -> float:
    """Livepeer's inflation in parts per 1e9 after so many rounds above the target bonding rate."""
    value = 221500e-9
    for _ in range(rounds):
        change = schedule("livepeer").parameters["change"]
        value = emission.livepeer_inflation(value, 0.51, 0.5, change)
    return value * 1e9


def burn_after(
    start: float,
    registrations: int,
    step: float,
    blocks: float,
    half_life: float,
    lowest: float,
    highest: float,
) -> float:
    """Subtensor's burn after registrations and blocks, by the functions the world calls."""
    t = torch.tensor
    log_burn = registration.bump(t(math.log(start / lowest)), t(registrations), t(step))
    log_burn = registration.decay(log_burn, blocks, t(half_life))
    return float(registration.burn(log_burn, t(lowest), t(highest)))


def subnet_burn(registrations: float, hours: float) -> float:
    """A subnet's burn over what it was, with the step and half-life of the world's rules."""
    at = index("bittensor_subnet")
    rules = scenario().rules
    log_burn = registration.bump(
        torch.tensor(9.0), torch.tensor(registrations), rules.burn_step[at]
    )
    log_burn = registration.decay(log_burn, hours, rules.burn_half_life_h[at])
    return math.exp(float(log_burn) - 9.0)


def registering(rigs: int, burn_usd: float) -> float:
    """What rigs pay that enter the subnet in one hour, TAO at 1 USD."""
    outcome, _ = entered(
        "bittensor_subnet", "rtx_4090", rigs=rigs, burn_usd=burn_usd, burn_token_usd=1.0
    )
    return float(outcome.burn_usd.sum())


def mark_left() -> float:
    """Log of our own mark on the burn an hour after one registration, over the log of a step."""
    _, after = entered("bittensor_subnet", "rtx_4090", rigs=1, burn_usd=1.0, burn_token_usd=1.0)
    return float(after.log_surcharge[0, 0]) / math.log(1.26)


def settled(usd: float, twap: float) -> float:
    """AKT paid for a debt in ACT: its value with AKT at 1 USD."""
    spread = scenario().rules.fee_spread[index("akash")]
    return usd * float(settlement.pegged_value(torch.tensor(1.0), torch.tensor(twap), spread))


def locked(network: str, gpu: str, gpus: int = 1) -> float:
    """Tokens locked by one rig, from the cost of capital the step books on them."""
    rate_h = scenario().economics.financing_rate_annual / 8760
    return float(lived(network, gpu, gpus=gpus).financing_usd) / rate_h


def leased(network: str, gpu: str) -> float:
    """What an hour of a new lease brings, in tokens or USD, at the catalogue's rents and prices."""
    outcome = lived(network, gpu, leased=True)
    return float(outcome.gross_usd)


def availability(rigs: int) -> float:
    """What Render's wallet rule leaves of the availability pay of one of many rigs."""
    tokens = [
        float(lived("render", "rtx_4090", rigs=n, emission=1e12).tokens[0, 0]) for n in (1, rigs)
    ]
    share = rule("render", "wallet_share")
    return (tokens[1] / tokens[0] - (1 - share)) / share


def baskets(outside_work: float, token_usd: float) -> float:
    """CLORE a day of one RTX 4090 from the baskets, which it shares with outside work."""
    pool = provided("clore") / 24
    hour = lived("clore", "rtx_4090", emission=pool, outside_work=outside_work, token_usd=token_usd)
    return 24 * float(hour.tokens)


def fault_fee() -> float:
    """What a day down costs on Filecoin, in days of reward."""
    up, down = (lived("filecoin", "rtx_3090", up=up, emission=1e12) for up in (True, False))
    return float(down.penalty_usd / up.gross_usd)


FACTS = [
    # Bittensor
    Fact("bittensor", "TAO a block before the first halving", lambda: emission.tao_block_emission(10_499_999), 1.0, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a block from 10.5 M issued", lambda: emission.tao_block_emission(10_500_000), 0.5, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a block from 15.75 M issued", lambda: emission.tao_block_emission(15_750_000), 0.25, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a block at the cap", lambda: emission.tao_block_emission(21_000_000), 0.0, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a day after the halving of 2025-12", lambda: float(emission.tokens_per_hour(tao_schedule(10.6e6), np.arange(24)).sum()), 3600.0, "TAO/day", "docs.taostats.io/docs/tao-emission"),
    Fact("bittensor", "issuance passes 10.5 M twelve hours on: emission halves that hour", lambda: float(np.divide(*emission.tokens_per_hour(tao_schedule(10.5e6 - 3600), np.array([12, 11])))), 0.5, "ratio", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor_subnet", "alpha a day of one subnet before its halving", lambda: minted("bittensor_subnet", "2026-11-23"), 7200.0, "alpha/day", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/run_coinbase.rs"),
    Fact("bittensor_subnet", "miners' share: half of what the owner's cut of 11796/65535 leaves", lambda: provider_share("bittensor_subnet"), (1 - 11_796 / 65_535) / 2, "share", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/run_coinbase.rs", 1e-4, False),
    Fact("bittensor_subnet", "alpha a day to miners", lambda: provided("bittensor_subnet"), 2952.0, "alpha/day", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/run_coinbase.rs"),
    Fact("bittensor_subnet", "burn after 360 blocks", lambda: subnet_burn(0, 360 * 12 / 3600), 0.5, "of the burn", f"{SUBTENSOR}:pallets/subtensor/src/lib.rs", 1e-5),
    Fact("bittensor_subnet", "burn after one registration", lambda: subnet_burn(1, 0), 1.26, "of the burn", f"{SUBTENSOR}:pallets/subtensor/src/lib.rs", 1e-5),
    Fact("bittensor_subnet", "test_burn_decay: 1,000, doubled, one block of half-life 1,000", lambda: math.floor(burn_after(1000, 1, 2.0, 1, 1000, 500, 1e9)), 1998, "rao", f"{SUBTENSOR}:pallets/subtensor/src/tests/registration.rs"),
    Fact("bittensor_subnet", "test_burn_min_and_max: it halves but the minimum holds", lambda: burn_after(1e5, 0, 2.0, 1, 1, 1e5, 1.5e5), 100_000, "rao", f"{SUBTENSOR}:pallets/subtensor/src/tests/registration.rs"),
    Fact("bittensor_subnet", "test_burn_min_and_max: 100,000 doubled meets the maximum", lambda: burn_after(1e5, 1, 2.0, 0, 1, 1e5, 1.5e5), 150_000, "rao", f"{SUBTENSOR}:pallets/subtensor/src/tests/registration.rs"),
    Fact("bittensor_subnet", "60 registrations a day hold the burn", lambda: subnet_burn(60 / 24, 1), 1.0, "of the burn", f"{SUBTENSOR}:pallets/subtensor/src/lib.rs", 1e-3),
    Fact("bittensor_subnet", "three rigs register in one hour", lambda: registering(3, 0.5) / 0.5, 1 + 1.26 + 1.26**2, "of the burn", f"{SUBTENSOR}:pallets/subtensor/src/subnets/registration.rs"),
    Fact("bittensor_subnet", "our mark on the burn after an hour of 300 blocks", mark_left, 0.5 ** (300 / 360), "of the step", f"{SUBTENSOR}:pallets/subtensor/src/lib.rs"),
    Fact("bittensor_subnet", "highest burn", lambda: registering(1, 1e4), 100.0, "TAO", f"{SUBTENSOR}:runtime/src/lib.rs"),
    Fact("bittensor_subnet", "immunity of 4,096 blocks of 12 s", lambda: rule("bittensor_subnet", "immunity_h"), 4096 * 12 / 3600, "h", f"{SUBTENSOR}:runtime/src/lib.rs", 1e-3, False),
    Fact("bittensor_subnet", "estimates lag one tempo of 360 blocks", lambda: rule("bittensor_subnet", "lag_h") * 60, 72.0, "min", f"{SUBTENSOR}:runtime/src/lib.rs", 1e-6, False),
    Fact("bittensor_compute", "posted price of an H200", lambda: rule("bittensor_compute", "fee") * work("bittensor_compute", "h200"), 3.5, "USD/h", NODEXO, 1e-3, False),
    Fact("bittensor_compute", "posted price of an RTX 4090", lambda: rule("bittensor_compute", "fee") * work("bittensor_compute", "rtx_4090"), 0.69, "USD/h", NODEXO, 1e-3, False),
    Fact("bittensor_compute", "posted price of an A100 SXM", lambda: rule("bittensor_compute", "fee") * work("bittensor_compute", "a100_80"), 1.49, "USD/h", NODEXO, 1e-3, False),
    Fact("bittensor_serverless", "pay a newcomer loses to a 7-day window: half of it", lambda: rule("bittensor_serverless", "warmup_h"), 7 * 24 / 2, "h", "chutes.ai/docs/miner-resources/scoring", 1e-6, False),
    # Akash
    Fact("akash", "1,000 ACT settled at 1.50 USD", lambda: settled(1000, 1.5), 666.666667, "AKT", AEP76),
    Fact("akash", "1,000 ACT settled at 0.90 USD", lambda: settled(1000, 0.9), 1111.111111, "AKT", AEP76),
    Fact("akash", "RTX 4090: 318,067 USD for 104 cards and 12 months", lambda: rule("akash", "fee") * work("akash", "rtx_4090"), 318_067 / (104 * 12 * 730.5), "USD/h", PIP, 5e-3, False),
    Fact("akash", "H100: 5.80 M USD for 456 cards and 9.37 months", lambda: rule("akash", "fee") * work("akash", "h100_sxm"), 5.80e6 / (456 * 9.37 * 730.5), "USD/h", PIP, 5e-3, False),
    Fact("akash", "settlement spread", lambda: rule("akash", "fee_spread"), 0.0, "share", AEP76, 1e-6, False),
    Fact("akash", "bid deposit", lambda: locked("akash", "rtx_4090"), 0.5, "AKT", "akash-network/node@3efe26bf"),
    # io.net
    Fact("io_net", "emission of the first hour", lambda: io_hours(0, 1), 4566.21, "IO", IO_EMISSION),
    Fact("io_net", "emission of the second hour", lambda: io_hours(1, 1), 4566.15, "IO", IO_EMISSION),
    Fact("io_net", "emission of the sixth hour", lambda: io_hours(5, 1), 4565.89, "IO", IO_EMISSION),
    Fact("io_net", "emission of all 175,319 hours", lambda: io_hours(0, 175_319), 300e6, "IO", IO_EMISSION, 1e-4),
    Fact("io_net", "stake for eight H100 of multiplier 10: 200 each per multiplier", lambda: locked("io_net", "h100_sxm", 8), 16_000, "IO", "docs.io.net/docs/io-staking"),
    Fact("io_net", "enterprise pool's share", lambda: rule("io_net", "tier_share", 0), 0.95, "share", IO_POOLS, 1e-6, False),
    Fact("io_net", "community pool's share", lambda: rule("io_net", "tier_share", 1), 0.05, "share", IO_POOLS, 1e-6, False),
    # Render
    Fact("render_compute", "RTX 4090, 168 hours of jobs: 25 m h / 168, and 2 for availability", lambda: 168 * leased("render_compute", "rtx_4090"), 27.0, "RENDER/week", f"{RNP}:RNP-021.md"),
    Fact("render_compute", "H200, 100 hours of jobs", lambda: 100 * (leased("render_compute", "h200") - float(lived("render_compute", "h200").tokens)), 74.40, "RENDER", f"{RNP}:RNP-021.md", 5e-4),
    Fact("render_compute", "a week of waiting for jobs", lambda: 168 * float(lived("render_compute", "rtx_4090").tokens), 2.0, "RENDER/week", f"{RNP}:RNP-021.md"),
    Fact("render", "tokens a week: 15,000 for jobs, 12,500 a month for availability", lambda: provided("render", 7), 15_000 + 12_500 * 12 * 7 / 365, "RENDER/week", f"{RNP}:RNP-013.md"),
    Fact("render", "share of the pool under the wallet rule", lambda: rule("render", "wallet_share"), (12_500 * 12 / 365) / (15_000 / 7 + 12_500 * 12 / 365), "share", f"{RNP}:RNP-013.md", 1e-3, False),
    Fact("render", "availability pay with three nodes in a wallet", lambda: availability(3), 1.0, "factor", f"{RNP}:RNP-015.md", 1e-5),
    Fact("render", "availability pay with eight nodes in a wallet", lambda: availability(8), math.exp(-0.65 * 5), "factor", f"{RNP}:RNP-015.md", 1e-3),
    # Aethir
    Fact("aethir", "stake of a container with K value 300 at 1,334.22 ATH", lambda: locked("aethir", "h100_sxm"), 300 * 1334.22, "ATH", AETHIR),
    Fact("aethir", "reward that can be sold at once", lambda: vested("aethir", 0), 0.30, "share", AETHIR),
    Fact("aethir", "reward that can be sold after 45 days", lambda: vested("aethir", 45), 0.30 + 0.30 / 2 + 0.40 / 4, "share", AETHIR),
    Fact("aethir", "reward that can be sold after 90 days", lambda: vested("aethir", 90), 0.30 + 0.30 + 0.40 / 2, "share", AETHIR),
    Fact("aethir", "reward that can be sold after 180 days", lambda: vested("aethir", 180), 1.0, "share", AETHIR),
    Fact("aethir", "unstaking", lambda: rule("aethir", "unbonding_h") / 24, 180.0, "days", AETHIR, 1e-6, False),
    # Heurist
    Fact("heurist", "ceiling of 50 % of 1 bn over 120 months", lambda: minted("heurist", "2026-11-23") * 365.25 / 12, 500e6 / 120, "HEU/month", HEURIST, 1e-4),
    Fact("heurist", "escrowed tokens vested after half a year", lambda: vested("heurist", 182.5), 0.5, "share", HEURIST),
    Fact("heurist", "stake per node", lambda: locked("heurist", "rtx_4090"), 10_000, "HEU", HEURIST),
    Fact("heurist", "unlock of the stake", lambda: rule("heurist", "unbonding_h") / 24, 30.0, "days", HEURIST, 1e-6, False),
    # Morpheus
    Fact("morpheus", "emission of 2024-02-08, day 1", lambda: minted("morpheus", "2024-02-08"), 14_400.0, "MOR/day", f"{MOR}: Token Emission Schedule"),
    Fact("morpheus", "emission of 2025-02-06, day 365", lambda: minted("morpheus", "2025-02-06"), 13_501.285928836, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-9),
    Fact("morpheus", "emission of 2026-11-23, day 1,020", lambda: minted("morpheus", "2026-11-23"), 11_884.094399681, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-9),
    Fact("morpheus", "emission of 2029-07-30, day 2,000", lambda: minted("morpheus", "2029-07-30"), 9_464.479592701, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-9),
    Fact("morpheus", "emission of 2040-01-27, day 5,833, the last", lambda: minted("morpheus", "2040-01-27"), 0.822903767999378, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-6),
    Fact("morpheus", "emission of 2040-01-28", lambda: minted("morpheus", "2040-01-28"), 0.0, "MOR/day", f"{MOR}: Token Emission Schedule"),
    Fact("morpheus", "compute's share of 2026-11-23", lambda: provided("morpheus"), 2_852.18, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-5),
    Fact("morpheus", "fee of a bid", lambda: rule("morpheus", "burn_tokens"), 0.3, "MOR", "nodedocs.dev.mor.org", 1e-6, False),
    Fact("morpheus", "provider stake", lambda: locked("morpheus", "a100_80"), 0.2, "MOR", "nodedocs.dev.mor.org"),
    # Livepeer
    Fact("livepeer", "inflation after six rounds from 221,500", lambda: bonding_round(6), 218_500, "1e-9", f"{PROTOCOL}:deploy/migrations.config.ts"),
    Fact("livepeer", "inflation one round later", lambda: bonding_round(7), 218_000, "1e-9", f"{PROTOCOL}:deploy/migrations.config.ts"),
    Fact("livepeer", "inflation below the target rises by the same step", lambda: 1e9 * emission.livepeer_inflation(218_000e-9, 0.44, schedule("livepeer").parameters["target"], schedule("livepeer").parameters["change"]), 218_500, "1e-9", f"{PROTOCOL}:contracts/token/Minter.sol"),
    Fact("livepeer", "length of a round", lambda: schedule("livepeer").parameters["round_h"], 22.0, "h", "docs.livepeer.org/v2", 1e-6, False),
    Fact("livepeer", "unbonding of 7 rounds", lambda: rule("livepeer", "unbonding_h") / schedule("livepeer").parameters["round_h"], 7.0, "rounds", f"{PROTOCOL}:deploy/migrations.config.ts", 1e-6, False),
    Fact("livepeer", "share of the mint left after the treasury's cut", lambda: provider_share("livepeer"), 0.90, "share", f"{PROTOCOL}:deploy/migrations.config.ts", 1e-6, False),
    # Clore.ai
    Fact("clore", "baskets of tiers 1 and 2, 10 % of 313 a block each", lambda: provided("clore"), 2 * 45_072, "CLORE/day", CLORE),
    Fact("clore", "alone in both tiers at a rent of 0.30 USD/h = 300 a day: paid", lambda: baskets(1e-6, 0.30 * 24 / 300), 2 * 300, "CLORE/day", CLORE),
    Fact("clore", "half of the points: half of the baskets", lambda: baskets(work("clore", "rtx_4090"), 1e-5), 45_072, "CLORE/day", CLORE),
    Fact("clore", "lock of tiers 1 and 2, 5 x 1,000 a point, at 10 points", lambda: locked("clore", "rtx_4090"), 5 * 1000 * 10, "CLORE", CLORE),
    Fact("clore", "tier 2 unlocks", lambda: rule("clore", "unbonding_h") / 24, 14.0, "days", CLORE, 1e-6, False),
    Fact("clore", "reward claimable the eighth day after it accrued, not the hour before", lambda: vested("clore", 8) - vested("clore", 8 - 1 / 24), 1.0, "share", "docs.clore.ai, Reward Distribution System"),
    # Filecoin
    Fact("filecoin", "simple mint at epoch 0", lambda: emission.simple_mint(0), 36.266264293777134739, "FIL/epoch", f"{ACTORS}:actors/reward/testdata/TestSimpleReward.golden", 1e-12),
    Fact("filecoin", "simple mint at epoch 5,000", lambda: emission.simple_mint(5000), 36.246341860983438171, "FIL/epoch", f"{ACTORS}:actors/reward/testdata/TestSimpleReward.golden", 1e-12),
    Fact("filecoin", "simple mint at epoch 15,000", lambda: emission.simple_mint(15_000), 36.206529821825080595, "FIL/epoch", f"{ACTORS}:actors/reward/testdata/TestSimpleReward.golden", 1e-12),
    Fact("filecoin", "baseline mint, first row", lambda: emission.baseline_mint(0.0, theta(340282366920938463463374607398434878123)), 84.621274052457285111, "FIL", f"{ACTORS}:actors/reward/testdata/TestBaselineReward.golden", 1e-12),
    Fact("filecoin", "baseline mint, second row", lambda: emission.baseline_mint(theta(1701411834604692317316873037158763279502223), theta(1701752116971613255780336411766161714380346)), 84.574788381047331439, "FIL", f"{ACTORS}:actors/reward/testdata/TestBaselineReward.golden", 1e-9),
    Fact("filecoin", "all of the baseline mint", lambda: emission.baseline_mint(0.0, 1e12), 770e6, "FIL", f"{ACTORS}:actors/reward/src/logic.rs"),
    Fact("filecoin", "simple mint halves in six years", lambda: emission.simple_mint(6 * 365 * 2880) / emission.simple_mint(0), 0.5, "ratio", f"{ACTORS}:actors/reward/src/logic.rs"),
    Fact("filecoin", "baseline power doubles in a year", lambda: emission.baseline_power(1.0, schedule("filecoin").parameters["baseline_eib"]), 2 * 2.5057116798121726, "EiB", f"{ACTORS}:actors/reward/src/logic.rs", 1e-4),
    Fact("filecoin", "power at the baseline keeps effective time in step", lambda: emission.effective_time(2.0, emission.baseline_power(2.0, 2.5057), 1e-6, 2.5057) - 2.0, 1e-6, "years", f"{ACTORS}:actors/reward/src/logic.rs", 1e-3),
    Fact("filecoin", "epochs from genesis to the catalogue's date", lambda: schedule("filecoin").parameters["epoch"], (datetime.datetime(2026, 11, 23) - datetime.datetime(2020, 8, 24, 22)).total_seconds() / 30, "epochs", "Filecoin mainnet genesis", 1e-9, False),
    Fact("filecoin", "part of a reward that vests", lambda: 1 - vested("filecoin", 0), 3 / 4, "share", f"{ACTORS}:actors/miner/src/monies.rs"),
    Fact("filecoin", "reward free after 90 days", lambda: vested("filecoin", 90), 0.25 + 0.75 / 2, "share", f"{ACTORS}:actors/miner/src/policy.rs"),
    Fact("filecoin", "fault fee of a day", fault_fee, 3.51, "days of reward", f"{ACTORS}:actors/miner/src/monies.rs", 1e-5),
    Fact("filecoin", "shortest sector", lambda: rule("filecoin", "unbonding_h") / 24, 180.0, "days", f"{ACTORS}:runtime/src/runtime/policy.rs", 1e-6, False),
    # Nosana, Vast.ai, proof of work
    Fact("nosana", "price of an RTX 3060, the network fee included", lambda: leased("nosana", "rtx_3060") / 0.9, 0.048, "USD/h", "GeiserX/CashPilot@c4cf3cf0:services/compute/nosana.yml", 5e-3),
    Fact("vast", "median on-demand price of an RTX 5090, the host fee included", lambda: leased("vast", "rtx_5090") / 0.75, 0.535, "USD/h", "brandonros/vastai-scraper@6356379b:docs/analysis.md", 1e-3),
    Fact("pow_coin", "pay of an RTX 5090 over that of an RTX 4090", lambda: work("pow_coin", "rtx_5090") / work("pow_coin", "rtx_4090"), 0.66 / 0.50, "ratio", "docsue.org", 5e-3, False),
    # Money, for every network
    Fact("all", "largest Finnerty discount", lambda: vesting.finnerty_discount(2.0, 1e3), 0.323, "share", "Finnerty, Journal of Derivatives 19(4), 2012", 1e-3),
    Fact("all", "a sale of a tenth of the pool's reserve moves its price", lambda: float(settlement.amm_impact(torch.tensor(10.0), torch.tensor(100.0))), 1 / 11, "share", "constant-product pool, dx / (x + dx)"),
    Fact("all", "a day's whole turnover costs one daily volatility", lambda: float(settlement.square_root_impact(torch.tensor(1e6), torch.tensor(1e6), torch.tensor(0.05), 1.0)), 0.05, "share", "Toth et al., Physical Review X 1, 021006, 2011"),
]  # fmt: skip


@pytest.mark.parametrize("row", FACTS, ids=lambda row: f"{row.network}: {row.fact}")
def test_our_value_is_the_published_one(row: Fact) -> None:
    assert row.ours() == pytest.approx(row.published, rel=row.relative, abs=1e-12), row.source


def test_the_table_covers_the_catalogue() -> None:
    assert len(FACTS) >= 50
    assert sum(row.runs for row in FACTS) >= 50
    assert len({(row.network, row.fact) for row in FACTS}) == len(FACTS)
    assert all(row.unit and row.source for row in FACTS)
    no_figure_found = {"ritual", "marlin"}  # their documents have rules, no amounts
    covered = {row.network for row in FACTS}
    assert set(scenario().network_names) - {"off"} - covered == no_figure_found

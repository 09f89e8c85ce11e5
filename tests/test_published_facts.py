"""Published facts as tests: what the documents say against what our code computes.

One row names network, fact, our value, the document's value, unit and source. Rows marked `runs`
push the document's own worked example through mechanism code; the others read what the simulator
uses after the catalogue is loaded.
"""

# ruff: noqa: E501  (one fact a line)

from __future__ import annotations

import datetime
import itertools
import math
import statistics
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from env import catalog
from env.networks import allocation, documents, emission, registration, settlement, vesting
from env.rules import Economics, Rules, build_rules, work_of

SUBTENSOR = "opentensor/subtensor@14bc6f9f"
ACTORS = "filecoin-project/builtin-actors@b0a3bdd6"
RNP = "rendernetwork/RNPs@a7ced774"
AEP76 = "akash-network/AEP@d21edcdf:spec/aep-76/README.md"
PROTOCOL = "livepeer/protocol@f225b10c"
MOR = "MorpheusAIs/Docs@7beede8b"
IO_EMISSION = "docs.iog.net/docs/token-emission-schedule"
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


@cache
def networks() -> dict[str, catalog.Network]:
    return {n.name: n for n in catalog.load_networks("default")}


@cache
def rules() -> Rules:
    """The rules as the simulator builds them from the catalogue."""
    economics = catalog.parse(Economics, catalog.preset("catalog", "economics"), "economics.yaml")
    return build_rules(
        tuple(networks().values()),
        catalog.load_tokens(),
        catalog.load_gpus(),
        catalog.load_sites(),
        economics,
        torch.device("cpu"),
    )


def rule(network: str, name: str) -> float:
    return float(getattr(rules(), name)[list(networks()).index(network)])


def work(network: str, gpu: str) -> float:
    return work_of(networks()[network], gpu, catalog.load_gpus())


def schedule(network: str) -> catalog.Schedule:
    found = networks()[network].emission
    assert found is not None
    return found.schedule


def per_day(network: str, date: str) -> float:
    """Tokens the loaded schedule mints on a date, summed over its hours."""
    days = (datetime.date.fromisoformat(date) - emission.CATALOGUE_DATE).days
    return float(emission.tokens_per_hour(schedule(network), 24 * days + np.arange(24)).sum())


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


def vested(network: str, days: float) -> float:
    return vesting.unlocked_share(networks()[network].commitment.vesting, 24 * days)


def wallet(rigs: float) -> float:
    """What Render's availability rule leaves of the pay per rig, with the catalogue's parameters."""
    render = networks()["render"].emission
    assert render is not None
    values = (rigs, render.wallet_free_rigs, render.wallet_decay, 1.0)
    return float(allocation.wallet_factor(*(torch.tensor(v) for v in values)))


def bonding_round(rounds: int) -> float:
    """Livepeer's inflation in parts per 1e9 after so many rounds above the target bonding rate."""
    value = 221500e-9
    for _ in range(rounds):
        change = schedule("livepeer").parameters["change"]
        value = emission.livepeer_inflation(value, 0.51, 0.5, change)
    return value * 1e9


def burn_after(burn: float, half_life: float, lowest: float, highest: float) -> float:
    """Subtensor's burn one block later."""
    return registration.clamp_burn(registration.decay(burn, 1, half_life), lowest, highest)


FACTS = [
    # Bittensor
    Fact("bittensor", "TAO a block before the first halving", lambda: emission.tao_block_emission(10_499_999), 1.0, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a block from 10.5 M issued", lambda: emission.tao_block_emission(10_500_000), 0.5, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a block from 15.75 M issued", lambda: emission.tao_block_emission(15_750_000), 0.25, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a block at the cap", lambda: emission.tao_block_emission(21_000_000), 0.0, "TAO", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor", "TAO a day after the halving of 2025-12", lambda: float(emission.tokens_per_hour(tao_schedule(10.6e6), np.arange(24)).sum()), 3600.0, "TAO/day", "docs.taostats.io/docs/tao-emission"),
    Fact("bittensor", "issuance passes 10.5 M twelve hours on: emission halves that hour", lambda: float(np.divide(*emission.tokens_per_hour(tao_schedule(10.5e6 - 3600), np.array([12, 11])))), 0.5, "ratio", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/block_emission.rs"),
    Fact("bittensor_subnet", "alpha a day of one subnet before its halving", lambda: per_day("bittensor_subnet", "2026-11-23"), 7200.0, "alpha/day", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/run_coinbase.rs"),
    Fact("bittensor_subnet", "miners' share of alpha from the owner's cut 11796/65535", lambda: documents.miner_share(11_796), 0.41, "share", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/run_coinbase.rs", 1e-4),
    Fact("bittensor_subnet", "miners' share in the simulator", lambda: rule("bittensor_subnet", "provider_share"), documents.miner_share(11_796), "share", f"{SUBTENSOR}:runtime/src/lib.rs", 1e-4, False),
    Fact("bittensor_subnet", "alpha a day to miners", lambda: per_day("bittensor_subnet", "2026-11-23") * rule("bittensor_subnet", "provider_share"), 2952.0, "alpha/day", f"{SUBTENSOR}:pallets/subtensor/src/coinbase/run_coinbase.rs"),
    Fact("bittensor_subnet", "burn after 360 blocks", lambda: registration.decay(1.0, registration.blocks_to_hours(360), rule("bittensor_subnet", "burn_half_life_h")), 0.5, "of the burn", f"{SUBTENSOR}:pallets/subtensor/src/lib.rs"),
    Fact("bittensor_subnet", "burn after one registration", lambda: registration.bump(1.0, rule("bittensor_subnet", "burn_step")), 1.26, "of the burn", f"{SUBTENSOR}:pallets/subtensor/src/lib.rs"),
    Fact("bittensor_subnet", "test_burn_decay: 1,000, doubled, one block of half-life 1,000", lambda: math.floor(registration.decay(registration.bump(1000.0, 2.0), 1, 1000)), 1998, "rao", f"{SUBTENSOR}:pallets/subtensor/src/tests/registration.rs"),
    Fact("bittensor_subnet", "test_burn_min_and_max: 1 halves but the minimum holds", lambda: burn_after(1.0, 1, 1e5, 1.5e5), 100_000, "rao", f"{SUBTENSOR}:pallets/subtensor/src/tests/registration.rs"),
    Fact("bittensor_subnet", "test_burn_min_and_max: 100,000 doubled meets the maximum", lambda: registration.clamp_burn(registration.bump(1e5, 2.0), 1e5, 1.5e5), 150_000, "rao", f"{SUBTENSOR}:pallets/subtensor/src/tests/registration.rs"),
    Fact("bittensor_subnet", "registrations a day that hold the burn", lambda: 24 * registration.holding_rate_per_h(rule("bittensor_subnet", "burn_step"), rule("bittensor_subnet", "burn_half_life_h")), 60.0, "1/day", f"{SUBTENSOR}:pallets/subtensor/src/lib.rs", 1e-3),
    Fact("bittensor_subnet", "three registrations in one block", lambda: registration.batch_cost(1.0, 3, rule("bittensor_subnet", "burn_step")), 1 + 1.26 + 1.26**2, "of the burn", f"{SUBTENSOR}:pallets/subtensor/src/subnets/registration.rs"),
    Fact("bittensor_subnet", "highest burn", lambda: rule("bittensor_subnet", "burn_max_tokens"), 100.0, "TAO", f"{SUBTENSOR}:runtime/src/lib.rs", 1e-6, False),
    Fact("bittensor_subnet", "immunity of 4,096 blocks", lambda: registration.blocks_to_hours(4096), 13.65, "h", f"{SUBTENSOR}:runtime/src/lib.rs", 1e-3),
    Fact("bittensor_subnet", "immunity in the simulator", lambda: rule("bittensor_subnet", "immunity_h"), 13.65, "h", f"{SUBTENSOR}:runtime/src/lib.rs", 1e-3, False),
    Fact("bittensor_subnet", "estimates lag one tempo of 360 blocks", lambda: rule("bittensor_subnet", "lag_h") * 60, 72.0, "min", f"{SUBTENSOR}:runtime/src/lib.rs", 1e-6, False),
    Fact("bittensor_compute", "posted price of an H200", lambda: rule("bittensor_compute", "fee") * work("bittensor_compute", "h200"), 3.5, "USD/h", NODEXO, 1e-3, False),
    Fact("bittensor_compute", "posted price of an RTX 4090", lambda: rule("bittensor_compute", "fee") * work("bittensor_compute", "rtx_4090"), 0.69, "USD/h", NODEXO, 1e-3, False),
    Fact("bittensor_compute", "posted price of an A100 SXM", lambda: rule("bittensor_compute", "fee") * work("bittensor_compute", "a100_80"), 1.49, "USD/h", NODEXO, 1e-3, False),
    Fact("bittensor_serverless", "score of a miner with all of one metric each", lambda: documents.chutes_score(1, 0, 0, 0) + 10 * documents.chutes_score(0, 1, 0, 0), 0.55 + 2.5, "weight", "chutes.ai/docs/miner-resources/scoring"),
    Fact("bittensor_serverless", "pay a newcomer loses to the 7-day window", lambda: rule("bittensor_serverless", "warmup_h"), documents.window_lag_h(7), "h", "chutes.ai/docs/miner-resources/scoring", 1e-6, False),
    # Akash
    Fact("akash", "1,000 ACT settled at 1.50 USD", lambda: settlement.pegged_tokens(1000.0, 1.5, rule("akash", "fee_spread")), 666.666667, "AKT", AEP76),
    Fact("akash", "1,000 ACT settled at 0.90 USD", lambda: settlement.pegged_tokens(1000.0, 0.9, rule("akash", "fee_spread")), 1111.111111, "AKT", AEP76),
    Fact("akash", "net supply after 1,000 USD burnt at 1.14 and settled at 1.50", lambda: documents.akash_settle(1000, 1.5, 1000 / 1.14).paid - 1000 / 1.14, -210.526316, "AKT", AEP76),
    Fact("akash", "10 M ACT settled at 0.90 with 8,771,929 AKT in the vault: minted", lambda: documents.akash_settle(10e6, 0.9, 8_771_929).minted, 2.34e6, "AKT", AEP76, 1e-3),
    Fact("akash", "collateral ratio of 8.77 M AKT at 1.20 USD", lambda: documents.akash_collateral_ratio(8.77e6, 1.20, 10e6), 1.053, "ratio", AEP76, 1e-3),
    Fact("akash", "price of an RTX 4090 in the incentive programme", lambda: documents.lease_price_per_hour(318_067, 104, 12), rule("akash", "fee"), "USD/h", "Akash community proposal 303", 5e-3),
    Fact("akash", "price of an H100 in the incentive programme", lambda: documents.lease_price_per_hour(5.80e6, 456, 9.37), rule("akash", "fee") * work("akash", "h100_sxm"), "USD/h", "Akash community proposal 303", 5e-3),
    Fact("akash", "settlement spread", lambda: rule("akash", "fee_spread"), 0.0, "share", AEP76, 1e-6, False),
    Fact("akash", "bid deposit", lambda: rule("akash", "collateral_per_rig"), 0.5, "AKT", "akash-network/node@3efe26bf", 1e-6, False),
    # io.net
    Fact("io_net", "emission of the first hour", lambda: io_hours(0, 1), 4566.21, "IO", IO_EMISSION),
    Fact("io_net", "emission of the second hour", lambda: io_hours(1, 1), 4566.15, "IO", IO_EMISSION),
    Fact("io_net", "emission of the sixth hour", lambda: io_hours(5, 1), 4565.89, "IO", IO_EMISSION),
    Fact("io_net", "emission of all 175,319 hours", lambda: io_hours(0, 175_319), 300e6, "IO", IO_EMISSION, 1e-4),
    Fact("io_net", "stake for eight H100 of multiplier 10", lambda: 8 * documents.io_stake(10), 16_000, "IO", "docs.io.net/docs/io-staking"),
    Fact("io_net", "stake for eight H100 in the simulator", lambda: 8 * rule("io_net", "collateral_per_work") * work("io_net", "h100_sxm"), 8 * documents.io_stake(10), "IO", "docs.io.net/docs/io-staking", 1e-6, False),
    Fact("io_net", "enterprise pool's share", lambda: float(rules().tier_share[list(networks()).index("io_net"), 0]), 0.95, "share", "docs.io.net/docs/proposed-device-block-reward-multiplier", 1e-6, False),
    Fact("io_net", "community pool's share", lambda: float(rules().tier_share[list(networks()).index("io_net"), 1]), 0.05, "share", "docs.io.net/docs/proposed-device-block-reward-multiplier", 1e-6, False),
    # Render
    Fact("render_compute", "RTX 4090 in use all week", lambda: documents.render_compute_week(work("render_compute", "rtx_4090"), 168, 1.0), 27.0, "RENDER/week", f"{RNP}:RNP-021.md"),
    Fact("render_compute", "RTX 4090, 100 hours at 99.5 % uptime", lambda: documents.render_compute_week(work("render_compute", "rtx_4090"), 100, 0.995), 16.87, "RENDER/week", f"{RNP}:RNP-021.md", 5e-4),
    Fact("render_compute", "H200, 100 hours at 99.5 % uptime", lambda: documents.render_compute_week(work("render_compute", "h200"), 100, 0.995), 76.39, "RENDER/week", f"{RNP}:RNP-021.md", 5e-4),
    Fact("render_compute", "RNP-019's example of 100 hours at multiplier 1.8098", lambda: documents.render_job_tokens(10, 1.8098, 100), 10.77, "RENDER/week", f"{RNP}:RNP-019.md", 5e-4),
    Fact("render_compute", "H200, 100 leased hours in the simulator", lambda: 100 * rule("render_compute", "fee") * work("render_compute", "h200"), 74.40, "RENDER", f"{RNP}:RNP-021.md", 5e-4, False),
    Fact("render_compute", "availability of a week in the simulator", lambda: 168 * rule("render_compute", "standby_tokens"), 2.0, "RENDER/week", f"{RNP}:RNP-021.md", 1e-6, False),
    Fact("render_compute", "RTX 4090 fully used at RENDER = 2.35 USD", lambda: documents.render_compute_week(1.0, 168, 1.0) * catalog.load_tokens()["RENDER"].price_usd / 168, 0.38, "USD/h", f"{RNP}:RNP-021.md", 1e-2),
    Fact("render", "tokens a week: 15,000 for jobs, 12,500 a month for availability", lambda: 7 * per_day("render", "2026-11-23"), 15_000 + 12_500 * 12 * 7 / 365, "RENDER/week", f"{RNP}:RNP-013.md", 1e-6, False),
    Fact("render", "share of the pool under the wallet rule", lambda: rule("render", "wallet_share"), (12_500 * 12 / 365) / (15_000 / 7 + 12_500 * 12 / 365), "share", f"{RNP}:RNP-013.md", 1e-3, False),
    Fact("render", "availability pay with three nodes in a wallet", lambda: wallet(3), 1.0, "factor", f"{RNP}:RNP-015.md"),
    Fact("render", "availability pay with eight nodes in a wallet", lambda: wallet(8), math.exp(-0.65 * 5), "factor", f"{RNP}:RNP-015.md", 1e-5),
    # Aethir
    Fact("aethir", "stake of a container with K value 300", lambda: documents.aethir_stake(300), rule("aethir", "collateral_per_work"), "ATH", AETHIR, 1e-6),
    Fact("aethir", "reward that can be sold at once", lambda: vested("aethir", 0), 0.30, "share", AETHIR),
    Fact("aethir", "reward that can be sold after 45 days", lambda: vested("aethir", 45), 0.30 + 0.30 / 2 + 0.40 / 4, "share", AETHIR),
    Fact("aethir", "reward that can be sold after 90 days", lambda: vested("aethir", 90), 0.30 + 0.30 + 0.40 / 2, "share", AETHIR),
    Fact("aethir", "reward that can be sold after 180 days", lambda: vested("aethir", 180), 1.0, "share", AETHIR),
    Fact("aethir", "unstaking", lambda: rule("aethir", "unbonding_h") / 24, 180.0, "days", AETHIR, 1e-6, False),
    # Heurist
    Fact("heurist", "ceiling of 50 % of 1 bn over 120 months", lambda: per_day("heurist", "2026-11-23") * 365.25 / 12, 500e6 / 120, "HEU/month", HEURIST, 1e-4, False),
    Fact("heurist", "escrowed tokens vested after half a year", lambda: vested("heurist", 182.5), 0.5, "share", HEURIST),
    Fact("heurist", "stake per node", lambda: rule("heurist", "collateral_per_rig"), 10_000, "HEU", HEURIST, 1e-6, False),
    Fact("heurist", "unlock of the stake", lambda: rule("heurist", "unbonding_h") / 24, 30.0, "days", HEURIST, 1e-6, False),
    # Morpheus
    Fact("morpheus", "emission of 2024-02-08, day 1", lambda: per_day("morpheus", "2024-02-08"), 14_400.0, "MOR/day", f"{MOR}: Token Emission Schedule"),
    Fact("morpheus", "emission of 2025-02-06, day 365", lambda: per_day("morpheus", "2025-02-06"), 13_501.285928836, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-9),
    Fact("morpheus", "emission of 2026-11-23, day 1,020", lambda: per_day("morpheus", "2026-11-23"), 11_884.094399681, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-9),
    Fact("morpheus", "emission of 2029-07-30, day 2,000", lambda: per_day("morpheus", "2029-07-30"), 9_464.479592701, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-9),
    Fact("morpheus", "emission of 2040-01-27, day 5,833, the last", lambda: per_day("morpheus", "2040-01-27"), 0.822903767999378, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-6),
    Fact("morpheus", "emission of 2040-01-28", lambda: per_day("morpheus", "2040-01-28"), 0.0, "MOR/day", f"{MOR}: Token Emission Schedule"),
    Fact("morpheus", "compute's share of 2026-11-23", lambda: per_day("morpheus", "2026-11-23") * rule("morpheus", "provider_share"), 2_852.18, "MOR/day", f"{MOR}: Token Emission Schedule", 1e-5),
    Fact("morpheus", "budget of a day with 300,000 MOR in the contract", lambda: documents.morpheus_budget(300_000), 3_000.0, "MOR/day", f"{MOR}: Yellowstone Compute Model"),
    Fact("morpheus", "fee of a bid", lambda: rule("morpheus", "burn_tokens"), 0.3, "MOR", "nodedocs.dev.mor.org", 1e-6, False),
    Fact("morpheus", "provider stake", lambda: rule("morpheus", "collateral_per_rig"), 0.2, "MOR", "nodedocs.dev.mor.org", 1e-6, False),
    # Livepeer
    Fact("livepeer", "yield at 25.6 % inflation with 44 % bonded", lambda: documents.livepeer_yield(0.256, 0.44), 0.58, "1/year", "forum.livepeer.org/t/2753", 5e-3),
    Fact("livepeer", "inflation after six rounds from 221,500", lambda: bonding_round(6), 218_500, "1e-9", f"{PROTOCOL}:deploy/migrations.config.ts"),
    Fact("livepeer", "inflation one round later", lambda: bonding_round(7), 218_000, "1e-9", f"{PROTOCOL}:deploy/migrations.config.ts"),
    Fact("livepeer", "inflation below the target rises by the same step", lambda: 1e9 * emission.livepeer_inflation(218_000e-9, 0.44, schedule("livepeer").parameters["target"], schedule("livepeer").parameters["change"]), 218_500, "1e-9", f"{PROTOCOL}:contracts/token/Minter.sol"),
    Fact("livepeer", "length of a round", lambda: schedule("livepeer").parameters["round_h"], 22.0, "h", "docs.livepeer.org/v2", 1e-6, False),
    Fact("livepeer", "unbonding of 7 rounds", lambda: rule("livepeer", "unbonding_h") / schedule("livepeer").parameters["round_h"], 7.0, "rounds", f"{PROTOCOL}:deploy/migrations.config.ts", 1e-6, False),
    Fact("livepeer", "share of the mint left after the treasury's cut", lambda: rule("livepeer", "provider_share"), 0.90, "share", f"{PROTOCOL}:deploy/migrations.config.ts", 1e-6, False),
    Fact("livepeer", "a round spent down forfeits its reward", lambda: documents.livepeer_missed_share(22, schedule("livepeer").parameters["round_h"]), 1.0, "share", "docs.livepeer.org/v2"),
    # Clore.ai
    Fact("clore", "basket of one tier", lambda: documents.clore_tier_pool(313, 0.10), 45_072, "CLORE/day", CLORE),
    Fact("clore", "both tiers in the simulator", lambda: per_day("clore", "2026-11-23") * rule("clore", "provider_share"), 2 * 45_072, "CLORE/day", CLORE, 1e-6),
    Fact("clore", "alone in tier 1 with a rent of 300 a day: paid", lambda: documents.clore_tier_pay(45_072, 1.0, 300).paid, 300, "CLORE/day", CLORE),
    Fact("clore", "alone in tier 1 with a rent of 300 a day: burned", lambda: documents.clore_tier_pay(45_072, 1.0, 300).burned, 44_772, "CLORE/day", CLORE),
    Fact("clore", "cap of both tiers in the simulator", lambda: rule("clore", "cap_usd"), 2 * 0.30, "USD/h", CLORE, 1e-6, False),
    Fact("clore", "lock of all tiers at 20 points", lambda: documents.clore_stake(20, 7), 140_000, "CLORE", CLORE),
    Fact("clore", "lock of tiers 1 and 2 at 10 points", lambda: documents.clore_stake(10, 5), rule("clore", "collateral_per_work"), "CLORE", CLORE),
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
    Fact("filecoin", "part of a reward that vests", lambda: documents.filecoin_locked(1.0), 1 - vested("filecoin", 0), "share", f"{ACTORS}:actors/miner/src/monies.rs"),
    Fact("filecoin", "reward free after 90 days", lambda: vested("filecoin", 90), 0.25 + 0.75 / 2, "share", f"{ACTORS}:actors/miner/src/policy.rs"),
    Fact("filecoin", "fault fee of a day", lambda: documents.filecoin_fault_fee(1.0), rule("filecoin", "fault_multiple"), "days of reward", f"{ACTORS}:actors/miner/src/monies.rs"),
    Fact("filecoin", "termination fee after 141 days", lambda: documents.filecoin_termination_fee(1000, 141, 0), 85.0, "FIL", f"{ACTORS}:actors/miner/tests/pledge_penalty_for_termination.rs"),
    Fact("filecoin", "termination fee after 70 days", lambda: documents.filecoin_termination_fee(1000, 70, 0), 42.5, "FIL", f"{ACTORS}:actors/miner/tests/pledge_penalty_for_termination.rs"),
    Fact("filecoin", "termination fee on the first day", lambda: documents.filecoin_termination_fee(1000, 0, 0), 20.0, "FIL", f"{ACTORS}:actors/miner/tests/pledge_penalty_for_termination.rs"),
    Fact("filecoin", "shortest sector", lambda: rule("filecoin", "unbonding_h") / 24, 180.0, "days", f"{ACTORS}:runtime/src/runtime/policy.rs", 1e-6, False),
    # Nosana, Vast.ai, proof of work
    Fact("nosana", "price of an RTX 3060", lambda: networks()["nosana"].demand.price_per_work_h * work("nosana", "rtx_3060"), 0.048, "USD/h", "GeiserX/CashPilot@c4cf3cf0:services/compute/nosana.yml", 5e-3, False),  # type: ignore[union-attr]
    Fact("vast", "median on-demand price of an RTX 5090", lambda: networks()["vast"].demand.price_per_work_h * work("vast", "rtx_5090"), 0.535, "USD/h", "brandonros/vastai-scraper@6356379b:docs/analysis.md", 1e-3, False),  # type: ignore[union-attr]
    Fact("pow_coin", "pay of an RTX 5090 over that of an RTX 4090", lambda: work("pow_coin", "rtx_5090") / work("pow_coin", "rtx_4090"), 0.66 / 0.50, "ratio", "docsue.org", 5e-3, False),
    # Money, for every network
    Fact("all", "largest Finnerty discount", lambda: vesting.finnerty_discount(2.0, 1e3), 0.323, "share", "Finnerty, Journal of Derivatives 19(4), 2012", 1e-3),
    Fact("all", "a sale of a tenth of the pool's reserve moves its price", lambda: settlement.amm_impact(10.0, 100.0), 1 / 11, "share", "constant-product pool, dx / (x + dx)"),
    Fact("all", "the same sale's proceeds from 50 quote tokens", lambda: settlement.amm_out(10.0, 100.0, 50.0), 50 - 100 * 50 / 110, "tokens", "constant-product pool, x y = k"),
    Fact("all", "a day's whole turnover costs one daily volatility", lambda: settlement.square_root_impact(1e6, 1e6, 0.05, 1.0), 0.05, "share", "Toth et al., Physical Review X 1, 021006, 2011"),
]  # fmt: skip


@pytest.mark.parametrize("row", FACTS, ids=lambda row: f"{row.network}: {row.fact}")
def test_our_value_is_the_published_one(row: Fact) -> None:
    assert row.ours() == pytest.approx(row.published, rel=row.relative, abs=1e-12), row.source


def test_the_table_covers_the_catalogue() -> None:
    assert len(FACTS) >= 50
    assert sum(row.runs for row in FACTS) >= 25
    assert len({(row.network, row.fact) for row in FACTS}) == len(FACTS)
    assert all(row.unit and row.source for row in FACTS)
    no_figure_found = {"ritual", "marlin"}  # their documents have rules, no amounts
    covered = {row.network for row in FACTS}
    assert set(networks()) - covered == no_figure_found


def test_finnerty_grows_with_time_and_volatility() -> None:
    years = [vesting.finnerty_discount(1.0, y) for y in (0.0, 1e-5, 1e-4, 0.01, 0.25, 1, 5, 29, 31)]
    assert years[0] == 0.0
    assert all(a <= b for a, b in itertools.pairwise(years))
    vols = [vesting.finnerty_discount(v, 0.5) for v in (0.2, 0.5, 1.0, 2.0)]
    assert all(a < b for a, b in itertools.pairwise(vols))
    # short lock-ups: v^2 -> sigma^2 T / 3, so D -> sigma sqrt(T / 3) / sqrt(2 pi)
    assert vesting.finnerty_discount(0.1, 0.5) == pytest.approx(0.1 / math.sqrt(12 * math.pi), 1e-2)


@pytest.mark.parametrize("variance", [0.04, 0.5, 2.0])
def test_finnerty_is_an_option_to_exchange_the_average_price_for_the_last(variance: float) -> None:
    # both lognormal by their moments, by quadrature: E[A^2] = mean of e^(s min(u, v)) and
    # E[A S] = mean of e^(s u), so v^2 = s + ln E[A^2] - 2 ln E[A S]
    u = (np.arange(2000) + 0.5) / 2000
    average = np.mean(np.exp(variance * np.minimum(u[:, None], u[None, :])))
    spread = variance + math.log(average) - 2 * math.log(np.mean(np.exp(variance * u)))
    normal = statistics.NormalDist().cdf
    expected = normal(math.sqrt(spread) / 2) - normal(-math.sqrt(spread) / 2)
    ours = vesting.finnerty_discount(math.sqrt(variance), 1.0)
    assert ours == pytest.approx(expected, rel=1e-3)


def test_lockup_discount_averages_its_tranches() -> None:
    later = vesting.lockup_discount(((1.0, 8760, 0),), 1.0)
    assert later == pytest.approx(vesting.finnerty_discount(1.0, 1.0))
    linear = vesting.lockup_discount(((1.0, 0, 8760),), 1.0)
    steps = np.linspace(0, 1, 20_001)[1:]
    mean = np.mean([vesting.finnerty_discount(1.0, float(s)) for s in steps])
    assert linear == pytest.approx(float(mean), rel=2e-3)
    assert vesting.lockup_discount(((0.5, 0, 8760),), 1.0) == pytest.approx(linear / 2)
    assert vesting.lockup_discount((), 1.0) == 0.0


def test_money_formulas_take_tensors_as_well_as_numbers() -> None:
    sold = torch.tensor([0.0, 1.0, 50.0])
    expected = [settlement.square_root_impact(s, 100.0, 0.05, 1.0) for s in sold.tolist()]
    ours = settlement.square_root_impact(sold, torch.tensor(100.0), torch.tensor(0.05), 1.0)
    assert ours.tolist() == pytest.approx(expected)
    burn = registration.clamp_burn(registration.decay(sold, 1.2, 1.2), 0.1, 10.0)
    assert burn.tolist() == pytest.approx([0.1, 0.5, 10.0])

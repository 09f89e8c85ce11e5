"""A manifest that means something else by a column than this code is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import scenario
from handmade import changed, manifest

from agents.manifest import catalog
from agents.serve.catalog import read_columns
from agents.serve.columns import Paid
from agents.serve.errors import BundleError
from agents.worlds import Split, world_seeds
from env.world import World


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("columns.rigs.0.name", "count", "'gpu_count', got 'count'"),
        ("columns.rigs.0.unit", "GB", "columns.rigs.0.unit: expected '1'"),
        ("columns.rigs.0.given", "computed", "'snapshot'"),
        ("columns.rigs.0.low", "x", "columns.rigs.0.low"),
        ("columns.rigs.0.default", True, "columns.rigs.0.default"),
        ("columns.rigs.0.default", 1e9, "columns.rigs.0.default"),
        ("columns.rigs.5.default", 1.0, "true or false"),
        ("columns.rigs.0.more", 1, "no such field"),
        ("columns.rigs.0.meaning", 1, "a text"),
        ("columns.rigs.18", ..., "a list of 19 columns"),
        ("columns.market", {}, "a list of 5 columns"),
        ("columns.pairs", [], "no such field"),
        ("averages.0.hours", 5.0, "averages"),
        ("averages", [], "averages"),
        ("catalog", ..., "catalog"),
        ("catalog.more", {}, "no such field"),
        ("catalog.off.up", ..., "catalog.off.up"),
        ("catalog.off.up", 2, "catalog.off.up"),
        ("catalog.networks.off", {}, "catalog.networks.off"),
        ("catalog.networks.alpha.lockup", ..., "lockup"),
        ("catalog.networks.alpha.lockup", None, "lockup"),
        ("catalog.networks.alpha.own_work", 1.0, "own_work"),
        ("catalog.networks.a\nb", {}, "names of printable characters"),
        ("catalog.gpus.small.vram_gb", 1e9, "catalog.gpus.small.vram_gb"),
        ("catalog.gpus.small.power_kw", 1.0, "power_kw: expected a value, got nothing"),
        ("catalog.work.gamma", {}, "no such field"),
        ("catalog.work.alpha.huge", 1.0, "no such field"),
        ("catalog.work.alpha.small", -1.0, "catalog.work.alpha.small"),
        ("catalog.per_rig", {}, "a list of networks"),
        ("catalog.per_rig.0", [], "catalog.per_rig.0"),
        ("catalog.min_gpus.beta", None, "catalog.min_gpus.beta"),
        ("catalog.paid.gamma", {}, "no such field"),
        ("catalog.paid.beta", ..., "catalog.paid.beta: expected a value, got nothing"),
        ("catalog.paid.alpha.share", ..., "catalog.paid.alpha.share"),
        ("catalog.paid.alpha.share", 1.5, "catalog.paid.alpha.share"),
        ("catalog.paid.alpha.token", "", "catalog.paid.alpha.token"),
        ("catalog.paid.beta.share", 0.5, "catalog.paid.beta.share"),
    ],
)
def test_a_manifest_that_means_something_else_is_refused(path: str, value: Any, words: str) -> None:
    said = manifest()
    if path.startswith("columns.rigs.18"):
        said["columns"]["rigs"].pop()
    else:
        said = changed(said, path, value)
    with pytest.raises(BundleError) as caught:
        read_columns(said)
    assert words in str(caught.value)


def test_columns_in_another_order_are_refused() -> None:
    for group in ("rigs", "networks", "market"):
        said = manifest()
        listed = said["columns"][group]
        listed[0], listed[1] = listed[1], listed[0]
        with pytest.raises(BundleError, match=rf"columns\.{group}\.0\.name"):
            read_columns(said)


def test_a_bundle_that_does_not_say_in_what_networks_pay_is_read_all_the_same() -> None:
    assert read_columns(manifest()).paid == {"alpha": Paid("A", 0.5), "beta": Paid(None, 0.0)}
    assert read_columns(changed(manifest(), "catalog.paid", ...)).paid == {}


def test_the_catalogue_says_which_pay_moves_with_a_token() -> None:
    paid = catalog(scenario())["paid"]
    assert paid["vast"] == {"token": None, "share": 0.0}
    assert paid["akash"] == {"token": "AKT", "share": 0.0}  # a price in USD, settled in AKT
    assert paid["render"] == paid["render_compute"] == {"token": "RENDER", "share": 1.0}
    assert 0.0 < paid["aethir"]["share"] < 1.0  # rewards in ATH, and fees pegged to USD
    assert "off" not in paid


def test_the_share_of_pay_that_moves_is_that_of_a_worlds_first_hour() -> None:
    place = scenario()
    quotes = World.start(place, world_seeds(Split.TRAIN, 256)).exogenous.at(0).quotes
    minted = quotes.emission * quotes.token_usd / quotes.outside_work
    minted = torch.minimum(minted, place.rules.cap_usd)
    fees = quotes.demand_work / quotes.outside_work * quotes.fee * quotes.fee_usd
    moves = (minted + fees * place.rules.fee_in_token) / (minted + fees)
    paid = catalog(place)["paid"]
    for name, share in zip(place.network_names, moves.nanmedian(0).values.tolist(), strict=True):
        if name != "off":
            assert share == pytest.approx(paid[name]["share"], abs=0.05), name

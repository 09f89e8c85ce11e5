"""A manifest that means something else by a column than this code is refused."""

from __future__ import annotations

from typing import Any

import pytest
from handmade import changed, manifest

from agents.serve.catalog import read_columns
from agents.serve.errors import BundleError


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

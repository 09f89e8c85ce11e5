"""Reading snapshots: every fact in its place, every wrong field named, nothing else raised."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from conftest import scenario
from handmade import RIG, changed, facts, manifest, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.serve.catalog import read_columns
from agents.serve.columns import AVERAGES, COMPUTED, MARKET, NETWORKS, RIGS
from agents.serve.errors import FieldError
from agents.serve.snapshot import MOST_PAIRS, Snapshot, parse, tiebreak
from env import observation
from env.fleet import draw_fleet, rig_names
from env.shocks import name_hashes

COLUMNS = read_columns(manifest())
GOOD = snapshot(rigs=5, networks=3)


def read(document: Any) -> Snapshot:
    return parse(document, COLUMNS)


def wrong(document: Any) -> FieldError:
    with pytest.raises(FieldError) as caught:
        read(document)
    error = caught.value
    assert str(error).startswith(f"{error.path}: expected {error.expected}, got {error.got}")
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    return error


def test_columns_are_those_of_the_simulator_in_its_order() -> None:
    """Oracle: `env.observation`, which training sees."""
    for ours, theirs in (
        (RIGS, observation.RIG_FACTS),
        (NETWORKS, observation.NETWORK_FACTS),
        (MARKET, observation.MARKET),
    ):
        assert [(c.name, c.unit) for c in theirs] == [*ours.items()]
    averaged = [("estimate_usd", hours) for hours in observation.EMA_H]
    averaged += [("token_usd", hours) for hours in observation.PRICE_EMA_H]
    assert [*AVERAGES.values()] == averaged
    assert [*AVERAGES] == [c.name for c in observation.NETWORK_DERIVED]


def test_a_rig_is_at_the_same_phase_in_serving_as_in_training() -> None:
    """Oracle: the fleet that training draws."""
    names = rig_names(s := scenario())
    assert [tiebreak(n) for n in names] == draw_fleet(s, name_hashes(["seed"])).tiebreak.tolist()


def test_every_fact_stands_in_its_column() -> None:
    said = copy.deepcopy(GOOD)
    rng = random.Random(1)
    for rows, columns in ((said["networks"], NETWORKS), (said["rigs"], RIGS)):
        for row in rows.values():
            for name in set(row) & set(columns):
                row[name] = rng.random() < 0.5 if columns[name] == "0/1" else rng.uniform(1, 9)
    said["networks"]["net-2"] |= dict(zip(AVERAGES, range(1, 6), strict=True))
    s = read(said)
    for r, row in enumerate(said["rigs"].values()):
        for name in set(row) & set(RIGS):
            assert s.of(name)[r] == row[name]
    for n, row in enumerate(said["networks"].values()):
        for name in set(row) & set(NETWORKS):
            assert s.on(name)[n] == row[name]
    for name in set(MARKET) - COMPUTED:
        assert s.at(name) == said["market"][name]
    assert s.averages[:, 2].tolist() == [1, 2, 3, 4, 5]
    assert np.isnan(s.averages[:, :2]).all()
    assert s.rig_names == tuple(said["rigs"])
    assert s.network_names == (*said["networks"], "off")


def test_what_a_snapshot_leaves_out_comes_from_the_catalogue_or_the_defaults() -> None:
    s = read(changed(GOOD, "networks.alpha.up", ...))
    assert s.on("lockup").tolist() == [0.5, 0.25, 1.5, 0.0]  # alpha, beta, its own, off
    assert s.on("up").tolist() == [1.0, 1.0, 1.0, 1.0]
    assert s.of("vram_gb").tolist() == [10.0, 80.0, 10.0, 80.0, 10.0]
    assert read(changed(GOOD, "rigs.rig-0.vram_gb", 24.0)).of("vram_gb")[0] == 24.0


def test_the_network_off_is_the_bundles_own_and_never_changes() -> None:
    s = read(GOOD)
    assert s.network_names[-1] == "off"
    assert s.assignment.tolist() == [0, 1, 2, 3, 0]
    assert s.averages[:, -1].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]  # of estimate and token price
    assert (s.work[:, -1] == 1.0).all()
    assert wrong(changed(GOOD, "networks.off", facts(NETWORKS))).path == "networks.off"


def test_work_is_that_of_one_gpu_times_their_number() -> None:
    said = snapshot(rigs=6, networks=3)
    rows = said["rigs"]
    rows["rig-0"] |= {"gpu": "large", "gpu_count": 4}
    rows["rig-1"] |= {"gpu": "large", "gpu_count": 1}  # alpha wants two
    rows["rig-2"] |= {"gpu": "small", "gpu_count": 4}  # beta takes no small one
    rows["rig-3"] |= {"gpu": "new", **dict.fromkeys(("vram_gb", "fp16_tflops"), 9.0)}
    rows["rig-3"] |= {"bandwidth_gb_s": 9.0, "work": {"net-2": 5}}
    rows["rig-4"] |= {"gpu": "large", "gpu_count": 4, "work": {"alpha": 2.5, "beta": 0}}
    rows["rig-5"] |= {"gpu": "large", "gpu_count": None}
    assert read(said).work.tolist() == [
        [12.0, 7.0, 0.0, 1.0],
        [0.0, 7.0, 0.0, 1.0],
        [4.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 5.0, 1.0],
        [2.5, 0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0, 1.0],
    ]


def test_own_work_and_rigs_are_sums_over_the_fleet() -> None:
    s = read(snapshot(rigs=40, networks=3))
    for n in range(4):
        there = s.assignment == n
        assert s.on("own_rigs")[n] == there.sum()
        assert s.on("own_work")[n] == s.work[there, n].sum()


@pytest.mark.parametrize(
    ("said", "unix", "hour"),
    [
        ("2026-11-25T18:30:00Z", 1795631400, 18.5),
        ("2026-11-25T18:30:00+05:30", 1795611600, 13.0),
        ("2026-11-25T00:00:00.250-01:00", 1795568400.25, 1 + 0.25 / 3600),
        ("1969-12-31T23:00:00Z", -3600, 23.0),
    ],
)
def test_times_are_in_any_zone_and_the_hour_of_day_is_utc(
    said: str, unix: float, hour: float
) -> None:
    s = read(changed(GOOD, "time", said))
    assert s.time == unix
    assert s.at("hour_of_day") == pytest.approx(hour)
    assert s.observed.tolist() == [unix] * 4
    s = read(changed(GOOD, "networks.beta.observed_at", said))
    assert s.observed.tolist() == [s.time, unix, s.time, s.time]


@pytest.mark.parametrize(
    "said",
    [
        *("2026-11-25T18:00:00", "2026-11-25", "2026-02-30T18:00:00Z", "18:00:00Z", "", "now"),
        *(
            "2026-11-25 18:00:00Z",
            "2026-11-25T24:01:00Z",
            "2026-11-25T18:00Z",
            "2026-11-25T18:00:00+25:00",
        ),
        *(
            "20261125T180000Z",
            "2026-W48-3T18:00:00Z",
            "2026-11-25T18:00:00Z ",
            "२०२६-11-25T18:00:00Z",
        ),
        *(1795629600, 1795629600.5, None, True, [], {}, math.nan),
    ],
)
def test_a_time_without_its_zone_or_that_is_none_is_refused(said: Any) -> None:
    assert wrong(changed(GOOD, "time", said)).path == "time"
    path = "networks.alpha.observed_at"
    assert wrong(changed(GOOD, path, said)).path == path


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "path", ["rigs.rig-1.power_kw", "networks.beta.token_usd", "market.btc_usd"]
)
def test_a_number_that_is_missing_is_not_a_number_in_its_place_alone(
    path: str, missing: Any
) -> None:
    s, before = read(changed(GOOD, path, missing)), read(GOOD)
    here = {"rigs": s.of("power_kw"), "networks": s.on("token_usd"), "market": s.market}
    assert np.isnan(here[path.split(".")[0]]).sum() == 1
    nans = sum(int(np.isnan(a).sum()) for a in (s.rigs, s.networks, s.market, s.work))
    assert nans == 1
    assert np.array_equal(s.work, before.work)
    text = json.dumps(changed(GOOD, path, missing))
    assert np.array_equal(read(text).rigs, s.rigs, equal_nan=True)


def test_a_switch_may_be_missing_too() -> None:
    assert np.isnan(read(changed(GOOD, "rigs.rig-0.up", None)).of("up")[0])


WRONG = [  # path, value (... = leave out), words of the message
    ("schema", 2, "expected 1, got 2"),
    ("schema", True, "expected 1, got True"),
    ("schema", 1.5, "expected 1"),
    ("schema", "1", "expected 1"),
    ("schema", ..., "got nothing"),
    ("time", ..., "got nothing"),
    ("market", ..., "got nothing"),
    ("market", [], "an object"),
    ("market", None, "an object"),
    ("market.btc_usd", ..., "a number in USD from -1000 to 1e+06, got nothing"),
    ("market.btc_usd", 1e7, "from -1000 to 1e+06, got 10000000.0"),
    ("market.btc_usd", 10**400, "from -1000 to 1e+06"),
    ("market.btc_usd", -(10**5000), "an integer of thousands of digits"),
    ("market.btc_usd", "91000", "got '91000'"),
    ("market.hour_of_day", 3.0, "no such field"),
    ("market.btc", 1.0, "no such field (did you mean btc_usd?), got it"),
    ("markets", {}, "did you mean market?"),
    ("networks", ..., "got nothing"),
    ("networks", None, "an object"),
    ("networks", [1], "an object"),
    ("networks.beta", None, "an object"),
    ("networks.beta", "x", "an object"),
    ("networks.beta.up", 1, "true or false, got 1"),
    ("networks.beta.up", 0.0, "true or false"),
    ("networks.beta.up", "true", "true or false"),
    ("networks.beta.token_usd", True, "a number in USD"),
    ("networks.beta.token_usd", [1.0], "a number in USD"),
    ("networks.beta.token_usd", {}, "a number in USD"),
    ("networks.beta.token_usd", "", "a number in USD"),
    ("networks.beta.token_usd", ..., "got nothing"),
    ("networks.beta.ema_6h_usd", "1", "a number in USD/h"),
    ("networks.beta.ema_6h_usd", 1e9, "a number in USD/h from"),
    ("networks.beta.ema_5h_usd", 1.0, "no such field (did you mean ema_"),
    ("networks.beta.own_work", 1.0, "no such field"),
    ("networks.net-2.warmup_h", ..., "got nothing"),  # no catalogue knows this network
    ("rigs", ..., "got nothing"),
    ("rigs", 5, "an object"),
    ("rigs.rig-1", [], "an object"),
    ("rigs.rig-1.network", ..., "a network of this snapshot or off, got nothing"),
    ("rigs.rig-1.network", "gamma", "a network of this snapshot or off, got 'gamma'"),
    ("rigs.rig-1.network", None, "a network of this snapshot or off"),
    ("rigs.rig-1.network", ["alpha"], "a network of this snapshot or off"),
    ("rigs.rig-1.netwrok", "alpha", "did you mean network?"),
    ("rigs.rig-1.gpu", None, "a GPU model's name"),
    ("rigs.rig-1.gpu", 4090, "a GPU model's name"),
    ("rigs.rig-1.gpu", {}, "a GPU model's name"),
    ("rigs.rig-1.gpu", "", "a GPU model's name"),
    ("rigs.rig-1.power_kw", 4.5e6, "a number in kW from -1000 to 1e+06, got 4500000.0"),
    ("rigs.rig-1.power_kw", 60.0, "at most 10 kW for each GPU, got 60.0"),  # W of a small GPU
    ("rigs.rig-1.gpu_count", False, "a number"),
    ("rigs.rig-1.tiebreak", 0.5, "no such field"),
    ("rigs.rig-1.work", [], "an object"),
    ("rigs.rig-1.work", {"gamma": 1.0}, "no such field"),
    ("rigs.rig-1.work", {"alhpa": 1.0}, "did you mean alpha?"),
    ("rigs.rig-1.work", {"alpha": -1.0}, "a number of work units from 0"),
    ("rigs.rig-1.work", {"alpha": None}, "a number of work units from 0"),
    ("rigs.rig-1.work", {"alpha": math.nan}, "a number of work units from 0"),
    ("rigs.rig-1.work", {"alpha": math.inf}, "a number of work units from 0"),
    ("rigs.rig-1.work", {"alpha": True}, "a number of work units from 0"),
    ("rigs.rig-1.work", {"alpha": "1"}, "a number of work units from 0"),
    ("rigs.rig-1.work", {"alpha": 10**400}, "a number of work units from 0"),
]


@pytest.mark.parametrize(("path", "value", "words"), WRONG, ids=itertools.count())
def test_a_wrong_field_is_named_with_what_was_expected_and_what_came(
    path: str, value: Any, words: str
) -> None:
    error = wrong(changed(GOOD, path, value))
    assert error.path == path or error.path.startswith(f"{path}.")
    assert words in str(error)


def test_a_gpu_of_no_catalogue_needs_its_own_facts() -> None:
    assert wrong(changed(GOOD, "rigs.rig-3.gpu", "new")).path == "rigs.rig-3.vram_gb"
    assert wrong(changed(GOOD, "rigs.rig-3.gpu", ...)).path == "rigs.rig-3.vram_gb"


@pytest.mark.parametrize(
    ("path", "name", "field", "words"),
    [
        (
            "rigs.rig-1.gpu",
            "Large",
            "rigs.rig-1.vram_gb",
            " (Large is not known: did you mean large?)",
        ),
        ("rigs.rig-1.gpu", "abacus", "rigs.rig-1.vram_gb", " (abacus is not known)"),
        ("rigs.rig-1.gpu", ..., "rigs.rig-1.vram_gb", ""),
        (
            "networks",
            "alhpa",
            "networks.alhpa.gas_usd",
            " (alhpa is not known: did you mean alpha?)",
        ),
        ("networks", "gamma", "networks.gamma.gas_usd", " (gamma is not known)"),
    ],
)
def test_a_misspelt_gpu_or_network_is_named_where_its_own_facts_are_missed(
    path: str, name: Any, field: str, words: str
) -> None:
    here = {name: GOOD["networks"]["alpha"]} if path == "networks" else name
    error = wrong(changed(GOOD, path, here))
    assert error.path == field
    unit = "GB" if path.endswith("gpu") else "USD"
    assert error.expected == f"a number in {unit} from -1000 to 1e+06{words}"


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00", "\ud800", "x" * 129, "a\u202eb", "a\u00a0b"])
def test_a_name_that_cannot_be_printed_on_one_line_is_refused(name: str) -> None:
    assert wrong(changed(GOOD, "rigs", {name: RIG})).path == "rigs"
    assert wrong(changed(GOOD, "networks", {name: facts(NETWORKS)})).path == "networks"
    wrong(changed(GOOD, "rigs.rig-0", RIG | {name: 1.0}))
    wrong(changed(GOOD, "rigs.rig-0.work", {name: 1.0}))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("snapshot.rigs.rig-0", '{"rigs": {"rig-0": {"up": true}, "rig-0": {}}}'),
        ("snapshot.rigs.rig-0.up", '{"rigs": {"rig-0": {"up": true, "up": true}}}'),
        ("snapshot.time", '{"time": 1, "time": 1}'),
        ("snapshot.x.1.y", '{"x": [0, {"y": 1, "y": 2}]}'),
    ],
)
def test_a_key_that_comes_twice_is_refused_with_its_path(path: str, text: str) -> None:
    error = wrong(text)
    assert error.path == path
    assert (error.expected, error.got) == ("each key once", "it twice")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "1", '"x"', "{} {}", "{'a': 1}", "\ufeff{}", "[" * 100_000),
        *(b"", b"\xff\xfe{\x00}\x00", b"\x80", '{"a": ' * 50_000, '{"time": ' + "9" * 5000 + "}"),
        '{"a": {"b": 1, "b": 1}, "c": ' + "[" * 900 + "]" * 900 + "}",
    ],
    ids=itertools.count(),
)
def test_a_text_that_is_no_json_object_is_refused(text: str | bytes) -> None:
    wrong(text)


@pytest.mark.parametrize(
    "document", [None, 5, 1.5, [], [("schema", 1)], object(), bytearray(b"{}")]
)
def test_what_is_no_object_is_refused(document: Any) -> None:
    assert wrong(document).expected == "an object"


def test_fleets_of_any_size_are_read() -> None:
    nobody = read(snapshot(rigs=0))
    assert (nobody.rigs.shape, nobody.work.shape) == ((0, 19), (0, 4))
    only_off = read(snapshot(rigs=2, networks=0) | {"rigs": {"r": RIG | {"network": "off"}}})
    assert only_off.network_names == ("off",)
    assert only_off.work.tolist() == [[1.0]]
    assert read(snapshot(rigs=0, networks=0)).networks.shape == (1, 27)
    many = read(snapshot(rigs=5000, networks=16))
    assert many.work.shape == (5000, 17)
    assert many.on("own_rigs").sum() == 5000


def test_more_pairs_than_memory_should_hold_are_refused() -> None:
    rigs = {f"r{k}": RIG for k in range(MOST_PAIRS // 401 + 1)}
    said = snapshot(rigs=0, networks=400) | {"rigs": rigs}
    assert "pairs of rig and network" in wrong(said).expected


def test_json_and_what_it_stands_for_are_read_alike() -> None:
    text = json.dumps(GOOD)
    for source in (text, text.encode(), GOOD):
        s, t = read(source), read(GOOD)
        for name in ("rigs", "networks", "work", "assignment", "market", "observed", "averages"):
            assert np.array_equal(getattr(s, name), getattr(t, name), equal_nan=True)
    assert np.array_equal(parse(GOOD, manifest()).rigs, read(GOOD).rigs)


@given(st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_the_order_of_fields_rigs_and_networks_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)

    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        keys = rng.sample(sorted(value), len(value))
        return {key: shuffled(value[key]) for key in keys}

    said = snapshot(rigs=6, networks=4)
    said["rigs"]["rig-5"] |= {"work": {"net-3": 2.0, "alpha": 1.0}}
    del said["rigs"]["rig-4"]["score"]
    a, b = read(said), read(shuffled(said))
    r = [b.rig_names.index(name) for name in a.rig_names]
    n = [b.network_names.index(name) for name in a.network_names]
    assert np.array_equal(a.rigs, b.rigs[r])
    assert np.array_equal(a.networks, b.networks[n])
    assert np.array_equal(a.work, b.work[np.ix_(r, n)])
    assert np.array_equal(a.market, b.market)
    assert [a.network_names[k] for k in a.assignment] == [
        b.network_names[k] for k in b.assignment[r]
    ]

"""Anything at all in place of a snapshot is read or refused, and nothing else is raised."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from handmade import changed, manifest, snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.schema import snapshot_schema
from agents.serve.catalog import read_columns
from agents.serve.errors import FieldError
from agents.serve.snapshot import Snapshot, parse

COLUMNS = read_columns(manifest())
GOOD = snapshot(rigs=5, networks=3)


def read(document: Any) -> Snapshot:
    return parse(document, COLUMNS)


def arrays(s: Snapshot) -> tuple[np.ndarray[Any, Any], ...]:
    return (s.rigs, s.networks, s.work, s.assignment, s.market, s.observed, s.averages)


SCRAP: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e6, -1e9, 1e300, 10**400, math.nan, math.inf, -math.inf),
    *("", "alpha", "off", "gamma", "1", "\ud800", "a\nb", "2026-11-25T18:00:00Z", "x" * 500),
    *([], [1.0], {}, {"alpha": 1.0}, {"a": {"b": []}}, {"": 1}, [[]], np.float64(2.5)),
)
KEYS = (
    "alpha",
    "rig-0",
    "up",
    "gpu",
    "work",
    "network",
    "power_kw",
    "time",
    "",
    "\x00",
    "own_work",
)


def mutate(document: Any, rng: random.Random) -> None:
    """Change one thing in place: a value by another or a million times itself, a key more or
    less, or a row in another's place."""
    at, key = document, rng.choice([*document])
    while isinstance(at[key], dict) and at[key] and rng.random() < 0.85:
        at = at[key]
        key = rng.choice([*at])
    kind = rng.randrange(5)
    if kind == 0:
        del at[key]
    elif kind == 1:
        at[rng.choice(KEYS)] = copy.deepcopy(rng.choice(SCRAP))
    elif kind == 2 and isinstance(at[key], float):
        at[key] = at[key] * rng.choice((1e6, 1e-6, -1, 0, 1000))
    elif kind == 3:
        at[key] = copy.deepcopy(at[rng.choice([*at])])
    else:
        at[key] = copy.deepcopy(rng.choice(SCRAP))


def check_answered(source: Any) -> bool:
    """A snapshot whose arrays suit each other, or an error in one line; whether it was refused."""
    try:
        s = read(source)
    except FieldError as error:
        said = str(error)
    else:
        check_arrays(s)
        return False
    assert said.isprintable()
    assert re.match(r".+: expected .+, got .+", said)
    return True


def check_arrays(s: Snapshot) -> None:
    rigs, networks = len(s.rig_names), len(s.network_names)
    assert [a.shape for a in arrays(s)] == [
        *((rigs, 19), (networks, 27), (rigs, networks), (rigs,), (5,), (networks,), (5, networks))
    ]
    assert all(a.dtype == np.float64 or a is s.assignment for a in arrays(s))
    assert not any(np.isinf(a).any() for a in arrays(s))
    assert np.isfinite(s.work).all()
    assert (s.work >= 0).all()
    assert ((s.assignment >= 0) & (s.assignment < networks)).all()
    assert np.isfinite([s.time, *s.observed]).all()


def mutated(seed: int) -> Any:
    rng = random.Random(seed)
    said = copy.deepcopy(GOOD)
    for _ in range(rng.choice((1, 1, 2, 5))):
        mutate(said, rng)
        if not said:
            break
    return said


def check_mutated(seed: int) -> bool:
    refused = check_answered(said := mutated(seed))
    try:
        text = json.dumps(said)
    except ValueError:  # an integer of too many digits to write
        return refused
    assert check_answered(text) == refused
    return refused


@given(st.integers(0, 2**63))
@settings(max_examples=300, deadline=None)
def test_a_snapshot_with_anything_changed_is_read_or_refused(seed: int) -> None:
    check_mutated(seed)


@pytest.mark.slow
def test_ten_thousand_changed_snapshots_are_read_or_refused() -> None:
    refused = sum(check_mutated(seed) for seed in range(10_000))
    assert 3_000 < refused < 9_500  # both happen, often


# What a schema cannot say: which names are there, which days, what can be printed, and one limit.
BEYOND_A_SCHEMA = (
    *("a network of this snapshot", "no such field", "a time such as", "printable characters"),
    *("a GPU model's name", "a number of work units from 0 to 3.4"),
)


def test_the_published_schema_accepts_what_is_read_and_little_more() -> None:
    """Oracle: jsonschema, on the schema that a bundle ships."""
    schema = jsonschema.Draft202012Validator(snapshot_schema(manifest()))
    refused = []
    for seed in range(1000):
        said = mutated(seed)
        try:
            json.dumps(said, allow_nan=False)
        except ValueError:
            continue  # JSON cannot say this
        error = None
        try:
            read(said)
        except FieldError as caught:
            error = caught
        if error is None:
            assert schema.is_valid(said), seed
        elif not error.expected.startswith(BEYOND_A_SCHEMA):
            assert not schema.is_valid(said), seed
        refused.append(error is not None)
    assert 50 < sum(refused) < len(refused) - 50


NUMBERS = st.one_of(st.floats(), st.integers(), st.booleans(), st.none())
JSON = st.recursive(
    NUMBERS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(JSON | st.binary(max_size=50) | st.text(max_size=50))
@settings(max_examples=300, deadline=None)
def test_anything_that_json_can_say_is_answered(source: Any) -> None:
    check_answered(source)


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_in_place_of_a_part_is_answered(data: st.DataObject) -> None:
    paths = ("time", "market", "networks.beta", "rigs.rig-1", "rigs.rig-1.work", "market.btc_usd")
    check_answered(changed(GOOD, data.draw(st.sampled_from(paths)), data.draw(JSON)))

"""The manifest, the schema and recorded cases: a snapshot is what the simulator knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from exported import Exported

from agents.config import Config
from agents.fields import FIELDS
from agents.golden import clock, live, scenario_of
from agents.graph import Inputs
from agents.parity import answer
from agents.serve.errors import FieldError
from agents.serve.snapshot import parse
from agents.snapshots import Names, to_snapshot
from env.observation import COLUMNS, MARKET, NETWORK_FACTS, RIG_FACTS, column


def test_the_manifest_has_every_column_of_the_tensors_in_order(manifest: dict[str, Any]) -> None:
    for group, facts in (("rigs", RIG_FACTS), ("networks", NETWORK_FACTS), ("market", MARKET)):
        listed = [(c["name"], c["unit"], c["meaning"]) for c in manifest["columns"][group]]
        assert listed == [tuple(c) for c in facts]
        assert [*FIELDS[group]] == [c.name for c in facts]
    names = [c.name for c in COLUMNS["networks"]][len(NETWORK_FACTS) :]
    assert [a["name"] for a in manifest["averages"]] == names
    assert not Path(manifest["bundle"]).is_absolute()
    assert manifest["provenance"]["data"].keys() <= {"data", "checkpoint", "evaluation"}


def test_every_limit_is_wide_enough_for_what_worlds_show(config: Config, both: Exported) -> None:
    """With room of a factor of three: a limit is there to catch a wrong unit."""
    for _, inputs, _ in live(both[0], scenario_of(config, 200, 40), 6, 40):
        for group, columns in (("rigs", RIG_FACTS), ("networks", NETWORK_FACTS)):
            for k, c in enumerate(columns):
                field, values = FIELDS[group][c.name], getattr(inputs, group)[:, :-1, k]
                if field.low is None or field.high is None:
                    continue
                assert values.min() >= field.low, c
                assert 3 * values.max() <= field.high or field.high <= 20, c


def test_a_snapshot_is_the_facts_again(
    config: Config, both: Exported, manifest: dict[str, Any]
) -> None:
    """To the bit in float32, computed columns included: own work, hashes, the hour of the day."""
    scenario = scenario_of(config, 40, 4)
    for world, inputs, answers in live(both[0], scenario, 2, 4):
        for row in range(2):
            hour = float(inputs.market[row, column("market", "hour_of_day")])
            names = Names.of(world, row)
            time = clock(hour, world.hour)
            given_ = to_snapshot(inputs.known, row, names, time, answers.memory_out)
            found = parse(json.dumps(given_), manifest)
            assert (found.rig_names, found.network_names) == (names.rigs, names.networks)
            np.testing.assert_array_equal(found.assignment, inputs.assignment[row])
            for name, expected in (
                ("rigs", inputs.rigs[row]),
                ("work", inputs.work[row]),
                ("market", inputs.market[row]),
            ):
                array = getattr(found, name).astype(np.float32)
                np.testing.assert_array_equal(array, expected.numpy(), name)
            facts, averages = inputs.networks[row].clone(), answers.memory_out[row]
            own = [column("networks", name) for name in ("own_work",)]
            networks = found.networks.astype(np.float32)
            np.testing.assert_allclose(networks[:, own], facts[:, own], rtol=1e-6)
            networks[:, own] = facts[:, own]
            np.testing.assert_array_equal(networks[:-1], facts[:-1].numpy())
            np.testing.assert_array_equal(
                found.averages[:, :-1].astype(np.float32), averages[:, :-1].numpy()
            )


def test_what_a_bundle_adds_as_off_is_the_simulators_to_the_graph(
    config: Config, both: Exported, manifest: dict[str, Any]
) -> None:
    """Two of its facts drift in the simulator and mean nothing: the traded value of the dollar and
    the work of nobody."""
    for world, inputs, expected in live(both[0], scenario_of(config, 12, 24), 4, 24):
        names = Names.of(world, 0)
        found = parse(to_snapshot(inputs.known, 0, names, clock(0.0, 0)), manifest)
        own = torch.from_numpy(found.networks[-1]).float()
        ours = inputs.networks.clone()
        free = [column("networks", name) for name in ("turnover_usd", "outside_work")]
        kept = [k for k in range(len(NETWORK_FACTS)) if k not in free]
        assert torch.equal(ours[0, -1, kept], own[kept])
        ours[:, -1, free] = own[free]
        orders = torch.from_numpy(answer(both[1], inputs._replace(networks=ours))[0])
        clear = expected.margin > 1e-2
        assert torch.equal(orders[clear], expected.orders[clear])


@pytest.fixture(scope="module")
def schema(bundle: Path) -> jsonschema.Draft202012Validator:
    found = json.loads((bundle / "snapshot.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.fixture(scope="module")
def sequences(bundle: Path) -> list[list[dict[str, Any]]]:
    golden = json.loads((bundle / "golden.json").read_text())
    return [one["hours"] for one in golden["sequences"]]


def test_recorded_sequences_last_48_hours_move_and_fit_the_schema(
    sequences: list[list[dict[str, Any]]], schema: jsonschema.Draft202012Validator
) -> None:
    assert len({len(hours[0]["snapshot"]["networks"]) for hours in sequences}) > 1
    for hours in sequences:
        assert len(hours) == 48
        orders = [order for hour in hours for order in hour["orders"].values()]
        assert len(orders) == 48 * len(hours[0]["snapshot"]["rigs"])
        assert orders.count("?") < 0.1 * len(orders)
        assert any(order not in (None, "?") for order in orders)
        for hour in hours:
            schema.validate(hour["snapshot"])


def test_the_exported_graph_replays_the_recorded_sequences(
    sequences: list[list[dict[str, Any]]], both: Exported, manifest: dict[str, Any]
) -> None:
    for hours in sequences:
        memory = None
        for hour in hours:
            s = parse(hour["snapshot"], manifest)
            now = np.stack((s.on("estimate_usd"),) * 3 + (s.on("token_usd"),) * 2)
            if memory is None:
                memory = torch.tensor(np.where(np.isnan(s.averages), now, s.averages))[None].float()
            known = (torch.tensor(a)[None].float() for a in (s.rigs, s.networks, s.work))
            rigs, networks, work = known
            market, place = torch.tensor(s.market)[None].float(), torch.tensor(s.assignment)[None]
            inputs = Inputs(rigs, networks, work, place, market, memory, torch.tensor(hour["dt_h"]))
            orders, _, after = answer(both[1], inputs)
            memory = torch.from_numpy(after)
            choices = (None, *s.network_names)
            for rig, order in zip(s.rig_names, orders[0], strict=True):
                assert hour["orders"][rig] in ("?", choices[order])


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another schema": lambda s: s.update(schema=2),
    "an unknown field": lambda s: s.update(weather="fine"),
    "no time": lambda s: s.pop("time"),
    "a time of no zone": lambda s: s.update(time="2026-11-25T18:00:00"),
    "no price of Bitcoin": lambda s: s["market"].pop("btc_usd"),
    "a computed fact": lambda s: s["market"].update(hour_of_day=3),
    "a text for a number": lambda s: s["market"].update(btc_usd="91000"),
    "a number for a switch": lambda s: s["rigs"]["rig-0000"].update(up=1),
    "a switch for a number": lambda s: s["rigs"]["rig-0000"].update(gpu_count=True),
    "watts for kilowatts": lambda s: s["rigs"]["rig-0000"].update(power_kw=1800),
    "cents for dollars": lambda s: s["rigs"]["rig-0000"].update(tariff_usd_kwh=6.2),
    "megabytes for gigabytes": lambda s: s["rigs"]["rig-0000"].update(vram_gb=24576),
    "a rig of no network": lambda s: s["rigs"]["rig-0000"].pop("network"),
    "a rig of no model and no numbers": lambda s: s["rigs"]["rig-0000"].pop("gpu"),
    "a rig of an unknown model": lambda s: s["rigs"]["rig-0000"].update(gpu="abacus"),
    "a rig without its tariff": lambda s: s["rigs"]["rig-0000"].pop("tariff_usd_kwh"),
    "a negative work": lambda s: s["rigs"]["rig-0000"].update(work={"akash": -1}),
    "off among the networks": lambda s: s["networks"].update(off=s["networks"]["akash"]),
    "a network without a price": lambda s: s["networks"]["akash"].pop("token_usd"),
    "a negative price": lambda s: s["networks"]["akash"].update(token_usd=-1.0),
    "a new network without its rules": lambda s: s["networks"].update(new=s["networks"]["akash"]),
    "a list of rigs": lambda s: s.update(rigs=[]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_schema_and_runtime_refuse_the_same_wrong_snapshots(
    wrong: str,
    sequences: list[list[dict[str, Any]]],
    schema: jsonschema.Draft202012Validator,
    manifest: dict[str, Any],
) -> None:
    snapshot = json.loads(json.dumps(sequences[0][0]["snapshot"]))
    parse(snapshot, manifest)
    WRONG[wrong](snapshot)
    assert not schema.is_valid(snapshot)
    with pytest.raises(FieldError):
        parse(snapshot, manifest)


STATIC: dict[str, Any] = {
    c.name: False if c.unit == "0/1" else 1.0
    for c in NETWORK_FACTS
    if FIELDS["networks"][c.name].default is None and FIELDS["networks"][c.name].given == "snapshot"
}

RIGHT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no rigs": lambda s: s.update(rigs={}),
    "no feed": lambda s: s["networks"]["akash"].update(estimate_usd=None),
    "a rig of unknown health": lambda s: s["rigs"]["rig-0000"].update(up=None),
    "an observed network": lambda s: s["networks"]["akash"].update(observed_at=s["time"]),
    "work of its own": lambda s: s["rigs"]["rig-0000"].update(work={"akash": 2.5}),
    "an own GPU": lambda s: s["rigs"]["rig-0000"].update(
        gpu="abacus", vram_gb=8, fp16_tflops=20, bandwidth_gb_s=300
    ),
    "a new network with its rules": lambda s: s["networks"].update(
        new={**s["networks"]["akash"], **STATIC}
    ),
}


@pytest.mark.parametrize("right", RIGHT)
def test_schema_and_runtime_accept_the_same_snapshots(
    right: str,
    sequences: list[list[dict[str, Any]]],
    schema: jsonschema.Draft202012Validator,
    manifest: dict[str, Any],
) -> None:
    snapshot = json.loads(json.dumps(sequences[0][0]["snapshot"]))
    RIGHT[right](snapshot)
    schema.validate(snapshot)
    parse(snapshot, manifest)

"""The bundle: it decides as torch does, says what it is, and appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickletools
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from exported import ROOT, small_run
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

import agents.run_folder
from agents import export, parity
from agents.checkpoint import load_best
from agents.config import Config, load_config
from agents.fields import FIELDS
from agents.golden import clock, live, scenario_of
from agents.graph import Inputs, PolicyGraph
from agents.manifest import fallback, linear_rule
from agents.outlook import average_usd, read
from agents.parity import ParityError, answer, session
from agents.rules import BreakEven, CertaintyEquivalent, EmaHysteresis, Greedy
from agents.rules import Rule as Rules
from agents.run_folder import read_config
from agents.serve.accounting import Rule
from agents.serve.errors import FieldError
from agents.serve.snapshot import parse
from agents.snapshots import Names, to_snapshot
from agents.tuning import Tuned
from env.observation import COLUMNS, MARKET, NETWORK_FACTS, RIG_FACTS, column

MARGIN = 1e-4  # of probability, beyond which orders must agree
NAMES = {
    "policy.onnx",
    "manifest.json",
    "golden.json",
    "snapshot.schema.json",
    "policy.safetensors",
    "MODEL_CARD.md",
}
Exported = tuple[PolicyGraph, Any]


@pytest.fixture(scope="module")
def config(exported_run: Path) -> Config:
    return load_config(read_config(exported_run))[0]


@pytest.fixture(scope="module")
def both(exported_run: Path, bundle: Path) -> Exported:
    """The policy in torch, and as it was exported."""
    graph = export.load_graph(exported_run, load_best(exported_run))
    return graph, session((bundle / "policy.onnx").read_bytes())


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "manifest.json").read_text())


@pytest.fixture(scope="module")
def seen(config: Config, both: Exported) -> Inputs:
    """Facts of 3 worlds of 12 rigs after 30 hours under the policy."""
    *_, (_, inputs, _) = live(both[0], scenario_of(config, 12, 30), 3, 30)
    return inputs


def part(seen: Inputs, worlds: Tensor, rigs: Tensor, networks: Tensor) -> Inputs:
    """Some of the worlds, rigs and networks, in that order; a rig whose network is left out is on
    the last one. Of whole numbers, so that a permutation keeps every assignment."""
    place = (seen.assignment[worlds][:, rigs].unsqueeze(-1) == networks).long()
    assignment = torch.where(place.any(-1), place.argmax(-1), len(networks) - 1)
    return Inputs(
        seen.rigs[worlds][:, rigs].contiguous(),
        seen.networks[worlds][:, networks].contiguous(),
        seen.work[worlds][:, rigs][:, :, networks].contiguous(),
        assignment,
        seen.market[worlds].contiguous(),
        seen.memory[worlds][:, :, networks].contiguous(),
        seen.dt_h,
    )


@torch.no_grad()
def agree(both: Exported, inputs: Inputs) -> None:
    """Equal orders where the margin is clear; probabilities, margins and memory nearly equal."""
    graph, exported = both
    expected = [tensor.numpy() for tensor in graph(*inputs)]
    found = answer(exported, inputs)
    clear = expected[2] > MARGIN
    np.testing.assert_array_equal(found[0][clear], expected[0][clear])
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[2], expected[2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[3], expected[3], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_graph_decides_as_torch_for_any_number_of_worlds_rigs_and_networks(
    both: Exported, seen: Inputs, data: st.DataObject
) -> None:
    worlds, rigs, networks = (
        torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=least, max_size=most)))
        for size, least, most in ((3, 1, 3), (12, 1, 20), (seen.networks.shape[1], 2, 24))
    )
    chosen = part(seen, worlds, rigs, networks)
    factor = 2.0 ** data.draw(st.integers(-3, 3))
    shifted = chosen.networks.clone()
    shifted[..., column("networks", "estimate_usd")] *= factor
    dt_h = torch.tensor(data.draw(st.sampled_from([0.0, 0.25, 1.0, 6.0])))
    agree(both, chosen._replace(networks=shifted, dt_h=dt_h))


@pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 1, 1), (1, 300, 40), (3, 2, 3)])
def test_the_graph_has_no_size_of_its_own(
    both: Exported, seen: Inputs, sizes: tuple[int, int, int]
) -> None:
    """Also where what it was traced with would let a tracer fix a dimension: one, two, *off*."""
    limits = (3, 12, seen.networks.shape[1])
    agree(
        both, part(seen, *(torch.arange(n) % most for n, most in zip(sizes, limits, strict=True)))
    )


def test_the_policy_itself_and_its_graph_order_the_same(
    exported_run: Path, config: Config, both: Exported
) -> None:
    """What `train.py` scores is `FleetPolicy.orders` on the world's own observation."""
    from agents.training import load_policy

    scenario = scenario_of(config, 12, 24)
    policy = load_policy(exported_run, scenario)
    for world, _, expected in live(both[0], scenario, 4, 24):
        assert torch.equal(policy(world.observe()), expected.orders)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_single_broken_number_makes_the_graph_order_what_is_not_legal(
    both: Exported, seen: Inputs, value: float
) -> None:
    """One cell of each column at a time, as many worlds as there are columns."""
    for group in ("rigs", "networks", "market", "memory", "work"):
        axis = {"memory": 1, "work": 2}.get(group, -1)
        count = getattr(seen, group).shape[axis]
        broken = getattr(seen, group)[:1].repeat_interleave(count, 0)
        columns = broken.movedim(axis, -1)  # a view
        for k in range(count):
            columns[(k, *(1,) * (columns.ndim - 2), k)] = value
        assert int((~torch.isfinite(broken)).sum()) == count
        many = Inputs(
            *(t[:1].repeat(count, *(1 for _ in t.shape[1:])) if t.ndim else t for t in seen)
        )._replace(**{group: broken})
        orders, probs, _, _ = answer(both[1], many)
        open_ = many.networks[..., column("networks", "open")].numpy()[:, None] > 0
        here = np.eye(many.networks.shape[1], dtype=bool)[many.assignment.numpy()]
        legal = (many.work.numpy() > 0) & open_ & ~here
        moved = orders > 0
        chosen = np.take_along_axis(legal, np.maximum(orders - 1, 0)[..., None], -1)[..., 0]
        assert (chosen | ~moved).all(), group
        assert ((orders >= 0) & (orders <= legal.shape[-1])).all()
        assert (probs[..., 1:][~legal] == 0).all()


def test_another_order_of_rigs_and_networks_reorders_the_graphs_answers(
    both: Exported, seen: Inputs
) -> None:
    draw = torch.Generator().manual_seed(0)
    rigs = torch.randperm(seen.rigs.shape[1], generator=draw)
    networks = torch.randperm(seen.networks.shape[1], generator=draw)
    orders, probs, margin, memory = answer(both[1], seen)
    turned = answer(both[1], part(seen, torch.arange(3), rigs, networks))
    choices = torch.cat((torch.zeros(1, dtype=torch.int64), networks + 1)).numpy()
    clear = margin[:, rigs] > MARGIN
    np.testing.assert_array_equal(choices[turned[0]][clear], orders[:, rigs][clear])
    np.testing.assert_allclose(turned[1], probs[:, rigs][:, :, choices], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(turned[3], memory[:, :, networks])
    assert clear.mean() > 0.9


def test_parity_was_measured_on_ten_thousand_decisions_of_each_size(
    manifest: dict[str, Any],
) -> None:
    assert set(manifest["parity"]["rigs"]) == {"1", "32", "1024"}
    for found in manifest["parity"]["rigs"].values():
        assert found["decisions"] >= 10_000
        assert found["compared"] + found["close"] == found["decisions"]
        assert found["compared"] > 0.99 * found["decisions"]
        assert found["differing"] == 0
        assert found["max_logit_difference"] < 1e-4


def test_a_graph_of_other_weights_is_refused_with_one_line_and_nothing_is_written(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = small_run(tmp_path / "run", noise=0.06)
    other = (bundle / "policy.onnx").read_bytes()
    monkeypatch.setattr(export, "to_onnx", lambda graph, example: other)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        export.script([f"run={run}"])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: policy.onnx: expected torch's orders .*, got others .*\n", said)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_graph_that_answers_nan_is_refused(
    config: Config, both: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any, inputs: Inputs) -> tuple[np.ndarray, ...]:
        orders, *rest = (tensor.numpy() for tensor in both[0](*inputs))
        return orders, *(np.full_like(one, np.nan) for one in rest)

    monkeypatch.setattr(parity, "session", lambda model: None)
    monkeypatch.setattr(parity, "answer", torch.no_grad()(broken))
    monkeypatch.setattr(parity, "SIZES", ((2, 1, 2),))
    with pytest.raises(ParityError):
        parity.check_parity(b"", both[0], config)


def test_the_command_prints_where_the_bundle_is_and_nothing_else(
    exported_run: Path, bundle: Path
) -> None:
    assert (exported_run / "said.txt").read_text() == f"bundle: {bundle}\n"


def test_the_bundle_holds_its_files_and_their_digests(exported_run: Path, bundle: Path) -> None:
    assert {path.name for path in bundle.iterdir()} == {*NAMES, "SHA256SUMS"}
    sums = (bundle / "SHA256SUMS").read_text()
    digests = {n: hashlib.sha256((bundle / n).read_bytes()).hexdigest() for n in sorted(NAMES)}
    assert sums == "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    lineage = json.loads((exported_run / "lineage.json").read_text())
    assert [*lineage][-1] == "bundle"
    assert lineage["bundle"].items() >= digests.items()
    assert (bundle / "golden.json").stat().st_size < 1e6


def test_nothing_of_the_machine_and_nothing_executable_is_in_the_bundle(bundle: Path) -> None:
    model = onnx.load(bundle / "policy.onnx")
    parts = (model, model.graph, *model.graph.node, *model.graph.initializer)
    assert not any(part.metadata_props or part.doc_string for part in parts)
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    for path in bundle.iterdir():
        content = path.read_bytes()
        for trace in (b".py", b"/home", b"/usr", b"/tmp", b"site-packages", str(ROOT).encode()):
            assert trace not in content, (path.name, trace)
        assert not content.startswith((b"PK", b"\x80"))
        with pytest.raises((ValueError, IndexError, KeyError)):
            list(pickletools.genops(content))


def test_the_weights_are_the_runs_own(exported_run: Path, bundle: Path) -> None:
    weights, best = load_file(bundle / "policy.safetensors"), load_best(exported_run)
    assert weights.keys() == best.weights.keys()
    assert all(torch.equal(weights[name], best.weights[name]) for name in weights)


def test_a_failure_midway_leaves_the_old_bundle_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "bundle"
    export.write_bundle(place, {"a": b"1", "b": b"2"})
    before = {path: path.read_bytes() for path in place.iterdir()}
    calls = iter(range(100))

    def full(_: int) -> None:
        if next(calls) == 1:
            raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        export.write_bundle(place, {"a": b"3", "b": b"4"})
    assert {path: path.read_bytes() for path in place.iterdir()} == before
    assert [*tmp_path.iterdir()] == [place]


@pytest.mark.parametrize("stepwise", [False, True])
def test_a_bundle_is_replaced_as_a_whole(
    stepwise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stepwise:
        monkeypatch.setattr(agents.run_folder, "_exchanged", lambda one, other: False)
    place = tmp_path / "bundle"
    export.write_bundle(place, {"a": b"1", "old": b"1"})
    export.write_bundle(place, {"a": b"2", "new": b"2"})
    assert {path.name for path in place.iterdir()} == {"a", "new", "SHA256SUMS"}
    assert (place / "a").read_bytes() == b"2"
    assert [*tmp_path.iterdir()] == [place]


@pytest.mark.skipif(sys.platform != "linux", reason="needs an exchange of folders")
def test_whoever_reads_the_bundle_while_it_is_replaced_finds_every_file(tmp_path: Path) -> None:
    place, done = tmp_path / "bundle", threading.Event()
    export.write_bundle(place, {"a": b"0", "b": b"0"})

    def replace() -> None:
        for k in range(60):
            export.write_bundle(place, {"a": b"%d" % k, "b": b"%d" % k})
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    looked = 0
    while not done.is_set():
        first, second = int((place / "a").read_bytes()), int((place / "b").read_bytes())
        assert first <= second  # each file of one bundle, and never of an older one
        looked += 1
    writer.join()
    assert looked > 10


def test_a_folder_that_is_no_bundle_is_never_replaced(
    exported_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit) as stopped:
        export.script([f"run={exported_run}", f"out={tmp_path}"])
    assert stopped.value.code == 2
    assert "out: expected a new folder or an earlier bundle" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments: expected run=RUN_DIR [out=FOLDER]"),
        (["run"], "arguments: expected run=RUN_DIR [out=FOLDER], got 'run'"),
        (["run=RUN", "outt=x"], "arguments: expected run=RUN_DIR [out=FOLDER], got 'outt=x'"),
        (["run=nowhere"], "run: expected a run folder (with config.yaml)"),
        (["run=EMPTY"], "run: expected a run folder with a checkpoint"),
        (["run=BROKEN"], "policy.safetensors: expected weights of this network"),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_line(
    arguments: list[str],
    message: str,
    exported_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    shutil.copy(exported_run / "config.yaml", empty)
    shutil.copytree(exported_run, broken)
    (facts,) = broken.glob("checkpoints/*/policy.json")
    facts.write_text(facts.read_text().replace('"width": 16', '"width": 24'))
    places = {"RUN": exported_run, "EMPTY": empty, "BROKEN": broken}
    filled = [re.sub("RUN|EMPTY|BROKEN", lambda m: str(places[m[0]]), a) for a in arguments]
    with pytest.raises(SystemExit) as stopped:
        export.script(filled)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


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
            orders, _, _, after = answer(both[1], inputs)
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


@given(st.floats(6.0, 336.0))
def test_the_weights_of_break_even_are_its_own_average(average_h: float) -> None:
    rule = linear_rule("break_even", BreakEven(average_h=average_h))
    draw = torch.Generator().manual_seed(0)
    networks = torch.rand(1, 6, len(COLUMNS["networks"]), generator=draw)
    observation = {"networks": networks}
    averages = [read(observation, "networks", f"ema_{h}h_usd") for h in (6, 48, 336)]
    mixed = sum(w * a for w, a in zip(rule["weights"], averages, strict=True))
    expected = average_usd(observation, average_h)[:, 0]
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-6)
    assert sum(rule["weights"]) == pytest.approx(1.0)
    Rule.read(rule)


@pytest.mark.parametrize(("half_life_h", "horizon_h"), [(6.0, 24.0), (48.0, 240.0), (700.0, 30.0)])
def test_the_weights_of_the_mpc_are_the_mean_of_its_path(
    half_life_h: float, horizon_h: float
) -> None:
    """From the short average to the long one with the half-life, summed hour by hour."""
    rule = linear_rule("mpc", CertaintyEquivalent(half_life_h=half_life_h, horizon_h=horizon_h))
    hours = (np.arange(100_000) + 0.5) * horizon_h / 100_000
    assert rule["weights"][0] == pytest.approx(np.mean(0.5 ** (hours / half_life_h)), rel=1e-6)
    assert rule["weights"][1] == 0.0
    assert sum(rule["weights"]) == pytest.approx(1.0)


def test_hysteresis_reads_the_48_hour_average_undiluted_by_its_margin() -> None:
    rule = linear_rule("ema_hysteresis", EmaHysteresis(horizon_h=90.0, margin=0.2, attention=0.3))
    assert rule == {
        "name": "ema_hysteresis",
        "weights": [0.0, 1.0, 0.0],
        "horizon_h": 90.0,
        "margin": 0.2,
        "marginal": 0.0,
        "attention": 0.3,
    }


def test_the_fallback_is_the_best_rule_that_serving_can_compute() -> None:
    rules: dict[str, Rules] = {
        "greedy": Greedy(),
        "break_even": BreakEven(break_even_h=77.0),
        "certainty_equivalent": CertaintyEquivalent(),
    }
    nets = {"greedy": 9.0, "break_even": 2.0, "certainty_equivalent": 1.0}
    found = fallback(Tuned(rules, "greedy", nets))
    assert (found["name"], found["horizon_h"]) == ("break_even", 77.0)


def test_the_card_says_what_the_bundle_is_and_where_it_ends(
    bundle: Path, manifest: dict[str, Any]
) -> None:
    card = (bundle / "MODEL_CARD.md").read_text()
    assert card.startswith(f"# {manifest['bundle']}\n")
    for part_ in ("Intended use", "Training", "How good", "Parity", "Guardrails", "Limits"):
        assert f"\n## {part_}" in card
    assert f"`{manifest['rule']['name']}`" in card
    assert "the tuned rule's accounting" in card  # whose flip price is no threshold of the policy's
    assert "MIT" in card

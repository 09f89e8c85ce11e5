"""The exported graph always answers, and one missing fact spoils nobody else's order."""

from __future__ import annotations

from typing import Any

import handmade
import numpy as np
import onnx
import pytest
import torch
from handmade import changed, manifest, snapshot, write
from onnx import TensorProto, helper

from agents.serve.bundle import Bundle, read_bundle
from agents.serve.catalog import read_columns
from agents.serve.errors import BundleError
from agents.serve.model import Model, remember
from agents.serve.rehearsal import rehearse
from agents.serve.snapshot import Ints, Snapshot, parse
from env.observation import remember as theirs


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write(tmp_path_factory.mktemp("made") / "bundle"))


def run(
    read: Bundle, document: Any, memory: Any = None, dt_h: float = 1.0
) -> tuple[Snapshot, Ints]:
    s = parse(document, read.columns)
    orders = Model(read.model).run(s, s.averages if memory is None else memory, dt_h)
    assert orders is not None
    return s, orders


def test_recorded_orders_come_again(read: Bundle) -> None:
    for hour in read.golden["sequences"][0]["hours"]:
        s, orders = run(read, hour["snapshot"], dt_h=hour["dt_h"])
        names = (None, *s.network_names)
        assert orders.dtype == np.int64
        assert {r: names[k] for r, k in zip(s.rig_names, orders, strict=True)} == hour["orders"]


def test_a_fact_that_is_missing_holds_what_depends_on_it_and_nothing_else(read: Bundle) -> None:
    said = snapshot(rigs=8, networks=3)
    whole = run(read, said)[1]
    assert (whole > 0).all()
    for path, holding in (
        ("rigs.rig-2.power_kw", {2}),
        ("networks.net-2.token_usd", {2, 6}),  # whose network it is
        ("market.btc_usd", set(range(8))),
    ):
        orders = run(read, changed(said, path, None))[1]
        assert set(np.flatnonzero(orders == 0)) == holding
        others = [r for r in range(8) if r not in holding]
        assert np.array_equal(orders[others], whole[others])
    orders = run(read, changed(said, "networks.alpha.turnover_usd", None))[1]
    assert not (orders == 1).any()
    large = [1, 5]  # they find beta once alpha is out
    assert (orders[large] == 2).all()


def test_numbers_beyond_float32_are_missing(read: Bundle) -> None:
    s = parse(snapshot(rigs=4), read.columns)
    s.rigs[1, 0] = 1e300
    orders = Model(read.model).run(s, s.averages, 1.0)
    assert orders is not None
    assert (orders == 0).tolist() == [False, True, False, False]


def test_an_empty_fleet_and_one_without_networks_are_answered(read: Bundle) -> None:
    assert run(read, snapshot(rigs=0))[1].shape == (0,)
    alone = {"r": handmade.RIG | {"network": "off"}}
    _, orders = run(read, snapshot(rigs=0, networks=0) | {"rigs": alone})
    assert orders.tolist() == [1]  # off, where there is work for every rig


def test_several_fleets_are_answered_together_as_one_by_one(read: Bundle) -> None:
    """Fleets of one size, of another, in which a fact is missing, and without rigs or networks."""
    said = snapshot(rigs=8, networks=3)
    elsewhere = changed(said, "rigs.rig-3.network", "off")
    broken = changed(said, "rigs.rig-3.power_kw", None)
    blind = changed(said, "networks.net-2.token_usd", None)
    fleets = (said, elsewhere, broken, blind, snapshot(rigs=0, networks=3), said)
    seen = [parse(one, read.columns) for one in fleets]
    memory = np.where(np.isnan(seen[0].averages), 1.5, seen[0].averages)
    memory[0, 1] = np.nan
    model = Model(read.model)
    found = model.run_all(seen, memory, 1.0)
    assert len({tuple(orders) for orders in found if orders is not None}) > 2
    for one, orders in zip(seen, found, strict=True):
        alone = model.run(one, memory, 1.0)
        assert orders is not None
        assert alone is not None
        assert np.array_equal(orders, alone)
    assert model.run_all((), memory, 1.0) == ()


def test_averages_move_as_the_simulators_do() -> None:
    """Oracle: `env.observation.remember`, in float32."""
    rng = np.random.default_rng(0)
    s = parse(snapshot(rigs=1, networks=5), read_columns(manifest()))
    memory = rng.uniform(1, 2, s.averages.shape)
    estimate, token = (torch.tensor(s.on(c))[None] for c in ("estimate_usd", "token_usd"))
    for dt_h in (0.0, 0.25, 1.0, 50.0):
        expected = theirs(torch.tensor(memory)[None], estimate, token, dt_h)[0].numpy()
        assert np.allclose(remember(memory, s, dt_h), expected, rtol=1e-6, atol=1e-6)
    first = remember(np.full_like(memory, np.nan), s, 1.0)
    assert np.array_equal(first, theirs(None, estimate, token, 1.0)[0].numpy())
    s.networks[0] = np.nan
    assert np.array_equal(remember(memory, s, 1.0)[:, 0], memory[:, 0])


def hostile(*nodes: onnx.NodeProto) -> Model:
    """The handmade graph with other nodes in place of those that made the same outputs."""
    made = handmade.model()
    replaced = {output for node in nodes for output in node.output}
    kept = [node for node in made.graph.node if node.output[0] not in replaced]
    del made.graph.node[:]
    made.graph.node.extend([*kept[:1], *nodes, *kept[1:]])  # after `choices`
    return Model(made.SerializeToString())


def scaled(source: str, result: str, factor: float) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Nodes that give a multiple of something."""
    kind = TensorProto.INT64 if result == "orders" else TensorProto.FLOAT
    by = helper.make_node(
        "Constant", [], [f"by_{result}"], value=helper.make_tensor("v", kind, [], [factor])
    )
    return by, helper.make_node("Mul", [source, f"by_{result}"], [result])


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("order", [10**6, -(10**6), 2**62])
def test_whatever_a_graph_says_is_an_answer(read: Bundle, factor: float, order: int) -> None:
    s = parse(snapshot(rigs=8, networks=3), read.columns)
    memory = np.where(np.isnan(s.averages), 1.5, s.averages)
    for nodes, holding in (
        (scaled("assignment", "orders", order), s.assignment > 0),
        (scaled("choices", "probs", factor), s.assignment >= 0),
    ):
        orders = hostile(*nodes).run(s, memory, 1.0)
        assert orders is not None
        assert ((orders >= 0) & (orders <= 4)).all()
        assert (orders[holding] == 0).all()


def test_a_graph_that_fails_or_answers_in_another_shape_gives_no_answer_and_says_so(
    read: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    s = parse(snapshot(rigs=8, networks=3), read.columns)
    for node in (
        helper.make_node("Add", ["choices", "work"], ["probs"]),  # N + 1 against N: it fails
        helper.make_node("Slice", ["choices", "last", "last", "last"], ["probs"]),  # none at all
        helper.make_node("ArgMax", ["choices"], ["orders"], axis=1, keepdims=0),  # by network
    ):
        caplog.clear()
        assert hostile(node).run(s, s.averages, 1.0) is None
        assert "the graph" in caplog.text


def test_a_graph_that_fails_in_a_recorded_case_is_refused_with_the_case(read: Bundle) -> None:
    failing = hostile(helper.make_node("Add", ["choices", "work"], ["probs"]))
    with pytest.raises(BundleError) as refused:
        rehearse(read, failing)
    assert str(refused.value) == "golden.json: sequences.0.hours.0: the graph gave no answer"
    assert rehearse(read, Model(read.model)) > 0


def test_a_graph_may_tell_more_than_is_asked_of_it(read: Bundle) -> None:
    """What a later export adds beside the known outputs is left alone."""
    made = handmade.model()
    made.graph.node.append(helper.make_node("Identity", ["total"], ["more"]))
    more = helper.make_tensor_value_info("more", TensorProto.FLOAT, ["B", "R", 1])
    made.graph.output.insert(0, more)
    assert rehearse(read, Model(made.SerializeToString())) > 0


@pytest.mark.parametrize("cut", ["input", "output"])
def test_a_graph_of_other_inputs_or_outputs_is_refused(cut: str) -> None:
    made = handmade.model()
    del getattr(made.graph, cut)[-1]
    with pytest.raises(BundleError, match=r"policy\.onnx"):
        Model(made.SerializeToString())
    made = handmade.model()
    getattr(made.graph, cut)[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(BundleError, match=r"policy\.onnx"):
        Model(made.SerializeToString())
    with pytest.raises(BundleError, match="onnxruntime cannot load"):
        Model(b"not a model")

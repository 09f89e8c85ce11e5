"""A bundle is read as its maker wrote it or not at all, and its graph always answers."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import onnx
import pytest
from handmade import changed, golden, manifest, snapshot, sums, write
from onnx import TensorProto, helper
from safetensors.numpy import save

from agents.serve import bundle as module
from agents.serve.bundle import FILES, SUMS, Bundle, read_bundle
from agents.serve.columns import AVERAGES
from agents.serve.errors import BundleError
from agents.serve.formats import check_onnx, check_safetensors
from agents.serve.model import Answer, Model, remember
from agents.serve.snapshot import Snapshot, parse

EVERY = (*FILES, SUMS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write(tmp_path_factory.mktemp("made") / "bundle"))


def refused(folder: Path) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 1000
    return said


def remade(folder: Path, name: str, content: bytes | Any) -> Path:
    """The bundle with one file replaced and SHA256SUMS made to suit: consistent, but hostile."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return write(folder, handmade.files() | {name: data})


def test_a_bundle_is_read_as_it_was_written(folder: Path) -> None:
    content = handmade.files()
    found = read_bundle(folder)
    assert found.manifest == manifest()
    assert found.golden == golden()
    assert found.schema == {}
    assert found.model == content["policy.onnx"]
    assert found.sums == sums(content)
    assert read_bundle(str(folder)).digest == found.digest


def test_an_exported_bundle_is_read(bundle: Path) -> None:
    found = read_bundle(bundle)
    Model(found.model)
    for sequence in found.golden["sequences"]:
        for hour in sequence["hours"]:
            parse(hour["snapshot"], found.columns)


# -- every byte is vouched for --------------------------------------------------------------------


def check_flips(folder: Path, copy: Path, places: int) -> None:
    """Each single-bit flip at random places of each file is refused."""
    rng = random.Random(10)
    for name in EVERY:
        content = (folder / name).read_bytes()
        with (copy / name).open("r+b", buffering=0) as file:
            for _ in range(places):
                at = rng.randrange(len(content))
                os.pwrite(file.fileno(), bytes([content[at] ^ 1 << rng.randrange(8)]), at)
                refused(copy)
                os.pwrite(file.fileno(), content[at : at + 1], at)
    read_bundle(copy)


def test_a_flipped_bit_anywhere_is_refused(folder: Path, tmp_path: Path) -> None:
    check_flips(folder, write(tmp_path / "copy"), 1000)


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_an_exported_bundle_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in EVERY:
        (copy / name).write_bytes((bundle / name).read_bytes())
    check_flips(bundle, copy, 1000)


@pytest.mark.parametrize("name", EVERY)
def test_a_file_cut_short_longer_empty_or_missing_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for other in (
        b"",
        content[:-1],
        content + b"\n",
        content + b"\0",
        content[: len(content) // 2],
    ):
        if other != content:
            (folder / name).write_bytes(other)
            refused(folder)
    (folder / name).unlink()
    assert refused(folder) == f"{name}: missing"


def test_swapped_files_are_refused(folder: Path) -> None:
    for a, b in itertools.combinations(EVERY, 2):
        first, second = (folder / a).read_bytes(), (folder / b).read_bytes()
        (folder / a).write_bytes(second)
        (folder / b).write_bytes(first)
        refused(folder)
        (folder / a).write_bytes(first)
        (folder / b).write_bytes(second)
    read_bundle(folder)


@pytest.mark.parametrize(
    "other",
    [
        lambda s: s.replace(b"\n", b"\r\n"),
        lambda s: s.upper(),
        lambda s: s[:64].upper() + s[64:],
        lambda s: s.replace(b"  ", b" "),
        lambda s: s.replace(b"  ", b" *"),
        lambda s: s.rstrip(b"\n"),
        lambda s: s + b"\n",
        lambda s: b"\xef\xbb\xbf" + s,
        lambda s: s + s.splitlines(True)[0],
        lambda s: b"".join(reversed(s.splitlines(True))),
        lambda s: s + b"0" * 64 + b"  SHA256SUMS\n",
        lambda s: s + b"0" * 64 + b"  ../outside\n",
        lambda s: b"# a remark\n" + s,
        lambda s: s.replace(b"policy.onnx", b"./policy.onnx"),
    ],
    ids=itertools.count(),
)
def test_checksums_written_in_any_other_way_are_refused(
    folder: Path, other: Callable[[bytes], bytes]
) -> None:
    (folder / SUMS).write_bytes(other((folder / SUMS).read_bytes()))
    assert SUMS in refused(folder)


# -- nothing but regular files of a folder --------------------------------------------------------


@pytest.mark.parametrize("name", ["extra", ".hidden", "policy.ONNX", "a\nb", "x" * 200, "\udcff"])
def test_a_file_more_is_refused_and_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    assert refused(folder) == f"{name!a}: not a file of a bundle"


def test_a_name_in_another_case_is_refused(folder: Path) -> None:
    (folder / "MODEL_CARD.md").rename(folder / "model_card.md")
    assert "model_card.md" in refused(folder)


def test_a_folder_in_the_folder_is_refused(folder: Path) -> None:
    (folder / "more").mkdir()
    assert "'more'" in refused(folder)
    (folder / "more").rename(folder / "policy.onnx.d")
    (folder / "policy.onnx").unlink()
    (folder / "policy.onnx.d").rename(folder / "policy.onnx")
    assert refused(folder) == "policy.onnx: not a regular file"


@pytest.mark.parametrize("name", EVERY)
def test_a_link_a_pipe_or_a_socket_in_place_of_a_file_is_refused(
    folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)  # the very bytes, but not in the folder
    assert refused(folder) == f"{name}: not a regular file"
    (folder / name).unlink()
    os.mkfifo(folder / name)  # nobody writes: to open it for reading would wait for ever
    assert refused(folder) == f"{name}: not a regular file"
    (folder / name).unlink()
    monkeypatch.chdir(folder)  # a socket's path may be no longer than a hundred bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        assert refused(folder) == f"{name}: not a regular file"


def test_a_link_put_in_between_look_and_opening_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((folder / "policy.onnx").read_bytes())
    look = module._check_regular

    def then_swap(mode: int, name: str) -> None:
        look(mode, name)
        if name == "policy.onnx":
            (folder / name).unlink()
            (folder / name).symlink_to(outside)

    monkeypatch.setattr(module, "_check_regular", then_swap)
    assert "policy.onnx: cannot be read" in refused(folder)


def test_a_link_to_the_folder_is_refused_and_so_is_what_is_no_folder(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder)
    for path in (tmp_path / "link", folder / "policy.onnx", tmp_path / "none", Path("/dev/null")):
        assert "not a folder that can be read" in refused(path)
    with pytest.raises(BundleError, match="not a folder"):
        read_bundle("a\0b")


def test_a_file_that_may_not_be_read_is_refused(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (folder / "golden.json").chmod(0)
    assert "golden.json: cannot be read" in refused(folder)


def test_a_file_beyond_the_limit_is_refused_before_it_fills_memory(folder: Path) -> None:
    with (folder / "golden.json").open("r+b") as file:
        file.truncate(2**40)  # sparse: no disk is used
    assert "golden.json: longer than" in refused(folder)


# -- consistent and hostile -----------------------------------------------------------------------


class Payload:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("false",))


def zipped() -> bytes:
    """The beginning of what torch.save and SB3 write."""
    return b"PK\x03\x04" + pickle.dumps(Payload())


@pytest.mark.parametrize("name", [n for n in FILES if n != "MODEL_CARD.md"])
@pytest.mark.parametrize(
    "content", [pickle.dumps(Payload()), zipped(), b"", b"\0" * 64, b"{", b"[]"]
)
def test_a_pickle_or_scrap_is_refused_in_any_file(folder: Path, name: str, content: bytes) -> None:
    assert refused(remade(folder, name, content)).startswith(name)


def test_a_card_that_is_no_text_is_refused(folder: Path) -> None:
    assert refused(remade(folder, "MODEL_CARD.md", b"\xff\xfe")) == "MODEL_CARD.md: not UTF-8"


def header(entries: Any, data: int = 8) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * data


def tensor(dtype: str = "F32", shape: Any = (2,), begin: Any = 0, end: Any = 8) -> Any:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "weights",
    [
        header({"w": tensor()}, 7),
        header({"w": tensor()}, 9),
        header({"w": tensor(end=4)}),
        header({"w": tensor(begin=-8, end=0)}),
        header({"w": tensor(shape=(-2,))}),
        header({"w": tensor(shape=[True, 2])}),
        header({"w": tensor(shape=(2.0,))}),
        header({"w": tensor(shape=2)}),
        header({"w": tensor("O")}),
        header({"w": tensor() | {"file": "../outside"}}),
        header({"a": tensor(), "b": tensor()}),
        header({"a": tensor(), "b": tensor(begin=12, end=20)}, 20),
        header({"w": [0, 8]}),
        header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}),
        header({"w": {"dtype": [], "shape": [2], "data_offsets": [0, 8]}}),
        header({"__metadata__": {"a": 1}, "w": tensor()}),
        header({"__metadata__": [], "w": tensor()}),
        header(b'{"w": 1, "w": 2}'),
        header(b"{" * 5000),
        header(b" {}", 0),
        (2**63).to_bytes(8, "little") + b"{}",
        b"\2",
    ],
    ids=itertools.count(),
)
def test_weights_whose_header_does_not_describe_them_are_refused(weights: bytes) -> None:
    with pytest.raises(BundleError, match="not in the safetensors format"):
        check_safetensors(weights, "policy.safetensors")


def test_weights_that_safetensors_writes_are_taken() -> None:
    """Oracle: the safetensors library's own writer."""
    kinds = (np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_)
    arrays = {kind.__name__: np.zeros((2, 3), kind) for kind in kinds}
    check_safetensors(save(arrays | {"none": np.zeros((0, 3))}, {"note": "x"}), "w")


def outside(location: str = "../../outside.bin") -> onnx.ModelProto:
    made = handmade.model()
    weights = made.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[2])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return made


def outside_in_an_attribute() -> onnx.ModelProto:
    made = handmade.model()
    hidden = outside().graph.initializer[-1]
    made.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=hidden))
    return made


def unmarked() -> onnx.ModelProto:
    made = outside()
    made.graph.initializer[-1].ClearField("data_location")
    return made


def foreign_operator() -> onnx.ModelProto:
    made = handmade.model()
    made.graph.node.append(helper.make_node("Run", ["work"], ["x"], domain="com.example"))
    return made


def foreign_domain() -> onnx.ModelProto:
    made = handmade.model()
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


def loop() -> onnx.ModelProto:
    made = handmade.model()
    body = helper.make_graph([], "body", [], [])
    made.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body))
    return made


def functions() -> onnx.ModelProto:
    made = handmade.model()
    made.functions.append(helper.make_function("", "f", [], [], [], []))
    return made


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (outside, "data outside the file"),
        (outside_in_an_attribute, "data outside the file"),
        (unmarked, "data outside the file"),
        (foreign_operator, "another domain than ONNX's: b'com.example'"),
        (foreign_domain, "another domain than ONNX's: b'com.microsoft'"),
        (loop, "a graph in a graph"),
        (functions, "functions"),
    ],
)
def test_a_model_that_is_not_whole_in_itself_is_refused(
    folder: Path, make: Callable[[], onnx.ModelProto], words: str
) -> None:
    content = make().SerializeToString()
    assert words in refused(remade(folder, "policy.onnx", content))
    assert words in refused(remade(folder, "policy.onnx", content + b"\x30\x00"))  # a field more


def test_a_graph_that_is_given_in_two_parts_is_refused() -> None:
    """Protocol Buffers join the parts of a message into one that nobody looked at."""
    hostile, good = outside().SerializeToString(), handmade.model().SerializeToString()
    for both in (good + hostile, hostile + good, good + good):
        with pytest.raises(BundleError):
            check_onnx(both, "policy.onnx")


def test_a_field_number_that_a_parser_would_cut_to_another_is_refused() -> None:
    good = handmade.model().SerializeToString()
    with pytest.raises(BundleError, match="29 bits"):
        check_onnx(good + b"\xba\x80\x80\x80\x10\x00", "policy.onnx")


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("manifest.json", "schema", 2, "manifest.json.schema: expected 1"),
        ("manifest.json", "schema", True, "manifest.json.schema: expected 1"),
        ("manifest.json", "bundle", "a\nb", "manifest.json.bundle"),
        ("manifest.json", "created", 5, "manifest.json.created"),
        ("manifest.json", "parity", ..., "manifest.json.parity"),
        ("manifest.json", "scores", [], "manifest.json.scores"),
        ("manifest.json", "code", "import os", "no such field"),
        ("manifest.json", "columns.rigs.0.name", "power_kw", "columns.rigs.0.name"),
        ("manifest.json", "rule.name", "eval", "rule.name"),
        ("manifest.json", "rule.weights", [1e308, 10**400, 1], "number"),
        ("manifest.json", "guardrails", {"none": 1}, "guardrails.none"),
        ("manifest.json", "guardrails", {"min_dwell_h": 10**400}, "number"),
        ("golden.json", "sequences", [], "a list of at least one"),
        ("golden.json", "sequences", {}, "a list of at least one"),
        ("golden.json", "sequences.0.hours", [], "a list of at least one"),
        ("golden.json", "sequences.0.hours.0.dt_h", ..., "dt_h"),
        ("golden.json", "sequences.0.hours.0.dt_h", "1", "dt_h"),
        ("golden.json", "sequences.0.hours.0.dt_h", -1.0, "dt_h"),
        ("golden.json", "sequences.0.hours.0.snapshot.rigs", ..., "rigs"),
        ("golden.json", "sequences.0.hours.0.snapshot.rigs.rig-1", ..., "orders.rig-1"),
        ("golden.json", "sequences.0.hours.0.orders.rig-1", ..., "orders.rig-1"),
        ("golden.json", "sequences.0.hours.0.orders.rig-1", "gamma", "orders.rig-1"),
        ("golden.json", "sequences.0.hours.0.orders.rig-1", 1, "orders.rig-1"),
        ("golden.json", "sequences.0.hours.0.orders.rig-1", ["alpha"], "orders.rig-1"),
        ("golden.json", "sequences.0.hours.0.code", 1, "no such field"),
    ],
)
def test_a_manifest_or_recorded_case_that_is_wrong_is_refused(
    folder: Path, name: str, path: str, value: Any, words: str
) -> None:
    document = manifest() if name == "manifest.json" else golden()
    said = refused(remade(folder, name, changed(document, path, value)))
    assert words in said
    assert said.startswith(name)


def test_recorded_cases_of_which_none_can_be_compared_are_refused(folder: Path) -> None:
    document = golden()
    for hour in document["sequences"][0]["hours"]:
        hour["orders"] = dict.fromkeys(hour["orders"], "?")
    assert "an order to compare" in refused(remade(folder, "golden.json", document))


@pytest.mark.parametrize("name", ["manifest.json", "golden.json", "snapshot.schema.json"])
def test_json_is_read_strictly(folder: Path, name: str) -> None:
    content = handmade.files()[name].decode()
    twice = '{"a": 1, "a": 1' + (", " if len(content) > 2 else "") + content[1:]
    assert f"{name}.a: expected each key once" in refused(remade(folder, name, twice.encode()))
    for constant in ("NaN", "Infinity", "-Infinity"):
        said = content[:-1] + (", " if len(content) > 2 else "") + f'"x": {constant}}}'
        assert f"{constant} is not JSON" in refused(remade(folder, name, said.encode()))


def put(path: Path, content: bytes) -> None:
    """Write a file anew: to cut one off and write it again waits for the disk on some systems."""
    path.unlink()
    path.write_bytes(content)


def test_a_hostile_bundle_changed_at_random_raises_nothing_else(folder: Path) -> None:
    """Checksums are made to suit the changed bytes, so that it is the readers that are met."""
    rng, content = random.Random(3), handmade.files()
    kept = 0
    for k in range(2000):
        name = rng.choice([n for n in FILES if n != "MODEL_CARD.md"])
        data = bytearray(content[name])
        for _ in range(rng.choice((1, 1, 3))):
            at = rng.randrange(len(data))
            piece = rng.choice((b"", b"\0", b"\xff", b"1", b"[", b'"', b"e9", b"null", b"-"))
            data[at : at + rng.randrange(3)] = piece or bytes([rng.randrange(256)])
        put(folder / name, bytes(data))
        put(folder / SUMS, sums(content | {name: bytes(data)}))
        try:
            found = read_bundle(folder)
            Model(found.model)
        except BundleError as error:
            said = str(error)
        else:
            kept, said = kept + 1, "kept"
        assert said.isprintable(), k
        put(folder / name, content[name])
    assert 0 < kept < 1000


# -- the graph ------------------------------------------------------------------------------------


def run(
    read: Bundle, document: Any, memory: Any = None, dt_h: float = 1.0
) -> tuple[Snapshot, Answer]:
    s = parse(document, read.columns)
    return s, Model(read.model).run(s, s.averages if memory is None else memory, dt_h)


def test_recorded_orders_come_again(read: Bundle) -> None:
    for hour in read.golden["sequences"][0]["hours"]:
        s, answer = run(read, hour["snapshot"], dt_h=hour["dt_h"])
        names = (None, *s.network_names)
        assert {r: names[k] for r, k in zip(s.rig_names, answer.orders, strict=True)} == hour[
            "orders"
        ]
        assert answer.orders.dtype == np.int64
        assert answer.probs.shape == (3, 5)


def test_a_fact_that_is_missing_holds_what_depends_on_it_and_nothing_else(read: Bundle) -> None:
    said = snapshot(rigs=8, networks=3)
    whole = run(read, said)[1]
    assert (whole.orders > 0).all()
    for path, holding in (
        ("rigs.rig-2.power_kw", {2}),
        ("networks.net-2.token_usd", {2, 6}),  # whose network it is
        ("market.btc_usd", set(range(8))),
    ):
        answer = run(read, changed(said, path, None))[1]
        assert set(np.flatnonzero(answer.orders == 0)) == holding
        others = [r for r in range(8) if r not in holding]
        assert np.array_equal(answer.orders[others], whole.orders[others])
        assert np.allclose(answer.probs.sum(-1), 1.0)
        assert np.isfinite(answer.margin).all()
    answer = run(read, changed(said, "networks.alpha.turnover_usd", None))[1]
    assert not (answer.orders == 1).any()
    assert (answer.probs[:, 1] == 0).all()
    large = [1, 5]  # they find beta once alpha is out
    assert (answer.orders[large] == 2).all()


def test_numbers_beyond_float32_are_missing(read: Bundle) -> None:
    s = parse(snapshot(rigs=4), read.columns)
    s.rigs[1, 0] = 1e300
    answer = Model(read.model).run(s, s.averages, 1.0)
    assert (answer.orders == 0).tolist() == [False, True, False, False]


def test_an_empty_fleet_and_one_without_networks_are_answered(read: Bundle) -> None:
    assert run(read, snapshot(rigs=0))[1].orders.shape == (0,)
    alone = {"r": handmade.RIG | {"network": "off"}}
    _, answer = run(read, snapshot(rigs=0, networks=0) | {"rigs": alone})
    assert answer.probs.shape == (1, 2)
    assert np.isfinite(answer.memory).all()


def test_averages_move_as_the_simulators_do() -> None:
    """Oracle: `env.observation.remember`."""
    import torch

    from agents.serve.catalog import read_columns
    from env.observation import remember as theirs

    rng = np.random.default_rng(0)
    s = parse(snapshot(rigs=1, networks=5), read_columns(manifest()))
    memory = rng.uniform(1, 2, s.averages.shape)
    estimate, token = (torch.tensor(s.on(c))[None] for c in ("estimate_usd", "token_usd"))
    for dt_h in (0.0, 0.25, 1.0, 50.0):
        expected = theirs(torch.tensor(memory)[None], estimate, token, dt_h)[0].numpy()
        assert np.allclose(
            remember(memory, s, dt_h), expected, rtol=1e-6, atol=1e-6
        )  # theirs is in float32
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
    made.graph.node.extend([*kept[:1], *nodes, *kept[1:]])  # after `choices`, before `margin`
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
        (scaled("memory", "memory_out", factor), s.assignment < 0),
    ):
        answer = hostile(*nodes).run(s, memory, 1.0)
        assert ((answer.orders >= 0) & (answer.orders <= 4)).all()
        assert np.isfinite(answer.probs).all()
        assert np.isfinite(answer.margin).all()
        assert np.isfinite(answer.memory).all()
        assert (answer.orders[holding] == 0).all()


def test_a_graph_that_fails_or_answers_in_another_shape_holds(read: Bundle) -> None:
    s = parse(snapshot(rigs=8, networks=3), read.columns)
    for node in (
        helper.make_node("Add", ["choices", "work"], ["probs"]),  # N + 1 against N: it fails
        helper.make_node("MatMul", ["memory", "work"], ["memory_out"]),
        helper.make_node("ArgMax", ["choices"], ["orders"], axis=1, keepdims=0),  # by network
    ):
        answer = hostile(node).run(s, s.averages, 1.0)
        assert (answer.orders == 0).all()
        assert (answer.probs[:, 0] == 1.0).all()
        assert answer.probs.shape == (8, 5)
        assert answer.memory.shape == (len(AVERAGES), 4)


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

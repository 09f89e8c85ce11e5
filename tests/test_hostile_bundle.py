"""Bundles whose checksums are right and whose content is not: each is refused, and only refused."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import onnx
import pytest
from handmade import changed, golden, manifest, refused, sums, write
from onnx import TensorProto, helper
from safetensors.numpy import save

from agents.serve.bundle import FILES, SUMS, read_bundle
from agents.serve.errors import BundleError
from agents.serve.formats import check_onnx, check_safetensors
from agents.serve.model import Model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle")


def remade(folder: Path, name: str, content: bytes | Any) -> Path:
    """The bundle with one file replaced and SHA256SUMS made to suit: consistent, but hostile."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return write(folder, handmade.files() | {name: data})


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


def outside_in_a_list() -> onnx.ModelProto:
    made = handmade.model()
    hidden = outside().graph.initializer[-1]
    made.graph.node.append(helper.make_node("Constant", [], ["hidden"], values=[hidden]))
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
        (outside_in_a_list, "data outside the file"),
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


def test_a_model_cut_short_is_refused() -> None:
    whole = handmade.model()
    whole.ClearField("opset_import")  # so that the graph is what comes last
    content = whole.SerializeToString()
    check_onnx(content, "policy.onnx")
    for left in range(len(content)):
        with pytest.raises(BundleError):
            check_onnx(content[:left], "policy.onnx")


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

"""A bundle made by hand, quick to write: its policy sends each rig where its work is most.

What an exported bundle holds besides, the tests with the `bundle` fixture see.
"""

from __future__ import annotations

import copy
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from agents.serve.bundle import read_bundle
from agents.serve.columns import AVERAGES, COMPUTED, GPU, MARKET, NETWORKS, RIGS
from agents.serve.errors import BundleError

Plain = dict[str, Any]

_OPTIONAL = {"score": 1.0, "lease_h": 0.0, "up": True, "open": True, "rent_index": 1.0}
_STATIC = {
    name: False if unit == "0/1" else 0.25
    for name, unit in list(NETWORKS.items())[: list(NETWORKS).index("estimate_usd")]
}


def manifest() -> Plain:
    """Two networks and two GPU models are known; `beta` counts rigs, `alpha` wants two GPUs."""
    averages = [{"name": n, "of": of, "hours": h} for n, (of, h) in AVERAGES.items()]
    columns = {
        group: [_column(name, unit) for name, unit in listed.items()]
        for group, listed in (("rigs", RIGS), ("networks", NETWORKS), ("market", MARKET))
    }
    off = {
        name: unit == "0/1" if name in ("up", "open") else False if unit == "0/1" else 0.0
        for name, unit in NETWORKS.items()
        if name not in COMPUTED
    }
    return {
        "schema": 1,
        "bundle": "handmade-00000000",
        "created": "2026-11-25T18:00:00Z",
        "columns": columns,
        "averages": averages,
        "catalog": {
            "networks": {"alpha": _STATIC | {"lockup": 0.5}, "beta": _STATIC | {"lease": True}},
            "gpus": {"small": dict.fromkeys(GPU, 10.0), "large": dict.fromkeys(GPU, 80.0)},
            "work": {
                "alpha": {"small": 1.0, "large": 3.0},
                "beta": {"large": 7.0},
                "off": {"small": 1.0, "large": 1.0},
            },
            "per_rig": ["beta", "off"],
            "min_gpus": {"alpha": 2, "beta": 1, "off": 1},
            "paid": {"alpha": {"token": "A", "share": 0.5}, "beta": {"token": None, "share": 0.0}},
            "off": off | {"token_usd": 1.0, "outside_work": 1e-8},
        },
        "rule": {
            "name": "break_even",
            "weights": [0.2, 0.3, 0.5],
            "horizon_h": 100.0,
            "margin": 0.1,
            "marginal": 0.5,
            "attention": 0.5,
        },
        "guardrails": {},
        **{part: {} for part in ("training", "policy", "scores", "parity", "provenance")},
    }


def _column(name: str, unit: str) -> Plain:
    return {
        "name": name,
        "unit": unit,
        "meaning": name.replace("_", " "),
        "default": _OPTIONAL.get(name),
        "low": None if unit == "0/1" else -1000,
        "high": None if unit == "0/1" else 1e6,
        "given": "computed" if name in COMPUTED else "snapshot",
    }


def facts(columns: dict[str, str], **given: Any) -> Plain:
    """A value for each column that a snapshot may give, 1.5 or true, but for those given."""
    row = {n: True if unit == "0/1" else 1.5 for n, unit in columns.items() if n not in COMPUTED}
    return {name: value for name, value in (row | given).items() if value is not ...}


RIG = facts(RIGS, network="alpha", gpu="small", gpu_count=4, **dict.fromkeys(GPU, ...))


def snapshot(rigs: int = 3, networks: int = 3) -> Plain:
    """A snapshot of rigs `rig-0`... in turn on the networks `alpha`, `beta`, `net-2`... and off."""
    names = ["alpha", "beta", *(f"net-{k}" for k in range(2, networks))][:networks]
    known = facts(NETWORKS, **dict.fromkeys(_STATIC, ...))
    return {
        "schema": 1,
        "time": "2026-11-25T18:00:00Z",
        "market": facts(MARKET),
        "networks": {n: dict(known if k < 2 else facts(NETWORKS)) for k, n in enumerate(names)},
        "rigs": {
            f"rig-{k}": RIG
            | {"network": [*names, "off"][k % (len(names) + 1)], "gpu": ("small", "large")[k % 2]}
            for k in range(rigs)
        },
    }


def golden() -> Plain:
    """One sequence of two hours, with the orders that `model` gives."""
    hours = []
    for hour in (18, 19):
        said = snapshot() | {"time": f"2026-11-25T{hour}:00:00Z"}
        if hour == 18:
            for row in said["networks"].values():
                row |= dict.fromkeys(AVERAGES, 1.5)
        # small has work 4 on alpha; large 12 there, 7 on beta. The graph has no regard for *here*.
        orders = {"rig-0": "alpha", "rig-1": "alpha", "rig-2": "alpha"}
        hours.append({"dt_h": float(hour > 18), "snapshot": said, "orders": orders})
    return {"sequences": [{"hours": hours}]}


def model() -> onnx.ModelProto:
    """Orders the network of most work, if any is above zero; probabilities are shares of work."""
    real, whole = TensorProto.FLOAT, TensorProto.INT64
    pads = helper.make_tensor("pads", whole, [6], [0, 0, 1, 0, 0, 0])
    last = helper.make_tensor("last", whole, [1], [2])
    tiny = helper.make_tensor("tiny", real, [], [1e-9])
    nodes = [
        helper.make_node("Pad", ["work", "pads"], ["choices"]),
        helper.make_node("ArgMax", ["choices"], ["orders"], axis=2, keepdims=0),
        helper.make_node("ReduceSum", ["choices", "last"], ["total"], keepdims=1),
        helper.make_node("Add", ["total", "tiny"], ["above"]),
        helper.make_node("Div", ["choices", "above"], ["probs"]),
        helper.make_node("Identity", ["memory"], ["memory_out"]),
    ]
    shapes: dict[str, list[str | int | None]] = {
        "rigs": ["B", "R", len(RIGS)],
        "networks": ["B", "N", len(NETWORKS)],
        "work": ["B", "R", "N"],
        "assignment": ["B", "R"],
        "market": ["B", len(MARKET)],
        "memory": ["B", len(AVERAGES), "N"],
        "dt_h": [],
        "orders": ["B", "R"],
        "probs": ["B", "R", "M"],
        "memory_out": ["B", len(AVERAGES), "N"],
    }
    ends = [
        helper.make_tensor_value_info(n, whole if n in ("assignment", "orders") else real, shape)
        for n, shape in shapes.items()
    ]
    graph = helper.make_graph(nodes, "policy", ends[:7], ends[7:], [pads, last, tiny])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def files() -> dict[str, bytes]:
    """The content of each file but SHA256SUMS."""
    return {
        "MODEL_CARD.md": b"# Handmade\n",
        "golden.json": json.dumps(golden()).encode(),
        "manifest.json": json.dumps(manifest()).encode(),
        "policy.onnx": model().SerializeToString(),
        "policy.safetensors": save({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}),
        "snapshot.schema.json": b"{}",
    }


def sums(content: dict[str, bytes]) -> bytes:
    """The bytes of SHA256SUMS."""
    return "".join(f"{sha256(content[n]).hexdigest()}  {n}\n" for n in sorted(content)).encode()


def write(folder: Path, content: dict[str, bytes] | None = None) -> Path:
    """A bundle of these files and the SHA256SUMS that suits them."""
    content = files() if content is None else content
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**content, "SHA256SUMS": sums(content)}.items():
        (folder / name).write_bytes(data)
    return folder


def changed(document: Plain, path: str, value: Any) -> Plain:
    """A copy of a document with the value at a dotted path replaced, or left out for `...`."""
    copied = copy.deepcopy(document)
    *parents, last = path.split(".")
    at: Any = copied
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return copied


def refused(folder: Path) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 1000
    return said

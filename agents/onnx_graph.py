"""The policy's graph as an ONNX file; onnx and torch's exporter are used here and nowhere else."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import onnx
import torch
from onnxscript import FLOAT, ir, opset18, optimizer
from torch.export import Dim

from agents.graph import OUTPUTS, Answer, Inputs, PolicyGraph

OPSET = 18
op: Any = opset18  # whose constants have no one type
_LEAST_EXPONENT = -87.0
_FOLDED = 1 << 20  # bytes of a constant, above those of any weight
_WORLDS, _RIGS, _NETWORKS = Dim("worlds"), Dim("rigs"), Dim("networks")
_DYNAMIC = Inputs(
    rigs={0: _WORLDS, 1: _RIGS},  # type: ignore[arg-type] # the axes, in place of tensors
    networks={0: _WORLDS, 1: _NETWORKS},  # type: ignore[arg-type]
    work={0: _WORLDS, 1: _RIGS, 2: _NETWORKS},  # type: ignore[arg-type]
    assignment={0: _WORLDS, 1: _RIGS},  # type: ignore[arg-type]
    market={0: _WORLDS},  # type: ignore[arg-type]
    memory={0: _WORLDS, 2: _NETWORKS},  # type: ignore[arg-type]
    dt_h=None,  # type: ignore[arg-type]
)


def to_onnx(graph: PolicyGraph, example: Inputs) -> bytes:
    """The graph for any number of worlds, rigs and networks, with its weights inside.

    example: inputs of at least two worlds, rigs and networks. The exporter's own optimiser is left
    out: it drops `+ 1e-9` as if it were zero, so that 0 / 0 becomes NaN. What the exporter notes
    beside nodes (source lines and paths of the machine) is taken out.
    """
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            tuple(example),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=OPSET,
            custom_translation_table={
                torch.ops.aten.log_sigmoid.default: _log_sigmoid,
                torch.ops.aten.nan_to_num.default: _nan_to_num,
                torch.ops.aten.sign.default: _sign,
                torch.ops.aten.exp.default: _exp,
                torch.ops.aten._log_softmax.default: _log_softmax,
                torch.ops.aten.log_softmax.int: _log_softmax,
            },
            dynamic_shapes=tuple(_DYNAMIC),
            input_names=list(Inputs._fields),
            output_names=list(Answer._fields),
        )
        assert program is not None
        _fold(program.model)
    model = program.model_proto
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _fold(model: ir.Model) -> None:
    """Compute what does not depend on the inputs, once and not at every load or run, and leave out
    what only comparisons ask for."""
    del model.graph.outputs[len(OUTPUTS) :]
    optimizer.inline(model)
    optimizer.fold_constants(model, input_size_limit=_FOLDED, output_size_limit=_FOLDED)
    optimizer.remove_unused_nodes(model)


def _log_sigmoid(x: FLOAT) -> FLOAT:
    """log(1 / (1 + exp(-x))), accurate in the tail: onnxruntime's Sigmoid is 0 below some -17, and
    the exporter's own translation is the logarithm of it."""
    return op.Neg(op.Softplus(op.Neg(x)))


def _sign(x: FLOAT) -> FLOAT:
    """The sign of all but denormal numbers, in less time than onnxruntime's own takes."""
    return op.Clip(op.Mul(x, op.Constant(value_float=1e38)), -1.0, 1.0)


def _exp(x: FLOAT) -> FLOAT:
    """exp(x) that is 1.6e-38 at the least. Some processors (an Intel Xeon, not an AMD EPYC) take
    twenty times as long for a number below those of full precision; on others it costs 1 %."""
    return op.Exp(op.Max(x, op.Constant(value_float=_LEAST_EXPONENT)))


def _log_softmax(x: FLOAT, dim: int, half_to_float: bool = False) -> FLOAT:
    """Likewise, where choices that are masked make such numbers."""
    axes = op.Constant(value_ints=[dim])
    below = op.Sub(x, op.ReduceMax(x, axes, keepdims=1))
    return op.Sub(below, op.Log(op.ReduceSum(_exp(below), axes, keepdims=1)))


def _nan_to_num(x: FLOAT, nan: float, posinf: float, neginf: float) -> FLOAT:
    """In half as many nodes as the exporter's own translation, hence in less time."""
    bounded = op.Where(op.IsInf(x), op.Clip(x, neginf, posinf), x)
    return op.Where(op.IsNaN(x), nan, bounded)


def _strip(model: onnx.ModelProto) -> None:
    """Take out notes and names of tools, which say where and by whom the file was made."""
    graph = model.graph
    named = (*graph.input, *graph.output, *graph.initializer, *graph.value_info)
    for part in (model, graph, *graph.node, *named):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

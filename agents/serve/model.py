"""The exported policy under onnxruntime: it always answers, and where it cannot it says hold.

Rigs and networks of which a fact is missing do not go into the graph: a single NaN there would
spoil the orders of all. The graph takes any number of both, so the others are decided without them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .columns import AVERAGES, MARKET, NETWORKS, RIGS, Bools, Floats
from .errors import BundleError
from .snapshot import Ints, Snapshot

Floats32 = NDArray[np.float32]
Ends = dict[str, tuple[str, list[int | None]]]  # type and axes by name, None = any size

_INPUTS: Ends = {
    "rigs": ("tensor(float)", [None, None, len(RIGS)]),
    "networks": ("tensor(float)", [None, None, len(NETWORKS)]),
    "work": ("tensor(float)", [None, None, None]),
    "assignment": ("tensor(int64)", [None, None]),
    "market": ("tensor(float)", [None, len(MARKET)]),
    "memory": ("tensor(float)", [None, len(AVERAGES), None]),
    "dt_h": ("tensor(float)", []),
}
_OUTPUTS: Ends = {
    "orders": ("tensor(int64)", [None, None]),
    "probs": ("tensor(float)", [None, None, None]),
    "margin": ("tensor(float)", [None, None]),
    "memory_out": ("tensor(float)", [None, len(AVERAGES), None]),
}
_LENGTHS_H = np.array([hours for _, hours in AVERAGES.values()])[:, None]


class Answer(NamedTuple):
    """What the policy says of R rigs and N networks."""

    orders: Ints  # [R] 0 = hold, i + 1 = move to network i
    probs: Floats  # [R, N + 1] 0 where a choice is not legal
    margin: Floats  # [R] by how much probabilities may change before the order does
    memory: Floats  # [5, N] averages with this hour in them


class Model:
    """An ONNX graph from a bundle, run on the CPU."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        """`BundleError` if onnxruntime cannot load the model, or it is not a policy's graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # what goes wrong is raised, and said once
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            _check_ends("inputs", self._session.get_inputs(), _INPUTS)
            _check_ends("outputs", self._session.get_outputs(), _OUTPUTS)
        except BundleError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no other base
            said = ascii(" ".join(str(error).split())[:200])
            raise BundleError(f"policy.onnx: onnxruntime cannot load it ({said})") from None

    def run(self, snapshot: Snapshot, memory: Floats, dt_h: float) -> Answer:
        """The policy's answer; it raises nothing.

        memory [5, N]: the averages up to the last hour that was seen, dt_h hours ago; NaN starts
        an average at the present value. A rig holds if a fact of it or of its network is missing,
        and all do if one of the market is; a network is not entered if a fact of it is missing.
        """
        remembered = remember(memory, snapshot, dt_h)
        before = np.where(np.isfinite(memory), memory, remembered)
        rigs, networks = _complete(snapshot, before)
        answer = _held(len(rigs), len(networks), remembered)
        if not rigs.any() or not np.isfinite(dt_h):
            return answer
        place = np.cumsum(networks) - 1  # [N] where a network is among the complete ones
        with np.errstate(over="ignore"):  # beyond float32 is infinite, hence not complete
            feed = {
                "rigs": _batch(snapshot.rigs[rigs]),
                "networks": _batch(snapshot.networks[networks]),
                "work": _batch(snapshot.work[np.ix_(rigs, networks)]),
                "assignment": place[snapshot.assignment[rigs]][None],
                "market": _batch(snapshot.market),
                "memory": _batch(before[:, networks]),
                "dt_h": np.array(dt_h, dtype=np.float32),
            }
        try:
            said = self._session.run([*_OUTPUTS], feed)
        except Exception:  # whatever the graph does, the fleet holds
            return answer
        return _spread(answer, said, rigs, networks)


def remember(memory: Floats, snapshot: Snapshot, dt_h: float) -> Floats:
    """The moving averages [5, N] with this hour's values in them.

    It is the graph's own formula, for networks that do not go through it. NaN starts an average at
    the present value; a value that is missing leaves its average as it was.
    """
    now = np.stack([snapshot.on(of) for of, _ in AVERAGES.values()])
    moved = memory + -np.expm1(-dt_h / _LENGTHS_H) * (now - memory)
    return np.where(np.isfinite(moved), moved, np.where(np.isfinite(memory), memory, now))


def _complete(snapshot: Snapshot, memory: Floats) -> tuple[Bools, Bools]:
    """Rigs [R] and networks [N] of which every number is there, in float32; no rigs without the
    market's."""
    with np.errstate(over="ignore"):
        networks = _finite(snapshot.networks) & _finite(memory.T)
        rigs = _finite(snapshot.rigs) & _finite(snapshot.work) & networks[snapshot.assignment]
        return rigs & _finite(snapshot.market), networks


def _finite(values: Floats) -> Bools:
    """Whether all numbers along the last axis are finite in float32."""
    return np.asarray(np.isfinite(values.astype(np.float32)).all(-1))


def _batch(values: Floats) -> Floats32:
    """One world's numbers as the graph takes them."""
    return np.ascontiguousarray(values[None], dtype=np.float32)


def _held(rigs: int, networks: int, memory: Floats) -> Answer:
    """Every rig holds, of no margin."""
    probs = np.zeros((rigs, networks + 1))
    probs[:, 0] = 1.0
    return Answer(np.zeros(rigs, np.int64), probs, np.zeros(rigs), memory)


def _spread(held: Answer, said: list[NDArray[Any]], rigs: Bools, networks: Bools) -> Answer:
    """What the graph said of the complete rigs and networks, in its place among all of them."""
    r, n = np.flatnonzero(rigs), np.flatnonzero(networks)
    shapes = [(1, len(r)), (1, len(r), len(n) + 1), (1, len(r)), (1, len(AVERAGES), len(n))]
    if [part.shape for part in said] != shapes:
        return held
    orders, probs, margin, memory = (part[0] for part in said)
    right = (orders >= 0) & (orders <= len(n)) & np.isfinite(probs).all(-1) & np.isfinite(margin)
    r, orders, probs, margin = r[right], orders[right], probs[right], margin[right]
    choices = np.array([0, *(n + 1)])  # of the whole snapshot, by the graph's own number
    held.orders[r] = choices[orders]
    held.probs[np.ix_(r, choices)] = probs
    held.margin[r] = margin
    held.memory[:, n] = np.where(np.isfinite(memory), memory, held.memory[:, n])
    return held


def _check_ends(
    what: str,
    found: list[onnxruntime.NodeArg],
    wanted: Ends,
) -> None:
    names = [end.name for end in found]
    if sorted(names) != sorted(wanted):
        raise BundleError(f"policy.onnx: {what} {names}, expected {[*wanted]}")
    for end in found:
        kind, sizes = wanted[end.name]
        alike = len(end.shape) == len(sizes) and all(
            size == given or (size is None and isinstance(given, str))
            for size, given in zip(sizes, end.shape, strict=True)
        )
        if end.type != kind or not alike:
            expected = f"{kind} {['any' if size is None else size for size in sizes]}"
            raise BundleError(f"policy.onnx: {end.name} is {end.type} {end.shape}, not {expected}")

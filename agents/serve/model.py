"""The exported policy under onnxruntime: it always answers, and where it cannot it says hold.

Rigs and networks of which a fact is missing do not go into the graph: a single NaN there would
spoil the orders of all. The graph takes any number of both, so the others are decided without them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .columns import AVERAGES, MARKET, NETWORKS, RIGS, Bools, Floats
from .errors import BundleError
from .snapshot import Ints, Snapshot

LOG = logging.getLogger(__name__)

Floats32 = NDArray[np.float32]
Facts = dict[str, NDArray[Any]]  # by the graph's inputs
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
    "memory_out": ("tensor(float)", [None, len(AVERAGES), None]),
}
_ASKED = ("orders", "probs")  # averages have their one home in `remember`
_TOGETHER = 16_384  # pairs of rig and network; more do not fit a processor's cache at once
_AVERAGED = [[*NETWORKS].index(of) for of, _ in AVERAGES.values()]
_LENGTHS_H = np.array([hours for _, hours in AVERAGES.values()])[:, None]


class Model:
    """An ONNX graph from a bundle, run on the CPU."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        """`BundleError` if onnxruntime cannot load the model, or it is not a policy's graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_mem_pattern = False  # a plan for each size of a fleet: memory, and no faster
        options.log_severity_level = 4  # what goes wrong is raised, and said once
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            _check_ends("inputs", self._session.get_inputs(), _INPUTS)
            outputs = [end for end in self._session.get_outputs() if end.name in _OUTPUTS]
            _check_ends("outputs", outputs, _OUTPUTS)  # others are nobody's concern
        except BundleError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no other base
            said = ascii(" ".join(str(error).split())[:200])
            raise BundleError(f"policy.onnx: onnxruntime cannot load it ({said})") from None

    def run(self, snapshot: Snapshot, memory: Floats, dt_h: float) -> Ints | None:
        """The policy's orders, int64 [R]: 0 = hold, i + 1 = move to network i; it raises nothing.

        memory [5, N]: the averages up to the last hour that was seen, dt_h hours ago; NaN starts
        an average at the present value. A rig holds if a fact of it or of its network is missing,
        and all do if one of the market is; a network is not entered if a fact of it is missing.
        None, and an error in the log, where the graph fails.
        """
        return self.run_all((snapshot,), memory, dt_h)[0]

    def run_all(
        self, snapshots: Sequence[Snapshot], memory: Floats, dt_h: float
    ) -> tuple[Ints | None, ...]:
        """What `run` answers to each of several snapshots of the same networks.

        Small fleets that are left with the same numbers of rigs and networks go through the graph
        together, which takes two thirds of the time that one after another takes.
        """
        worlds = [_world(snapshot, memory) for snapshot in snapshots]
        answers: list[Ints | None] = [world.hold for world in worlds]
        alike: dict[tuple[int, ...], list[int]] = {}
        for k, world in enumerate(worlds):
            if len(world.rigs) and np.isfinite(dt_h):
                alike.setdefault(world.facts["work"].shape, []).append(k)
        for (rigs, networks), same in alike.items():
            at_once = max(1, _TOGETHER // (rigs * max(1, networks)))
            for first in range(0, len(same), at_once):
                some = same[first : first + at_once]
                said = self._ask([worlds[k].facts for k in some], dt_h)
                for row, k in enumerate(some):
                    answers[k] = None if said is None else worlds[k].of_all(said[row])
        return tuple(answers)

    def _ask(self, worlds: Sequence[Facts], dt_h: float) -> Ints | None:
        """The graph's orders for W worlds of one size, [W, R]; a rig of which it says what cannot
        be holds, and without an answer there is None."""
        feed = {name: np.array([facts[name] for facts in worlds]) for name in worlds[0]}
        feed["dt_h"] = np.array(dt_h, dtype=np.float32)
        rigs, networks = worlds[0]["work"].shape
        try:
            orders, probs = self._session.run(_ASKED, feed)
        except Exception:  # whatever it is, a fleet must not be left without an answer
            LOG.exception("the graph failed")
            return None
        wanted = (len(worlds), rigs), (len(worlds), rigs, networks + 1)
        if (orders.shape, probs.shape) != wanted:
            LOG.error(
                "the graph answered in shapes %s, not %s", (orders.shape, probs.shape), wanted
            )
            return None
        known = (orders >= 0) & (orders <= networks) & np.isfinite(probs).all(-1)
        return np.where(known, orders, 0)


class _World(NamedTuple):
    """What of a snapshot goes into the graph."""

    rigs: Ints  # those that are complete
    choices: Ints  # hold and the complete networks, as orders of the whole snapshot
    facts: Facts  # of the complete ones
    hold: Ints  # [R] what all rigs are ordered until the graph has spoken

    def of_all(self, orders: Ints) -> Ints:
        """The orders of all rigs, [R], from those of the complete ones in the graph's numbers."""
        every = self.hold.copy()
        every[self.rigs] = self.choices[orders]
        return every


def _world(snapshot: Snapshot, memory: Floats) -> _World:
    now = snapshot.networks[:, _AVERAGED].T
    before = np.where(np.isfinite(memory), memory, now)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, hence not complete
        numbers: dict[str, Floats32] = {
            "rigs": snapshot.rigs.astype(np.float32),
            "networks": snapshot.networks.astype(np.float32),
            "work": snapshot.work.astype(np.float32),
            "market": snapshot.market.astype(np.float32),
            "memory": before.astype(np.float32),
        }
    networks = _whole(numbers["networks"]) & _whole(numbers["memory"].T)
    rigs = _whole(numbers["rigs"]) & _whole(numbers["work"]) & networks[snapshot.assignment]
    rigs &= _whole(numbers["market"])
    r, n = np.flatnonzero(rigs), np.flatnonzero(networks)
    facts: Facts = {**numbers, "assignment": snapshot.assignment}
    if len(r) < len(rigs) or len(n) < len(networks):
        place = np.cumsum(networks) - 1  # [N] where a network is among the complete ones
        facts |= {
            "rigs": numbers["rigs"][r],
            "networks": numbers["networks"][n],
            "work": numbers["work"][np.ix_(r, n)],
            "assignment": place[snapshot.assignment[r]],
            "memory": numbers["memory"][:, n],
        }
    return _World(r, np.array([0, *(n + 1)]), facts, np.zeros(len(rigs), np.int64))


def remember(memory: Floats, snapshot: Snapshot, dt_h: float) -> Floats:
    """The moving averages [5, N] with this hour's values in them.

    It is the graph's own formula, for networks that do not go through it. NaN starts an average at
    the present value; a value that is missing leaves its average as it was.
    """
    now = snapshot.networks[:, _AVERAGED].T
    moved = memory + -np.expm1(-dt_h / _LENGTHS_H) * (now - memory)
    return np.where(np.isfinite(moved), moved, np.where(np.isfinite(memory), memory, now))


def rewind(memory: Floats, snapshot: Snapshot, dt_h: float) -> Floats:
    """The averages [5, N] that `remember` makes these of, with this hour's values in them."""
    now = snapshot.networks[:, _AVERAGED].T
    with np.errstate(all="ignore"):
        before = memory + np.expm1(dt_h / _LENGTHS_H) * (memory - now)
    return np.where(np.isfinite(before), before, memory)


def _whole(values: Floats32) -> Bools:
    """Whether all numbers along the last axis are finite."""
    return np.asarray(np.isfinite(values).all(-1))


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

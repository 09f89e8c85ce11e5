"""The exported policy under onnxruntime: it always answers, and where it cannot it says hold.

Rigs and networks of which a fact is missing do not go into the graph: a single NaN there would
spoil the orders of all. The graph takes any number of both, so the others are decided without them.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_TOGETHER = 16_384  # pairs of rig and network; more do not fit a processor's cache at once
_AVERAGED = [[*NETWORKS].index(of) for of, _ in AVERAGES.values()]
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
        options.enable_mem_pattern = False  # a plan for each size of a fleet: memory, and no faster
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
        return self.run_all((snapshot,), memory, dt_h)[0]

    def run_all(
        self, snapshots: Sequence[Snapshot], memory: Floats, dt_h: float
    ) -> tuple[Answer, ...]:
        """What `run` answers to each of several snapshots of the same networks.

        Small fleets that are left with the same numbers of rigs and networks go through the graph
        together, which takes two thirds of the time that one after another takes.
        """
        worlds = [_world(snapshot, memory, dt_h) for snapshot in snapshots]
        alike: dict[tuple[int, int], list[_World]] = {}
        for world in worlds:
            if world.rigs.any() and np.isfinite(dt_h):
                size = int(world.rigs.sum()), int(world.networks.sum())
                alike.setdefault(size, []).append(world)
        for (rigs, networks), same in alike.items():
            at_once = max(1, _TOGETHER // (rigs * max(1, networks)))
            for k in range(0, len(same), at_once):
                self._answer(same[k : k + at_once], dt_h)
        return tuple(world.answer for world in worlds)

    def _answer(self, worlds: list[_World], dt_h: float) -> None:
        """Fill in what the graph says of worlds of one size; they hold where it says nothing."""
        feed = {name: np.array([w.facts[name] for w in worlds]) for name in worlds[0].facts}
        feed["dt_h"] = np.array(dt_h, dtype=np.float32)
        try:
            said = self._session.run([*_OUTPUTS], feed)
        except Exception:  # whatever the graph does, the fleet holds
            return
        count, (rigs, networks) = len(worlds), worlds[0].facts["work"].shape
        shapes = [
            (count, rigs),
            (count, rigs, networks + 1),
            (count, rigs),
            (count, len(AVERAGES), networks),
        ]
        if [part.shape for part in said] == shapes:
            for k, world in enumerate(worlds):
                _spread(world, [part[k] for part in said])


class _World(NamedTuple):
    """What of a snapshot goes into the graph, and the answer that comes of it."""

    rigs: Bools  # [R] those that are complete
    networks: Bools  # [N]
    facts: dict[str, NDArray[Any]]  # of the complete ones, by the graph's inputs
    answer: Answer  # of all; every rig holds until the graph has spoken


def _world(snapshot: Snapshot, memory: Floats, dt_h: float) -> _World:
    remembered = remember(memory, snapshot, dt_h)
    before = np.where(np.isfinite(memory), memory, remembered)
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
    place = np.cumsum(networks) - 1  # [N] where a network is among the complete ones
    facts = {
        "rigs": numbers["rigs"][rigs],
        "networks": numbers["networks"][networks],
        "work": numbers["work"][rigs][:, networks],
        "assignment": place[snapshot.assignment[rigs]],
        "market": numbers["market"],
        "memory": numbers["memory"][:, networks],
    }
    return _World(rigs, networks, facts, _held(len(rigs), len(networks), remembered))


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


def _held(rigs: int, networks: int, memory: Floats) -> Answer:
    """Every rig holds, of no margin."""
    probs = np.zeros((rigs, networks + 1))
    probs[:, 0] = 1.0
    return Answer(np.zeros(rigs, np.int64), probs, np.zeros(rigs), memory)


def _spread(world: _World, said: list[NDArray[Any]]) -> None:
    """Put what the graph said of the complete rigs and networks in its place among all of them."""
    held, r, n = world.answer, np.flatnonzero(world.rigs), np.flatnonzero(world.networks)
    orders, probs, margin, memory = said
    right = (orders >= 0) & (orders <= len(n)) & np.isfinite(probs).all(-1) & np.isfinite(margin)
    r, orders, probs, margin = r[right], orders[right], probs[right], margin[right]
    choices = np.array([0, *(n + 1)])  # of the whole snapshot, by the graph's own number
    held.orders[r] = choices[orders]
    held.probs[np.ix_(r, choices)] = probs
    held.margin[r] = margin
    held.memory[:, n] = np.where(np.isfinite(memory), memory, held.memory[:, n])


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

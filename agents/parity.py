"""Whether an exported graph decides as torch does, on many recorded decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from torch import Tensor

from agents.config import Config
from agents.golden import live, scenario_of
from agents.graph import OUTPUTS, Answer, Inputs, PolicyGraph

MARGIN = 1e-4  # of probability, above which an order must be the same
BOUND = 1e-4  # of each difference below; rounding alone makes a hundredth of it
SIZES = ((1, 128, 80), (32, 8, 40), (1024, 1, 10))  # rigs, worlds, hours: 10,240 decisions each


class ParityError(RuntimeError):
    """An exported graph says something else than torch does."""


@dataclass
class Parity:
    """What a comparison on fleets of one size found."""

    decisions: int = 0  # of a rig in an hour
    compared: int = 0  # with a margin above MARGIN
    close: int = 0  # the others
    differing: int = 0  # orders among those compared
    differing_close: int = 0  # orders among the others
    max_probability_difference: float = 0.0
    max_logit_difference: float = 0.0  # of log probabilities of legal choices
    max_memory_difference: float = 0.0  # relative

    def add(self, expected: Answer, found: tuple[np.ndarray, ...]) -> None:
        """Compare the answers to the same inputs."""
        orders, probs, memory, margin = (tensor.numpy() for tensor in expected)
        clear, other = margin > MARGIN, found[0] != orders
        self.decisions += orders.size
        self.compared += int(clear.sum())
        self.close += int((~clear).sum())
        self.differing += int((clear & other).sum())
        self.differing_close += int((~clear & other).sum())
        legal = (probs > 0) & (found[1] > 0)
        logits = np.log(np.where(legal, probs, 1.0)) - np.log(np.where(legal, found[1], 1.0))
        scale = np.maximum(np.abs(memory), 1e-9)
        for name, difference in (
            ("probability", probs - found[1]),
            ("logit", logits),
            ("memory", (memory - found[2]) / scale),
        ):
            key = f"max_{name}_difference"
            worst = np.abs(difference).max()  # NaN where one side is not finite
            setattr(self, key, float(np.maximum(getattr(self, key), worst)))

    def fault(self) -> str | None:
        """What is not as it should be, in words; None where all is."""
        if self.differing:
            return (
                f"torch's orders wherever its margin is over {MARGIN:g}, got others for "
                f"{self.differing} of {self.compared}"
            )
        for number in ("logit", "probability", "memory"):
            worst = getattr(self, f"max_{number}_difference")
            if not worst <= BOUND:  # NaN as well
                return f"every {number} within {BOUND:g} of torch's, got one that is {worst:g} away"
        return None


def session(model: bytes) -> ort.InferenceSession:
    """A graph on one thread, as the runtime runs it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answer(graph: ort.InferenceSession, inputs: Inputs) -> tuple[np.ndarray, ...]:
    """What the exported graph says, in the order of `OUTPUTS`."""
    given: dict[str, Tensor] = inputs._asdict()
    feed = {name: tensor.numpy() for name, tensor in given.items()}
    return tuple(graph.run(OUTPUTS, feed))


def check_parity(model: bytes, graph: PolicyGraph, config: Config) -> dict[str, Any]:
    """Hold an exported graph against torch on fleets of each size, living training worlds.

    Returns the counts by number of rigs; ParityError if a clear order differs, or a number by more
    than BOUND.
    """
    exported, found = session(model), {}
    for rigs, worlds, hours in SIZES:
        found[rigs] = counts = Parity()
        for _, inputs, expected in live(graph, scenario_of(config, rigs, hours), worlds, hours):
            counts.add(expected, answer(exported, inputs))
        if fault := counts.fault():
            raise ParityError(f"policy.onnx: expected {fault} (fleets of {rigs} rigs)")
    return {"margin": MARGIN, "rigs": {str(rigs): asdict(one) for rigs, one in found.items()}}

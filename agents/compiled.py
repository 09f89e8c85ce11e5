"""What training computes hour by hour and slot by slot, by torch.compile.

Compiled and eager differ in rounding alone. Only what training calls is compiled, so that a policy
predicts, is scored and is exported as written, and weights have one set of names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import torch
import torch._functorch.config as partitioning
from torch import Tensor

from agents.features import Features
from agents.outlook import Observation
from agents.policy import FleetPolicy, RigView
from env.errors import InputError

Call = TypeVar("Call", bound=Callable[..., Any])


class Actor(Protocol):
    """What living the worlds and learning from them need of a policy."""

    def features(self, observation: Observation) -> Features: ...

    def view(self, features: Features, foresight: Tensor | None = None) -> RigView: ...


class CompiledActor:
    """A policy's features and views, compiled; the policy itself is left as it is."""

    def __init__(self, policy: FleetPolicy) -> None:
        self.features = compile_call(policy.features)
        self.view = compile_call(policy.view)


def compile_call(call: Call) -> Call:
    """The call, compiled when it is first made; InputError where nothing here can compile it.

    Not as CUDA graphs: those write each result over the last one, and a rollout keeps them all.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise InputError("compile", "a C++ compiler: g++, or what CXX names", compiler)
    # Without it the mask of each ReLU is kept for the backward pass, one bool at a time on AVX-512,
    # and an update takes half as long again as in eager torch (torch 2.13); older torch lacks it.
    if hasattr(partitioning, "recompute_views"):
        partitioning.recompute_views = True
    return cast(Call, torch.compile(call))

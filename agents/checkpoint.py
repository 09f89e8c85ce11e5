"""Checkpoints without pickle: tensors as safetensors, the rest as JSON, one folder for each.

    checkpoints/step_<step>/
        policy.safetensors    weights of the best policy so far, as validation worlds have it
        policy.json           its step, its score and the network that the weights fit
        training.safetensors  weights, optimiser, random numbers and worlds where training stands
        training.json         the numbers beside them

A folder appears under its name when it is complete, and the one before it goes then.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from agents.network import NetworkConfig
from agents.ppo import FleetPPO
from agents.run_folder import to_json, write_atomic, write_folder_atomic
from agents.validation import Validated
from env.errors import InputError
from env.parsing import parse

_POLICY, _TRAINING = "policy", "training"  # each a .safetensors and a .json
Nest = Any  # dictionaries, lists, numbers and texts as JSON has them, and tensors


class Best(NamedTuple):
    """The policy that did best on validation worlds, and when."""

    step: int
    score: Validated
    network: NetworkConfig
    weights: dict[str, Tensor]


def state(model: FleetPPO) -> Nest:
    """Everything that what is learned next depends on, between two rollouts."""
    return {
        "num_timesteps": model.num_timesteps,
        "updates": model._n_updates,
        "weights": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict()["state"],
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if model.device.type == "cuda" else [],
        "worlds": model.save_worlds(),
    }


def restore(model: FleetPPO, left: Nest) -> None:
    """Put a fresh model of the same configuration where `state` was taken."""
    model.num_timesteps, model._n_updates = left["num_timesteps"], left["updates"]
    model.policy.load_state_dict(left["weights"])
    optimizer = model.policy.optimizer
    moments = {int(index): moment for index, moment in left["optimizer"].items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    model.restore_worlds(left["worlds"])
    torch.set_rng_state(left["random"])
    if left["random_cuda"]:
        torch.cuda.set_rng_state_all(left["random_cuda"])


def save_checkpoint(run: Path, step: int, best: Best, training: Nest) -> Path:
    """Write `checkpoints/step_<step>` as a whole or not at all, and drop those before it."""
    path = run / "checkpoints" / f"step_{step:012d}"
    policy = {"step": best.step, "score": best.score._asdict(), "network": asdict(best.network)}

    def fill(draft: Path) -> None:
        weights = {name: _stored(value) for name, value in best.weights.items()}
        _write(draft, _POLICY, policy, weights)
        tensors: dict[str, Tensor] = {}
        _write(draft, _TRAINING, _pack(training, tensors, ""), tensors)

    write_folder_atomic(path, fill)
    for earlier in _folders(run):
        if earlier.name < path.name:
            shutil.rmtree(earlier)
    return path


def load_best(run: Path, key: str = "run") -> Best:
    """The best policy of a run; InputError names `key` without one, the folder of a broken one."""
    path = last_checkpoint(run, key)
    data, weights = _read(path, _POLICY)
    try:
        network = parse(NetworkConfig, data["network"], "network")
        return Best(data["step"], Validated(**data["score"]), network, weights)
    except (KeyError, TypeError) as error:
        raise InputError(str(path), "a readable checkpoint", repr(error)) from error


def load_weights(module: nn.Module, weights: dict[str, Tensor], run: Path) -> None:
    """Put a run's best weights into a module; InputError for those of another version's network."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        path, said = last_checkpoint(run) / f"{_POLICY}.safetensors", " ".join(str(error).split())
        raise InputError(str(path), "weights of this network", said) from None


def load_training(run: Path, key: str = "resume") -> Nest:
    """Where the training of a run stood, as it was saved; errors are those of `load_best`."""
    return _unpack(*_read(last_checkpoint(run, key), _TRAINING))


def started(run: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    return bool(_folders(run))


def last_checkpoint(run: Path, key: str = "run") -> Path:
    """The folder of a run's latest checkpoint."""
    if not (folders := _folders(run)):
        raise InputError(key, "a run folder with a checkpoint", str(run))
    return folders[-1]


def _folders(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step_*"))


def _write(folder: Path, name: str, plain: Nest, tensors: dict[str, Tensor]) -> None:
    content = save(tensors)  # not by `save_file`, which lets nobody but its owner read
    (folder / f"{name}.safetensors").write_bytes(content)
    write_atomic(folder / f"{name}.json", to_json(plain))


def _read(folder: Path, name: str) -> tuple[Nest, dict[str, Tensor]]:
    try:
        tensors = load_file(folder / f"{name}.safetensors")
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), tensors
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(str(folder), "a readable checkpoint", str(error)) from error


def _stored(value: Tensor) -> Tensor:
    return value.detach().cpu().clone().contiguous()


def _pack(nest: Nest, tensors: dict[str, Tensor], path: str) -> Nest:
    """The nest with `{"tensor": path}` in place of each tensor, which goes to `tensors`."""
    if isinstance(nest, Tensor):
        name = path.removesuffix("/")
        tensors[name] = _stored(nest)
        return {"tensor": name}
    if isinstance(nest, dict):
        return {str(k): _pack(v, tensors, f"{path}{k}/") for k, v in nest.items()}
    if isinstance(nest, list):
        return [_pack(v, tensors, f"{path}{k}/") for k, v in enumerate(nest)]
    return nest


def _unpack(nest: Nest, tensors: dict[str, Tensor]) -> Nest:
    if isinstance(nest, dict):
        if nest.keys() == {"tensor"}:
            return tensors[nest["tensor"]]
        return {key: _unpack(value, tensors) for key, value in nest.items()}
    return [_unpack(value, tensors) for value in nest] if isinstance(nest, list) else nest

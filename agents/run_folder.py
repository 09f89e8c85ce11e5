"""The folder of a run: atomic files, what it ran on, and where each part lies."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from env.errors import InputError

_PACKAGES = ("torch", "numpy", "gymnasium", "stable-baselines3", "hydra-core", "wandb")


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_folder_atomic(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a new folder that appears under its name only when it is complete.

    A folder that is there already is replaced: on Linux in one step, so that a reader finds the old
    one or the new; elsewhere the name is free for an instant.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    draft.mkdir()
    try:
        fill(draft)
        if not path.exists():
            os.replace(draft, path)
        elif not _exchanged(draft, path):
            _replaced(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(path: Path) -> Path:
    """A new name beside a path. What is made under it has the rights that the umask allows; what
    `tempfile` makes is its owner's alone, and nothing in a run is secret."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = ctypes.c_int(_AT_FDCWD)
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _replaced(draft: Path, path: Path) -> None:
    """Put a folder in another's place in two steps; the old one is back if the second fails."""
    retired = draft.with_name(f"{draft.name}.old")
    os.replace(path, retired)
    try:
        os.replace(draft, path)
    except BaseException:
        os.replace(retired, path)
        raise
    shutil.rmtree(retired, ignore_errors=True)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux: fcntl.h, linux/fs.h


def to_json(value: Any) -> str:
    """JSON as every file of a run has it: sorted by insertion, readable, ending in a newline."""
    return json.dumps(value, indent=2) + "\n"


def start_run(folder: Path, config: dict[str, Any]) -> None:
    """Record what a run was asked to do (`config.yaml`) and on what (`environment.json`).

    A folder in which training has begun is refused: its checkpoints are another run's. One that was
    stopped before its first checkpoint begins anew.
    """
    if any(folder.glob("checkpoints/step_*")):
        expected = f"a folder without checkpoints (resume={folder} goes on with them)"
        raise InputError("hydra.run.dir", expected, str(folder))
    write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    write_atomic(folder / "environment.json", to_json(environment()))


def read_config(folder: Path, key: str = "run") -> dict[str, Any]:
    """The resolved configuration of an earlier run; an InputError names `key`."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise InputError(key, "a run folder (with config.yaml)", str(folder))
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise InputError(str(path), "a mapping", data)
    return data


def environment() -> dict[str, Any]:
    """Versions, device, threads, code and command line; no user, host or environment variable."""
    return {
        "argv": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": _git("status", "--porcelain"),
    }


def _git(*arguments: str) -> str | None:
    """What git says of the code's folder; None where there is no git or no repository."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()

"""Serving from a copy of its folder, under another name, where nothing else can be imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from served import recorded

ROOT = Path(__file__).parent.parent
NEEDED = ("numpy", "numpy.libs", "onnxruntime")
BLOCKED = (
    *("torch", "gymnasium", "stable_baselines3", "pandas", "hydra", "omegaconf", "wandb"),
    *("pydantic", "onnx", "scipy", "matplotlib", "joblib", "safetensors", "env", "agents", "yaml"),
    *("fastapi", "starlette", "uvicorn", "prometheus_client", "cryptography"),
)
GUARD = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError("not allowed here: " + name)

sys.meta_path.insert(0, Refuse())
def watch(event, arguments):
    if event in ("pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "os.exec"):
        raise RuntimeError("not allowed here: " + event)
sys.addaudithook(watch)
sys.path[:0] = {paths}
sys.argv = ["serving", *sys.argv[1:]]
import runpy
runpy.run_module("serving", run_name="__main__")
"""


@pytest.fixture
def copied(tmp_path: Path, bundle: Path) -> Path:
    """The folder of serving and a bundle, alone."""
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "agents" / "serve", tmp_path / "serving", ignore=without)
    shutil.copytree(bundle, tmp_path / "bundle")
    return tmp_path


def check_and_decide(python: list[str], folder: Path, snapshot: dict[str, object]) -> None:
    """Both commands in a process of its own, whose environment names nothing of this one."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    for arguments in (("check", "bundle"), ("decide", "bundle", "--now", str(snapshot["time"]))):
        ended = subprocess.run(
            [*python, *arguments],
            input=json.dumps(snapshot),
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
        )
        assert ended.returncode == 0, ended.stderr
    decision = json.loads(ended.stdout)
    assert decision["source"] in ("policy", "rule")


def test_it_runs_where_all_else_is_blocked_and_no_pickle_process_or_connection_is_allowed(
    copied: Path, bundle: Path
) -> None:
    """Under a finder and an audit hook that refuse, in an isolated interpreter without site."""
    paths = [str(copied), sysconfig.get_paths()["purelib"]]
    script = copied / "guarded.py"
    script.write_text(GUARD.format(blocked=set(BLOCKED), paths=paths))
    python = [sys.executable, "-I", "-S", str(script)]
    check_and_decide(python, copied, recorded(bundle)[0])


@pytest.mark.slow
def test_it_runs_where_only_numpy_and_onnxruntime_are_installed(copied: Path, bundle: Path) -> None:
    """A virtual environment into which no more than these two are linked."""
    place = copied / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    installed = Path(sysconfig.get_paths()["purelib"])
    for name in NEEDED:
        (packages / name).symlink_to(installed / name)
    python = str(place / "bin" / "python")
    missing = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, sys.argv[1:])))"
    subprocess.run([python, "-c", missing, *BLOCKED], check=True, cwd=place)
    check_and_decide([python, "-m", "serving"], copied, recorded(bundle)[0])

"""Nothing in a bundle is run: under Python's audit hooks, from before the first import.

While modules are imported, what unpickles, makes a process or connects ends the process at once.
From then on so does everything that is not on a short list, compiling and importing included. The
events are those of Python's table of audit events (docs.python.org/3/library/audit_events.html);
what onnxruntime does below Python raises none, hence `formats.check_onnx`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import handmade
import pytest
from handmade import write
from onnx import TensorProto

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = r"""
import os, sys

bundle, state, attempt, *hostile = sys.argv[1:]
NEVER = (
    *("pickle.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile"),
    *("os.system", "pty.", "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser."),
)
FILES = {"open", "os.listdir", "os.mkdir", "os.rename", "os.remove"}
ONWARDS = FILES | {"object.__getattr__", "sys._getframe", "builtins.id"}
imported = False

def watch(event, arguments):
    wrong = event.startswith(NEVER) or (imported and event not in ONWARDS)
    if imported and event == "open" and isinstance(arguments[0], str):
        written = arguments[2] & (os.O_WRONLY | os.O_RDWR)
        wrong |= bool(written) and not arguments[0].startswith(state)
    if wrong:
        os.write(2, f"forbidden: {event}".encode())
        os._exit(70)

sys.addaudithook(watch)

import datetime, marshal, pickle, socket, subprocess
from agents.serve.errors import BundleError, FieldError
from agents.serve.runtime import Policy

imported = True
policy = Policy.load(bundle, state_dir=state)
made = 0
for sequence in policy.bundle.golden["sequences"]:
    for hour in sequence["hours"]:
        now = datetime.datetime.fromisoformat(hour["snapshot"]["time"]).timestamp()
        made += policy.decide(hour["snapshot"], now=now).source is not None
try:
    policy.decide("{")
except FieldError:
    made += 1
refused = 0
for folder in hostile:
    try:
        Policy.load(folder)
    except BundleError:
        refused += 1
ATTEMPTS = {
    "none": lambda: None,
    "unpickle": lambda: pickle.loads(b"cos\nsystem\n."),
    "process": lambda: subprocess.run(["true"]),
    "shell": lambda: os.system("true"),
    "become": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork(),
    "connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
    "compile": lambda: compile("1", "x", "eval"),
    "evaluate": lambda: eval("1"),
    "unmarshal": lambda: marshal.loads(b"N"),
    "import": lambda: __import__("wave"),
    "write": lambda: open(os.path.join(bundle, "MODEL_CARD.md"), "r+"),
}
ATTEMPTS[attempt]()
print(made, refused)
"""


def run(bundle: Path, state: Path, attempt: str = "none", hostile: Sequence[Path] = ()) -> Any:
    arguments = [str(part) for part in (bundle, state, attempt, *hostile)]
    state.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


class Payload:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("echo unpickled",))


def hostile_bundles(folder: Path) -> list[Path]:
    """Bundles whose checksums are right and whose content is not, one for each way."""
    good, payload = handmade.files(), pickle.dumps(Payload())
    outside = handmade.model()
    weights = outside.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/hostname")
    changed = [{name: payload} for name in good if name != "MODEL_CARD.md"]
    changed.append({"policy.onnx": outside.SerializeToString()})
    changed.append({"manifest.json": b"{\"schema\": \"__import__('os').system('true')\"}"})
    made = [write(folder / str(k), good | files) for k, files in enumerate(changed)]
    extra = write(folder / "extra")
    (extra / "setup.py").write_text("raise SystemExit")
    return [*made, extra]


def test_to_load_and_to_decide_runs_nothing_of_a_bundle(bundle: Path, tmp_path: Path) -> None:
    hostile = hostile_bundles(tmp_path / "hostile")
    done = run(bundle, tmp_path / "state", hostile=hostile)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{2 * 48 + 1} {len(hostile)}\n"
    assert "unpickled" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("attempt", "event"),
    [
        ("unpickle", "pickle.find_class"),
        ("process", "subprocess.Popen"),
        ("shell", "os.system"),
        ("become", "os.exec"),
        ("fork", "os.fork"),
        ("connect", "socket.__new__"),
        ("compile", "compile"),
        ("evaluate", "compile"),
        ("unmarshal", "marshal.loads"),
        ("import", "import"),
        ("write", "open"),
    ],
)
def test_the_hook_ends_whatever_should_not_be(
    bundle: Path, tmp_path: Path, attempt: str, event: str
) -> None:
    """Without this the test above could pass with a hook that sees nothing."""
    done = run(bundle, tmp_path / "state", attempt)
    assert done.returncode == 70
    assert done.stderr.endswith(f"forbidden: {event}")

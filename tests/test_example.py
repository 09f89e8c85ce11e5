"""The example runs as it is told in its first lines."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asking import Client, Json, new_service

from agents.serve.shadow import Shadow

ROOT = Path(__file__).parent.parent


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("orchestrator", ROOT / "examples/orchestrator.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = loaded()


def test_the_example_orchestrator_leads_a_simulated_fleet(bundle: Path) -> None:
    """Two days: moves come with reasons, and each day ends with its profit."""
    command = [sys.executable, "examples/orchestrator.py", "--bundle", str(bundle)]
    ended = subprocess.run(
        [*command, "--hours", "48"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    days = [
        line for line in (*lines, last) if re.search(r"profit of the day [+-]\d+\.\d\d USD", line)
    ]
    assert len(days) == 2
    assert last == days[-1]
    moves = [line for line in lines if line not in days]
    assert moves
    assert all(re.match(r"\d\d \w{3} \d\d:\d\d  \S+ .*USD", line) for line in moves)


def test_what_a_shadow_would_do_is_not_carried_out(bundle: Path, tmp_path: Path) -> None:
    """Whoever carries out `moves` leaves the fleet where it is; the others are told apart."""
    client = Client(new_service(bundle, Shadow(tmp_path / "log.jsonl")))
    fleets: list[dict[str, str]] = []
    on_paper: list[Json] = []

    def ask(snapshot: Json) -> Json:
        fleets.append({rig: row["network"] for rig, row in snapshot["rigs"].items()})
        decision: Json = client.decide(snapshot).json()
        on_paper.extend(decision["paper_moves"])
        return decision

    example.orchestrate(ask, 24, 0)
    assert on_paper
    assert all(fleet == fleets[0] for fleet in fleets)


def test_a_world_of_no_hours_is_refused_in_one_line(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["orchestrator.py", "--bundle", str(bundle), "--hours", "0"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert example.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: horizon: expected a whole number of hours above 0, got 0\n"


class Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"error": "a valid bearer token is required"}\n\n'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing of it belongs to the example's output."""


def test_a_service_that_refuses_or_is_not_there_ends_the_example_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(url: str) -> str:
        monkeypatch.setattr(sys, "argv", ["orchestrator.py", "--url", url])
        assert example.main() == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        return said.err

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert run(url) == f'error: {url}: 401 {{"error": "a valid bearer token is required"}}\n'
    assert "refused" in run(url)  # nobody listens there any more
    assert "unknown url type" in run("127.0.0.1")

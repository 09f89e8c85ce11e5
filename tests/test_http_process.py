"""Laws of the service as a process, over loopback: no lost request, an orderly end, no surprise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from asking import JSON, TOKEN, Json, exchange, rebuilt, recorded

ROOT = Path(__file__).parent.parent
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def hours(bundle: Path) -> list[Json]:
    return recorded(bundle)


class Process:
    """The service as operators start it: `python -m agents.serve http`."""

    def __init__(self, bundle: Path, *options: str) -> None:
        command = [sys.executable, "-m", "agents.serve", "http", str(bundle), "--port", "0"]
        self._process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stderr is not None
        self.logged: list[str] = []
        for line in self._process.stderr:
            self.logged.append(line)
            if '"listening"' in line:
                break
        else:
            raise AssertionError("".join(self.logged))
        self.url = f"http://127.0.0.1:{json.loads(line)['port']}"
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.logged.extend(self._process.stderr)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Its exit code; what it logged is in `logged` then."""
        code = self._process.wait(timeout=30)
        self._reading.join()
        return code


@pytest.fixture
def served(bundle: Path, tmp_path: Path) -> Iterator[tuple[Process, Path]]:
    """A running service on a bundle of its own, with a token."""
    token = tmp_path / "token"
    token.write_bytes(TOKEN)
    token.chmod(0o600)
    live = rebuilt(bundle, tmp_path, "live")
    process = Process(live, "--token-file", str(token), "--clock", "snapshot")
    try:
        yield process, live
    finally:
        process.send(signal.SIGKILL)
        process.end()


def test_no_request_fails_while_bundles_are_exchanged_and_the_service_is_stopped(
    served: tuple[Process, Path], bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    process, live = served
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=process.url, headers=headers) as client:
            while not stop.is_set():
                answer = client.post("/v1/decide", json=hours[0])
                statuses.append(answer.status_code)

    headers = {"Authorization": f"Bearer {TOKEN.decode()}"}
    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    with httpx.Client(base_url=process.url, headers=headers) as client:
        for name in ("first", "second"):
            exchange(live, rebuilt(bundle, tmp_path, name))
            process.send(signal.SIGHUP)
            end = time.monotonic() + 20
            while client.get("/v1/model").json()["bundle"] != name:
                assert time.monotonic() < end
                time.sleep(0.02)
            while len(statuses) < 20 * (1 + ("first", "second").index(name)):
                time.sleep(0.02)  # some requests with each bundle
    stop.set()
    for asker in askers:
        asker.join()
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert {*statuses} == {200}
    assert len(statuses) >= 40
    told = [json.loads(line) for line in process.logged]
    assert sum(line["message"] == "bundle loaded" for line in told) == 2
    assert TOKEN.decode() not in "".join(process.logged)


def test_a_request_in_progress_is_answered_after_the_signal_to_stop(
    served: tuple[Process, Path], hours: list[Json]
) -> None:
    process, _ = served
    body = json.dumps(hours[0]).encode()

    def slow() -> Iterator[bytes]:
        yield body[:100]
        process.send(signal.SIGTERM)
        time.sleep(0.5)
        yield body[100:]

    headers = {"Authorization": f"Bearer {TOKEN.decode()}", **JSON}
    answer = httpx.post(f"{process.url}/v1/decide", content=slow(), headers=headers)
    assert answer.status_code == 200
    assert process.end() == 0


def test_a_port_that_is_taken_ends_in_one_line(served: tuple[Process, Path], bundle: Path) -> None:
    taken = served[0].url.rpartition(":")[2]
    command = [sys.executable, "-m", "agents.serve", "http", str(bundle), "--port", taken]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ended.returncode == 2
    assert "--port" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_served_document_holds_for_whatever_schemathesis_sends(
    served: tuple[Process, Path], tmp_path: Path
) -> None:
    """No 5xx, no status or content type that is not in the document, every answer as in it."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{served[0].url}/openapi.json"),
        *("-H", f"Authorization: Bearer {TOKEN.decode()}"),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--seed", "1", "--max-time", "12"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=180)
    assert ended.returncode == 0, ended.stdout

"""Laws of the HTTP service: what it answers, whom, and that a reload costs no request.

Everything goes through the served application; the process itself is tested at the end, over
loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.serve import http
from agents.serve.access import is_loopback, read_token
from agents.serve.errors import FieldError
from agents.serve.http import MAX_BODY_BYTES, Metrics, application
from agents.serve.runtime import Policy
from agents.serve.service import Service, Watch
from agents.serve.shadow import Shadow
from agents.shadow import read_log

Json = dict[str, Any]
JSON = {"Content-Type": "application/json"}
TOKEN = b"a-token-of-some-length"
ROOT = Path(__file__).parent.parent
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="session")
def hours(bundle: Path) -> list[Json]:
    """Recorded snapshots, hour by hour."""
    golden = json.loads((bundle / "golden.json").read_text())
    return [hour["snapshot"] for hour in golden["sequences"][0]["hours"]]


def _service(bundle: Path, shadow: Shadow | None = None) -> Service:
    return Service(lambda: Policy.load(bundle), shadow, simulated=True)


class Client:
    """Asks the application itself, without a socket."""

    def __init__(self, service: Service, token: bytes | None = None) -> None:
        self.metrics = Metrics(service)
        app = application(service, self.metrics, token)
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def request(self, method: str, path: str, **asked: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            url = "http://service"
            async with httpx.AsyncClient(transport=self._transport, base_url=url) as client:
                return await client.request(method, path, **asked)

        return asyncio.run(ask())

    def get(self, path: str, **asked: Any) -> httpx.Response:
        return self.request("GET", path, **asked)

    def decide(self, snapshot: Json, **asked: Any) -> httpx.Response:
        return self.request("POST", "/v1/decide", json=snapshot, **asked)

    def send(self, body: bytes | AsyncIterator[bytes]) -> httpx.Response:
        return self.request("POST", "/v1/decide", content=body, headers=JSON)


@pytest.fixture(scope="module")
def client(bundle: Path) -> Client:
    return Client(_service(bundle))


def rebuilt(bundle: Path, folder: Path, name: str) -> Path:
    """A copy of a bundle under another name, whole."""
    copy = folder / name
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | {"bundle": name}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    files = sorted(file for file in copy.iterdir() if file.name != "SHA256SUMS")
    sums = "".join(f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (copy / "SHA256SUMS").write_text(sums)
    return copy


def exchange(live: Path, fresh: Path) -> None:
    """Put a new bundle in the place of the one that is served."""
    os.rename(live, live.with_name(f"{live.name}.{fresh.name}.old"))
    os.rename(fresh, live)


def _valid(document: Json, name: str, answer: Json) -> None:
    """Hold an answer against its schema in the served document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


def test_a_snapshot_is_answered_with_a_decision(client: Client, hours: list[Json]) -> None:
    document = client.get("/openapi.json").json()
    for snapshot in hours[:4]:
        response = client.decide(snapshot)
        assert response.status_code == 200
        decision = response.json()
        _valid(document, "Decision", decision)
        assert decision["shadow"] is False
        rigs = {move["rig"] for move in decision["moves"]} | {*decision["holds"]}
        assert rigs == {*snapshot["rigs"]}


def test_the_example_of_the_document_is_decided(client: Client) -> None:
    document = client.get("/openapi.json").json()
    content = document["paths"]["/v1/decide"]["post"]["requestBody"]["content"]
    example = content["application/json"]["examples"]["recorded"]["value"]
    _valid(document, "Snapshot", example)
    assert client.decide(example).status_code == 200


def test_the_guardrails_in_force_are_told(bundle: Path) -> None:
    service = Service(lambda: Policy.load(bundle, guardrails={"deny": ["akash"]}))
    told = Client(service).get("/v1/model").json()["guardrails"]
    assert told["deny"] == ["akash"]
    assert told["min_dwell_h"] == service.policy.bundle.manifest["guardrails"]["min_dwell_h"]


def test_what_is_told_of_the_model_fits_the_document(client: Client, bundle: Path) -> None:
    document = client.get("/openapi.json").json()
    told = client.get("/v1/model").json()
    _valid(document, "Model", told)
    assert told["digest"] == sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest()
    for path in ("/healthz", "/readyz"):
        _valid(document, "Ready", client.get(path).json())


@pytest.mark.parametrize(
    ("body", "kind", "status", "path"),
    [
        (b"{", "application/json", 400, None),
        (b"\xff", "application/json", 400, None),
        (b"", "application/json", 400, None),
        (b"[" * 100_000, "application/json", 400, None),
        (b"9" * 10_000, "application/json", 400, None),
        (b"[]", "application/json", 422, "snapshot"),
        (b'{"schema": 1, "schema": 1}', "application/json; charset=utf-8", 422, "schema"),
        (b'{"schema": 2, "nothing": 1}', "application/json", 422, "nothing"),
        (b'{"\\ud800": 1}', "application/json", 422, None),
        (b"{}", "text/plain", 415, None),
        (b"{}", None, 415, None),
    ],
)
def test_a_body_that_is_wrong_is_named(
    client: Client, body: bytes, kind: str | None, status: int, path: str | None
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = client.request("POST", "/v1/decide", content=body, headers=headers)
    assert response.status_code == status
    answer = response.json()
    name = "FieldError" if status == 422 else "Error"
    _valid(client.get("/openapi.json").json(), name, answer)
    assert path is None or answer["path"] == path


def test_a_field_that_is_wrong_is_named_by_its_path(client: Client, hours: list[Json]) -> None:
    rig = next(iter(hours[0]["rigs"]))
    rigs = hours[0]["rigs"] | {rig: hours[0]["rigs"][rig] | {"gpu_count": "four"}}
    answer = client.decide(hours[0] | {"rigs": rigs})
    assert answer.status_code == 422
    assert answer.json()["path"] == f"rigs.{rig}.gpu_count"
    assert answer.json()["got"] == "'four'"


def test_a_number_that_nobody_knows_is_no_fault(client: Client, hours: list[Json]) -> None:
    """NaN, which Python and others write into JSON: a feed without a number, so all rigs hold."""
    body = json.dumps(hours[0] | {"market": hours[0]["market"] | {"btc_usd": float("nan")}})
    answer = client.send(body.encode())
    assert answer.status_code == 200
    assert answer.json()["moves"] == []


def test_a_body_is_refused_before_it_is_read_whole(client: Client) -> None:
    read = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(4 * MAX_BODY_BYTES // 2**20):
            read += 2**20
            yield b" " * 2**20

    chunked, whole = client.send(long()), client.send(b" " * (MAX_BODY_BYTES + 1))
    assert chunked.status_code == whole.status_code == 413
    assert "error" in chunked.json()
    assert read <= MAX_BODY_BYTES + 2**20


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/decide", 405),
        ("POST", "/healthz", 405),
        ("GET", "/v1/model/../../etc/passwd", 404),
    ],
)
def test_other_paths_and_methods_are_answered_as_json(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert "error" in answer.json()


@settings(max_examples=200, deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_no_body_is_answered_with_a_server_error(client: Client, body: bytes) -> None:
    assert client.send(body).status_code in (400, 422)


@pytest.mark.parametrize(
    "given_header",
    [
        None,
        "Bearer",
        "Bearer wrong",
        "Basic a-token-of-some-length",
        "a-token-of-some-length",
        "Bearer \xe9",
    ],
)
def test_without_the_token_only_health_is_told(
    bundle: Path, hours: list[Json], given_header: str | None
) -> None:
    client = Client(_service(bundle), TOKEN)
    headers = {} if given_header is None else {"Authorization": given_header.encode("latin-1")}
    for path in ("/v1/model", "/metrics", "/openapi.json", "/nothing"):
        assert client.get(path, headers=headers).status_code == 401
    answer = client.decide(hours[0], headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_with_the_token_all_is_told(bundle: Path, hours: list[Json]) -> None:
    client = Client(_service(bundle), TOKEN)
    headers = {"Authorization": f"bearer {TOKEN.decode()}"}
    assert client.decide(hours[0], headers=headers).status_code == 200
    document = client.get("/openapi.json", headers=headers).json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "security" not in document["paths"]["/healthz"]["get"]


@pytest.mark.parametrize(
    ("content", "mode"), [("secret", 0o604), ("secret", 0o642), ("", 0o600), ("two words", 0o600)]
)
def test_a_token_that_others_can_read_or_that_is_none_is_refused(
    tmp_path: Path, content: str, mode: int
) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(FieldError, match="--token-file") as refused:
        read_token(file)
    assert "secret" not in str(refused.value)


def test_a_token_of_the_owner_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(0o600)
    assert read_token(file) == b"secret"
    with pytest.raises(FieldError, match="--token-file"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_a_token_is_needed(bundle: Path, host: str) -> None:
    parser = argparse.ArgumentParser()
    http.add_arguments(parser)
    with pytest.raises(FieldError, match="--host"):
        http.serve(parser.parse_args(["--host", host]))
    assert not is_loopback(host)
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")


def test_metrics_count_what_was_answered(bundle: Path, hours: list[Json]) -> None:
    client = Client(_service(bundle))
    moves = 0
    for snapshot in hours[:12]:
        moves += len(client.decide(snapshot).json()["moves"])
    client.send(b"{")
    told = dict(
        line.rsplit(" ", 1)
        for line in client.get("/metrics").text.splitlines()
        if not line.startswith("#")
    )
    decided = sum(float(v) for k, v in told.items() if k.startswith("fleet_decisions_total"))
    assert decided == float(told["fleet_decide_seconds_count"]) == 12
    assert float(told["fleet_moves_total"]) == moves
    assert float(told['fleet_refusals_total{status="400"}']) == 1
    name = json.loads((bundle / "manifest.json").read_text())["bundle"]
    assert float(told[f'fleet_bundle{{bundle="{name}"}}']) == 1


def test_a_new_bundle_takes_over_with_what_was_remembered(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    """After an exchange it is decided as without one: averages and moves went over. Only the
    regret budget is the new bundle's own."""
    live = rebuilt(bundle, tmp_path, "live")
    changed, unchanged = _service(live), _service(live)
    for snapshot in hours[:8]:
        changed.decide(snapshot)
        unchanged.decide(snapshot)
    exchange(live, rebuilt(bundle, tmp_path, "fresh"))
    assert changed.reload()
    assert changed.policy.bundle.manifest["bundle"] == "fresh"
    for snapshot in hours[8:16]:
        said, expected = (s.decide(snapshot).to_json() for s in (changed, unchanged))
        own = {"bundle": None, "regret_usd": None}
        assert said | own == expected | own


def test_a_bundle_that_fails_its_check_leaves_the_old_one(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    live = rebuilt(bundle, tmp_path, "live")
    service = _service(live)
    client = Client(service)
    model = live / "policy.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    client.metrics.reload()
    assert client.get("/v1/model").json()["bundle"] == "live"
    assert client.decide(hours[0]).status_code == 200
    assert 'fleet_reloads_total{result="refused"} 1.0' in client.get("/metrics").text


def test_whatever_a_new_bundle_raises_the_old_one_goes_on(bundle: Path) -> None:
    """An error that nobody thought of must not end the watch."""
    policies = [Policy.load(bundle)]
    service = Service(policies.pop)  # the second time, there is none: an IndexError
    before = service.policy
    assert not service.reload()
    assert service.policy is before


def test_a_folder_is_tried_once_when_it_has_come_to_rest(tmp_path: Path) -> None:
    tried: list[str] = []
    folder = tmp_path / "live"
    folder.mkdir()
    file = folder / "a"
    file.write_text("old")
    watch = Watch(folder, lambda: tried.append(file.read_text()))
    watch.look()
    for k in range(5):  # a copy in progress
        file.write_text(f"half of it, {k * 'and more'}")
        watch.look()
    folder.rename(tmp_path / "away")
    watch.look()
    watch.look()
    assert tried == []
    (tmp_path / "away").rename(folder)
    file.write_text("whole")
    for _ in range(4):
        watch.look()
    assert tried == ["whole"]
    watch.ask()
    watch.look()
    assert tried == ["whole", "whole"]


@pytest.fixture
def paper(bundle: Path, tmp_path: Path) -> tuple[Service, Path]:
    """A service in shadow mode, and its log."""
    log = tmp_path / "log.jsonl"
    return _service(bundle, Shadow(log)), log


def _lines(log: Path) -> list[Json]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_shadow_mode_leads_a_fleet_on_paper_as_the_policy_would_have_led_it(
    paper: tuple[Service, Path], hours: list[Json]
) -> None:
    """The orchestrator ignores the policy; on paper each order is carried out and stands."""
    service, log = paper
    client = Client(service)
    first = {rig: row["network"] for rig, row in hours[0]["rigs"].items()}
    for snapshot in hours:
        stubborn = {rig: row | {"network": first[rig]} for rig, row in snapshot["rigs"].items()}
        answer = client.decide(snapshot | {"rigs": stubborn})
        assert answer.status_code == 200
        assert answer.json()["shadow"] is True
    header, *lines = _lines(log)
    assert header["manifest"]["bundle"] == service.policy.bundle.manifest["bundle"]
    places = first
    for line in lines:
        assert line["places"] == places
        assert {r: row["network"] for r, row in line["snapshot"]["rigs"].items()} == first
        assert all(places[rig] != to for rig, to in line["orders"].items())
        places = places | line["orders"]
    assert places != first  # it moved, so that the above was no empty law
    found = read_log(log)
    assert found.theirs.moves == 0
    assert found.ours.moves == sum(len(line["orders"]) for line in lines[:-1])


def test_shadow_mode_decides_as_live_while_the_orchestrator_obeys(
    bundle: Path, paper: tuple[Service, Path], hours: list[Json]
) -> None:
    service, _ = paper
    live = _service(bundle)
    for snapshot in hours[:1]:
        assert service.decide(snapshot).orders == live.decide(snapshot).orders


def test_a_snapshot_sent_again_moves_nothing_on_paper(
    paper: tuple[Service, Path], hours: list[Json]
) -> None:
    service, log = paper
    for snapshot in hours:
        first, again = service.decide(snapshot), service.decide(snapshot)
        assert first.orders == again.orders
    assert len(_lines(log)) == 1 + len(hours)


def test_a_log_is_taken_up_where_it_ended_and_half_a_line_is_cut(
    bundle: Path, paper: tuple[Service, Path], hours: list[Json]
) -> None:
    service, log = paper
    for snapshot in hours[:24]:
        service.decide(snapshot)
    before = _lines(log)
    with log.open("a") as file:
        file.write('{"snapshot": {"sche')
    again = _service(bundle, Shadow(log))
    again.decide(hours[24])
    *kept, header, line = _lines(log)
    assert kept == before
    assert "manifest" in header
    assert line["places"] == before[-1]["places"] | before[-1]["orders"]


def test_a_log_that_cannot_be_written_costs_lines_and_no_answer(
    paper: tuple[Service, Path], hours: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full half-way through a line."""
    service, log = paper
    service.decide(hours[0])
    whole, write = log.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    service.decide(hours[1])
    assert log.read_bytes() == whole
    monkeypatch.undo()
    service.decide(hours[2])
    assert len(_lines(log)) == 3


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

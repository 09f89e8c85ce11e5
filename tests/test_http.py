"""Laws of the HTTP application: what it answers, and whom."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import jsonschema
import pytest
from asking import JSON, TOKEN, Client, Json, new_service, recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.serve import http
from agents.serve.access import is_loopback, read_token
from agents.serve.errors import FieldError
from agents.serve.http import MAX_BODY_BYTES
from agents.serve.runtime import Policy
from agents.serve.service import Service


@pytest.fixture(scope="module")
def hours(bundle: Path) -> list[Json]:
    return recorded(bundle)


@pytest.fixture(scope="module")
def client(bundle: Path) -> Client:
    return Client(new_service(bundle))


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
        assert decision["paper_moves"] == []
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
    if status == 400:
        assert answer["error"].startswith("expected JSON")


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

    chunked = client.send(long())
    assert chunked.status_code == 413
    assert "error" in chunked.json()
    assert read <= MAX_BODY_BYTES + 2**20
    headers = {**JSON, "Content-Length": str(MAX_BODY_BYTES + 1)}
    declared = client.request("POST", "/v1/decide", content=long(), headers=headers)
    assert declared.status_code == 413
    assert read <= MAX_BODY_BYTES + 2**20  # nothing more was read


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
    client = Client(new_service(bundle), TOKEN)
    headers = {} if given_header is None else {"Authorization": given_header.encode("latin-1")}
    for path in ("/v1/model", "/metrics", "/openapi.json", "/nothing"):
        assert client.get(path, headers=headers).status_code == 401
    answer = client.decide(hours[0], headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_with_the_token_all_is_told(bundle: Path, hours: list[Json]) -> None:
    client = Client(new_service(bundle), TOKEN)
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

"""The service described as an OpenAPI 3.1 document, made from the bundle's own schema and cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_ANY: Schema = {"type": "object"}
_NUMBER: Schema = {"type": ["number", "null"]}
_SWITCH: Schema = {"type": "boolean"}
_NAME: Schema = {"type": ["string", "null"]}


def document(
    snapshot: Mapping[str, Any], example: Mapping[str, Any], version: str, *, token: bool
) -> Schema:
    """`snapshot` is the JSON Schema of a snapshot, `example` one that it allows.

    With `token`, whatever decides or describes asks for a bearer token.
    """
    parts: Schema = {"schemas": _schemas(snapshot)}
    if token:
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "GPU fleet allocation", "version": version},
        "paths": _paths(example, token),
        "components": parts,
    }


def _paths(example: Mapping[str, Any], token: bool) -> Schema:
    snapshot = {
        "schema": _refer("Snapshot"),
        "examples": {"recorded": {"value": dict(example)}},
    }
    decide = _operation(
        "decide",
        "Moves for the fleet of a snapshot, each with its reasons",
        _answer("the decision", "Decision"),
        (400, 413, 415, 422),
        token,
    )
    decide["requestBody"] = {"required": True, "content": {"application/json": snapshot}}
    model = _answer("the bundle", "Model")
    metrics = {"description": "metrics", "content": {"text/plain": {"schema": _TEXT}}}
    ready = _answer("yes", "Ready")
    checked = "A checked bundle is loaded: its recorded cases were replayed"
    return {
        "/v1/decide": {"post": decide},
        "/v1/model": {"get": _operation("model", "The bundle that answers", model, (), token)},
        "/metrics": {"get": _operation("metrics", "Prometheus metrics", metrics, (), token)},
        "/healthz": {"get": _operation("healthz", "The process answers", ready, (), False)},
        "/readyz": {"get": _operation("readyz", checked, ready, (), False)},
    }


def _schemas(snapshot: Mapping[str, Any]) -> Schema:
    return {
        "Snapshot": _moved(snapshot, "#/components/schemas/Snapshot"),
        "Decision": _decision(),
        "Model": _object(
            dict.fromkeys(("bundle", "created", "digest"), _TEXT)
            | dict.fromkeys(("rule", "guardrails", "scores", "parity", "provenance"), _ANY)
            | {"shadow": _SWITCH}
        ),
        "Ready": _object({"ready": {"const": True}, "bundle": _TEXT}),
        "Error": _object({"error": _TEXT}),
        "FieldError": _object({"error": _TEXT, "path": _TEXT, "expected": _TEXT, "got": _TEXT}),
    }


def _refer(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(meaning: str, name: str) -> Schema:
    return {"description": meaning, "content": {"application/json": {"schema": _refer(name)}}}


_REFUSALS = {
    400: "not JSON",
    401: "no valid bearer token",
    413: "the body is too large",
    415: "the body is not application/json",
    422: "a field is wrong: its path, what was expected, what came",
}


def _operation(
    name: str, summary: str, answer: Schema, refusals: tuple[int, ...], token: bool
) -> Schema:
    answers: Schema = {"200": answer}
    for status in (401, *refusals) if token else refusals:
        schema = "FieldError" if status == 422 else "Error"
        answers[str(status)] = _answer(_REFUSALS[status], schema)
    operation: Schema = {"operationId": name, "summary": summary, "responses": answers}
    return {**operation, "security": [{"token": []}]} if token else operation


def _moved(schema: Any, root: str) -> Any:
    """A JSON Schema whose own references `#/...` are made to start at `root`."""
    if isinstance(schema, Mapping):
        return {
            key: root + value[1:]
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, root)
            for key, value in schema.items()
            if key not in ("$schema", "$id")
        }
    return [_moved(value, root) for value in schema] if isinstance(schema, list) else schema


def _decision() -> Schema:
    move = _object(
        dict.fromkeys(("rig", "origin", "network", "text"), _TEXT)
        | dict.fromkeys(("gain_usd_h", "entry_usd", "gain_usd", "horizon_h"), _NUMBER)
        | dict.fromkeys(("break_even_h", "runner_up_gain_usd", "flip_token_usd"), _NUMBER)
        | {"token_usd": _NUMBER, "runner_up": _NAME, "modelled": _list(_TEXT)}
        | {"in_usd": _SWITCH}
    )
    acted = _object({"guardrail": _TEXT, "rig": _NAME, "network": _NAME, "text": _TEXT})
    return _object(
        {
            "time": {"type": "string", "format": "date-time"},
            "bundle": _TEXT,
            "source": {"enum": ["policy", "rule", "hold"]},
            "reason": _TEXT,
            "moves": _list(move),
            "paper_moves": _list(move),
            "near_misses": _list(move),
            "holds": {"type": "object", "additionalProperties": _TEXT},
            "acted": _list(acted),
            "novelty": _NUMBER,
            "novelty_of": _TEXT,
            "regret_usd": _NUMBER,
            "shadow": _SWITCH,
        }
    )


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }

"""The JSON Schema of a snapshot, made from the columns and the catalogue of a manifest."""

from __future__ import annotations

from typing import Any

from agents.serve.columns import GPU

Plain = dict[str, Any]

_TIME = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
}
_NAME = {"type": "string", "minLength": 1, "maxLength": 128}


def snapshot_schema(manifest: Plain) -> Plain:
    """JSON Schema 2020-12. What it cannot say: that a rig's network is one of the snapshot's, and
    how much power its number of GPUs may draw."""
    columns, catalog = manifest["columns"], manifest["catalog"]
    market, networks, rigs = (_given(columns[g]) for g in ("market", "networks", "rigs"))
    averages = {a["name"]: _number(_of(columns, a["of"]), a) for a in manifest["averages"]}
    new = {**networks, **averages}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What an orchestrator knows of its fleet, the networks and the market in an hour",
        "description": "null in place of a number or a switch: not known at this time, so that "
        "what depends on it holds",
        **_object(
            {
                "schema": {"const": manifest["schema"]},
                "time": {**_TIME, "description": "of the facts"},
                "market": _object(market, _required(columns["market"])),
                "networks": {
                    "type": "object",
                    "description": "all but `off`, by name",
                    "propertyNames": _NAME,
                    "properties": {
                        "off": False,
                        **{name: {"$ref": "#/$defs/known_network"} for name in catalog["networks"]},
                    },
                    "additionalProperties": {"$ref": "#/$defs/new_network"},
                },
                "rigs": {
                    "type": "object",
                    "description": "the whole fleet, by name",
                    "propertyNames": _NAME,
                    "additionalProperties": {"$ref": "#/$defs/rig"},
                },
            },
            ["schema", "time", "market", "networks", "rigs"],
        ),
        "$defs": {
            "known_network": _network(new, _required(columns["networks"], _known(catalog))),
            "new_network": _network(new, _required(columns["networks"])),
            "rig": _rig(rigs, _required(columns["rigs"], GPU), sorted(catalog["gpus"])),
        },
    }


def _network(facts: Plain, required: list[str]) -> Plain:
    observed = {**_TIME, "description": "when its facts were read, default: the snapshot's time"}
    return _object({"observed_at": observed, **facts}, required)


def _rig(facts: Plain, required: list[str], gpus: list[str]) -> Plain:
    """A rig says which GPU it has, or what that GPU can do."""
    work = {
        "type": "object",
        "description": "work units it would put in a network's pool, in place of the catalogue's",
        "propertyNames": _NAME,
        "additionalProperties": {"type": "number", "minimum": 0},
    }
    own = {
        "network": {**_NAME, "description": "where it is: one of the snapshot's, or `off`"},
        "gpu": {**_NAME, "description": f"its model; known are {', '.join(gpus)}"},
        "work": work,
    }
    known = {"properties": {"gpu": {"enum": gpus}}, "required": ["gpu"]}
    rig = _object({**own, **facts}, ["network", *required])
    return {**rig, "anyOf": [known, {"required": list(GPU)}]}


def _object(properties: Plain, required: list[str]) -> Plain:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _given(listed: list[Plain]) -> Plain:
    """The fields of a group that a snapshot may have."""
    return {c["name"]: _number(c, c) for c in listed if c["given"] == "snapshot"}


def _number(limits: Plain, named: Plain) -> Plain:
    """The type, the limits and the meaning of a column."""
    if limits["unit"] == "0/1":
        return {"type": ["boolean", "null"], "description": named["meaning"]}
    bounds = {"minimum": limits["low"], "maximum": limits["high"]}
    meaning = named.get("meaning") or f"{named['hours']:g}-hour average of {named['of']}"
    return {
        "type": ["number", "null"],
        "description": f"{meaning} ({limits['unit']})",
        **{key: bound for key, bound in bounds.items() if bound is not None},
    }


def _of(columns: Plain, name: str) -> Plain:
    return next(c for c in columns["networks"] if c["name"] == name)


def _known(catalog: Plain) -> tuple[str, ...]:
    """What the catalogue says of every network that it has."""
    return tuple(next(iter(catalog["networks"].values())))


def _required(listed: list[Plain], known: tuple[str, ...] = ()) -> list[str]:
    return [
        c["name"]
        for c in listed
        if c["default"] is None and c["given"] == "snapshot" and c["name"] not in known
    ]

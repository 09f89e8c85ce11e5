"""What a bundle knows by itself of columns, GPU models and networks, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .columns import (
    AVERAGES,
    BOOLEAN,
    COMPUTED,
    GPU,
    LARGEST,
    MARKET,
    NETWORKS,
    OFF,
    RIGS,
    Bools,
    Columns,
    Field,
    Floats,
    Group,
    Paid,
)
from .document import check_keys, entries, is_name, join, number
from .errors import NOTHING, BundleError, FieldError, Words

_COLUMN = ("name", "unit", "meaning", "default", "low", "high", "given")


def read_columns(manifest: Mapping[str, Any]) -> Columns:
    """Compile `columns`, `averages` and `catalog` of a manifest; `BundleError` if one is wrong."""
    try:
        return _columns(manifest)
    except FieldError as error:
        raise BundleError(f"manifest.json: {error}") from None


def _columns(manifest: Mapping[str, Any]) -> Columns:
    top = entries(manifest, "manifest")
    for name in ("columns", "averages", "catalog"):
        if name not in top:
            raise FieldError(name, "a value", NOTHING)
    groups = entries(top["columns"], "columns")
    check_keys(groups, "columns", *2 * (("rigs", "networks", "market"),))
    rigs = _fields(groups["rigs"], "columns.rigs", RIGS)
    networks = _fields(groups["networks"], "columns.networks", NETWORKS)
    market = _fields(groups["market"], "columns.market", MARKET)
    averages = [{"name": n, "of": of, "hours": h} for n, (of, h) in AVERAGES.items()]
    if top["averages"] != averages:
        raise FieldError("averages", f"{averages}", top["averages"])
    by_name = {f.name: f for f in networks}
    networks += tuple(
        by_name[of]._replace(name=name, default=float("nan")) for name, (of, _) in AVERAGES.items()
    )
    catalog = entries(top["catalog"], "catalog")
    names = ("networks", "gpus", "work", "per_rig", "min_gpus", "off")
    check_keys(catalog, "catalog", (*names, "paid"), names)  # older bundles do not tell `paid`
    known = _group(networks, catalog["networks"], "catalog.networks", {"observed_at"})
    gpus = _group(rigs, catalog["gpus"], "catalog.gpus", {"network", "gpu", "work"})
    if gpus.catalog and gpus.supplied != {*GPU}:
        raise FieldError("catalog.gpus", f"{', '.join(GPU)} of each model", sorted(gpus.supplied))
    if OFF in known.catalog:
        raise FieldError(f"catalog.networks.{OFF}", "no such network here", Words("it"))
    return Columns(
        rigs=gpus,
        networks=known,
        market=_group(market, {}, "", set()),
        off=_off(networks[: len(NETWORKS)], catalog["off"]),
        mass=_mass(catalog["work"], gpus.catalog, known.catalog),
        per_rig=_per_rig(catalog["per_rig"], known.catalog),
        min_gpus=_min_gpus(catalog["min_gpus"], known.catalog),
        paid=_paid(catalog["paid"], known.catalog) if "paid" in catalog else {},
    )


def _fields(listed: Any, path: str, expected: Mapping[str, str]) -> tuple[Field, ...]:
    """The fields of a group, whose names, units and order must be the expected ones."""
    if not isinstance(listed, list) or len(listed) != len(expected):
        raise FieldError(path, f"a list of {len(expected)} columns", listed)
    fields = []
    for k, (name, unit) in enumerate(expected.items()):
        here = f"{path}.{k}"
        part = entries(listed[k], here)
        check_keys(part, here, _COLUMN, _COLUMN)
        given = "computed" if name in COMPUTED else "snapshot"
        for key, value in (("name", name), ("unit", unit), ("given", given)):
            if part[key] != value:
                raise FieldError(f"{here}.{key}", repr(value), part[key])
        if not isinstance(part["meaning"], str):
            raise FieldError(f"{here}.meaning", "a text", part["meaning"])
        low, high = (
            bound if part[key] is None else number(part[key], f"{here}.{key}", -LARGEST, LARGEST)
            for key, bound in (("low", -LARGEST), ("high", LARGEST))
        )
        default = part["default"]
        field = Field(name, unit, low, high, None if default is None else 0.0)
        field.check(default, f"{here}.default")
        fields.append(field if default is None else field._replace(default=float(default)))
    return tuple(fields)


def _group(fields: tuple[Field, ...], catalog: Any, path: str, extra: set[str]) -> Group:
    """A group with the catalogue's entries, which must all give the same columns."""
    known = entries(catalog, path)
    defaults = [np.nan if f.default is None else f.default for f in fields]
    by_name = {f.name: k for k, f in enumerate(fields) if f.name not in COMPUTED}
    base = np.tile(np.array(defaults), (len(known) + 1, 1))
    supplied: set[str] | None = None
    for row, (name, value) in enumerate(known.items()):
        here = _named(name, path)
        part = entries(value, here)
        supplied = set(part) if supplied is None else supplied
        check_keys(part, here, supplied & set(by_name), supplied)
        for key, given in part.items():
            base[row, by_name[key]] = _fact(fields[by_name[key]], given, join(here, key))
    rows = {name: k for k, name in enumerate(known)}
    return Group(fields, rows, base, frozenset(supplied or ()), frozenset(extra))


def _fact(field: Field, value: Any, path: str) -> float:
    """A number of the catalogue; booleans may be written as 0 and 1 there."""
    if field.unit == BOOLEAN:
        return number(int(value) if isinstance(value, bool) else value, path, 0, 1)
    return number(value, path, field.low, field.high, field.unit)


def _off(fields: tuple[Field, ...], value: Any) -> Floats:
    """The facts of the network `off`, [27]; no limit binds them."""
    part = entries(value, "catalog.off")
    names = [f.name for f in fields]
    check_keys(part, "catalog.off", names, [n for n in names if n not in COMPUTED])
    free = (f._replace(low=-LARGEST, high=LARGEST) for f in fields)
    return np.array([_fact(f, part.get(f.name, 0.0), join("catalog.off", f.name)) for f in free])


def _mass(work: Any, gpus: Mapping[str, int], networks: Mapping[str, int]) -> Floats:
    mass = np.zeros((len(gpus) + 1, len(networks) + 1))
    part = entries(work, "catalog.work")
    check_keys(part, "catalog.work", (*networks, OFF), ())
    for name, value in part.items():
        here = _named(name, "catalog.work")
        models = entries(value, here)
        check_keys(models, here, gpus, ())
        for model, given in models.items():
            one = number(given, join(here, model), 0, LARGEST)
            if name != OFF:
                mass[gpus[model], networks[name]] = one
    return mass


def _per_rig(listed: Any, networks: Mapping[str, int]) -> Bools:
    if not isinstance(listed, list):
        raise FieldError("catalog.per_rig", "a list of networks", listed)
    per_rig = np.zeros(len(networks) + 1, dtype=np.bool_)
    for k, name in enumerate(listed):
        if not isinstance(name, str) or name not in (*networks, OFF):
            raise FieldError(f"catalog.per_rig.{k}", "a network of the catalogue", name)
        if name != OFF:
            per_rig[networks[name]] = True
    return per_rig


def _min_gpus(value: Any, networks: Mapping[str, int]) -> Floats:
    least = np.ones(len(networks) + 1)
    part = entries(value, "catalog.min_gpus")
    check_keys(part, "catalog.min_gpus", (*networks, OFF), ())
    for name, given in part.items():
        count = number(given, join("catalog.min_gpus", name), 0, LARGEST)
        if name != OFF:
            least[networks[name]] = count
    return least


def _paid(value: Any, networks: Mapping[str, int]) -> dict[str, Paid]:
    """In what each network pays; all of them must say it."""
    part, paid = entries(value, "catalog.paid"), {}
    check_keys(part, "catalog.paid", networks, networks)
    for name, given in part.items():
        here = join("catalog.paid", name)
        told = entries(given, here)
        check_keys(told, here, Paid._fields, Paid._fields)
        token = told["token"]
        if not (token is None or is_name(token)):
            raise FieldError(join(here, "token"), "a token's name or null", token)
        most = 0 if token is None else 1
        paid[name] = Paid(token, number(told["share"], join(here, "share"), 0, most))
    return paid


def _named(name: Any, path: str) -> str:
    if not is_name(name):
        raise FieldError(path, "names of printable characters", name)
    return join(path, name)

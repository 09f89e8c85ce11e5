"""From rows as JSON gives them to an array: whole columns at once, single fields only to blame one.

The check of a column is over its set of types and its limits, so that a valid table costs a few
microseconds a row. Anything unusual is looked at again field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Floats, Group
from .document import join, not_known, unknown
from .errors import NOTHING, FieldError

Row = dict[str, Any]


def read_table(
    group: Group, path: str, rows: Mapping[str, Row], known: NDArray[np.int64]
) -> Floats:
    """The columns of named rows, [M, C]; NaN where a feed is missing (null, NaN or infinite).

    known [M] is each row's entry in the group's catalogue, -1 without. `FieldError` at a field of
    a row that is unknown, missing, ill-typed or out of its limits.
    """
    table = group.base[known]
    names, values = list(rows), list(rows.values())
    shapes: dict[tuple[str, ...], list[int]] = {}
    for m, row in enumerate(values):
        shapes.setdefault(tuple(row), []).append(m)
    for shape, members in shapes.items():
        strangers = np.flatnonzero(known[members] < 0)
        for m in (members[0], *(members[k] for k in strangers[:1])):
            _check_shape(group, path, names[m], values[m], bool(known[m] >= 0))
        columns = [group.index[name] for name in shape if name in group.index]
        if columns:
            part = {names[m]: values[m] for m in members}
            table[np.ix_(members, columns)] = _given(group, path, columns, part).T
    return table


def _check_shape(group: Group, path: str, name: str, row: Row, known: bool) -> None:
    """`FieldError` at a field of a row that is unknown or missing, by the names alone."""
    here = join(path, name)
    for key in row:
        if key not in group.given and key not in group.extra:
            raise unknown(here, key, (*group.given, *group.extra))
    required = group.required[0] if known else group.required[1]
    for field in group.fields:
        if field.name in required and field.name not in row:
            why = _stranger(group, name, row) if not known and field.name in group.supplied else ""
            raise FieldError(join(here, field.name), f"{field.wanted}{why}", NOTHING)


def _stranger(group: Group, name: str, row: Row) -> str:
    """That the catalogue does not know a network, or a rig's GPU, and which may be meant."""
    said = row.get("gpu", "") if "gpu" in group.extra else name
    return f" ({not_known(said, group.catalog)})" if said else ""


def _given(group: Group, path: str, columns: list[int], part: Mapping[str, Row]) -> Floats:
    """What rows of one shape hold in some columns, [columns, rows]."""
    rows = part.values()
    names = [group.fields[k].name for k in columns]
    pick = itemgetter(*names)
    # Of a single name itemgetter gives the value, not a tuple of one.
    by_column = list(zip(*map(pick, rows), strict=True)) if len(names) > 1 else [[*map(pick, rows)]]
    plain = all(
        group.types[k].issuperset(map(type, column))
        for k, column in zip(columns, by_column, strict=True)
    )
    try:
        given = np.array(by_column, dtype=np.float64) if plain else None
    except OverflowError:  # an integer beyond any float
        given = None
    if given is not None:
        given[~np.isfinite(given)] = np.nan
        low, high = group.limits[:, columns, None]
        if not ((given < low) | (given > high)).any():
            return given
    for name, row in part.items():
        for k in columns:
            field = group.fields[k]
            field.check(row[field.name], join(join(path, name), field.name))
    given = np.array(by_column, dtype=np.float64)  # of subclasses of float, as NumPy's are
    given[~np.isfinite(given)] = np.nan
    return given

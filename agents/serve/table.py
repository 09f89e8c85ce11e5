"""From rows as JSON gives them to an array: whole columns at once, single fields only to blame one.

The check of a column is over its set of types and its limits, so that a valid table costs a few
microseconds a row. Anything unusual is looked at again field by field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    for members, by_field in _alike(values):
        strangers = members[known[members] < 0]
        for m in (members[0], *strangers[:1]):
            _check_shape(group, path, names[m], values[m], bool(known[m] >= 0))
        columns = [group.index[name] for name in by_field if name in group.index]
        if columns:
            by_column = [by_field[group.fields[k].name] for k in columns]
            given = _given(group, columns, by_column)
            if given is None:
                for m in members:
                    _check(group, columns, values[m], join(path, names[m]))
                given = _floats(by_column)  # of subclasses of float, as NumPy's are
            table[members[:, None], columns] = given.T
    return table


def _alike(rows: Sequence[Row]) -> list[tuple[NDArray[np.int64], dict[str, Sequence[Any]]]]:
    """Rows of the same fields together: their positions, and what is in each field."""
    if len(set(map(len, rows))) == 1:
        try:
            return [(np.arange(len(rows)), _by_field(rows, [*rows[0]]))]
        except KeyError:  # as many fields, but others
            pass
    shapes: dict[tuple[str, ...], list[int]] = {}
    for m, row in enumerate(rows):
        shapes.setdefault(tuple(row), []).append(m)
    return [
        (np.array(members), _by_field([rows[m] for m in members], shape))
        for shape, members in shapes.items()
    ]


def _by_field(rows: Sequence[Row], fields: Sequence[str]) -> dict[str, Sequence[Any]]:
    if len(fields) < 2:  # of a single name itemgetter gives the value, not a tuple of one
        return {name: [row[name] for row in rows] for name in fields}
    values = zip(*map(itemgetter(*fields), rows), strict=True)
    return dict(zip(fields, values, strict=True))


def _check_shape(group: Group, path: str, name: str, row: Row, known: bool) -> None:
    """`FieldError` at a field of a row that is unknown or missing, by the names alone."""
    required = group.required[0] if known else group.required[1]
    if row.keys() >= required and row.keys() <= group.allowed:
        return
    here = join(path, name)
    for key in row:
        if key not in group.allowed:
            raise unknown(here, key, (*group.given, *group.extra))
    for field in group.fields:
        if field.name in required and field.name not in row:
            why = _stranger(group, name, row) if not known and field.name in group.supplied else ""
            raise FieldError(join(here, field.name), f"{field.wanted}{why}", NOTHING)


def _stranger(group: Group, name: str, row: Row) -> str:
    """That the catalogue does not know a network, or a rig's GPU, and which may be meant."""
    said = row.get("gpu", "") if "gpu" in group.extra else name
    return f" ({not_known(said, group.catalog)})" if said else ""


def _given(group: Group, columns: list[int], by_column: Sequence[Sequence[Any]]) -> Floats | None:
    """What rows hold in some columns, [columns, rows]; None unless it is plainly right."""
    if not all(
        group.types[k].issuperset(map(type, column))
        for k, column in zip(columns, by_column, strict=True)
    ):
        return None
    try:
        given = _floats(by_column)
    except OverflowError:  # an integer beyond any float
        return None
    low, high = group.limits[:, columns, None]
    return None if ((given < low) | (given > high)).any() else given


def _floats(by_column: Sequence[Sequence[Any]]) -> Floats:
    given = np.array(by_column, dtype=np.float64)
    given[~np.isfinite(given)] = np.nan
    return given


def _check(group: Group, columns: list[int], row: Row, path: str) -> None:
    """`FieldError` at the first field of a row that is ill-typed or out of its limits."""
    for k in columns:
        field = group.fields[k]
        field.check(row[field.name], join(path, field.name))

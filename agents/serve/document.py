"""JSON as it comes from outside: read strictly, and named by the path of each field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

from .errors import NOTHING, FieldError, Words

MOST_HINTS = 200  # names that a misspelt one is compared with; assumption
MOST_CHARACTERS = 128  # of a rig's or network's name, assumption


class _RepeatedError(Exception):
    """A key came twice in one object."""


class _Pairs(list[tuple[str, Any]]):
    """An object's keys and values, in which a key may come twice."""


def load(source: bytes | str, path: str, finite: bool = False) -> Any:
    """The value that a JSON text holds; `FieldError` if it is none, or a key comes twice in it.

    finite: refuse NaN and Infinity, which Python reads though JSON has no such numbers.
    """
    try:
        text = source.decode() if isinstance(source, bytes) else source
        return _loaded(text, path, _refuse if finite else float)
    except FieldError:
        raise
    except RecursionError:
        raise FieldError(path, "JSON", "values nested too deep") from None
    except ValueError as error:  # also of bytes that are not UTF-8
        raise FieldError(path, "JSON in UTF-8", str(error)) from None


def _loaded(text: str, path: str, constant: Callable[[str], float]) -> Any:
    try:
        number = float if constant is float else _finite
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=constant, parse_float=number
        )
    except _RepeatedError:
        where = _repeated(json.loads(text, object_pairs_hook=_Pairs), path)
        raise FieldError(where, "each key once", Words("it twice")) from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is beyond any float")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RepeatedError
    return found


def _repeated(value: Any, path: str) -> str:
    """Path of the first repeated key at or under a value, "" if there is none."""
    if isinstance(value, _Pairs):
        seen = set()
        for key, _ in value:
            if key in seen:
                return join(path, key)
            seen.add(key)
        items: Iterable[tuple[Any, Any]] = value
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    return next(filter(None, (_repeated(v, join(path, key)) for key, v in items)), "")


def join(path: str, key: Any) -> str:
    """Path of a key under a path, in one short printable line whatever the key is."""
    name = key if is_name(key) else ascii(key)[:40]
    return f"{path}.{name}" if path else name


def is_name(name: Any) -> bool:
    """Whether a rig or network may be called so: short, and every character can be printed."""
    return isinstance(name, str) and 0 < len(name) <= MOST_CHARACTERS and name.isprintable()


def entries(value: Any, path: str) -> dict[str, Any]:
    """An object as a dict; `FieldError` if it is none."""
    if not isinstance(value, Mapping):
        raise FieldError(path, "an object", value)
    return value if isinstance(value, dict) else dict(value)


def check_keys(
    value: Mapping[str, Any], path: str, known: Iterable[str], required: Iterable[str]
) -> None:
    """`FieldError` at the first field that is not known or, if required, not there."""
    names = tuple(known)
    for key in value:
        if key not in names:
            raise unknown(path, key, names)
    for name in required:
        if name not in value:
            raise FieldError(join(path, name), "a value", NOTHING)


def unknown(path: str, key: Any, known: Iterable[str]) -> FieldError:
    """The error of a field that nobody knows, with the known one that it may have been meant."""
    near = _closest(key, known)
    hint = f" (did you mean {near}?)" if near else ""
    return FieldError(join(path, key), f"no such field{hint}", Words("it"))


def not_known(name: str, known: Iterable[str]) -> str:
    """That a name is in no catalogue, and which one may be meant."""
    near = _closest(name, known)
    return f"{name} is not known" + (f": did you mean {near}?" if near else "")


def _closest(name: Any, known: Iterable[str]) -> str:
    """The known name that one may have been meant for, "" if none is near."""
    names = [*islice(known, MOST_HINTS + 1)]
    few = isinstance(name, str) and len(names) <= MOST_HINTS  # to compare with many takes long
    if not few:
        return ""
    plain = {known.lower(): known for known in names}
    near = get_close_matches(name[:MOST_CHARACTERS].lower(), plain, n=1)
    return plain[near[0]] if near else ""


def number(value: Any, path: str, low: float, high: float, unit: str = "") -> float:
    """A finite number from low to high, as float; `FieldError` if it is anything else."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not (real and low <= value <= high):  # NaN compares false
        raise FieldError(path, f"a number{f' of {unit}' if unit else ''} {span(low, high)}", value)
    return float(value)


def span(low: float, high: float) -> str:
    """A range in words."""
    return f"from {low:g} to {high:g}"

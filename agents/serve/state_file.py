"""A memory in its folder: read with the path of what is wrong, written whole, one process's own."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .book import Book
from .columns import AVERAGES
from .document import check_keys, entries, join, load, number
from .errors import FieldError
from .state import Feed, Memory, Moves, Order, Paper, Regret, State

SCHEMA = 3
FILE = "state.json"
LOCK = "lock"
_DRAFT = f".{FILE}."  # and the number of the process that writes it
_LATEST = 1e12  # s since 1970


@contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """Keep a state folder to this process: two that shared it would each have the full limits."""
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FieldError("--state-dir", "a folder that can be written", str(error)) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            wanted = "a folder that no other process uses"
            raise FieldError("--state-dir", wanted, str(folder)) from None
        _clear(folder)
        yield
    finally:
        os.close(descriptor)


def save(folder: Path, memory: Memory) -> None:
    """Write a memory to its folder, whole or not at all; OSError where that cannot be."""
    content = {"schema": SCHEMA, **dataclasses.asdict(memory)}
    draft = folder / f"{_DRAFT}{os.getpid()}"
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(content, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, folder / FILE)
    except OSError:
        draft.unlink(missing_ok=True)  # on a full disk it would keep what room is left
        raise


def _clear(folder: Path) -> None:
    """Remove the drafts of processes that ended while they wrote; none of one that lives."""
    for draft in folder.glob(f"{_DRAFT}*"):
        owner = draft.name.removeprefix(_DRAFT)
        if owner.isdecimal() and (int(owner) == os.getpid() or not _lives(int(owner))):
            draft.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except PermissionError:  # somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def read(folder: Path, *, shadow: bool = False) -> Memory:
    """The memory in a folder, which is made if it is not there; empty where nothing was saved.

    `FieldError` with file and field of what is wrong in one that this code did not write, and for a
    live memory that a shadow is to go on with: it would be lost. The other way the averages of the
    networks go over, which take two weeks to gather.
    """
    file = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        source = file.read_bytes()
    except FileNotFoundError:
        return Memory(shadow=shadow)
    except OSError as error:
        raise FieldError(str(file), "a file that can be read", error.strerror) from None
    memory = _memory(load(source, str(file)), str(file))
    if shadow and not memory.shadow:
        raise FieldError(
            "--state-dir", "a folder for the shadow alone, not a live one", str(folder)
        )
    return memory if memory.shadow == shadow else memory.made_live()


def _memory(part: Any, path: str) -> Memory:
    p = entries(part, path)
    names = ("schema", *(f.name for f in dataclasses.fields(Memory)))
    check_keys(p, path, names, names)
    if type(p["schema"]) is not int or p["schema"] != SCHEMA:
        raise FieldError(f"{path}.schema", str(SCHEMA), p["schema"])
    after, before = (_state(p[key], f"{path}.{key}") for key in ("after", "before"))
    bundle = _text(p["bundle"], f"{path}.bundle")
    return Memory(after, before, bundle, _switch(p["shadow"], f"{path}.shadow"))


def _fields(part: Any, path: str, kind: type) -> dict[str, Any]:
    found = entries(part, path)
    names = tuple(f.name for f in dataclasses.fields(kind))
    check_keys(found, path, names, names)
    return found


def _state(part: Any, path: str) -> State:
    p = _fields(part, path, State)
    time = p["time"]
    return State(
        None if time is None else number(time, f"{path}.time", -_LATEST, _LATEST),
        {
            name: _feed(feed, join(f"{path}.feeds", name))
            for name, feed in entries(p["feeds"], f"{path}.feeds").items()
        },
        _texts(p["places"], f"{path}.places"),
        _orders(p["orders"], f"{path}.orders"),
        _moves(p["moves"], f"{path}.moves"),
        _regret(p["regret"], f"{path}.regret"),
        _text(p["digest"], f"{path}.digest"),
    )


def _feed(part: Any, path: str) -> Feed:
    p = _fields(part, path, Feed)
    averages = _listed(p["averages"], f"{path}.averages")
    if len(averages) != len(AVERAGES):
        raise FieldError(f"{path}.averages", f"{len(AVERAGES)} numbers", averages)
    return Feed(
        tuple(_usd(value, f"{path}.averages") for value in averages),
        number(p["fed_h"], f"{path}.fed_h", 0, _LATEST),
        number(p["seen"], f"{path}.seen", -_LATEST, _LATEST),
    )


def _orders(part: Any, path: str) -> dict[str, Order]:
    return {rig: _order(order, join(path, rig)) for rig, order in entries(part, path).items()}


def _order(part: Any, path: str) -> Order:
    network, time = _two(part, path, "a network's name and a time")
    return Order(_text(network, path), number(time, path, -_LATEST, _LATEST))


def _moves(part: Any, path: str) -> Moves:
    p = _fields(part, path, Moves)
    last = entries(p["last"], f"{path}.last")
    recent = [_pair(pair, f"{path}.recent") for pair in _listed(p["recent"], f"{path}.recent")]
    return Moves(
        {rig: number(t, join(f"{path}.last", rig), -_LATEST, _LATEST) for rig, t in last.items()},
        tuple((time, int(count)) for time, count in recent),
    )


def _regret(part: Any, path: str) -> Regret:
    p = _fields(part, path, Regret)
    lead = tuple(_pair(pair, f"{path}.lead") for pair in _listed(p["lead"], f"{path}.lead"))
    policy, rule = (_paper(p[key], f"{path}.{key}") for key in ("policy", "rule"))
    return Regret(policy, rule, lead, _switch(p["spent"], f"{path}.spent"))


def _paper(part: Any, path: str) -> Paper:
    p = _fields(part, path, Paper)
    book = _fields(p["book"], f"{path}.book", Book)
    places, usd = _texts(book["place"], f"{path}.book.place"), _usd(book["usd"], f"{path}.book.usd")
    return Paper(Book(places, usd), _moves(p["moves"], f"{path}.moves"))


def _texts(part: Any, path: str) -> dict[str, str]:
    found = entries(part, path)
    for name, value in found.items():
        if not isinstance(value, str):
            raise FieldError(join(path, name), "a network's name", value)
    return found


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise FieldError(path, "a text", value)
    return value


def _switch(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise FieldError(path, "true or false", value)
    return value


def _listed(part: Any, path: str) -> list[Any]:
    if not isinstance(part, list):
        raise FieldError(path, "a list", part)
    return part


def _two(part: Any, path: str, wanted: str) -> list[Any]:
    pair = _listed(part, path)
    if len(pair) != 2:
        raise FieldError(path, wanted, pair)
    return pair


def _pair(part: Any, path: str) -> tuple[float, float]:
    time, usd = _two(part, path, "pairs of numbers")
    return number(time, path, -_LATEST, _LATEST), _usd(usd, path)


def _usd(value: Any, path: str) -> float:
    return number(value, path, -1e300, 1e300)

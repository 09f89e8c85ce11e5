"""The two ways in which serving refuses: an input that is wrong, a bundle that is not trusted."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

_brief = Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother = 2, 80, 80


class Words:
    """What came where that is no value, to be told without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


NOTHING = Words("nothing")  # a field is missing


class FieldError(ValueError):
    """A field of an input is wrong: its path, what was expected there, and what came.

    The path of an input as a whole may be empty."""

    def __init__(self, path: str, expected: str, got: Any) -> None:
        where = f"{path}: " if path else ""
        super().__init__(f"{where}expected {expected}, got {_short(got)}")
        self.path, self.expected, self.got = path, expected, _short(got)


class BundleError(ValueError):
    """A bundle is not what its maker wrote, or does not do what it did there."""


def _short(value: Any) -> str:
    """A value on one line of at most 80 characters, whatever its size and depth."""
    try:
        text = _brief.repr(value)
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "an integer of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."

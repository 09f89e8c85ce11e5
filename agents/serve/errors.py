"""The two ways in which serving refuses: an input that is wrong, a bundle that is not trusted."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

_brief = Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother = 2, 80, 80


class FieldError(ValueError):
    """A field of an input is wrong: its path, what was expected there, and what came."""

    def __init__(self, path: str, expected: str, got: Any) -> None:
        super().__init__(f"{path}: expected {expected}, got {_short(got)}")
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

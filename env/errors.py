"""The one exception for wrong input: what was given, where, and what was expected."""

from __future__ import annotations

import numpy as np


class InputError(ValueError):
    """A file, key or argument that cannot be used; the message is one line for a person."""

    def __init__(self, where: str, expected: str, got: object) -> None:
        got = got.item() if isinstance(got, np.generic) else got
        super().__init__(f"{where}: expected {expected}, got {got!r}")
        self.parts = (where, expected, got)

    def __reduce__(self) -> tuple[type[InputError], tuple[object, ...]]:
        """Cross process borders whole, as sweeps need."""
        return type(self), self.parts


class NoSuchKeyError(InputError):
    """A key that nothing reads, mostly a misspelt one."""

    def __init__(self, where: str) -> None:
        ValueError.__init__(self, f"{where}: no such key")
        self.where = where

    def __reduce__(self) -> tuple[type[InputError], tuple[object, ...]]:
        return type(self), (self.where,)

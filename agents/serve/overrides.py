"""The guardrails that an operator gives in a file, over those of the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import NOTHING, FieldError

OPTION = "--guardrails"


def read_overrides(file: Path | None) -> Mapping[str, Any] | None:
    """Names and values from a file in YAML, None without one; PyYAML is needed here alone."""
    if file is None:
        return None
    try:
        from .yaml12 import load
    except ImportError:
        raise FieldError(OPTION, "PyYAML to be installed", NOTHING) from None
    try:
        source = file.read_bytes()
    except OSError as error:
        raise FieldError(OPTION, "a file that can be read", str(error)) from None
    found = load(source, OPTION)
    if not isinstance(found, Mapping):
        raise FieldError(OPTION, "names and values in YAML", found)
    return found

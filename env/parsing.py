"""From YAML to typed values: what counts as a number, and one clear line for what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from env.errors import InputError, NoSuchKeyError

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"
STRICT = ConfigDict(extra="forbid", frozen=True)  # of every class that is read from YAML

_NOT_A_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's names
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")

T = TypeVar("T")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


Number = Annotated[float, AfterValidator(_finite)]
Positive = Annotated[float, Field(gt=0), AfterValidator(_finite)]
NonNegative = Annotated[float, Field(ge=0), AfterValidator(_finite)]
Share = Annotated[float, Field(ge=0, le=1)]


def parse(kind: type[T], data: object, where: str) -> T:
    """Validate plain data into a typed class; the first error becomes one clear line."""
    try:
        return TypeAdapter(kind).validate_python(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        place = f"{where}: {path}" if path else where
        if first["type"] in _NOT_A_KEY:
            raise NoSuchKeyError(place) from None
        if first["type"] in _MISSING:  # pydantic gives all that stands around it as its input
            raise InputError(place, "a value", None) from None
        raise InputError(
            place, first["msg"].removeprefix("Input should be "), first["input"]
        ) from None


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file; a missing or malformed file is one clear line."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "a YAML file", "no such file") from None
    except yaml.YAMLError as error:
        raise InputError(str(path), "valid YAML", " ".join(str(error).split())) from None


def preset(group: str, name: str) -> Any:
    """The plain data of `configs/<group>/<name>.yaml`."""
    path = CONFIG_DIR / group / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise InputError(group, f"one of {known}", name)
    return read_yaml(path)

"""YAML with the plain values of YAML 1.2, and each key once.

PyYAML reads YAML 1.1, in which `off` is false, `1e3` a text, `010` eight and `1:30` ninety, and the
last of two equal keys counts in silence. Source: the core schema, section 10.3.2 of YAML 1.2.2
(yaml.org/spec/1.2.2); its hexadecimal, octal and infinite numbers stay texts here.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from .errors import FieldError, Words

# what PyYAML lets through of the values that it makes
_UNREADABLE = (yaml.YAMLError, RecursionError, ValueError, AttributeError, KeyError, TypeError)
_VALUES = {  # by the last part of the tag; the first that fits, else it is a text
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
}


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _RepeatedError(f"{key.value!r} again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
for _kind, _pattern in _VALUES.items():
    _whole = re.compile(rf"(?:{_pattern})\Z")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _whole, None)


class _RepeatedError(Exception):
    """A key came twice in one mapping."""


def load(source: bytes, path: str) -> Any:
    """The value that a YAML text holds; `FieldError` if it is none, or a key comes twice in it."""
    try:
        return yaml.load(source, _Loader)
    except _RepeatedError as error:
        raise FieldError(path, "each key once", Words(str(error))) from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise FieldError(path, "a file in YAML", Words(f"{error.problem}{line}")) from None
    except _UNREADABLE as error:
        raise FieldError(path, "a file in YAML", " ".join(str(error).split())) from None

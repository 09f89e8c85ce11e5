"""The list of assumptions: values of the catalogue, the markets and `env` that a comment calls one.

    python benchmarks/assumptions.py           # writes docs/assumptions.md

The comments are the only place where sources and assumptions are kept; this reads them, so that the
list cannot disagree with the values. A test fails while the file is not up to date.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

CONFIGS = Path(__file__).parent.parent / "configs"
PAGE = CONFIGS.parent / "docs" / "assumptions.md"
SOURCES = ("catalog/*.yaml", "catalog/networks/*.yaml", "market/*.yaml")
CODE = CONFIGS.parent / "env"
# indentation, the dash of a list item, a key, a value, a comment after two spaces or one
_LINE = re.compile(
    r"^(?P<space> *)(?P<dash>- )?(?:(?P<key>[\w.]+):)?(?P<value>.*?)\s+#(?P<why>.*)$"
)
_KEY = re.compile(r"^(?P<space> *)(?:- )?(?P<key>[\w.]+):")
_CONSTANT = re.compile(r"^ *(?P<key>\w+)(?:: \w+)? = (?P<value>.*?)\s+#(?P<why>.*)$")
_LONGEST = 60  # characters of a value that are shown


class Assumption(NamedTuple):
    """One value of a YAML file or of the code that its comment calls an assumption."""

    key: str
    value: str
    why: str


def assumptions(text: str) -> list[Assumption]:
    """The lines of a YAML file whose comment says `assumption`, by their dotted keys."""
    path: list[tuple[int, str]] = []  # indentation and key of the enclosing mappings
    found = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        opened = _KEY.match(line)
        if opened:
            depth = len(opened["space"])
            path = [*(p for p in path if p[0] < depth), (depth, opened["key"])]
        hit = _LINE.match(line)
        if hit and "assumption" in hit["why"]:
            value = hit["value"].strip()
            shown = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
            found.append(Assumption(".".join(key for _, key in path), shown, hit["why"].strip()))
    return found


def constants(text: str) -> list[Assumption]:
    """The constants and defaults of a Python file whose comment says `assumption`, by their names.

    Those of a class carry its name too.
    """
    found, inside = [], ""
    for line in text.splitlines():
        if line and not line.startswith((" ", "#", ")")):
            opened = re.match(r"class (\w+)", line)
            inside = f"{opened[1]}." if opened else ""
        hit = _CONSTANT.match(line)
        if hit and "assumption" in hit["why"]:
            found.append(Assumption(inside + hit["key"], hit["value"], hit["why"].strip()))
    return found


def page() -> str:
    """The whole list as Markdown, one table a file."""
    files = sorted(path for pattern in SOURCES for path in CONFIGS.glob(pattern))
    found = {str(path.relative_to(CONFIGS)): assumptions(path.read_text()) for path in files}
    for path in sorted(CODE.rglob("*.py")):
        found[str(path.relative_to(CODE.parent))] = constants(path.read_text())
    tables = []
    for name, rows in found.items():
        if rows:
            lines = [f"| `{r.key}` | {_cell(r.value)} | {_cell(r.why)} |" for r in rows]
            head = f"## {name}\n\n| key | value | what the comment says |"
            tables.append("\n".join((head, "|---|---|---|", *lines)))
    intro = (
        "# Assumptions\n\n"
        f"The {sum(map(len, found.values()))} values of `configs/catalog`, `configs/market` and "
        "`env` whose comment says that they are, or partly are, assumptions; what holds for a "
        "whole file is said in its first lines. Written by `python benchmarks/assumptions.py` from "
        "those comments: edit them, not this page."
    )
    return "\n\n".join((intro, *tables)) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or " "


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    PAGE.write_text(page())

"""An operator's guardrails, as they are written in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.serve.limits import settings
from agents.serve.overrides import read_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("6", 6), ("-6", -6), ("0", 0), ("6.5", 6.5), (".5", 0.5), ("6.", 6.0)),
        *(("1e3", 1000.0), ("1.0e+3", 1000.0), ("1E-1", 0.1), ("010", 10.0)),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None)),
        *(("off", "off"), ("on", "on"), ("yes", "yes"), ("No", "No"), ("n", "n")),
        *(("1:30", "1:30"), ("0x1f", "0x1f"), ("1_000", "1_000"), ("2026-11-25", "2026-11-25")),
        *((".inf", ".inf"), (".nan", ".nan"), ("'6'", "6"), ("=", "="), ("e3", "e3"), (".", ".")),
    ],
)
def test_a_plain_value_is_what_yaml_1_2_says(tmp_path: Path, text: str, value: Any) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(f"key: {text}\n")
    found = read_overrides(file)
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_a_network_may_be_called_off_and_a_number_written_in_powers_of_ten(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("deny: [off, no]\nmax_network_rigs: {on: 3}\nregret_budget_h: 1e3\n")
    found = settings({}, read_overrides(file))
    assert found.deny == ("off", "no")
    assert found.max_network_rigs == {"on": 3}
    assert found.regret_budget_h == 1000.0


def test_no_file_overrides_nothing() -> None:
    assert read_overrides(None) is None

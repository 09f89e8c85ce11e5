"""The example runs as it is told in its first lines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_example_orchestrator_leads_a_simulated_fleet(bundle: Path) -> None:
    """Two days: moves come with reasons, and each day ends with its profit."""
    command = [sys.executable, "examples/orchestrator.py", "--bundle", str(bundle)]
    ended = subprocess.run(
        [*command, "--hours", "48"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    days = [
        line for line in (*lines, last) if re.search(r"profit of the day [+-]\d+\.\d\d USD", line)
    ]
    assert len(days) == 2
    assert last == days[-1]
    moves = [line for line in lines if line not in days]
    assert moves
    assert all(re.match(r"\d\d \w{3} \d\d:\d\d  \S+ .*USD", line) for line in moves)

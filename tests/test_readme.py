"""What the README shows is what the code takes."""

from __future__ import annotations

import json
from pathlib import Path

from agents.serve.runtime import Policy
from agents.serve.snapshot import parse

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_snapshot_of_the_readme_is_one(bundle: Path) -> None:
    (shown,) = (part.split("```")[0] for part in README.read_text().split("```json")[1:])
    policy = Policy.load(bundle)
    seen = parse(shown, policy.bundle.columns)
    assert seen.work[0, 0] == 4.0  # four GPUs of the model that Akash's work is counted in
    decision = policy.decide(json.loads(shown), seen.time)
    assert decision.holds.keys() == {"rig-01"}
    assert "first snapshot" in decision.reason

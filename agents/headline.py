"""What may be said of a comparison in a line: its verdict, its headroom, and what lessens them."""

from __future__ import annotations

from collections.abc import Mapping

from agents.comparison import Comparison
from agents.statistics import Floats

NARROW = 0.05  # of the bound: below it there is little to learn, and gap closed says little


def rule_in_words(sought: bool) -> str:
    """The opponent's family: a rule at its defaults is no tuned one, and must not be called so."""
    return "tuned rule" if sought else "untuned rule"


def verdict(low: float, high: float, rule: str = "tuned rule") -> str:
    """What the interval of gap closed allows to be said of the subject."""
    if low > 0:
        return f"better than the {rule}"
    if high < 0:
        return f"worse than the {rule}"
    return f"not distinguishable from the {rule}"


def headroom(tuned: Floats, bound: Floats) -> float:
    """Share of the bound that the opponent leaves, (J_bound - J_tuned) / J_bound."""
    top = float(bound.sum())
    return float((bound - tuned).sum()) / top if top > 0 else float("nan")


def warnings(compared: Comparison) -> list[str]:
    """What makes the headline less than it seems."""
    said = []
    if not compared.tuned.sought:
        said.append(
            "no rule was tuned for these worlds: they are compared at their default knobs, which "
            "are easier to beat (evaluation.tune_settings=200 tunes them and stores what it finds)"
        )
    room = headroom(compared.net(compared.opponent), compared.bound)
    if not room >= NARROW:
        rule = rule_in_words(compared.tuned.sought)
        said.append(
            f"headroom is {room:.1%}, below {NARROW:.0%} of the bound: in these worlds the {rule} "
            "is nearly perfect and there is little to learn"
        )
    above = [n for n in compared.scores if compared.net(n).mean() > compared.bound.mean()]
    if above:
        said.append(f"the bound lies below {', '.join(above)}: gap closed cannot be trusted")
    return said


def unlearned(steps: Mapping[str, int]) -> list[str]:
    """A line where no training beat the rule that it started from.

    steps: of the kept checkpoint by policy, where it is known; 0 is that of the start.
    """
    same = [name for name, step in steps.items() if step == 0]
    if not same:
        return []
    verb = "is" if len(same) == 1 else "are"
    return [
        f"{', '.join(same)} {verb} the rule that training started from: no later checkpoint did "
        "better in the validation worlds, so nothing here was learned"
    ]

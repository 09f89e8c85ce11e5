"""JSON as serving reads it."""

from __future__ import annotations

import pytest

from agents.serve.document import MOST_HINTS, load, unknown
from agents.serve.errors import FieldError


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}'])
def test_a_number_that_is_none_is_refused_where_all_must_be_finite(text: str) -> None:
    load(text, "here")
    with pytest.raises(FieldError, match="here: expected JSON"):
        load(text, "here", finite=True)


def test_a_misspelt_name_is_compared_with_a_few_names_only() -> None:
    """With thousands of long ones a request could keep the service busy for half a minute."""
    few = ["akash", *(f"network-{k}" for k in range(MOST_HINTS - 1))]
    for near in ("akahs", "AKASH", "Akash "):
        assert "did you mean akash?" in str(unknown("here", near, few))
    assert "did you mean" not in str(unknown("here", "akahs", [*few, "one more"]))

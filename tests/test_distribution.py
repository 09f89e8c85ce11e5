"""The masked categorical of every rig: torch's own Categorical is the oracle where it applies."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.distribution import MOST_ENTRANTS, MaskedCategorical

RIGS, CHOICES = 3, 5
wild = st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 0.0, -1.0, 2.0])
tame = st.floats(-30.0, 30.0, width=32)
mask = st.lists(st.booleans(), min_size=CHOICES - 1, max_size=CHOICES - 1)
few = settings(max_examples=60, deadline=None)


def table(cells: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[float]]]:
    row = st.lists(cells, min_size=CHOICES, max_size=CHOICES)
    return st.lists(row, min_size=RIGS, max_size=RIGS)


def choices(logits: list[list[float]], masks: list[list[bool]]) -> MaskedCategorical:
    """Hold is legal; masks are of the moves."""
    return MaskedCategorical(torch.tensor(logits), torch.tensor([[True, *row] for row in masks]))


def legal_at(found: MaskedCategorical, order: Tensor) -> bool:
    return bool(found.legal.gather(-1, order.unsqueeze(-1)).all())


@few
@given(logits=table(tame | wild), masks=st.lists(mask, min_size=RIGS, max_size=RIGS))
def test_probabilities_sum_to_one_over_the_legal_choices(
    logits: list[list[float]], masks: list[list[bool]]
) -> None:
    found = choices(logits, masks)
    assert bool((found.probs[~found.legal] == 0).all())
    torch.testing.assert_close(found.probs.sum(-1), torch.ones(RIGS))


@few
@given(
    logits=table(tame | wild),
    masks=st.lists(mask, min_size=RIGS, max_size=RIGS),
    u=st.floats(0.0, 1.0, width=32) | st.sampled_from([0.0, 1.0 - 2**-24, 1.0]),
)
def test_a_masked_choice_is_never_drawn_whatever_the_logits(
    logits: list[list[float]], masks: list[list[bool]], u: float
) -> None:
    found = choices(logits, masks)
    assert legal_at(found, found.at_quantile(torch.full((RIGS,), u)))
    assert bool(torch.isfinite(found.entropy()).all())
    for order in range(CHOICES):
        log_prob = found.log_prob(torch.full((RIGS,), order))
        assert bool(torch.isfinite(log_prob).all())


@pytest.mark.parametrize("cell", [math.nan, math.inf, -math.inf, 1e30, 0.0])
def test_hold_is_left_when_everything_else_is_masked(cell: float) -> None:
    found = choices([[cell] * CHOICES] * RIGS, [[False] * (CHOICES - 1)] * RIGS)
    for u in (0.0, 0.5, 1.0 - 2**-24):
        assert found.at_quantile(torch.full((RIGS,), u)).tolist() == [0] * RIGS
    assert found.entropy().tolist() == [0.0] * RIGS


@few
@given(logits=table(tame))
def test_it_is_torchs_categorical_over_the_legal_choices(logits: list[list[float]]) -> None:
    masks = [[True, False, True, True], [True] * 4, [False, False, True, False]]
    found = choices(logits, masks)
    for rig, row in enumerate(masks):
        legal = [0, *(k + 1 for k, may in enumerate(row) if may)]
        oracle = torch.distributions.Categorical(logits=torch.tensor(logits)[rig, legal])
        torch.testing.assert_close(found.probs[rig, legal], oracle.probs)
        torch.testing.assert_close(found.entropy()[rig], oracle.entropy(), rtol=1e-4, atol=1e-6)
        for place, order in enumerate(legal):
            log_prob = found.log_prob(torch.full((RIGS,), order))[rig]
            torch.testing.assert_close(log_prob, oracle.log_prob(torch.tensor(place)))


def test_a_grid_of_quantiles_meets_each_choice_as_often_as_its_probability() -> None:
    points = 10_000
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0], [-3.0, 0.0, 0.0, 9.0, 0.0]])
    legal = torch.tensor([[True, True, False, True, True], [True, True, True, False, True]])
    found = MaskedCategorical(logits.expand(points, 2, 5), legal.expand(points, 2, 5))
    u = ((torch.arange(points) + 0.5) / points).unsqueeze(-1).expand(points, 2)
    order = found.at_quantile(u)
    share = torch.nn.functional.one_hot(order, 5).double().mean(0)
    torch.testing.assert_close(share, found.probs[0].double(), rtol=0.0, atol=1.5 / points)
    # hold first, then a higher quantile is never a likelier move
    likelihood = found.probs[0].index_fill(1, torch.tensor([0]), 2.0).gather(1, order.T)
    assert bool((likelihood.diff(dim=1) <= 0).all())


def test_each_choice_owns_its_interval_but_for_the_right_end() -> None:
    # hold half, a masked choice, a fifth, three tenths: [0, 0.5), nothing, [0.8, 1), [0.5, 0.8)
    u = torch.tensor([0.0, 0.499, 0.5, 0.799, 0.801, 0.999])
    found = MaskedCategorical(torch.zeros(6, 4), torch.tensor([True, False, True, True]))
    found.log_probs = torch.log(torch.tensor([0.5, 0.0, 0.2, 0.3])).expand(6, 4)
    assert found.at_quantile(u).tolist() == [0, 0, 3, 3, 2, 2]
    # to the nearest end; a move also to the next in rank
    expected = torch.tensor([0.5, 0.001, 0.0, 0.001, 0.001, 0.1])
    torch.testing.assert_close(found.margin(u), expected, rtol=0.0, atol=1e-6)


@few
@given(logits=table(tame), u=st.floats(0.0, 0.9990234375, width=32), turn=st.permutations(range(4)))
def test_the_order_of_the_networks_changes_no_choice(
    logits: list[list[float]], u: float, turn: list[int]
) -> None:
    order = torch.tensor([0, *(k + 1 for k in turn)])
    found = MaskedCategorical(torch.tensor(logits), torch.ones(RIGS, CHOICES) > 0)
    turned = MaskedCategorical(torch.tensor(logits)[:, order], torch.ones(RIGS, CHOICES) > 0)
    at = torch.full((RIGS,), u)
    clear = found.margin(at) > 1e-5
    assert torch.equal(order[turned.at_quantile(at)][clear], found.at_quantile(at)[clear])


def test_beyond_the_last_step_is_the_last_choice_that_is_possible() -> None:
    # ten equal choices of which two are legal; a thousand cells whose float32 sum falls short of 1
    few_legal = MaskedCategorical(torch.zeros(1, 10), torch.tensor([[True, True] + [False] * 8]))
    assert few_legal.at_quantile(torch.ones(1)).tolist() == [1]
    many = MaskedCategorical(torch.zeros(1, 1000), torch.ones(1, 1000, dtype=torch.bool))
    assert many.at_quantile(torch.tensor([1.0])).item() in range(1, 1000)
    # a legal choice whose probability rounds to zero is not chosen by the clamp
    faint = MaskedCategorical(torch.tensor([[0.0, -1e30]]), torch.ones(1, 2, dtype=torch.bool))
    faint.log_probs = torch.tensor([[0.0, -200.0]])
    assert faint.at_quantile(torch.ones(1)).tolist() == [0]


def test_the_gradient_of_a_log_probability_passes_the_mask_and_stays_finite() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    found = MaskedCategorical(logits, torch.tensor([[True, True, False]]))
    (found.log_prob(torch.tensor([1])) + found.entropy()).sum().backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert logits.grad[0, 2] == 0.0
    assert logits.grad[0, 1] > 0.0


@given(st.integers(1, 300), st.floats(-6.0, 6.0), st.lists(st.booleans(), min_size=3, max_size=3))
def test_no_more_rigs_than_allowed_are_expected_to_register_at_once(
    rigs: int, logit: float, charges: list[bool]
) -> None:
    """Where few want to go, and where nothing is charged, nothing changes."""
    logits = torch.tensor([[0.0, logit, logit - 1.0, -2.0]]).expand(rigs, 4)
    charged = torch.tensor(charges).float()
    free = MaskedCategorical(logits, torch.ones(rigs, 4) > 0).probs
    found = MaskedCategorical(logits, torch.ones(rigs, 4) > 0, charged).probs
    wanted = free[:, 1:].sum(0)
    limit = torch.where(charged > 0, wanted.clamp_max(MOST_ENTRANTS), wanted)
    torch.testing.assert_close(found[:, 1:].sum(0), limit, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.sum(-1), torch.ones(rigs))

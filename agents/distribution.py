"""One categorical a rig over its legal choices, on a (rigs, choices) table of logits.

A factorised, masked categorical without a Python object a rig. Choice 0 is *hold* and always legal,
so whatever the logits are (NaN, infinite, all masked) some choice can be made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOST_ENTRANTS = 4.0  # assumption: at 1.26 times each, the fourth pays twice the price of the first
_LARGEST_LOGIT = 40.0
_MASK = 1e9  # taken off where a choice is not legal


class MaskedCategorical:
    """Independent choices of R rigs among N + 1; logits and legal [..., R, N + 1].

    charged [..., N]: 1 for a network whose registration grows dearer with each of our own in an
    hour. No more than `MOST_ENTRANTS` rigs are expected to enter one: beyond that, the probability
    of entering is cut alike for all rigs, and holding takes what is cut off.
    """

    def __init__(self, logits: Tensor, legal: Tensor, charged: Tensor | None = None) -> None:
        tame = logits.masked_fill(logits.isnan(), 0.0).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
        self.legal = legal
        self._may = legal.to(logits.dtype)
        self.log_probs = torch.log_softmax(tame + (self._may - 1.0) * _MASK, -1)
        if charged is not None:
            self.log_probs = _rationed(self.log_probs, charged)

    @property
    def probs(self) -> Tensor:
        """[..., R, N + 1], zero where a choice is not legal."""
        return torch.exp(self.log_probs) * self._may

    def log_prob(self, choices: Tensor) -> Tensor:
        """Log probability of each rig's choice: int64 [..., R] -> [..., R]."""
        return self.log_probs.gather(-1, choices.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """[..., R], in nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def at_quantile(self, u: Tensor) -> Tensor:
        """The choice at quantile u [..., R] in [0, 1) of each rig's distribution: inverse CDF.

        Hold comes first, then the moves from the likeliest on, so that the answer does not depend
        on the order of the networks. With u uniform this is a sample. Rounding may push u beyond
        the last step of the CDF: the last choice of positive probability is the answer then.
        """
        steps, network = self._ranked()
        choice = nn.functional.pad(network + 1, (1, 0))
        return choice.gather(-1, _place(steps, torch.cumsum(steps, -1), u)).squeeze(-1)

    def margin(self, u: Tensor) -> Tensor:
        """By how much probabilities may change before the choice at u may: [..., R].

        The distance from u to the nearest step of the CDF, and for a move the distance of its
        probability from those of the moves ranked before and after it.
        """
        steps, _ = self._ranked()
        ends = torch.cumsum(steps, -1)
        away = (ends[..., :-1] - u.unsqueeze(-1)).abs()
        edges = torch.maximum(away, (steps[..., 1:] <= 0).to(away.dtype)).amin(-1)  # at most 1
        gaps = nn.functional.pad(steps[..., 1:-1] - steps[..., 2:], (1, 1), value=1.0)
        either = torch.minimum(gaps[..., :-1], gaps[..., 1:])  # [..., R, N] of each ranked move
        ranked = nn.functional.pad(either, (1, 0), value=1.0)
        return torch.minimum(edges, ranked.gather(-1, _place(steps, ends, u)).squeeze(-1))

    def _ranked(self) -> tuple[Tensor, Tensor]:
        """Probabilities of hold and of the moves by rank [..., R, N + 1], the moves' networks."""
        probs = self.probs
        moves, network = torch.sort(probs[..., 1:], -1, descending=True)
        return torch.cat((probs[..., :1], moves), -1), network


def _place(steps: Tensor, ends: Tensor, u: Tensor) -> Tensor:
    """Rank of the choice at quantile u, int64 [..., R, 1]: 0 = hold, the likeliest move 1."""
    below = _count(ends <= u.unsqueeze(-1))
    return torch.minimum(below, _count(steps[..., 1:] > 0)).long()


def _count(true: Tensor) -> Tensor:
    """How many are true, as a float: sums of integers are slow."""
    return true.to(torch.float32).sum(-1, keepdim=True)


def _rationed(log_probs: Tensor, charged: Tensor) -> Tensor:
    """Log probabilities [..., R, N + 1] with no more than `MOST_ENTRANTS` to a charged network."""
    holds, moves = log_probs[..., :1], log_probs[..., 1:]
    going = torch.exp(moves)
    entrants = going.sum(-2, keepdim=True) * charged.unsqueeze(-2)  # [..., 1, N] expected
    share = MOST_ENTRANTS / entrants.clamp_min(MOST_ENTRANTS)
    cut = (going * (1.0 - share)).sum(-1, keepdim=True)
    return torch.cat((torch.log(torch.exp(holds) + cut), moves + torch.log(share)), -1)

"""One categorical a rig over its legal choices, on a (rigs, choices) table of logits.

A factorised, masked categorical without a Python object a rig. Choice 0 is *hold* and always legal,
so whatever the logits are (NaN, infinite, all masked) some choice can be made.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_LOGIT = 40.0
_MASKED = -1e9


class MaskedCategorical:
    """Independent choices of R rigs among N + 1; logits and legal [..., R, N + 1]."""

    def __init__(self, logits: Tensor, legal: Tensor) -> None:
        tame = torch.nan_to_num(logits, 0.0, _LARGEST_LOGIT, -_LARGEST_LOGIT)
        tame = tame.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
        self.legal = legal
        self.log_probs = torch.log_softmax(tame.masked_fill(~legal, _MASKED), -1)

    @property
    def probs(self) -> Tensor:
        """[..., R, N + 1], zero where a choice is not legal."""
        return torch.exp(self.log_probs) * self.legal

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
        below = (torch.cumsum(steps, -1) <= u.unsqueeze(-1)).sum(-1)
        place = torch.minimum(below, (steps[..., 1:] > 0).sum(-1))
        choice = torch.cat((torch.zeros_like(network[..., :1]), network + 1), -1)
        return choice.gather(-1, place.unsqueeze(-1)).squeeze(-1)

    def margin(self, u: Tensor) -> Tensor:
        """By how much probabilities may change before the choice at u may: [..., R].

        The distance from u to the nearest step of the CDF, and for a move the distance of its
        probability from those of the moves ranked before and after it.
        """
        steps, _ = self._ranked()
        ends = torch.cumsum(steps, -1)
        place = torch.minimum((ends <= u.unsqueeze(-1)).sum(-1), (steps[..., 1:] > 0).sum(-1))
        away = (ends[..., :-1] - u.unsqueeze(-1)).abs()
        edges = torch.where(steps[..., 1:] > 0, away, 1.0).amin(-1)
        gaps = torch.nn.functional.pad(steps[..., 1:-1] - steps[..., 2:], (1, 1), value=1.0)
        either = torch.minimum(gaps[..., :-1], gaps[..., 1:])  # [..., R, N] of each ranked move
        ranked = torch.cat((torch.ones_like(steps[..., :1]), either), -1)
        return torch.minimum(edges, ranked.gather(-1, place.unsqueeze(-1)).squeeze(-1))

    def _ranked(self) -> tuple[Tensor, Tensor]:
        """Probabilities of hold and of the moves by rank [..., R, N + 1], the moves' networks."""
        probs = self.probs
        moves, network = torch.sort(probs[..., 1:], -1, descending=True)
        return torch.cat((probs[..., :1], moves), -1), network

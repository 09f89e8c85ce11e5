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

        With u uniform this is a sample. Rounding may push u beyond the last step of the CDF: the
        last legal choice of positive probability is the answer then.
        """
        probs = self.probs
        cdf = torch.cumsum(probs, -1)
        below = (cdf <= u.unsqueeze(-1)).sum(-1)
        order = torch.arange(probs.shape[-1], device=probs.device)
        last = torch.where(probs > 0, order, 0).amax(-1)
        return torch.minimum(below, last)

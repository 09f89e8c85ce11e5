"""What a rule reads from the observation: yields it would earn, what entering costs, whom to ask.

Each rule of `rules` is a few of these in a row. All see the observation only, tensors [B, ...];
what a policy's features take from a rule sees it as `Seen`, and gives [B, N, R] for [B, R, N].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from env.observation import EMA_H, column

Observation = dict[str, Tensor]
Knob = float | Tensor  # one number, or one for each world of the batch: [B, 1, 1]
Policy = Callable[[Observation], Tensor]  # observation [B, ...] -> orders int64 [B, R]


class Seen(NamedTuple):
    """Columns of an observation by name, shaped to meet each other, rigs along the last axis.

    A rule that is part of a policy's features is computed on these.
    """

    pairs: dict[str, Tensor]  # [B, N, R]
    networks: dict[str, Tensor]  # [B, N, 1]
    rigs: dict[str, Tensor]  # [B, 1, R]


Shown = Observation | Seen


def read(observation: Observation, group: str, name: str) -> Tensor:
    """A named column of the observation: pairs [B, R, N], rigs [B, R], networks [B, N]."""
    return observation[group][..., column(group, name)]


def _pair(shown: Shown, name: str) -> Tensor:
    """[B, R, N], of `Seen` [B, N, R]."""
    return shown.pairs[name] if isinstance(shown, Seen) else read(shown, "pairs", name)


def _on(shown: Shown, name: str) -> Tensor:
    """A column of the networks that meets pairs: [B, 1, N], of `Seen` [B, N, 1]."""
    if isinstance(shown, Seen):
        return shown.networks[name]
    return read(shown, "networks", name).unsqueeze(1)


def here(shown: Shown, values: Tensor) -> Tensor:
    """The values [B, R, N] at each rig's own network: [B, R, 1]; of `Seen` [B, 1, R]."""
    networks = -2 if isinstance(shown, Seen) else -1
    return (values * _pair(shown, "here")).sum(networks, keepdim=True)


def move_where(observation: Observation, gain: Tensor) -> Tensor:
    """Order each rig to the legal network of highest gain [B, R, N] where that is above zero."""
    legal = observation["action_mask"][..., 1:] > 0
    best, network = gain.masked_fill(~legal, -torch.inf).max(-1)  # [B, R]
    return torch.where(best > 0, network + 1, 0)


def average_usd(shown: Shown, average_h: Knob) -> Tensor:
    """Published yield of a work unit averaged over about `average_h` hours: [B, 1, N].

    The two averages of the observation that are next in length, mixed by the log of the length.
    """
    names = [f"ema_{length_h:g}h_usd" for length_h in EMA_H]
    averages = [_on(shown, name) for name in names]
    mixed, length = averages[0], torch.log(torch.as_tensor(average_h))
    for k in range(1, len(EMA_H)):
        step = math.log(EMA_H[k] / EMA_H[k - 1])
        part = ((length - math.log(EMA_H[k - 1])) / step).clamp(0.0, 1.0)
        mixed = mixed + part * (averages[k] - averages[k - 1])
    return mixed


def gross_usd_h(shown: Shown, yield_usd: Tensor) -> Tensor:
    """What each rig would earn at a yield of a work unit [B, 1, N], less the lock-up: [B, R, N]."""
    kept = 1.0 - _on(shown, "lockup")
    return yield_usd * kept * _pair(shown, "work")


def energy_usd_h(shown: Shown) -> Tensor:
    """What each rig would pay for energy on each network: [B, R, N]."""
    average = _on(shown, "ema_48h_usd")
    return gross_usd_h(shown, average) - _pair(shown, "ema_usd_h")


def net_usd_h(shown: Shown, yield_usd: Tensor, marginal: Knob) -> Tensor:
    """The same less energy, with the fleet's own work in the pool counted: [B, R, N].

    With V shared among outside work W and own work w, a rig is paid V / (W + w) for a unit of its
    work, the *average* (`marginal` 0). But it takes from the fleet's other rigs there, and the
    fleet gains only V W / ((W + w)(W + others)), the *marginal* pay (`marginal` 1). Between the two
    the second factor W / (W + others) counts by its power.
    """
    outside = _on(shown, "outside_work")
    own = _on(shown, "own_work")
    mine = _pair(shown, "work") * _pair(shown, "here")
    left_by_others = outside / (outside + torch.relu(own - mine)).clamp_min(1e-9)
    share = _pair(shown, "dilution") * left_by_others**marginal
    return gross_usd_h(shown, yield_usd) * share - energy_usd_h(shown)


def entry_usd(shown: Shown, value: Tensor) -> Tensor:
    """Entry cost, [B, R, N], whose lost hours are worth `value` USD each and not the undiluted 48-h
    average that the observation's own column assumes."""
    lost_h = _on(shown, "provisioning_h") + _on(shown, "warmup_h")
    assumed = torch.relu(_pair(shown, "ema_usd_h"))
    away = 1.0 - _pair(shown, "here")
    return _pair(shown, "entry_usd") + away * lost_h * (torch.relu(value) - assumed)


def attending(observation: Observation, attention: Knob, gain: Tensor) -> Tensor:
    """The gain of the rigs that look in this hour, no gain for the others: [B, R, N].

    Each rig looks in `attention` of the day's hours, at a time of its own, so that a fleet does not
    crowd onto a thin network at once.
    """
    day = read(observation, "market", "hour_of_day")[:, None, None] / 24.0
    phase = (read(observation, "rigs", "tiebreak").unsqueeze(-1) + day) % 1.0  # [B, R, 1]
    return torch.where(phase < attention, gain, -torch.inf)

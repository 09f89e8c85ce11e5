"""What a rule reads from the observation: yields it would earn, what entering costs, whom to ask.

Each rule of `rules` is a few of these in a row. All see the observation only, tensors [B, ...].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from env.observation import EMA_H, column

Observation = dict[str, Tensor]
Knob = float | Tensor  # one number, or one for each world of the batch: [B, 1, 1]
Policy = Callable[[Observation], Tensor]  # observation [B, ...] -> orders int64 [B, R]


def read(observation: Observation, group: str, name: str) -> Tensor:
    """A named column of the observation: pairs [B, R, N], rigs [B, R], networks [B, N]."""
    return observation[group][..., column(group, name)]


def here(observation: Observation, values: Tensor) -> Tensor:
    """The values [B, R, N] at each rig's own network: [B, R, 1]."""
    return (values * read(observation, "pairs", "here")).sum(-1, keepdim=True)


def move_where(observation: Observation, gain: Tensor) -> Tensor:
    """Order each rig to the legal network of highest gain [B, R, N] where that is above zero."""
    legal = observation["action_mask"][..., 1:] > 0
    best, network = gain.masked_fill(~legal, -torch.inf).max(-1)  # [B, R]
    return torch.where(best > 0, network + 1, 0)


def average_usd(observation: Observation, average_h: Knob) -> Tensor:
    """Published yield of a work unit averaged over about `average_h` hours: [B, 1, N].

    The two averages of the observation that are next in length, mixed by the log of the length.
    """
    names = [f"ema_{length_h:g}h_usd" for length_h in EMA_H]
    averages = [read(observation, "networks", name).unsqueeze(1) for name in names]
    mixed, length = averages[0], torch.log(torch.as_tensor(average_h))
    for k in range(1, len(EMA_H)):
        step = math.log(EMA_H[k] / EMA_H[k - 1])
        part = ((length - math.log(EMA_H[k - 1])) / step).clamp(0.0, 1.0)
        mixed = mixed + part * (averages[k] - averages[k - 1])
    return mixed


def gross_usd_h(observation: Observation, yield_usd: Tensor) -> Tensor:
    """What each rig would earn at a yield of a work unit [B, 1, N], less the lock-up: [B, R, N]."""
    kept = 1.0 - read(observation, "networks", "lockup").unsqueeze(1)
    return yield_usd * kept * read(observation, "pairs", "work")


def energy_usd_h(observation: Observation) -> Tensor:
    """What each rig would pay for energy on each network: [B, R, N]."""
    average = read(observation, "networks", "ema_48h_usd").unsqueeze(1)
    return gross_usd_h(observation, average) - read(observation, "pairs", "ema_usd_h")


def net_usd_h(observation: Observation, yield_usd: Tensor, marginal: Knob) -> Tensor:
    """The same less energy, with the fleet's own work in the pool counted: [B, R, N].

    With V shared among outside work W and own work w, a rig is paid V / (W + w) for a unit of its
    work, the *average* (`marginal` 0). But it takes from the fleet's other rigs there, and the
    fleet gains only V W / ((W + w)(W + others)), the *marginal* pay (`marginal` 1). Between the two
    the second factor W / (W + others) counts by its power.
    """
    outside = read(observation, "networks", "outside_work").unsqueeze(1)
    own = read(observation, "networks", "own_work").unsqueeze(1)
    mine = read(observation, "pairs", "work") * read(observation, "pairs", "here")
    left_by_others = outside / (outside + torch.relu(own - mine)).clamp_min(1e-9)
    share = read(observation, "pairs", "dilution") * left_by_others**marginal
    return gross_usd_h(observation, yield_usd) * share - energy_usd_h(observation)


def entry_usd(observation: Observation, value: Tensor) -> Tensor:
    """Entry cost, [B, R, N], whose lost hours are worth `value` USD each and not the undiluted 48-h
    average that the observation's own column assumes."""
    provisioning_h = read(observation, "networks", "provisioning_h")
    lost_h = (provisioning_h + read(observation, "networks", "warmup_h")).unsqueeze(1)
    assumed = torch.relu(read(observation, "pairs", "ema_usd_h"))
    away = 1.0 - read(observation, "pairs", "here")
    return read(observation, "pairs", "entry_usd") + away * lost_h * (torch.relu(value) - assumed)


def attending(observation: Observation, attention: Knob, gain: Tensor) -> Tensor:
    """The gain of the rigs that look in this hour, no gain for the others: [B, R, N].

    Each rig looks in `attention` of the day's hours, at a time of its own, so that a fleet does not
    crowd onto a thin network at once.
    """
    day = read(observation, "market", "hour_of_day")[:, None, None] / 24.0
    phase = (read(observation, "rigs", "tiebreak").unsqueeze(-1) + day) % 1.0  # [B, R, 1]
    return torch.where(phase < attention, gain, -torch.inf)

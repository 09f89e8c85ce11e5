"""Experience: advantages against arithmetic written out, cuts, the fleet's reward, minibatches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from agents.rollout import FleetRollout, Sample, Slot


def slot(reward: list[float], values: list[float], **given: Any) -> Slot:
    """An hour of one world, of which only the parts that estimation reads are filled."""
    tensors = {k: torch.tensor([v], dtype=torch.float64) for k, v in given.items()}
    tensors |= {
        "reward": torch.tensor([reward]).double(),
        "values": torch.tensor([values]).double(),
    }
    return Slot(**{**dict.fromkeys(Slot._fields), **tensors})  # type: ignore[arg-type]


def rollout(gamma: float, gae_lambda: float, joint: bool = False) -> FleetRollout:
    return FleetRollout(8, None, None, gae_lambda=gae_lambda, gamma=gamma, joint=joint)


def estimated(buffer: FleetRollout, slots: list[Slot], last: list[float]) -> list[Sample]:
    """The samples of one group in the order of time."""
    for one in slots:
        buffer.add(0, one)
    buffer.finish([torch.tensor([last], dtype=torch.float64)])
    return [next(s for s in buffer.samples if s.slot is one) for one in slots]


def rows(samples: list[Sample], name: str) -> list[Any]:
    return [getattr(sample, name)[0].tolist() for sample in samples]


def test_advantages_are_each_rigs_own_generalised_estimate() -> None:
    # gamma 0.5, lambda 0.5, so that each hour counts a quarter of the advantage that follows.
    # rig 1: rewards 1, 2, values 4, 2, then 6
    #   hour 1: 2 + 0.5 * 6 - 2 = 3                      advantage 3
    #   hour 0: 1 + 0.5 * 2 - 4 = -2                     advantage -2 + 0.25 * 3 = -1.25
    # rig 2: rewards 0, 4, values 2, 8, then 0
    #   hour 1: 4 + 0 - 8 = -4                           advantage -4
    #   hour 0: 0 + 0.5 * 8 - 2 = 2                      advantage 2 + 0.25 * -4 = 1
    slots = [slot([1.0, 0.0], [4.0, 2.0]), slot([2.0, 4.0], [2.0, 8.0])]
    samples = estimated(rollout(0.5, 0.5), slots, [6.0, 0.0])
    assert rows(samples, "advantage") == [[-1.25, 1.0], [3.0, -4.0]]
    assert rows(samples, "returns") == [[2.75, 3.0], [5.0, 4.0]]  # advantage + value


def test_an_episode_cut_off_is_bootstrapped_and_lets_nothing_through() -> None:
    # gamma 0.5, lambda 1; the episode ends after hour 0 in a state of value 10, hour 1 is another's
    #   hour 1: 100 + 0.5 * 0 - 7 = 93
    #   hour 0: 1 + 0.5 * 10 - 2 = 4, whatever hour 1 brought
    slots = [slot([1.0], [2.0], end_values=[10.0]), slot([100.0], [7.0])]
    samples = estimated(rollout(0.5, 1.0), slots, [0.0])
    assert rows(samples, "advantage") == [[4.0], [93.0]]
    other = [slots[0], slot([-5.0], [3.0])]
    assert rows(estimated(rollout(0.5, 1.0), other, [9.0]), "advantage")[0] == [4.0]


def test_a_cut_in_the_last_hour_takes_the_end_and_not_the_new_episode() -> None:
    # 1 + 0.5 * 10 - 2, not 1 + 0.5 * 50 - 2
    only = slot([1.0], [2.0], end_values=[10.0])
    assert rows(estimated(rollout(0.5, 0.9), [only], [50.0]), "advantage") == [[4.0]]


def random_hours(hours: int, rigs: int) -> tuple[list[Slot], Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    reward, values = torch.randn(2, hours, rigs, generator=draw).double().unbind(0)
    share = torch.softmax(torch.randn(rigs, generator=draw), -1).tolist()
    slots = [slot(a, b, share=share) for a, b in zip(reward.tolist(), values.tolist(), strict=True)]
    return slots, reward, values


def test_with_lambda_one_the_advantage_is_the_discounted_return_less_the_value() -> None:
    gamma, hours, rigs = 0.9, 7, 3
    slots, reward, values = random_hours(hours, rigs)
    samples = estimated(rollout(gamma, 1.0), slots, [5.0] * rigs)
    for hour, sample in enumerate(samples):
        weights = gamma ** torch.arange(hours - hour).double()
        expected = (weights.unsqueeze(-1) * reward[hour:]).sum(0) + gamma ** (hours - hour) * 5.0
        torch.testing.assert_close(sample.returns[0], expected)
        torch.testing.assert_close(sample.advantage[0], expected - values[hour])


def test_with_lambda_zero_the_advantage_is_one_hours_error() -> None:
    slots, reward, values = random_hours(5, 2)
    samples = estimated(rollout(0.9, 0.0), slots, [0.0, 0.0])
    torch.testing.assert_close(
        torch.cat([s.advantage for s in samples[:-1]]), reward[:-1] + 0.9 * values[1:] - values[:-1]
    )


def test_the_fleets_reward_is_the_cost_weighted_sum_and_its_value_the_mean() -> None:
    # rewards per nominal cost of a rig: 3/4 of the cost earns 2, 1/4 earns -2, so the fleet earns 1
    #   value (1 + 3) / 2 = 2, next value (0 + 4) / 2 = 2: 1 + 0.5 * 2 - 2 = 0
    one = slot([2.0, -2.0], [1.0, 3.0], share=[0.75, 0.25])
    samples = estimated(rollout(0.5, 0.9, joint=True), [one], [0.0, 4.0])
    assert rows(samples, "advantage") == [0.0]
    assert rows(samples, "returns") == [2.0]


def test_groups_are_estimated_apart() -> None:
    slots, _, _ = random_hours(6, 2)
    alone = estimated(rollout(0.9, 0.8), slots[:3], [1.0, 1.0])
    both = rollout(0.9, 0.8)
    for k in range(3):
        both.add(0, slots[k])
        both.add(1, slots[3 + k])
    both.finish([torch.ones(1, 2).double(), torch.zeros(1, 2).double()])
    assert len(both.samples) == 6
    for sample in alone:
        twin = next(s for s in both.samples if s.slot is sample.slot)
        assert torch.equal(twin.advantage, sample.advantage)


@pytest.mark.parametrize(
    ("slots", "share", "batches"),
    [(4, 1.0, 5), (3, 1.0, 6), (5, 0.5, 2), (20, 0.1, 1), (1, 0.25, 5)],
)
def test_an_epoch_meets_each_sample_at_most_once(slots: int, share: float, batches: int) -> None:
    torch.manual_seed(0)
    buffer = rollout(0.9, 0.9)
    estimated(buffer, random_hours(20, 2)[0], [0.0, 0.0])
    epochs = []
    for _ in range(2):
        drawn = list(buffer.minibatches(slots, share))
        assert [len(batch) for batch in drawn] == [slots] * batches
        met = [id(sample) for batch in drawn for sample in batch]
        assert len(set(met)) == len(met)
        epochs.append(met)
    assert epochs[0] != epochs[1]


def test_a_reset_forgets() -> None:
    buffer = rollout(0.9, 0.9)
    estimated(buffer, random_hours(4, 2)[0], [0.0, 0.0])
    buffer.reset()
    assert buffer.samples == []
    assert buffer.groups == []

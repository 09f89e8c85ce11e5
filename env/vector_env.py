"""AllocationVectorEnv: many worlds in one batch, tensors inside, NumPy or torch outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from env.crowding import crowding_usd
from env.errors import InputError
from env.gym_env import action_space, checked_orders, observation_space
from env.objective import dollar_worth
from env.scenario import Scenario, build_scenario
from env.shocks import episode_seed
from env.state import Outcome
from env.world import World


class AllocationVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """`num_envs` worlds that share one clock; the batched form of `AllocationEnv`.

    Spaces, rewards and arguments are those of `AllocationEnv`. `output="torch"` returns tensors on
    `device` and takes tensors. `info` of a step: `reward_rig` [B, R], `net_usd` [B], `illegal` [B],
    with `crowding=True` also `crowding_rig` [B, R], what each rig took from the others' reward; at
    the last hour also `final_obs` and `final_info` with the `ledger`. Autoreset is SAME_STEP:
    episode k of a row uses the seed `episode_seed(seed, k)`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        fleet: str | Mapping[str, Any] = "mixed",
        networks: str | Mapping[str, Any] = "default",
        market: str | Mapping[str, Any] = "synthetic",
        objective: str | Mapping[str, Any] = "profit",
        horizon: int = 720,
        device: str | torch.device = "cpu",
        output: Literal["numpy", "torch"] = "numpy",
        scenario: Scenario | None = None,
        render_mode: str | None = None,
        crowding: bool = False,
    ) -> None:
        if num_envs < 1:
            raise InputError("num_envs", "a number above 0", num_envs)
        if render_mode is not None:
            one = "none for a batch of worlds; `AllocationEnv` shows one"
            raise InputError("render_mode", one, render_mode)
        self.scenario = scenario or build_scenario(
            fleet, networks, market, objective, horizon, device
        )
        self.num_envs = num_envs
        self.output = output
        self.crowding = crowding
        self.render_mode = render_mode
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.single_observation_space = observation_space(self.scenario)
        self.single_action_space = action_space(self.scenario)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._first_seeds: list[int] = []
        self._episode = 0
        self._world: World | None = None
        self._observation: dict[str, Tensor] = {}
        self._mask = torch.empty(0)

    @property
    def world(self) -> World:
        """The running worlds; raises before the first reset."""
        if self._world is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        return self._world

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start fresh worlds: an int seeds rows s, s + 1, ...; None goes on with new episodes.

        An environment that was never given a seed draws one, so that two of them differ.
        """
        if seed is None and self._world is not None:
            self._episode += 1
        else:
            first = int(self.np_random.integers(1 << 62)) if seed is None else seed
            self._first_seeds = _row_seeds(first, self.num_envs)
            self._episode = 0
        self._begin()
        return self._out(self._observation), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One hour of every world under its orders, [B, R] in 0..N."""
        orders = checked_orders(actions, (self.num_envs, self.scenario.rig_count), self.scenario)
        illegal, hour = self.world.state.illegal, self.world.now
        equity_usd = self.world.state.equity_usd.float()
        reward_rig, outcome = self.world.step(orders)
        info = self._info(reward_rig, outcome, illegal)
        if self.crowding:
            taken = crowding_usd(self.scenario, self.world.fleet, hour, outcome)
            nominal, net_usd = self.world.fleet.nominal_usd_h.sum(-1), outcome.net_usd.sum(-1)
            worth = dollar_worth(self.scenario.objective, net_usd, nominal, equity_usd)
            info["crowding_rig"] = self._out(taken * (worth / nominal).unsqueeze(-1))
        done = self.world.done
        self._look()
        if done:
            info["final_obs"] = self._out(self._observation)
            info["final_info"] = {"ledger": self._out(self.world.ledger())}
            info["_final_obs"] = info["_final_info"] = np.ones(self.num_envs, dtype=bool)
            self._episode += 1
            self._begin()
        ends = torch.full((self.num_envs,), done, device=self.scenario.device)
        reward = reward_rig.sum(-1)
        return (
            self._out(self._observation),
            self._out(reward),
            self._out(torch.zeros_like(ends)),
            self._out(ends),
            info,
        )

    def action_masks(self) -> Any:
        """Legal choices, flat as `sb3-contrib` expects: bool [B, R * (N + 1)]."""
        if self._world is None:
            raise gymnasium.error.ResetNeeded("call reset before action_masks")
        return self._out(self._mask.clone())

    def save(self) -> dict[str, Any]:
        """Where the worlds stand, for `restore`: tensors and plain numbers."""
        return {
            **self.world.save(),
            "first_seeds": list(self._first_seeds),
            "episode": self._episode,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on, to the bit, from what `save` gave of as many worlds of the same scenario.

        Its tensors may come from a file: wherever they are, they go to this environment's device.
        """
        device = self.scenario.device
        here = {k: v.to(device) if torch.is_tensor(v) else v for k, v in saved.items()}
        self._first_seeds, self._episode = list(saved["first_seeds"]), saved["episode"]
        self._world = World.restore(self.scenario, here)
        self._look()

    def _begin(self) -> None:
        seeds = [episode_seed(s, self._episode) for s in self._first_seeds]
        self._world = World.start(self.scenario, seeds)
        self._look()

    def _look(self) -> None:
        """Observe, and keep the mask apart from what the caller may write into."""
        self._observation = self.world.observe()
        self._mask = self._observation["action_mask"].flatten(1) > 0

    def _info(self, reward_rig: Tensor, outcome: Outcome, illegal: Tensor) -> dict[str, Any]:
        return {
            "reward_rig": self._out(reward_rig),
            "net_usd": self._out(outcome.net_usd.sum(-1)),
            "illegal": self._out(self.world.state.illegal - illegal),
        }

    def _out(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._out(item) for key, item in value.items()}
        return value if self.output == "torch" else value.cpu().numpy()


def _row_seeds(seed: int | Sequence[int | None], rows: int) -> list[int]:
    if isinstance(seed, int | np.integer):
        return [int(seed) + row for row in range(rows)]
    seeds = [int(s) for s in seed if s is not None]
    if len(seeds) != rows:
        raise InputError("seed", f"{rows} seeds, one a row", list(seed))
    return seeds

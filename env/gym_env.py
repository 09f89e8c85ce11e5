"""AllocationEnv: one world behind the Gymnasium interface, NumPy in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from env.errors import InputError
from env.observation import COLUMNS
from env.scenario import Scenario, build_scenario
from env.shocks import episode_seed
from env.world import World


def observation_space(scenario: Scenario) -> spaces.Dict:
    """Raw physical quantities, float32; names and units of the columns in `observation.COLUMNS`."""
    r, n = scenario.rig_count, scenario.network_count
    leading = {"rigs": (r,), "networks": (n,), "pairs": (r, n), "market": ()}
    boxes: dict[str, spaces.Space[Any]] = {
        group: spaces.Box(-np.inf, np.inf, (*shape, len(COLUMNS[group])), np.float32)
        for group, shape in leading.items()
    }
    boxes["action_mask"] = spaces.Box(0.0, 1.0, (r, n + 1), np.float32)
    return spaces.Dict(boxes)


def action_space(scenario: Scenario) -> spaces.MultiDiscrete:
    """One order per rig: 0 holds, i moves to network i - 1."""
    return spaces.MultiDiscrete([scenario.network_count + 1] * scenario.rig_count)


def checked_orders(actions: Any, shape: tuple[int, ...], scenario: Scenario) -> Tensor:
    """Actions as int64 orders on the device; a wrong shape, type or range is an InputError."""
    if isinstance(actions, Tensor):
        if actions.is_floating_point():
            raise InputError("action", "whole numbers", actions.dtype)
        orders = actions.to(device=scenario.device, dtype=torch.int64)
    else:
        array = np.asarray(actions)
        if array.dtype.kind not in "iu":
            raise InputError("action", "whole numbers", array.dtype)
        orders = torch.from_numpy(array.astype(np.int64)).to(scenario.device)
    if tuple(orders.shape) != shape:
        raise InputError("action", f"shape {shape}", tuple(orders.shape))
    low, high = torch.aminmax(orders)
    if int(low) < 0 or int(high) > scenario.network_count:
        raise InputError("action", f"orders in 0..{scenario.network_count}", (int(low), int(high)))
    return orders


class AllocationEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A fleet of R rigs that earns on N networks, one hour a step.

    Observation: Dict of float32 `rigs` (R, .), `networks` (N, .), `pairs` (R, N, .), `market` (.)
    in physical units, and `action_mask` (R, N + 1); the columns are `env.observation.COLUMNS`.
    Action: MultiDiscrete([N + 1] * R), 0 = hold, i = move to network i - 1; the last network is
    *off*. An order that cannot be carried out holds, and `info["illegal"]` counts it.
    Reward: net profit of the hour in USD over the fleet's nominal hourly cost, or the objective.
    Ends: by truncation after `horizon` hours, with the `ledger` in `info`; never by termination.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        fleet: str | Mapping[str, Any] = "mixed",
        networks: str | Mapping[str, Any] = "default",
        market: str | Mapping[str, Any] = "synthetic",
        objective: str | Mapping[str, Any] = "profit",
        horizon: int = 720,
        device: str | torch.device = "cpu",
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError("render_mode", "ansi or rgb_array", render_mode)
        self.scenario = build_scenario(fleet, networks, market, objective, horizon, device)
        self.render_mode = render_mode
        self.observation_space: spaces.Space[Any] = observation_space(self.scenario)
        self.action_space = action_space(self.scenario)
        self._first_seed = 0
        self._episode = 0
        self._world: World | None = None
        self._mask = np.ones((self.scenario.rig_count, self.scenario.network_count + 1), bool)
        self._history: list[np.ndarray] = []

    @property
    def world(self) -> World:
        """The running world; raises before the first reset."""
        if self._world is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        return self._world

    @torch.inference_mode()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start the world of `seed`; without one, the next episode of the last seed.

        An environment that was never given a seed draws one, so that two of them differ.
        """
        if seed is not None:
            super().reset(seed=seed)
            self._first_seed, self._episode = seed, 0
        elif self._world is None:
            self._first_seed = int(self.np_random.integers(1 << 62))
        else:
            self._episode += 1
        self._world = World.start(self.scenario, [episode_seed(self._first_seed, self._episode)])
        self._history = [self._assignment()]
        return self._observe(), {}

    @torch.inference_mode()
    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One hour of the fleet under its orders."""
        orders = checked_orders(action, (self.scenario.rig_count,), self.scenario)
        before = self.world.state.illegal
        reward_rig, outcome = self.world.step(orders.unsqueeze(0))
        info: dict[str, Any] = {
            "net_usd": float(outcome.net_usd.sum()),
            "illegal": int(self.world.state.illegal - before),
            "reward_rig": reward_rig[0].cpu().numpy(),
        }
        if self.world.done:
            info["ledger"] = {k: v[0].cpu().numpy() for k, v in self.world.ledger().items()}
        self._history.append(self._assignment())
        return self._observe(), float(reward_rig.sum()), False, self.world.done, info

    def action_masks(self) -> np.ndarray:
        """Legal choices, flat as `sb3-contrib` expects: bool [R * (N + 1)]."""
        return self._mask.reshape(-1)

    def render(self) -> Any:
        """A table of rigs and networks (ansi), or a picture of the allocation (rgb_array)."""
        if self.render_mode is None:
            return None
        from env.render import picture, table

        if self.render_mode == "ansi":
            return table(self.world)
        return picture(self.world, np.stack(self._history))

    def _observe(self) -> dict[str, np.ndarray]:
        observation = {k: v[0].cpu().numpy() for k, v in self.world.observe().items()}
        self._mask = observation["action_mask"] > 0
        return observation

    def _assignment(self) -> np.ndarray:
        return self.world.state.assignment[0].cpu().numpy().copy()

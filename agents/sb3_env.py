"""Our vector environment as a Stable-Baselines3 VecEnv, for stock algorithms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from env.errors import InputError
from env.vector_env import AllocationVectorEnv


class FleetVecEnv(VecEnv):
    """Adapter over an AllocationVectorEnv with NumPy output; rows never end apart from each other.

    `first_seed` gives row i the seed `first_seed + i` at the first reset, as `seed()` does; later
    resets go on with new episodes. At an episode's end `infos` carry `terminal_observation` and
    `TimeLimit.truncated`, from which stock algorithms bootstrap the value. Between calls of
    `take_totals` the adapter adds up what the hours brought.
    """

    def __init__(self, worlds: AllocationVectorEnv, first_seed: int | None = None) -> None:
        if worlds.output != "numpy":
            raise InputError("output", "numpy", worlds.output)
        self.worlds = worlds
        super().__init__(
            worlds.num_envs, worlds.single_observation_space, worlds.single_action_space
        )
        if first_seed is not None:
            self.seed(first_seed)
        self._actions: NDArray[Any] | None = None
        self._totals = {"hours": 0, "net_usd": 0.0, "reward": 0.0, "illegal": 0}

    def reset(self) -> VecEnvObs:
        seeded = self._seeds[0] is not None
        observation, info = self.worlds.reset(seed=self._seeds if seeded else None)
        self.reset_infos = [dict(info) for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        observation, reward, terminated, truncated, info = self.worlds.step(self._actions)
        self._add(info, reward)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = terminated | truncated
        for row in np.flatnonzero(done):
            infos[row] = {
                "terminal_observation": {k: v[row] for k, v in info["final_obs"].items()},
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
            }
        return observation, reward, done, infos

    def take_totals(self) -> dict[str, float]:
        """Sums over all worlds since the last call: `hours`, `net_usd`, `reward`, `illegal`."""
        totals, self._totals = self._totals, dict.fromkeys(self._totals, 0)
        return totals

    def close(self) -> None:
        self.worlds.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environment, the same object for each row."""
        value = getattr(self.worlds, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Rows share one object, so an attribute can only be set for all of them."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise InputError("indices", "all rows", indices)
        setattr(self.worlds, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a batched method once and hand out its rows (`action_masks` for MaskablePPO)."""
        rows = getattr(self.worlds, method_name)(*args, **kwargs)
        return [rows[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def _add(self, info: dict[str, Any], reward: NDArray[Any]) -> None:
        self._totals["hours"] += len(reward)
        self._totals["net_usd"] += float(info["net_usd"].sum())
        self._totals["reward"] += float(reward.sum())
        self._totals["illegal"] += int(info["illegal"].sum())

"""Our vector environment as a Stable-Baselines3 VecEnv, for stock algorithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn
from torch import Tensor

from env.errors import InputError
from env.vector_env import AllocationVectorEnv


class FleetVecEnv(VecEnv):
    """Adapter over one or more AllocationVectorEnv, whose rows it puts one after the other.

    `first_seed` gives row i the seed `first_seed + i` at the first reset, as `seed()` does; later
    resets go on with new episodes. At an episode's end `infos` carry `terminal_observation` and
    `TimeLimit.truncated`, from which stock algorithms bootstrap the value. `FleetPPO` works
    on the `groups` themselves, in tensors.
    """

    def __init__(
        self,
        worlds: AllocationVectorEnv | Sequence[AllocationVectorEnv],
        first_seed: int | None = None,
    ) -> None:
        self.groups = (worlds,) if isinstance(worlds, AllocationVectorEnv) else tuple(worlds)
        self.worlds = self.groups[0]
        self._ends = np.cumsum([g.num_envs for g in self.groups]).tolist()
        super().__init__(
            self._ends[-1], self.worlds.single_observation_space, self.worlds.single_action_space
        )
        if first_seed is not None:
            self.seed(first_seed)
        self._actions: NDArray[Any] | None = None

    def reset(self) -> VecEnvObs:
        seeded = self._seeds[0] is not None
        seeds = self._rows(self._seeds) if seeded else [None] * len(self.groups)
        parts = [g.reset(seed=s)[0] for g, s in zip(self.groups, seeds, strict=True)]
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return _join(parts)

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        steps: list[tuple[Any, NDArray[Any], NDArray[Any]]] = []
        for group, actions in zip(self.groups, self._rows(self._actions), strict=True):
            observation, reward, terminated, truncated, info = map(_plain, group.step(actions))
            first = sum(len(one[1]) for one in steps)
            for row in np.flatnonzero(truncated):
                infos[first + row] = {
                    "terminal_observation": {k: v[row] for k, v in info["final_obs"].items()},
                    "TimeLimit.truncated": True,
                }
            steps.append((observation, reward, terminated | truncated))
        observations, rewards, dones = zip(*steps, strict=True)
        return _join(observations), np.concatenate(rewards), np.concatenate(dones), infos

    def _rows(self, rows: Any) -> list[Any]:
        """Rows of all worlds by group."""
        starts = [0, *self._ends[:-1]]
        return [rows[a:b] for a, b in zip(starts, self._ends, strict=True)]

    def close(self) -> None:
        for group in self.groups:
            group.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each row's group, the same object for all its rows."""
        values = [getattr(g, attr_name) for g in self.groups for _ in range(g.num_envs)]
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Rows share one object, so an attribute can only be set for all of them."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise InputError("indices", "all rows", indices)
        for group in self.groups:
            setattr(group, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a batched method once and hand out its rows (`action_masks` for MaskablePPO)."""
        rows = [row for g in self.groups for row in getattr(g, method_name)(*args, **kwargs)]
        return [rows[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def _plain(value: Any) -> Any:
    """Tensors, in whatever nest of dictionaries, as NumPy arrays."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def _join(parts: Sequence[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Observations of the groups as one, rows in order."""
    plain = [_plain(part) for part in parts]
    return {key: np.concatenate([part[key] for part in plain]) for key in plain[0]}

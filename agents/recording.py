"""What a run leaves as it trains: rows of metrics, scores on validation worlds, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents.checkpoint import Best, save_checkpoint, state
from agents.ppo import FleetPPO
from agents.scoring import HOURS_PER_DAY
from agents.tracking import Tracker
from agents.training import AgentConfig
from agents.validation import Validated, Validation

_ROLLOUT = ("net_usd_rig_day", "reward_hour", "moves_rig_day", "illegal_orders_rig_day")
_LEARNING = (
    "policy_gradient_loss",
    "value_loss",
    "entropy_loss",
    "hindsight_loss",
    "approx_kl",
    "clip_fraction",
    "explained_variance",
)
COLUMNS = (
    "global_step",
    *(f"rollout/{name}" for name in _ROLLOUT),
    *(f"train/{name}" for name in _LEARNING),
    *(f"validation/{name}" for name in Validated._fields),
)

Show = Callable[[int, float, float | None], None]  # step, net USD per rig-day, gap closed


class Record(BaseCallback):
    """After each rollout and its update: a row of metrics, at times a score, and a checkpoint.

    best: the best policy so far where training goes on from a checkpoint, whose row is written.
    """

    model: FleetPPO

    def __init__(
        self,
        config: AgentConfig,
        run: Path,
        tracker: Tracker,
        validation: Validation,
        show: Show,
        best: Best | None = None,
    ) -> None:
        super().__init__()
        self._config, self._run = config, run
        self._tracker, self._validation, self._show = tracker, validation, show
        self._best = best
        # of the last policy scored; after a resume of the best one, until another is
        self._gap = best.score.gap_closed if best else None
        self._row: dict[str, Any] | None = {} if best is None else None  # what is to be written

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        totals, hours = self.model.take_totals(), self._config.rollout
        rig_days = hours * self._validation.scenario.rig_count / HOURS_PER_DAY
        slots = [slot for group in self.model.rollout_buffer.groups for slot in group]
        moves = sum(int((slot.orders > 0).sum()) for slot in slots)
        self._row = {
            "rollout/net_usd_rig_day": totals["net_usd"] / rig_days,
            "rollout/reward_hour": totals["reward"] / hours,
            "rollout/moves_rig_day": moves / rig_days,
            "rollout/illegal_orders_rig_day": totals["illegal"] / rig_days,
        }

    def _on_rollout_start(self) -> None:
        self._write()

    def _on_training_end(self) -> None:
        self._write()

    def _write(self) -> None:
        """Record what was lived since the last row, and keep where training stands."""
        if self._row is None:
            return
        row, step = self._row, self.model.num_timesteps
        self._row = None
        if row:
            learned = dict(self.logger.name_to_value)
            row |= {f"train/{name}": learned[f"train/{name}"] for name in _LEARNING}
        if step % self._config.validation_every == 0 or step >= self._config.total_timesteps:
            score = self._validate(step)
            row |= {f"validation/{name}": value for name, value in score._asdict().items()}
        self._tracker.log({**dict.fromkeys(COLUMNS), "global_step": step, **row})
        assert self._best is not None
        save_checkpoint(self._run, step, self._best, state(self.model))
        if step:
            self._show(step, row["rollout/net_usd_rig_day"], self._gap)

    def _validate(self, step: int) -> Validated:
        """Score the policy; it is kept where it is the best so far."""
        policy = self.model.policy
        policy.set_training_mode(False)
        score = self._validation.score(policy.orders)
        self._gap = score.gap_closed
        if self._best is None or score.net_usd_rig_day > self._best.score.net_usd_rig_day:
            weights = {name: value.clone() for name, value in policy.state_dict().items()}
            self._best = Best(step, score, self._config.network, weights)
        return score

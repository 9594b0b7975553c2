"""Division of a run's steps into warm-up, rows of metrics and iterations."""

from __future__ import annotations

from typing import Any, NamedTuple

from purerl.config import Config
from purerl.types import Algorithm


class Schedule(NamedTuple):
    """Division of a member's steps: warm-up, then `rows` rows of `iterations` updates each."""

    warmup_steps: int
    iteration_steps: int
    """Environment steps of one rollout and update."""
    iterations: int
    """Rollouts and updates per row of metrics."""
    rows: int

    @property
    def row_steps(self) -> int:
        """Environment steps per row of metrics."""
        return self.iterations * self.iteration_steps

    @property
    def total_steps(self) -> int:
        """Environment steps in all."""
        return self.warmup_steps + self.rows * self.row_steps

    def rows_by(self, step: int) -> int:
        """Return the number of rows that are complete by `step`; the warm-up, where there is one, is one."""
        learned = step - self.warmup_steps
        return 0 if learned < 0 else bool(self.warmup_steps) + learned // self.row_steps

    def passes(self, interval: int, step: Any) -> Any:
        """Return True if the row of training that ends at `step` passed a multiple of `interval`."""
        return step // interval > (step - self.row_steps) // interval

    def evaluates_at(self, cfg: Config, step: Any) -> Any:
        """Return True if the row that ends at `step` passed a multiple of `eval_interval`, or is the last."""
        if cfg.eval_interval == 0:
            return False
        return self.passes(cfg.eval_interval, step) | (step >= self.total_steps)


def make_schedule(cfg: Config, algo: Algorithm) -> Schedule:
    """Return the schedule of a run; totals are rounded up to whole rows."""
    iteration_steps = algo.num_envs * algo.num_steps
    wanted = max(cfg.total_timesteps - algo.warmup_steps, 1)
    iterations = -(-min(cfg.log_interval, wanted) // iteration_steps)
    rows = -(-wanted // (iterations * iteration_steps))
    return Schedule(algo.warmup_steps, iteration_steps, iterations, rows)


def rounding_note(cfg: Config, schedule: Schedule) -> str:
    """Return the sentence that says how `total_timesteps` was rounded."""
    return (
        f"total_timesteps {cfg.total_timesteps:,} becomes {schedule.total_steps:,}: "
        f"{schedule.warmup_steps:,} of warm-up and {schedule.rows:,} rows of {schedule.row_steps:,} steps"
    )

"""Stops a run whose policy falls apart, before it spends the rest of its time."""

import math
from typing import Any

from alpamayo_jax.config import ConfigError
from alpamayo_jax.settings import RLSettings


class PolicyCollapsed(RuntimeError):
    """The reward fell or the samples grew beyond what was allowed; the message has the numbers."""


class Guard:
    """Compares the last rollouts with the first ones.

    A rollout whose reward is not known, because its critic failed throughout, is not counted.
    """

    def __init__(self, steps: int, drop: float, growth: float):
        """Has seen nothing yet.

        Args:
          steps: how many rollouts both means are over; 0 watches nothing.
          drop: by how much the mean reward may fall.
          growth: by what factor the mean length of samples may grow.

        Raises:
          ConfigError: a number that makes no sense.
        """
        if steps < 0 or not drop > 0 or not growth > 1:
            raise ConfigError(
                f"guard of {steps} steps, drop {drop} and growth {growth}: steps must be 0 or "
                "more, drop above 0 and growth above 1"
            )
        self.steps, self.drop, self.growth = steps, drop, growth
        self._first: list[list[float]] = []
        self._last: list[list[float]] = []

    @classmethod
    def from_settings(cls, settings: RLSettings) -> "Guard":
        """The guard of a stage."""
        return cls(settings.guard_steps, settings.guard_drop, settings.guard_growth)

    def watch(self, step: int, reward: float, num_tokens: float) -> None:
        """Takes the mean reward and the mean number of tokens of one rollout.

        Args:
          step: optimiser steps so far, for the message.
          reward: NaN where it is not known.
          num_tokens: per sample.

        Raises:
          PolicyCollapsed: the means of the last `steps` rollouts are out of bounds.
        """
        if not self.steps or not math.isfinite(reward):
            return
        if len(self._first) < self.steps:
            self._first.append([float(reward), float(num_tokens)])
            return
        self._last = [*self._last, [float(reward), float(num_tokens)]][-self.steps :]
        if len(self._last) < self.steps:
            return
        (was, short), (now, long) = _means(self._first), _means(self._last)
        if now < was - self.drop:
            raise PolicyCollapsed(
                f"step {step}: the mean reward of the last {self.steps} rollouts is {now:.3f}, "
                f"that of the first ones was {was:.3f}; a fall of {self.drop} stops the run. Lower "
                f"the learning rate, raise rl.kl, or allow it by guard_drop"
            )
        if long > short * self.growth:
            raise PolicyCollapsed(
                f"step {step}: samples of the last {self.steps} rollouts have {long:.1f} tokens, "
                f"those of the first ones had {short:.1f}; {self.growth} times as many stop the "
                f"run. Lower the learning rate, raise rl.kl, or allow it by guard_growth"
            )

    def get_state(self) -> dict[str, Any]:
        """Plain values that `set_state` takes."""
        return {"first": [list(x) for x in self._first], "last": [list(x) for x in self._last]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from `get_state` of a guard with the same settings."""
        self._first = [list(x) for x in state["first"]]
        self._last = [list(x) for x in state["last"]]


def _means(rows: list[list[float]]) -> tuple[float, float]:
    return tuple(sum(column) / len(rows) for column in zip(*rows))

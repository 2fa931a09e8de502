"""What a reward is: episodes in, one score per sample out; a critic and a formula look the same.

Letters: B windows, K samples of each, W waypoints. Everything is on the host, in NumPy.
"""

import dataclasses
from typing import Protocol

import chex
import numpy as np

from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.rl.rewards.scene import Scene
from alpamayo_jax.types import Observation, Target


@dataclasses.dataclass(frozen=True)
class Situation:
    """What is known of one window.

    Attributes:
      observation: what the policy saw; its last frames are what a critic looks at.
      target: what the driver did, and the reference reasoning ("" where there is none).
      scene: boxes of the others, or None where nobody annotated them.
      label: the reference reasoning as a label, or None where there is at most its text.
    """

    observation: Observation
    target: Target
    scene: Scene | None = None
    label: CocLabel | None = None


@dataclasses.dataclass(frozen=True)
class Episodes:
    """K samples of each of B windows.

    Attributes:
      situations: B.
      reasoning: B x K texts; "" where a sample gave none.
      xyz: float32 [B, K, W, 3], ego frame at t0, metres; finite, also where not valid.
      rot: float32 [B, K, W, 3, 3].
      trajectory_valid: bool [B, K]; False where the tokens are not one whole trajectory.
      ended: bool [B, K]; whether the sample came to its end by itself.
      num_tokens: int32 [B, K], sampled.
    """

    situations: tuple[Situation, ...]
    reasoning: tuple[tuple[str, ...], ...]
    xyz: np.ndarray
    rot: np.ndarray
    trajectory_valid: np.ndarray
    ended: np.ndarray
    num_tokens: np.ndarray

    def __post_init__(self):
        batch, samples = self.shape
        waypoints = self.xyz.shape[2]
        chex.assert_shape(self.xyz, (batch, samples, waypoints, 3))
        chex.assert_shape(self.rot, (batch, samples, waypoints, 3, 3))
        for value in (self.trajectory_valid, self.ended, self.num_tokens):
            chex.assert_shape(value, (batch, samples))
        if len(self.situations) != batch or any(len(r) != samples for r in self.reasoning):
            raise ValueError(f"episodes: {len(self.situations)} situations, shape {self.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """(B, K)."""
        return len(self.reasoning), self.xyz.shape[1]


@dataclasses.dataclass(frozen=True)
class Scores:
    """One number per sample.

    Attributes:
      values: float32 [B, K], finite, between the reward's `low` and `high`.
      valid: bool [B, K]; False where there is no score, because a critic failed: the sample is left
        out of training.
      measured: bool [B, K]; False where the value only follows from a rule (a malformed trajectory
        has the worst one, a window without a reference the same one for all its samples) and so
        does not belong in a mean.
    """

    values: np.ndarray
    valid: np.ndarray
    measured: np.ndarray

    def __post_init__(self):
        chex.assert_rank(self.values, 2)
        chex.assert_equal_shape([self.values, self.valid, self.measured])

    def mean(self) -> float:
        """Mean of what was measured; NaN where nothing was."""
        counts = self.valid & self.measured
        return float(self.values[counts].mean()) if counts.any() else float("nan")


class Reward(Protocol):
    """Anything that scores samples.

    Attributes:
      name: of the component, in logs and summaries.
      unit: of its values, "" for a plain number.
      low, high: the range of its values.
      cost: whether less is better.
    """

    name: str
    unit: str
    low: float
    high: float
    cost: bool

    def __call__(self, episodes: Episodes) -> Scores:
        """The scores; never raises because a critic fails."""

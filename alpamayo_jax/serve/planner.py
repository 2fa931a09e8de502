"""What makes plans of observations: a policy, in batches of a few sizes that are compiled ahead."""

import dataclasses
import time
from typing import Protocol, Sequence

from absl import logging
import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.windows import FRAME_DT, NUM_HISTORY
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.streaming import Drives, Reuses
from alpamayo_jax.tokens.images import resize_uint8, smart_resize
from alpamayo_jax.types import CameraFrames, Observation, Prediction


class Planner(Protocol):
    """Anything that can drive behind the service."""

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """A frame uint8 [height, width, 3] as it should be kept until it is needed."""

    def plan(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[Prediction]:
        """One prediction per observation; equal seeds and observations give equal plans."""


class PolicyPlanner:
    """A checkpoint's policy. Only batch sizes 1, 2, 4, ... `max_batch` are ever run.

    Args:
      policy: from `load_policy`.
      settings: how it is sampled.
      max_batch: most observations in one program call; a power of two.

    Raises:
      ConfigError: `max_batch` is not a power of two.
    """

    def __init__(self, policy: Policy, settings: SampleSettings, max_batch: int = 8):
        if max_batch < 1 or max_batch & (max_batch - 1):
            raise ConfigError(f"max_batch {max_batch} must be a power of two")
        self.policy, self.settings, self.max_batch = policy, settings, max_batch

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The image at the size that the vision tower reads.

        A frame stays in view for several plans; it is resized once, to the very pixels that the
        processor would make each time.
        """
        config = self.policy.config
        if config.prompt.float_resize:
            return image
        factor = config.vision.patch_size * config.vision.spatial_merge_size
        limits = config.prompt.min_pixels, config.prompt.max_pixels
        height, width = smart_resize(*image.shape[:2], factor, *limits)
        return resize_uint8(image.transpose(2, 0, 1), height, width).transpose(1, 2, 0)

    def plan(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[Prediction]:
        """Samples all observations as one batch, filled up to the next size by repetition."""
        count = len(observations)
        size = 1 << (count - 1).bit_length()
        filled = [observations[i % count] for i in range(size)]
        filled_seeds = [seeds[i % count] for i in range(size)]
        return sample(self.policy, filled, seed=filled_seeds, settings=self.settings)[:count]

    def warm(
        self, cameras: Sequence[int], num_frames: int, height: int, width: int, navigation: bool
    ) -> None:
        """Compiles every batch size for observations of these cameras, sizes and frames."""
        blank = self.prepare(np.full((height, width, 3), 128, np.uint8))
        times = -FRAME_DT * np.arange(num_frames - 1, -1, -1)
        x = np.arange(1 - NUM_HISTORY, 1) * 0.5
        observation = Observation(
            cameras=tuple(
                CameraFrames(index, np.repeat(blank[None], num_frames, 0), times)
                for index in cameras
            ),
            ego_history_xyz=np.stack([x, 0 * x, 0 * x], -1).astype(np.float32),
            ego_history_rot=np.tile(np.eye(3, dtype=np.float32), (NUM_HISTORY, 1, 1)),
            navigation="Continue straight" if navigation else None,
            clip_id="warm-up",
        )
        self._warm(observation)

    def _warm(self, observation: Observation) -> None:
        size = 1
        while size <= self.max_batch:
            begin = time.perf_counter()
            self.plan([observation] * size, [0] * size)
            logging.info("batches of %d: ready in %.1f s", size, time.perf_counter() - begin)
            size *= 2


class StreamingPlanner(PolicyPlanner):
    """A checkpoint's policy that uses what each session has seen and said a step before.

    Observations are told apart by their `clip_id` and planned one after the other.

    Args:
      policy: from `load_policy`.
      settings: how it is sampled.
      reuse: see `decode.streaming.Drive`.
      most: sessions that are remembered.

    Attributes:
      drives: the sessions.
    """

    def __init__(self, policy: Policy, settings: SampleSettings, reuse: Reuses, most: int = 8):
        super().__init__(policy, settings, max_batch=1)
        self.drives = Drives(policy, settings, reuse=reuse, most=most)

    def plan(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[Prediction]:
        """One plan after the other."""
        return self.drives([o.clip_id for o in observations], observations, seeds)

    def _warm(self, observation: Observation) -> None:
        begin = time.perf_counter()
        for step in range(3):
            moved = dataclasses.replace(observation, t0=FRAME_DT * step)
            self.plan([moved], [0])
        self.drives.totals.clear()
        logging.info("streaming: ready in %.1f s", time.perf_counter() - begin)

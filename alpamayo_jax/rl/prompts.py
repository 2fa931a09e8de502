"""Windows of clips as prompts: their order, what is known of them, and what the policy reads."""

from typing import Sequence

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.pipeline import row_order
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.rl.rewards.base import Situation
from alpamayo_jax.rl.rewards.scene import window_scene
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.prompt import DRIVE_REQUEST
from alpamayo_jax.types import ModelInputs


class Prompts:
    """A list of windows that is gone through again and again, shuffled anew each time.

    The order is a function of the seed alone: rollout number n has the same windows in every run.
    """

    def __init__(
        self,
        source: ClipSource,
        windows: Sequence[Window],
        processor: Processor,
        *,
        seed: int,
        num_frames: int = 4,
        pad_to: int | str | None = "bucket",
        components: Sequence[str] = (),
    ):
        """Reads nothing yet.

        Args:
          source: the clips. One that has `label(clip number, t0)` gives references to the critic.
          windows: (clip number, t0).
          processor: makes the inputs.
          seed: of the order.
          num_frames: frames per camera.
          pad_to: tokens of a prompt, as in `Processor.inputs`.
          components: what is asked for; reasoning, then the trajectory, where it is empty.

        Raises:
          ConfigError: no windows, or components that do not end with the trajectory.
        """
        if not windows:
            raise ConfigError(f"source {source.name} has no windows to roll out on")
        request = tuple(components) or DRIVE_REQUEST
        if request[-1] != "traj_future":
            raise ConfigError(
                f"components {request} of a policy that drives must end with 'traj_future'"
            )
        self.source, self.processor = source, processor
        self._order = row_order(source, windows, seed)
        self._num_frames, self._pad_to, self._request = num_frames, pad_to, request

    def windows(self, number: int, count: int) -> list[Window]:
        """The `count` windows of rollout number `number`, counted from 0."""
        return [self._order[i] for i in range(number * count, (number + 1) * count)]

    def situation(self, window: Window) -> Situation:
        """What the policy sees, and what rewards know besides.

        Raises:
          InputError: the window or an image of it cannot be read.
        """
        number, t0 = window
        clip = self.source.clip(number)
        labelled = getattr(self.source, "label", None)
        future = target(clip, t0)
        return Situation(
            observation=observe(clip, t0, self._num_frames),
            target=future,
            scene=window_scene(clip, t0, len(future.ego_future_xyz)),
            label=labelled(number, t0) if labelled else None,
        )

    def inputs(self, situations: Sequence[Situation]) -> ModelInputs:
        """The prompts, as NumPy arrays; raises `InputError` as `Processor.inputs`."""
        observations = [situation.observation for situation in situations]
        return self.processor.inputs(observations, pad_to=self._pad_to, request=self._request)

    def describe(self, windows: Sequence[Window]) -> list[dict]:
        """clip_id and t0 of windows."""
        named = getattr(self.source, "clip_name", lambda clip: self.source.clip(clip).clip_id)
        return [{"clip_id": named(clip), "t0": float(t0)} for clip, t0 in windows]

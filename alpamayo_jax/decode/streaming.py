"""Driving step by step at 10 Hz: what was seen and said a step ago is not computed again.

Three things carry over from one step to the next.

    frames     image features depend on one frame alone: only new frames are encoded. Exact.
    prompt     keys and values up to the first token that differs. Exact. Cameras come one after the
               other and each begins with its oldest frame, so on the road little is before it; it is
               everything when the same moment is asked again (a question, another route).
               With reuse "approximate", keys and values of frames that have moved are kept too.
    reasoning  what was said is the draft of what will be said (`decode.speculative`). Exact.
"""

import collections
import dataclasses
import functools
from typing import Hashable, Literal, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.prefix import Prefix, fuse_history, prefill
from alpamayo_jax.decode.refill import plan_reuse, refill
from alpamayo_jax.decode.sample import drive_program, prediction_of
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.speculative import Draft, draft_of
from alpamayo_jax.models.scene.streaming import Streaming
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import ModelInputs, Observation, Prediction

Reuses = Literal["exact", "approximate"]
REUSES = ("exact", "approximate")
_TIME_DIGITS = 4  # seconds; frames of one camera are further apart

_prefill = jax.jit(prefill, static_argnums=2)
_refill = jax.jit(refill, static_argnums=7)
_fuse = jax.jit(fuse_history, static_argnums=1)
_drive = jax.jit(drive_program, static_argnames=("config", "settings"))


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What one step computed.

    Attributes:
      prompt_tokens: of the prompt, without padding.
      computed_tokens: of them, those that went through the language model.
      images: of the observation.
      encoded_images: of them, those that went through the vision tower.
      passes: of the language model after the prefill.
      said_tokens: of all samples.
      proposed, accepted: tokens of the draft, see `speculative.Speculation`.
    """

    prompt_tokens: int
    computed_tokens: int
    images: int
    encoded_images: int
    passes: int
    said_tokens: int
    proposed: int
    accepted: int


@dataclasses.dataclass
class _Step:
    """What the next step may use. Names of tokens are those of `refill.plan_reuse`."""

    t0: float
    names: np.ndarray
    positions: np.ndarray
    prefix: Prefix
    token_ids: np.ndarray
    ended: np.ndarray


class Drive:
    """One drive, observation after observation.

    Args:
      policy: from `load_policy`.
      settings: how it is sampled; without guidance.
      reuse: "exact", or "approximate": also keep the keys and values of frames that have moved.
      speculate: use the reasoning of the step before as a draft; not with a `draft_block` of 1.

    Attributes:
      report: of the last step, a `StepReport`; None before the first.

    Raises:
      ConfigError: an unknown `reuse`, guidance, or a draft without `force_end`.
    """

    def __init__(
        self,
        policy: Policy,
        settings: SampleSettings,
        *,
        reuse: Reuses = "exact",
        speculate: bool = True,
    ):
        if reuse not in REUSES:
            raise ConfigError(f"reuse {reuse!r} is unknown; known: {', '.join(REUSES)}")
        if settings.guidance_weight is not None:
            raise ConfigError("guidance runs two prompts at once; streaming drives with one")
        if speculate and not settings.force_end:
            raise ConfigError("a draft needs force_end; stream with speculate=False")
        self._policy, self._settings = policy, settings
        self._moved = reuse == "approximate"
        self._speculate = speculate and settings.draft_block > 1
        self.report: StepReport | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next observation begins a drive."""
        self._vision = Streaming(self._policy.config, self._policy.params)
        self._step: _Step | None = None
        self._frames: dict[Hashable, int] = {}
        self._next_frame = 0

    def __call__(self, observation: Observation, seed: int) -> Prediction:
        """The prediction for the next moment; with reuse "exact" that of `decode.sample.sample`.

        Frames are known by camera and time, so one `Drive` serves one drive. An observation of an
        earlier time than the last one begins a new drive.

        Raises:
          InputError: a malformed observation.
        """
        if self._step is not None and observation.t0 < self._step.t0:
            self.reset()
        config, params = self._policy.config, self._policy.params
        inputs = self._policy.processor.inputs([observation], pad_to="bucket")
        scene = self._vision(inputs, observation.t0)
        unseen = inputs.replace(pixel_values=None)
        names = self._names(inputs, observation.t0)
        positions, mask = np.asarray(inputs.position_ids)[:, 0], np.asarray(inputs.attention_mask)[0]
        last, computed = self._step, int(mask.sum())
        reuse = None
        if last is not None:
            old = last.names, last.positions
            reuse = plan_reuse(old, (names, positions), mask, moved=self._moved)
        if reuse is None or not (reuse.source >= 0).any():
            prefix = _prefill(params, unseen, config, scene)
        else:
            computed = int((reuse.fresh >= 0).sum())
            shift = jnp.asarray(reuse.shift) if reuse.moved else None
            prefix = _refill(
                params, unseen, scene, last.prefix.cache, reuse.source, shift, reuse.fresh, config
            )
        out = _drive(
            params, prefix, unseen, jax.random.key(seed), config=config, settings=self._settings,
            draft=self._draft(),
        )  # fmt: skip
        host = jax.tree.map(np.asarray, out.replace(generation=out.generation.replace(cache=None)))
        prediction = prediction_of(self._policy, host, 0)
        self._step = _Step(
            observation.t0, names, positions, prefix, prediction.token_ids, prediction.ended
        )
        speculation = host.speculation
        images = int((np.asarray(inputs.camera_index) >= 0).sum())
        self.report = StepReport(
            prompt_tokens=int(mask.sum()),
            computed_tokens=computed,
            images=images,
            encoded_images=self._vision.encoded_images if images else 0,
            passes=int(host.generation.num_tokens if speculation is None else speculation.passes),
            said_tokens=int((np.asarray(host.generation.token_ids) != self._pad).sum()),
            proposed=0 if speculation is None else int(speculation.proposed.sum()),
            accepted=0 if speculation is None else int(speculation.accepted.sum()),
        )
        return prediction

    @property
    def _pad(self) -> int:
        return self._policy.config.text_tokens.pad_token_id

    def _draft(self) -> Draft | None:
        """What was said in the step before; without one an empty draft, so that one program serves
        every step."""
        if not self._speculate:
            return None
        size, last = self._settings.limit, self._step
        if last is None:
            shape = 1, self._settings.num_samples
            return Draft(np.zeros((*shape, size), np.int32), np.zeros(shape, np.int32))
        end = special_token_id(self._policy.config, "traj_future_start")
        return draft_of(last.token_ids[None], last.ended[None], size, end)

    def _names(self, inputs: ModelInputs, t0: float) -> np.ndarray:
        """What stands in every slot, int64 [S]: a token id, -1 for padding, below that an image's
        token, whose number tells frame and place."""
        index = np.asarray(inputs.image_index)[0]
        names = np.asarray(_fuse(_texts(inputs), self._policy.config))[0].astype(np.int64)
        if (index >= 0).any():
            frames = self._frame_numbers(inputs, t0)
            per_frame = self._tokens_per_frame(inputs)
            frame, place = np.divmod(np.maximum(index, 0), per_frame)
            numbers = -2 - (frames[frame] * per_frame + place)
            names = np.where(index >= 0, numbers, names)
        return np.where(np.asarray(inputs.attention_mask)[0], names, -1)

    def _tokens_per_frame(self, inputs: ModelInputs) -> int:
        config = self._policy.config
        if config.tokens_per_step is not None:
            return config.tokens_per_step
        return inputs.pixel_values.shape[2] // config.vision.merge_unit

    def _frame_numbers(self, inputs: ModelInputs, t0: float) -> np.ndarray:
        """A number for each frame (of a compressor: time step) that no other frame has had."""
        cameras = np.asarray(inputs.camera_index)[0]
        times = np.round(np.asarray(inputs.frame_time, np.float64)[0] + t0, _TIME_DIGITS)
        keys: list[Hashable] = [*zip(cameras.tolist(), times.tolist())]
        if self._policy.config.tokens_per_step is not None:
            steps = [[i for i in step if i >= 0] for step in np.asarray(inputs.step_images)[0]]
            keys = [tuple(keys[i] for i in step) for step in steps]
        # Every call changes all tokens of Flex, which looks at the distance of frames from now.
        known = {} if self._policy.config.vision.compressor == "flex" else self._frames
        numbers = {}
        for key in keys:
            if key not in numbers:
                numbers[key] = known.get(key, self._next_frame)
                self._next_frame += key not in known
        self._frames = numbers
        return np.array([numbers[key] for key in keys], np.int64)


def _texts(inputs: ModelInputs) -> ModelInputs:
    """What `fuse_history` reads."""
    bare = inputs.replace(**{field.name: None for field in dataclasses.fields(inputs)})
    return bare.replace(
        input_ids=inputs.input_ids,
        ego_history_xyz=inputs.ego_history_xyz,
        ego_history_rot=inputs.ego_history_rot,
    )


class Drives:
    """Many drives with one policy, each known by a key; the least recently used is forgotten first.

    Args:
      policy, settings, reuse, speculate: as of `Drive`.
      most: drives that are remembered. Each keeps the cache of its last prompt.

    Attributes:
      totals: "steps", and the sums of the fields of all their `StepReport`s.
    """

    def __init__(
        self,
        policy: Policy,
        settings: SampleSettings,
        *,
        reuse: Reuses = "exact",
        speculate: bool = True,
        most: int = 8,
    ):
        if most < 1:
            raise ConfigError(f"most {most} must be at least 1")
        self._make = functools.partial(
            Drive, policy, settings, reuse=reuse, speculate=speculate
        )
        self._most, self._open = most, collections.OrderedDict[Hashable, Drive]()
        self.totals: collections.Counter[str] = collections.Counter()
        self._make()  # refuses settings at once

    def __call__(
        self, keys: Sequence[Hashable], observations: Sequence[Observation], seeds: Sequence[int]
    ) -> list[Prediction]:
        """One prediction per observation, one after the other."""
        made = []
        for key, observation, seed in zip(keys, observations, seeds, strict=True):
            drive = self.of(key)
            made.append(drive(observation, seed))
            self.totals.update({"steps": 1} | dataclasses.asdict(drive.report))
        return made

    def of(self, key: Hashable) -> Drive:
        """The drive of a key, a new one where it is not remembered."""
        if key not in self._open:
            while len(self._open) >= self._most:
                self._open.popitem(last=False)
            self._open[key] = self._make()
        self._open.move_to_end(key)
        return self._open[key]

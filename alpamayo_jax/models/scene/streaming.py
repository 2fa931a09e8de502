"""Scene tokens of consecutive time steps, of which only the new frames are encoded.

Image features depend on one frame alone, so every compressor reuses those of frames seen before. A
triplane's tokens depend on one time step alone and are reused as they are. Flex looks at all frames
at once and at their distance from now, so its encoder runs again, on kept features.
"""

import dataclasses
import functools
from typing import Any, Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.types import Array, InputError, ModelInputs, SceneTokens

_TIME_DIGITS = 4  # seconds; frames of one camera are further apart


@functools.partial(jax.jit, static_argnums=0)
def _encode(config: ModelConfig, params: dict, inputs: ModelInputs) -> tuple[Array, Array]:
    return Alpamayo(config).apply({"params": params}, inputs, method="image_features")


@functools.partial(jax.jit, static_argnums=0)
def _compress(config, params, features, inputs) -> SceneTokens:
    return Alpamayo(config).apply({"params": params}, features, inputs, method="compress")


@dataclasses.dataclass
class Streaming:
    """One drive; call it at every step with the whole window of frames.

    Attributes:
      config: model.
      params: of the policy.
      encoded_images: images that the last call sent through the vision tower.
      encoded_steps: time steps that the last call compressed.
    """

    config: ModelConfig
    params: dict
    encoded_images: int = 0
    encoded_steps: int = 0
    _images: dict[Hashable, tuple[Array, Array]] = dataclasses.field(default_factory=dict)
    _steps: dict[Hashable, Array] = dataclasses.field(default_factory=dict)

    def __call__(self, inputs: ModelInputs, t0: float) -> SceneTokens:
        """Scene tokens of one observation, to be passed to `Alpamayo.prefill`.

        A frame is known by its camera and the time at which it was taken. Features of frames that
        are not in this window are forgotten.

        Args:
          inputs: one row (B = 1), as the processor makes it.
          t0: seconds on the drive's clock.

        Raises:
          InputError: more than one row, or two different images of one camera and time.
        """
        keys = self._keys(inputs, t0)
        features = self._features(inputs, keys)
        if self.config.vision.compressor == "triplane":
            return self._triplane(features, inputs, keys)
        self.encoded_steps = len(inputs.step_images[0]) if inputs.step_images is not None else 0
        return _compress(self.config, self.params, features, _without_pixels(inputs))

    def _keys(self, inputs: ModelInputs, t0: float) -> list[Hashable]:
        index, time = np.asarray(inputs.camera_index), np.asarray(inputs.frame_time, np.float64)
        if len(index) != 1:
            raise InputError(f"streaming serves one drive, got a batch of {len(index)} rows")
        keys: list[Hashable] = []
        for i, (camera, seconds) in enumerate(zip(index[0].tolist(), (time[0] + t0).tolist())):
            # An absent image is all padding, the same for every step.
            keys.append((camera, round(seconds, _TIME_DIGITS)) if camera >= 0 else (-1, i))
        # A camera slower than the steps shows one frame more than once.
        first, pixels = {}, np.asarray(inputs.pixel_values[0])
        for i, key in enumerate(keys):
            if not np.array_equal(pixels[i], pixels[first.setdefault(key, i)]):
                raise InputError(
                    f"camera {key[0]} has two different images taken {key[1]} s into the drive"
                )
        return keys

    def _features(self, inputs: ModelInputs, keys: Sequence[Hashable]) -> tuple[Array, Array]:
        new = dict.fromkeys(key for key in keys if key not in self._images)
        missing = [keys.index(key) for key in new]
        self.encoded_images = len(missing)
        if missing:
            tokens, deepstack = _encode(self.config, self.params, _only_images(inputs, missing))
            for slot, key in enumerate(new):
                self._images[key] = tokens[:, slot], deepstack[:, :, slot]
        self._images = {key: self._images[key] for key in keys}
        tokens, deepstack = zip(*(self._images[key] for key in keys))
        return jnp.stack(tokens, 1), jnp.stack(deepstack, 2)

    def _triplane(
        self, features: tuple[Array, Array], inputs: ModelInputs, keys: Sequence[Hashable]
    ) -> SceneTokens:
        lenses, poses = np.asarray(inputs.lenses[0]), np.asarray(inputs.ego_from_camera[0])
        steps = np.asarray(inputs.step_images[0])
        known: list[Hashable] = []
        for step in steps:
            seen = [i for i in step.tolist() if i >= 0]
            # A camera that was calibrated anew sees other places.
            known.append(tuple((keys[i], lenses[i].tobytes(), poses[i].tobytes()) for i in seen))
        missing = [f for f, key in enumerate(known) if key not in self._steps]
        self.encoded_steps = len(missing)
        if missing:
            window = _without_pixels(inputs).replace(step_images=jnp.asarray(steps[missing])[None])
            scene = _compress(self.config, self.params, features, window)
            new = scene.tokens.reshape(len(missing), -1, scene.tokens.shape[-1])
            self._steps |= {known[f]: new[slot] for slot, f in enumerate(missing)}
        self._steps = {key: self._steps[key] for key in known}
        tokens = jnp.concatenate([self._steps[key] for key in known])[None]
        return SceneTokens(tokens, jnp.zeros((0, *tokens.shape), tokens.dtype))


def _only_images(inputs: ModelInputs, images: Sequence[int]) -> ModelInputs:
    """What the vision tower reads, of some images."""
    chosen = np.asarray(images)
    return _bare(inputs).replace(
        pixel_values=jnp.asarray(inputs.pixel_values)[:, chosen],
        image_grid=jnp.asarray(inputs.image_grid)[:, chosen],
    )


def _without_pixels(inputs: ModelInputs) -> ModelInputs:
    """What a compressor reads; prompts and pixels would only be copied."""
    names = (
        "camera_index", "frame_time", "image_grid", "step_images", "lenses", "ego_from_camera",
    )  # fmt: skip
    kept: dict[str, Any] = {name: getattr(inputs, name) for name in names}
    return _bare(inputs).replace(**jax.tree.map(jnp.asarray, kept))


def _bare(inputs: ModelInputs) -> ModelInputs:
    return inputs.replace(**{field.name: None for field in dataclasses.fields(inputs)})

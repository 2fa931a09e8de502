"""The few values that cross rooms.

Host values (`Observation`, `Target`) hold NumPy arrays; device values are pytrees. Letters: B batch,
K samples, T tokens, I images, P patches per image, W waypoints, L layers, S cache slots, G key-value
heads, H head size. The ego frame is x forward, y left, z up at time t0; metres, seconds, radians.
"""

import dataclasses
from typing import Any

import flax.struct
import numpy as np

from alpamayo_jax.errors import InputError

Array = Any  # jax.Array or np.ndarray


@dataclasses.dataclass(frozen=True)
class CameraFrames:
    """The recent frames of one camera.

    Attributes:
      camera_index: index in the release's camera map (1 is front wide); orders the prompt.
      images: uint8 [F, height, width, 3], oldest first.
      times: float64 [F], seconds relative to t0 (0 or negative).
      intrinsics: `clip.Pinhole` or `clip.FTheta` of these images, or None where unknown.
      ego_from_camera: float64 [4, 4], or None where unknown. Only the triplane asks for the two.
    """

    camera_index: int
    images: np.ndarray
    times: np.ndarray
    intrinsics: Any = None
    ego_from_camera: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the policy sees at t0.

    Attributes:
      cameras: any number of cameras, each with any number of frames.
      ego_history_xyz: float32 [16, 3], positions at 10 Hz ending at t0 (the origin), ego frame.
      ego_history_rot: float32 [16, 3, 3], ego frame at t0 from body.
      navigation: route text (Alpamayo 1.5), or None.
      question: a question to answer instead of driving (Alpamayo 1.5), or None.
      clip_id: where the observation comes from, for messages and reports.
      t0: seconds on the clip's clock.
    """

    cameras: tuple[CameraFrames, ...]
    ego_history_xyz: np.ndarray
    ego_history_rot: np.ndarray
    navigation: str | None = None
    question: str | None = None
    clip_id: str = ""
    t0: float = 0.0

    def validate(self, num_history_steps: int = 16) -> "Observation":
        """Raises `InputError` for a wrong shape, type or a non-finite pose; returns self."""
        where = f"observation of clip {self.clip_id!r} at t0={self.t0:.3f} s"
        for name, shape in (
            ("ego_history_xyz", (num_history_steps, 3)),
            ("ego_history_rot", (num_history_steps, 3, 3)),
        ):
            _check_poses(where, name, getattr(self, name), shape)
        for camera in self.cameras:
            images = camera.images
            name = f"cameras[{camera.camera_index}].images"
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
                raise InputError(
                    f"{where}: {name} must be uint8 [F, height, width, 3], "
                    f"got {images.dtype} {list(images.shape)}"
                )
            if len(camera.times) != len(images):
                raise InputError(f"{where}: {name} has {len(images)} frames, {len(camera.times)} times")
            if camera.ego_from_camera is not None:
                name = f"cameras[{camera.camera_index}].ego_from_camera"
                _check_poses(where, name, camera.ego_from_camera, (4, 4))
        indices = [c.camera_index for c in self.cameras]
        if len(set(indices)) != len(indices):
            raise InputError(f"{where}: camera indices repeat: {indices}")
        return self


@dataclasses.dataclass(frozen=True)
class Target:
    """What the policy should have said and done after an observation.

    Attributes:
      ego_future_xyz: float32 [W, 3] at t0 + 0.1 s ..., ego frame at t0.
      ego_future_rot: float32 [W, 3, 3].
      reasoning: Chain-of-Causation text; "" trains an empty trace.
      meta_action: meta-action text, or None where there is none.
      answer: answer to the observation's question, or None.
    """

    ego_future_xyz: np.ndarray
    ego_future_rot: np.ndarray
    reasoning: str = ""
    meta_action: str | None = None
    answer: str | None = None

    def validate(self, num_waypoints: int = 64, where: str = "target") -> "Target":
        """Raises `InputError` for a wrong shape or a non-finite pose; returns self."""
        _check_poses(where, "ego_future_xyz", self.ego_future_xyz, (num_waypoints, 3))
        _check_poses(where, "ego_future_rot", self.ego_future_rot, (num_waypoints, 3, 3))
        return self


def _check_poses(where: str, name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise InputError(f"{where}: {name} must be {list(shape)}, got {list(value.shape)}")
    if not np.isfinite(value).all():
        raise InputError(f"{where}: {name} has NaN or infinite values")


@flax.struct.dataclass
class ModelInputs:
    """One batch of observations as the model reads it. Rows are left-padded to a common length.

    Attributes:
      input_ids: int32 [B, T]; trajectory placeholders are still in place.
      attention_mask: bool [B, T]; False on padding.
      position_ids: int32 [3, B, T]; time, height and width axes of the multimodal rotary positions.
      rope_delta: int32 [B]; position of a later token = its cache slot + rope_delta.
      image_index: int32 [B, T]; which scene token of the row stands here, -1 for text.
      pixel_values: float32 [B, I, P, patch_dim]; patches in 2x2 merge-block order, zero-padded.
      image_grid: int32 [B, I, 2]; patches in height and width, (0, 0) for an absent image.
      camera_index: int32 [B, I], -1 for an absent image.
      frame_time: float32 [B, I], seconds relative to t0.
      ego_history_xyz: float32 [B, 16, 3].
      ego_history_rot: float32 [B, 16, 3, 3].
      step_images: int32 [B, F, C], the images of each time step, oldest first; -1 where there are
        fewer, at the end. None where every image has its own tokens.
      lenses: float32 [B, I, `ops.lens.LENS_SIZE`], packed intrinsics; triplane only.
      ego_from_camera: float32 [B, I, 4, 4], at the time of the image; triplane only.
      prefix: int32 [B, T]: c >= 0 in the common head for tokens that belong to the first c steps,
        -k in the part that only sees the first k steps; None: one conversation, causal.
    """

    input_ids: Array
    attention_mask: Array
    position_ids: Array
    rope_delta: Array
    image_index: Array
    pixel_values: Array
    image_grid: Array
    camera_index: Array
    frame_time: Array
    ego_history_xyz: Array
    ego_history_rot: Array
    step_images: Array | None = None
    lenses: Array | None = None
    ego_from_camera: Array | None = None
    prefix: Array | None = None

    def named_arrays(self) -> dict[str, np.ndarray]:
        """The fields that there are, on the host, by name."""
        return {
            field.name: np.asarray(value)
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None
        }


@flax.struct.dataclass
class EarlierPoses:
    """Histories and futures at the E earlier moments of interleaved conversations, oldest first.

    Attributes:
      history_xyz: float32 [B, E, 16, 3], ego frame at that moment, as are all.
      history_rot: float32 [B, E, 16, 3, 3].
      future_xyz: float32 [B, E, W, 3].
      future_rot: float32 [B, E, W, 3, 3].
    """

    history_xyz: Array
    history_rot: Array
    future_xyz: Array
    future_rot: Array


@flax.struct.dataclass
class TrainBatch:
    """Teacher-forced conversations.

    Attributes:
      inputs: the whole conversation, future placeholders included.
      labels_mask: bool [B, T]; True where the token is a target.
      ego_future_xyz: float32 [B, W, 3].
      ego_future_rot: float32 [B, W, 3, 3].
      earlier: of interleaved conversations (`tokens.interleaved`), else None.
    """

    inputs: ModelInputs
    labels_mask: Array
    ego_future_xyz: Array
    ego_future_rot: Array
    earlier: EarlierPoses | None = None


@flax.struct.dataclass
class KVCache:
    """Rotated keys and values of every layer.

    Attributes:
      k: [L, B, G, S, H]; a cache of samples is [L, B, K, G, S, H].
      v: as k.
    """

    k: Array
    v: Array


@flax.struct.dataclass
class SceneTokens:
    """What a vision compressor hands to the language model.

    Attributes:
      tokens: [B, N, D].
      deepstack: [J, B, N, D], added after the first J language layers.
    """

    tokens: Array
    deepstack: Array


@flax.struct.dataclass
class Trajectory:
    """Poses on the 10 Hz grid after t0, ego frame at t0.

    Attributes:
      xyz: float32 [..., W, 3] metres.
      rot: float32 [..., W, 3, 3].
    """

    xyz: Array
    rot: Array


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the policy says and does for one observation, K samples; NumPy on the host.

    Attributes:
      xyz: float32 [K, W, 3] metres, ego frame at t0.
      rot: float32 [K, W, 3, 3].
      actions: float32 [K, W, 2], normalised acceleration and curvature.
      reasoning: K Chain-of-Causation texts, "" where the model wrote none.
      meta_action: K meta-action texts, "" where the model wrote none.
      token_ids: int32 [K, N], everything generated, padded.
      token_logprobs: float32 [K, N] at temperature 1, 0 on padding.
      reasoning_logprob: float32 [K], their sum.
      ended: bool [K], whether the end-of-thought token was written by the model or forced.
      trajectory_logprob: float32 [K], log-probability of the discretised actions under the language
        model's trajectory tokens, or None when not asked for.
    """

    xyz: np.ndarray
    rot: np.ndarray
    actions: np.ndarray
    reasoning: tuple[str, ...]
    meta_action: tuple[str, ...]
    token_ids: np.ndarray
    token_logprobs: np.ndarray
    reasoning_logprob: np.ndarray
    ended: np.ndarray
    trajectory_logprob: np.ndarray | None = None

    @property
    def most_likely(self) -> int:
        """Index of the sample with the highest log-probability, trajectory included if known."""
        score = self.reasoning_logprob
        if self.trajectory_logprob is not None:
            score = score + self.trajectory_logprob
        return int(np.argmax(score))

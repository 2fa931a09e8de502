"""What vision compressors are told about images: their time steps and their calibration.

The frames of all cameras that are equally far from the newest one are a time step.
"""

import dataclasses
from typing import Any, Sequence

import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.ops.lens import absent_lens, pack_lens
from alpamayo_jax.types import CameraFrames, InputError, Observation


@dataclasses.dataclass(frozen=True)
class Views:
    """The images of one observation, camera by camera.

    Attributes:
      steps: int32 [F, C], images of each time step, oldest first, -1 where a camera has none; F is 0
        without a compressor.
      lenses: float32 [I, LENS_SIZE], or None where no compressor asks.
      ego_from_camera: float32 [I, 4, 4], or None.
    """

    steps: np.ndarray
    lenses: np.ndarray | None = None
    ego_from_camera: np.ndarray | None = None

    @property
    def num_steps(self) -> int:
        return len(self.steps)

    def slots(self, config: ModelConfig) -> list[np.ndarray] | None:
        """Which scene tokens stand in the prompt; None where every image has its own."""
        if config.tokens_per_step is None:
            return None
        first = 0
        if config.vision.compressor == "flex":
            first = config.scene.flex.num_steps - self.num_steps
        size = config.tokens_per_step
        return [np.arange(first * size, (first + self.num_steps) * size)]


def num_steps(observation: Observation) -> int:
    """Time steps of an observation: as many as its camera of most frames has."""
    return max((len(camera.images) for camera in observation.cameras), default=0)


def views_of(
    observation: Observation, cameras: Sequence[CameraFrames], config: ModelConfig
) -> Views:
    """Describes an observation to the compressor of `config`.

    Args:
      observation: for messages.
      cameras: its cameras, in the order of the images.
      config: says what is needed.

    Raises:
      InputError: more steps or another camera than Flex has tokens for, or a camera whose
        calibration the triplane needs and that has none.
    """
    where = f"observation of clip {observation.clip_id!r} at t0={observation.t0:.3f} s"
    compressor, total = config.vision.compressor, num_steps(observation)
    if compressor == "per_image":
        return Views(np.zeros((0, 0), np.int32))
    steps, first = np.full((total, len(cameras)), -1, np.int32), 0
    for slot, camera in enumerate(cameras):
        count = len(camera.images)
        steps[total - count :, slot] = first + np.arange(count)
        first += count
    if compressor == "flex":
        flex, indices = config.scene.flex, [camera.camera_index for camera in cameras]
        if total > flex.num_steps:
            raise InputError(
                f"{where} has {total} time steps, but Flex has tokens for {flex.num_steps}; give "
                f"fewer frames per camera, or train with a larger scene.flex.num_steps"
            )
        if any(not 0 <= index < flex.max_cameras for index in indices):
            raise InputError(
                f"{where} has cameras {indices}, but Flex has embeddings of indices 0 to "
                f"{flex.max_cameras - 1}"
            )
        return Views(steps)
    lenses, poses = [], []
    for camera in cameras:
        if camera.intrinsics is None or camera.ego_from_camera is None:
            raise InputError(
                f"{where}: camera {camera.camera_index} has no intrinsics or no ego_from_camera, "
                f"which the triplane needs; calibrate it, or use another vision.compressor"
            )
        height, width = camera.images.shape[1:3]
        count = len(camera.images)
        lenses += [pack_lens(camera.intrinsics, width, height)] * count
        poses += [np.asarray(camera.ego_from_camera, np.float32)] * count
    return Views(
        steps,
        np.stack(lenses) if lenses else np.zeros((0, len(absent_lens())), np.float32),
        np.stack(poses) if poses else np.zeros((0, 4, 4), np.float32),
    )


def batch_fields(rows: Sequence[Views], num_images: int, config: ModelConfig) -> dict[str, Any]:
    """The fields of `ModelInputs` that compressors read, for a batch of `num_images` per row."""
    if config.vision.compressor == "per_image":
        return {}
    # At least one (empty) step, so that no array is empty when there is no camera at all.
    sizes = [max(1, *(row.steps.shape[axis] for row in rows)) for axis in (0, 1)]
    steps = np.full((len(rows), *sizes), -1, np.int32)
    for b, row in enumerate(rows):
        steps[b, : row.steps.shape[0], : row.steps.shape[1]] = row.steps
    if config.vision.compressor == "flex":
        return {"step_images": steps}
    lenses = np.tile(absent_lens(), (len(rows), num_images, 1))
    poses = np.tile(np.eye(4, dtype=np.float32), (len(rows), num_images, 1, 1))
    for b, row in enumerate(rows):
        lenses[b, : len(row.lenses)] = row.lenses
        poses[b, : len(row.ego_from_camera)] = row.ego_from_camera
    return {"step_images": steps, "lenses": lenses, "ego_from_camera": poses}

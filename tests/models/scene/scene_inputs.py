"""Image tokens and calibrated cameras for tests of the compressors."""

import jax.numpy as jnp
import numpy as np

from alpamayo_jax.clip import FTheta, Pinhole
from alpamayo_jax.models import scene
from alpamayo_jax.ops.lens import pack_lens
from alpamayo_jax.sim.camera import CameraSpec, extrinsics, intrinsics

WIDTH, HEIGHT = 240, 160


def rig(model: str = "ftheta", count: int = 4) -> list[CameraSpec]:
    """Cameras at different places that look different ways."""
    yaws, tilts = (0.0, 50.0, -50.0, 20.0, -15.0), (0.0, -5.0, 3.0, -8.0, 4.0)
    places = (
        (1.5, 0.0, 1.6), (1.8, 0.9, 1.2), (1.8, -0.9, 1.2), (-1.0, 0.5, 2.0), (0.5, -0.3, 1.4),
    )  # fmt: skip
    return [
        CameraSpec(f"camera{i}", i, 100.0, model, places[i], yaws[i], tilts[i]) for i in range(count)
    ]


def lens_of(spec: CameraSpec) -> Pinhole | FTheta:
    return intrinsics(spec, WIDTH, HEIGHT)


def cameras_of(specs, steps: int = 1, grid=(4, 6), batch: int = 1) -> scene.Cameras:
    """Cameras of `steps` frames each, images camera by camera."""
    images = len(specs) * steps
    spread = lambda a: jnp.asarray(np.stack([a] * batch))  # noqa: E731
    poses = np.stack([extrinsics(s) for s in specs for _ in range(steps)]).astype(np.float32)
    return scene.Cameras(
        index=spread(np.repeat([s.index for s in specs], steps).astype(np.int32)),
        time=spread(np.tile(0.1 * np.arange(1 - steps, 1), len(specs)).astype(np.float32)),
        grid=spread(np.tile(np.int32(grid), (images, 1))),
        steps=spread(np.arange(images, dtype=np.int32).reshape(len(specs), steps).T.copy()),
        lenses=spread(
            np.stack([pack_lens(lens_of(s), WIDTH, HEIGHT) for s in specs for _ in range(steps)])
        ),
        ego_from_camera=spread(poses),
    )


def random_tokens(config, images: int, patches: int = 24, batch: int = 1, seed: int = 0):
    shape = batch, images, patches, config.language.hidden_size
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)

"""Self-supervised pretraining of the triplane: input images rendered from the planes.

After arXiv 2506.12251, which renders the input cameras from the planes; its losses are not published.
Choices here: rays through random pixels, the squared error of their colour, points at distances in
geometric progression, and something opaque at the end of every ray.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.vision import patch_positions
from alpamayo_jax.ops.camera import pixel_rays
from alpamayo_jax.ops.lens import unproject_lens
from alpamayo_jax.ops.volume import composite, ray_distances
from alpamayo_jax.types import Array, ModelInputs, SceneTokens


@flax.struct.dataclass
class Rays:
    """Rays of an observation, with what they should see.

    Attributes:
      origin: float32 [B, N, 3], ego frame at the time of the image, metres.
      direction: float32 [B, N, 3], length 1.
      step: int32 [B, N], time step whose planes are rendered.
      colour: float32 [B, N, 3] in [0, 1].
      valid: bool [B, N], False for absent images and outside of the lens.
    """

    origin: Array
    direction: Array
    step: Array
    colour: Array
    valid: Array


def check(config: ModelConfig, count: int) -> None:
    """Raises `ConfigError` unless `config` has a triplane, and there is a ray."""
    if config.vision.compressor != "triplane" or count < 1:
        raise ConfigError(
            f"rendering needs vision.compressor 'triplane' and at least 1 ray, got "
            f"{config.vision.compressor!r} and {count}"
        )


def draw_rays(inputs: ModelInputs, config: ModelConfig, count: int, rng: jax.Array) -> Rays:
    """Rays through `count` random pixels of each row, the images of all steps in equal shares."""
    vision, prompt = config.vision, config.prompt
    batch, images, patches, _ = inputs.pixel_values.shape
    size, keys = vision.patch_size, jax.random.split(rng, 3)
    shape = batch, count
    _, steps, slots = inputs.step_images.shape
    flat = jax.random.randint(keys[0], shape, 0, steps * slots)
    step = flat // slots
    image = jnp.take_along_axis(inputs.step_images.reshape(batch, -1), flat, 1)
    valid, image = image >= 0, jnp.maximum(image, 0)

    rows = jnp.arange(batch)[:, None]
    grid = inputs.image_grid[rows, image]  # [B, N, 2]
    number = grid.prod(-1)
    # A number below the image's own patches, drawn from what all share.
    patch = jax.random.randint(keys[1], shape, 0, 1 << 30) % jnp.maximum(number, 1)
    within = jax.random.randint(keys[2], (*shape, 2), 0, size)
    row, column, _ = patch_positions(inputs.image_grid, patches, vision.spatial_merge_size)
    place = jnp.stack([row[rows, image, patch], column[rows, image, patch]], -1)
    pixel = place * size + within
    uv = (pixel[..., ::-1] + 0.5) / jnp.maximum(grid[..., ::-1] * size, 1)

    values = inputs.pixel_values[rows, image, patch]
    values = values.reshape(*shape, vision.in_channels, vision.temporal_patch_size, size, size)
    colour = values[rows, jnp.arange(count), :, 0, within[..., 0], within[..., 1]]
    colour = colour * jnp.asarray(prompt.image_std) + jnp.asarray(prompt.image_mean)

    ray, inside = unproject_lens(uv[:, :, None], inputs.lenses[rows, image])
    pose = inputs.ego_from_camera[rows, image]
    return Rays(
        origin=pose[..., :3, 3],
        direction=jnp.einsum("bnij,bnj->bni", pose[..., :3, :3], ray[:, :, 0]),
        step=step,
        colour=colour,
        valid=valid & (number > 0) & inside[:, :, 0],
    )


def camera_rays(intrinsics, ego_from_camera: np.ndarray, width: int, height: int) -> Rays:
    """All rays of one camera of step 0, row by row: B = 1, N = height x width; colours are 0."""
    rays, valid = pixel_rays(width, height, intrinsics)
    direction = (rays @ ego_from_camera[:3, :3].T).reshape(1, -1, 3)
    origin = np.broadcast_to(ego_from_camera[:3, 3], direction.shape)
    return Rays(
        origin=jnp.asarray(origin, jnp.float32),
        direction=jnp.asarray(direction, jnp.float32),
        step=jnp.zeros(direction.shape[:2], jnp.int32),
        colour=jnp.zeros(direction.shape, jnp.float32),
        valid=jnp.asarray(valid.reshape(1, -1)),
    )


def render(
    params: dict, planes: tuple[Array, Array, Array], rays: Rays, model: Alpamayo
) -> tuple[Array, Array]:
    """What rays see.

    Args:
      params: of the policy.
      planes: of B x F rows, see `models.scene.triplane`.
      rays: of B rows.
      model: the network.

    Returns:
      Colour float32 [B, N, 3] and depth [B, N] metres.
    """
    c = model.config.scene.triplane
    batch, count, _ = rays.origin.shape
    edges = ray_distances(c.render_points, 1.5 * c.range_xy)
    middle = (edges[1:] + edges[:-1]) / 2
    points = rays.origin[:, :, None] + rays.direction[:, :, None] * middle[:, None]
    steps = planes[0].shape[0] // batch
    # Every ray reads the planes of all steps; with few steps that is cheaper than sorting rays.
    points = jnp.repeat(points.reshape(batch, -1, 3), steps, 0)
    density, colour = model.apply({"params": params}, planes, points, method="decode_points")
    shape = batch, steps, count, len(middle)
    own = rays.step[:, None, :, None]
    density = jnp.take_along_axis(density.reshape(shape), own, 1)[:, 0]
    colour = jnp.take_along_axis(colour.reshape(*shape, 3), own[..., None], 1)[:, 0]
    seen, depth, _ = composite(density, colour, edges)
    return seen, depth


def render_loss(
    params: dict, rays: Rays, inputs: ModelInputs, model: Alpamayo
) -> tuple[Array, SceneTokens]:
    """Squared error of the colour of every ray, float32 [B, N], and the scene tokens on the way."""
    apply = lambda *args, method: model.apply({"params": params}, *args, method=method)  # noqa: E731
    features = apply(inputs, method="image_features")
    planes = apply(features, inputs, method="triplane")
    scene = apply(planes, inputs.input_ids.shape[0], method="triplane_tokens")
    colour, _ = render(params, planes, rays, model)
    return jnp.mean(jnp.square(colour - rays.colour), -1), scene


def psnr(colour: Array, want: Array) -> float:
    """Peak signal-to-noise ratio in dB of colours in [0, 1]."""
    error = float(np.mean(np.square(np.asarray(colour) - np.asarray(want))))
    return float(-10 * np.log10(max(error, 1e-12)))

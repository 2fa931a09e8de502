"""Rays of the input images, and rendering as a term of training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.clip import Pinhole
from alpamayo_jax.config import ConfigError
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.camera import camera_from_ego
from alpamayo_jax.ops.lens import project_lens
from alpamayo_jax.settings import StageSettings
from alpamayo_jax.testing.tiny import (
    compressed,
    quick_jit,
    random_observation,
    random_params,
    random_target,
    tiny_config,
)
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.train import rendering
from alpamayo_jax.train.objectives import make_objective
from alpamayo_jax.train.stages import stage_objective

CONFIG = compressed(tiny_config(), "triplane")
PROCESSOR = Processor(CONFIG, tiny_tokenizer(CONFIG))


def _batch(gradient=False):
    seen = random_observation(CONFIG)
    if gradient:  # red rises to the right, green downwards
        rows, columns = np.mgrid[0:16, 0:24]
        image = np.stack([10 * columns, 15 * rows, 0 * rows], -1).astype(np.uint8)
        cameras = tuple(
            dataclasses.replace(c, images=np.stack([image] * 2)) for c in seen.cameras
        )
        seen = dataclasses.replace(seen, cameras=cameras)
    batch = PROCESSOR.train_batch([seen], [random_target(CONFIG)])
    return jax.tree.map(jnp.asarray, batch)


def test_rays_pass_through_the_pixels_of_their_colours():
    inputs = _batch(gradient=True).inputs
    rays = rendering.draw_rays(inputs, CONFIG, 200, jax.random.key(0))
    assert bool(rays.valid.all()) and set(np.unique(rays.step)) == {0, 1}
    far = rays.origin + 7.0 * rays.direction
    uv, visible = project_lens(
        camera_from_ego(far[0], inputs.ego_from_camera[0, 0]), inputs.lenses[0, 0]
    )
    assert bool(visible.all())
    height, width = np.asarray(inputs.image_grid[0, 0]) * CONFIG.vision.patch_size
    column, row = np.asarray(uv).T * [[width], [height]] - 0.5
    # The image is resized, if at all, by a factor; colours are linear in the place.
    red = 10 / 255 * ((column + 0.5) * 24 / width - 0.5)
    green = 15 / 255 * ((row + 0.5) * 16 / height - 0.5)
    inner = (column > 1) & (column < width - 2) & (row > 1) & (row < height - 2)
    np.testing.assert_allclose(np.asarray(rays.colour)[0, inner, 0], red[inner], atol=0.02)
    np.testing.assert_allclose(np.asarray(rays.colour)[0, inner, 1], green[inner], atol=0.02)


@pytest.mark.slow
def test_absent_images_have_no_valid_rays():
    inputs = _batch().inputs
    gone = inputs.replace(step_images=jnp.full_like(inputs.step_images, -1))
    assert not bool(rendering.draw_rays(gone, CONFIG, 50, jax.random.key(0)).valid.any())
    half = inputs.replace(step_images=inputs.step_images.at[:, :, 1].set(-1))
    share = float(rendering.draw_rays(half, CONFIG, 400, jax.random.key(0)).valid.mean())
    assert 0.3 < share < 0.7


def test_camera_rays_look_where_the_camera_looks():
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (1.5, 0.0, 1.2)
    rays = rendering.camera_rays(Pinhole(10.0, 10.0, 2.0, 1.0), pose, 5, 3)
    assert rays.direction.shape == (1, 15, 3)
    np.testing.assert_allclose(rays.direction[0, 7], [1, 0, 0], atol=1e-6)  # the middle pixel
    np.testing.assert_allclose(rays.origin[0, 3], [1.5, 0.0, 1.2])
    assert float(rays.direction[0, 0, 1]) > 0 > float(rays.direction[0, 4, 1])  # left, right


def test_it_is_a_term_beside_tokens_and_an_objective_of_its_own():
    batch, params, key = _batch(), random_params(CONFIG), jax.random.key(1)
    options = dict(rays_per_row=16)
    plain = quick_jit(make_objective("tokens", CONFIG).__call__)(params, batch, key)
    both = quick_jit(make_objective("tokens", CONFIG, render_weight=0.5, **options).__call__)(
        params, batch, key
    )
    alone = quick_jit(make_objective("render", CONFIG, **options).__call__)(params, batch, key)
    np.testing.assert_allclose(both[1]["loss_render"], alone[0], rtol=1e-5)
    np.testing.assert_allclose(both[0], plain[0] + 0.5 * alone[0], rtol=1e-5)
    assert float(alone[0]) > 1e-3 and "loss_render" not in plain[1]


def test_its_gradient_reaches_the_tower_and_the_triplane_only():
    batch, params = _batch(), random_params(CONFIG)
    objective = make_objective("render", CONFIG, rays_per_row=32)
    slope = quick_jit(jax.grad(lambda p: objective(p, batch, jax.random.key(0))[0]))(params)
    size = lambda tree: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))  # noqa: E731
    for name in ("image_layers", "cross_layers", "decoder", "feature_proj", "query_proj"):
        assert size(slope["vlm"]["scene"][name]) > 0, name
    assert size(slope["vlm"]["visual"]["patch_embed"]) > 0
    assert size(slope["vlm"]["language_model"]) == size(slope["expert"]) == 0


def test_each_step_is_rendered_from_its_own_planes():
    inputs, params, model = _batch().inputs, random_params(CONFIG), Alpamayo(CONFIG)
    shapes = [(2, *size, 12) for size in ((4, 6), (4, 4), (6, 4))]
    rng = np.random.default_rng(0)
    planes = tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    rays = rendering.draw_rays(inputs, CONFIG, 20, jax.random.key(0))
    draw = quick_jit(lambda planes: rendering.render(params, planes, rays, model)[0])
    changed = tuple(plane.at[1].add(1.0) for plane in planes)
    moved = np.abs(draw(changed) - draw(planes)).max(-1)
    step = np.asarray(rays.step)
    assert moved[step == 0].max() == 0 and moved[step == 1].max() > 1e-4


def test_settings_make_it():
    stage = StageSettings(objective="tokens", render_weight=0.1)
    assert stage_objective(stage, CONFIG).coefficients["loss_render"] == 0.1
    assert set(stage_objective(StageSettings(objective="render"), CONFIG).coefficients) == {
        "loss_render"
    }
    for other in ("per_image", "flex"):
        with pytest.raises(ConfigError, match="triplane"):
            stage_objective(stage, compressed(tiny_config(), other))


def test_psnr():
    zeros = np.zeros((4, 3))
    assert rendering.psnr(zeros + 0.1, zeros) == pytest.approx(20.0, abs=1e-3)

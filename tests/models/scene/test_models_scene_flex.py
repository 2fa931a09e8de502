"""Flex: what its tokens may see, and what they may not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.models import scene
from alpamayo_jax.models.scene.flex import time_features
from alpamayo_jax.testing.tiny import compressed, quick_jit, random_params, tiny_config
from finite_differences import assert_gradients
from scene_inputs import cameras_of, random_tokens, rig

CONFIG = compressed(tiny_config(), "flex")
PREFIX = compressed(tiny_config(), "flex", prefix=True)
PER_STEP = CONFIG.scene.flex.tokens_per_step
PARAMS = random_params(CONFIG)["vlm"]["scene"]


@quick_jit
def _full(tokens, cameras):
    module = scene.make_compressor(CONFIG)
    return module.apply({"params": PARAMS}, tokens, tokens[None, :0], cameras).tokens


@quick_jit
def _prefix(tokens, cameras):
    module = scene.make_compressor(PREFIX)
    return module.apply({"params": PARAMS}, tokens, tokens[None, :0], cameras).tokens


def _without(cameras, image):
    """The same arrays with one image marked as absent."""
    return cameras.replace(
        index=cameras.index.at[:, image].set(-1),
        grid=cameras.grid.at[:, image].set(0),
        steps=jnp.where(cameras.steps == image, -1, cameras.steps),
    )


def _keep(cameras, tokens, images):
    """Only these images, renumbered."""
    number = {old: new for new, old in enumerate(images)}
    steps = np.vectorize(lambda i: number.get(int(i), -1))(np.asarray(cameras.steps))
    pick = lambda a: a[:, np.asarray(images)]  # noqa: E731
    return pick(tokens), scene.Cameras(
        pick(cameras.index), pick(cameras.time), pick(cameras.grid), jnp.asarray(steps)
    )


def test_the_number_of_tokens_is_fixed():
    for count in (1, 3):
        cameras = cameras_of(rig(count=count), steps=2, batch=2)
        tokens = random_tokens(CONFIG, 2 * count, batch=2)
        assert _full(tokens, cameras).shape == (2, CONFIG.scene.flex.num_tokens, 32)


def test_an_absent_image_is_as_none():
    cameras, tokens = cameras_of(rig(count=3), steps=2), random_tokens(CONFIG, 6)
    masked = _full(tokens, _without(cameras, 3))
    kept = _full(*_keep(_without(cameras, 3), tokens, [0, 1, 2, 4, 5]))
    np.testing.assert_allclose(masked, kept, atol=1e-5)
    assert np.abs(masked - _full(tokens, cameras)).max() > 1e-2


def test_padding_of_small_images_counts_for_nothing():
    cameras, tokens = cameras_of(rig(count=2), grid=(3, 4)), random_tokens(CONFIG, 2)
    other = tokens.at[:, :, 12:].add(1.0)
    np.testing.assert_array_equal(_full(tokens, cameras), _full(other, cameras))
    assert np.abs(_full(tokens.at[:, :, 11].add(1.0), cameras) - _full(tokens, cameras)).max() > 1e-3


def test_cameras_and_times_are_told_apart():
    cameras, tokens = cameras_of(rig(count=2)), random_tokens(CONFIG, 2)
    first = _full(tokens, cameras)
    swapped = cameras.replace(index=cameras.index[:, ::-1])
    later = cameras.replace(time=cameras.time + 0.05)
    assert np.abs(_full(tokens, swapped) - first).max() > 1e-3
    assert np.abs(_full(tokens, later) - first).max() > 1e-3


def test_fewer_steps_use_the_last_chunks():
    """The chunk of a step that is not there neither sees nor is seen."""
    cameras, tokens = cameras_of(rig(count=2), steps=2), random_tokens(CONFIG, 4)
    newest, only = _keep(cameras, tokens, [1, 3])
    masked = jnp.asarray([[[1, 3], [-1, -1]]])
    np.testing.assert_allclose(
        _full(tokens, cameras.replace(steps=masked))[:, PER_STEP:],
        _full(newest, only.replace(steps=jnp.asarray([[[0, 1]]])))[:, PER_STEP:],
        atol=1e-5,
    )


def test_full_attention_sees_later_frames_and_prefix_attention_does_not():
    cameras, tokens = cameras_of(rig(count=2), steps=2), random_tokens(CONFIG, 4)
    later = tokens.at[:, [1, 3]].add(1.0)  # the newest frame of both cameras
    for run, sees in ((_full, True), (_prefix, False)):
        change = np.abs(run(later, cameras) - run(tokens, cameras))
        assert (change[:, :PER_STEP].max() > 1e-3) == sees
        assert change[:, PER_STEP:].max() > 1e-3


def test_gradients_agree_with_finite_differences():
    cameras, tokens = cameras_of(rig(count=2), grid=(2, 2)), random_tokens(CONFIG, 2, 4)
    module = scene.make_compressor(CONFIG)

    def loss(params, tokens):
        out = module.apply({"params": params}, tokens, tokens[None, :0], cameras).tokens
        return jnp.mean(jnp.sin(out[:, PER_STEP:]))

    assert_gradients(loss, (PARAMS, tokens), step=4e-3)


def test_time_features_are_distinct_and_bounded():
    times = jnp.asarray([-0.3, -0.2, -0.1, 0.0])
    features = time_features(times)
    assert features.shape == (4, 256) and float(jnp.abs(features).max()) <= 1.0
    apart = jnp.linalg.norm(features[:, None] - features[None], axis=-1)
    assert float((apart + 10 * jnp.eye(4)).min()) > 1.0


@pytest.mark.parametrize("config", [CONFIG, PREFIX])
def test_init_is_usable(config):
    module = scene.make_compressor(config)
    cameras, tokens = cameras_of(rig(count=2), steps=2), random_tokens(config, 4)
    params = module.init(jax.random.key(0), tokens, tokens[None, :0], cameras)
    out = module.apply(params, tokens, tokens[None, :0], cameras)
    assert out.deepstack.shape[0] == 0 and bool(jnp.isfinite(out.tokens).all())

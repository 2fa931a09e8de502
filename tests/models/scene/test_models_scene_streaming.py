"""A window that moves on by one step: only new frames are encoded, and nothing else changes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.scene.streaming import Streaming
from alpamayo_jax.testing.tiny import compressed, quick_jit, random_observation, random_params
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError

STEPS, FRAMES = 4, 2


def _windows(config):
    """(t0, inputs) of a drive, each with the last frames of two cameras."""
    processor = Processor(config, tiny_tokenizer(config))
    seen = random_observation(config)
    rng = np.random.default_rng(7)
    films = [
        rng.integers(0, 256, (STEPS + FRAMES, 16, 24, 3), np.uint8) for _ in seen.cameras
    ]
    for step in range(STEPS):
        cameras = tuple(
            dataclasses.replace(
                camera, images=film[step : step + FRAMES], times=0.1 * np.arange(1 - FRAMES, 1)
            )
            for camera, film in zip(seen.cameras, films)
        )
        yield 5.0 + 0.1 * step, processor.inputs([dataclasses.replace(seen, cameras=cameras)])


@functools.partial(quick_jit, static_argnames="config")
def _scratch(config, params, inputs):
    inputs = jax.tree.map(jnp.asarray, inputs)
    return Alpamayo(config).apply({"params": params}, inputs, method="scene_tokens")


@pytest.mark.parametrize("compressor", ["per_image", "triplane", "flex"])
def test_streaming_equals_encoding_from_scratch(compressor):
    config = compressed(tiny_config(), compressor)
    params = random_params(config)
    stream = Streaming(config, params)
    for step, (t0, inputs) in enumerate(_windows(config)):
        got, want = stream(inputs, t0), _scratch(config, params, inputs)
        np.testing.assert_allclose(got.tokens, want.tokens, atol=1e-5)
        np.testing.assert_allclose(got.deepstack, want.deepstack, atol=1e-5)
        assert stream.encoded_images == (2 * FRAMES if step == 0 else 2)
        if compressor == "triplane":
            assert stream.encoded_steps == (FRAMES if step == 0 else 1)


def test_the_same_window_again_encodes_nothing():
    config = compressed(tiny_config(), "triplane")
    stream = Streaming(config, random_params(config))
    t0, inputs = next(_windows(config))
    first = stream(inputs, t0)
    again = stream(inputs, t0)
    assert (stream.encoded_images, stream.encoded_steps) == (0, 0)
    np.testing.assert_array_equal(first.tokens, again.tokens)


def test_a_new_calibration_is_seen():
    config = compressed(tiny_config(), "triplane")
    stream = Streaming(config, random_params(config))
    t0, inputs = next(_windows(config))
    first = stream(inputs, t0)
    moved = inputs.ego_from_camera.copy()
    moved[:, :, 0, 3] += 2.0
    second = stream(inputs.replace(ego_from_camera=moved), t0)
    assert (stream.encoded_images, stream.encoded_steps) == (0, FRAMES)
    assert np.abs(np.asarray(first.tokens - second.tokens)).max() > 1e-3


def test_what_left_the_window_is_forgotten():
    config = compressed(tiny_config(), "flex")
    stream = Streaming(config, random_params(config))
    windows = list(_windows(config))
    for t0, inputs in windows:
        stream(inputs, t0)
    stream(windows[0][1], windows[0][0])
    assert stream.encoded_images == 2 * FRAMES


def test_one_drive_at_a_time():
    config = compressed(tiny_config(), "per_image")
    _, inputs = next(_windows(config))
    two = inputs.replace(
        camera_index=np.repeat(inputs.camera_index, 2, 0),
        frame_time=np.repeat(inputs.frame_time, 2, 0),
    )
    with pytest.raises(InputError, match="2 rows"):
        Streaming(config, {})(two, 0.0)
    with pytest.raises(InputError, match="two different images"):
        Streaming(config, {})(inputs.replace(frame_time=0 * inputs.frame_time), 0.0)


def test_a_frame_of_a_slow_camera_is_encoded_once():
    config = compressed(tiny_config(), "per_image")
    _, inputs = next(_windows(config))
    pixels, times = np.array(inputs.pixel_values), np.array(inputs.frame_time)
    pixels[:, 1], times[:, 1] = pixels[:, 0], times[:, 0]
    slow = inputs.replace(pixel_values=pixels, frame_time=times)
    params = random_params(config)
    stream = Streaming(config, params)
    found = stream(slow, 0.0)
    assert stream.encoded_images == pixels.shape[1] - 1
    want = _scratch(config, params, slow)
    np.testing.assert_allclose(found.tokens, want.tokens, atol=1e-5)

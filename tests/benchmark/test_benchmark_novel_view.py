"""Learning one scene from its cameras."""

import dataclasses

import numpy as np
from PIL import Image
import pytest

from alpamayo_jax.benchmark import novel_view
from alpamayo_jax.config import ConfigError
from alpamayo_jax.testing.tiny import compressed, tiny_config


@pytest.fixture(scope="module")
def found():
    config = compressed(tiny_config(), "triplane")
    seen = []
    view = novel_view.learn_scene(
        config, steps=60, rays=128, image_size=(24, 16), learning_rate=1e-2,
        progress=lambda step, loss: seen.append((step, loss)),
    )  # fmt: skip
    assert [step for step, _ in seen] == list(range(60))
    assert [loss for _, loss in seen] == view.losses
    return view


@pytest.mark.slow
def test_the_loss_falls_and_the_view_beats_its_mean_colour(found):
    assert np.isfinite(found.losses).all() and found.fall > 0.5
    assert found.psnr > found.psnr_mean_colour + 1.0
    ends = np.mean(found.losses[:3]), np.mean(found.losses[-10:])
    assert found.fall == pytest.approx(1 - ends[1] / ends[0])
    assert found.psnr_inputs == pytest.approx(-10 * np.log10(ends[1]))


@pytest.mark.slow
def test_pictures_have_the_size_of_the_camera(found):
    assert found.rendered.shape == found.seen.shape == (16, 24, 3)
    assert found.rendered.dtype == np.uint8 and found.seen.std() > 10
    assert found.depth.shape == (16, 24) and found.depth.min() > 0
    # The sky is farther away than the road in front of the car.
    assert np.median(found.depth[:3]) > np.median(found.depth[-3:])


def test_the_held_out_camera_is_not_an_input():
    names = [spec.index for spec in novel_view.RIG]
    assert names == list(range(len(names))) and novel_view.HELD_OUT in names
    held_out = novel_view.RIG[novel_view.HELD_OUT]
    assert all(
        held_out.position != spec.position
        for spec in novel_view.RIG
        if spec.index != novel_view.HELD_OUT
    )
    assert dataclasses.is_dataclass(held_out)


def test_a_model_without_a_triplane_is_refused():
    with pytest.raises(ConfigError, match="rendering needs vision.compressor 'triplane'"):
        novel_view.learn_scene(compressed(tiny_config(), "flex"), steps=1, image_size=(24, 16))


def test_a_finer_grid_has_the_same_tokens():
    config = compressed(tiny_config(), "triplane")
    fine = novel_view.finer(config, 3)
    assert fine.scene.triplane.size == tuple(3 * n for n in config.scene.triplane.size)
    assert fine.tokens_per_step == config.tokens_per_step
    assert novel_view.finer(config, 1) == config


def test_the_picture_shows_three_panels(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 24, 3), np.uint8)
    view = novel_view.NovelView(
        [1.0] * 20, 21.25, 22.0, 14.0, rendered=image // 2, seen=image,
        depth=rng.uniform(2, 100, (16, 24)).astype(np.float32),
    )  # fmt: skip
    written = novel_view.picture(view, tmp_path / "view.png")
    assert (tmp_path / "view.png").read_bytes() == written
    pixels = np.asarray(Image.open(tmp_path / "view.png").convert("RGB"))
    # Enlarged without smoothing: every pixel of the images is a block of one colour.
    scale = round(480 / 24)
    for panel, wanted in enumerate((image, image // 2)):
        x = 16 + panel * (24 * scale + 16)
        block = pixels[40 : 40 + 16 * scale : scale, x : x + 24 * scale : scale]
        np.testing.assert_array_equal(block, wanted)

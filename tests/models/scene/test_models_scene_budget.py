"""Token and parameter budgets, from configurations alone, and that the networks keep to them."""

import dataclasses

import jax
import pytest

from alpamayo_jax.config import ConfigError, FlexConfig, TriplaneConfig
from alpamayo_jax.convert.table import flatten, param_shapes as table_shapes
from alpamayo_jax.models import scene
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import PRESETS, preset, with_compressor
from alpamayo_jax.testing.tiny import compressed, tiny_config

PAPER = preset("paper_0p5b")


@pytest.mark.parametrize(
    "patch, half_plane, tokens, per_image_of_four",
    [
        ((8, 8, 8), False, 288, 72),
        ((8, 8, 8), True, 180, 45),
        ((4, 6, 6), True, 416, 104),
    ],
)
def test_triplane_tokens_are_the_papers(patch, half_plane, tokens, per_image_of_four):
    config = with_compressor(PAPER, "triplane", (*patch, int(half_plane)))
    compressor = scene.make_compressor(config)
    assert compressor.tokens_per_step == tokens == 4 * per_image_of_four
    assert compressor.added_parameters == pytest.approx(6.3e6, rel=0.03)


@pytest.mark.parametrize("per_image", [50, 32, 16, 8])
def test_flex_tokens_and_parameters_are_the_papers(per_image):
    config = with_compressor(PAPER, "flex", (4 * per_image,))
    compressor = scene.make_compressor(config)
    assert compressor.tokens_per_step == 4 * per_image
    assert compressor.added_parameters == pytest.approx(61.6e6, rel=0.03)


def test_flex_default_is_900_tokens_for_two_cameras_and_nine_steps():
    assert FlexConfig().num_tokens == 900
    assert scene.added_parameters(with_compressor(PAPER, "flex")) == pytest.approx(61.6e6, rel=0.03)


def test_baseline_adds_nothing_and_counts_the_tokens_of_the_rig():
    release = scene.make_compressor(preset("r1_10b"))
    assert (release.tokens_per_step, release.added_parameters) == (4 * 180, 0)
    seven = dataclasses.replace(PAPER, scene=dataclasses.replace(PAPER.scene, num_cameras=7))
    assert scene.tokens_per_step(seven) == 7 * 180


@pytest.mark.parametrize("name", ["tiny", "paper_0p5b", "r1_10b"])
@pytest.mark.parametrize("compressor", ["triplane", "flex"])
def test_networks_have_the_parameters_of_the_table(name, compressor):
    config = with_compressor(preset(name), compressor)
    got, want = flatten(param_shapes(config)), flatten(table_shapes(config))
    assert {p: leaf.shape for p, leaf in got.items()} == {p: leaf.shape for p, leaf in want.items()}
    added = sum(leaf.size for path, leaf in got.items() if path[:2] == ("vlm", "scene"))
    assert added == scene.make_compressor(config).added_parameters > 0


def test_the_budget_needs_no_cameras_and_no_images():
    """Neither the number of cameras nor their resolution enters a triplane's count."""
    config = with_compressor(PAPER, "triplane")
    other = dataclasses.replace(
        config,
        scene=dataclasses.replace(config.scene, num_cameras=7, image_size=(448, 280)),
        prompt=dataclasses.replace(config.prompt, min_pixels=65_536, max_pixels=65_536),
    )
    assert scene.tokens_per_step(config) == scene.tokens_per_step(other) == 288


def test_every_preset_has_a_compressor_of_each_kind():
    for name in PRESETS:
        for compressor in scene.COMPRESSORS:
            config = with_compressor(preset(name), compressor)
            shapes = jax.tree.leaves(table_shapes(config))
            assert shapes and scene.tokens_per_step(config) > 0


@pytest.mark.parametrize(
    "sizes",
    [
        {"patch": (7, 8, 8)},
        {"grid": (95, 96, 48)},
        {"hidden_size": 100},
        {"inner_xy": 200.0},
        {"inner_top_z": -4.0},
        {"inner_cells_xy": 65},
    ],
)
def test_impossible_grids_are_refused(sizes):
    with pytest.raises(ConfigError, match="scene.triplane"):
        TriplaneConfig(**sizes)


@pytest.mark.parametrize("sizes", [{"hidden_size": 100}, {"num_steps": 0}, {"tokens_per_step": 0}])
def test_impossible_encoders_are_refused(sizes):
    with pytest.raises(ConfigError, match="scene.flex"):
        FlexConfig(**sizes)


def test_tiny_scene_round_trips_as_a_dictionary():
    config = compressed(tiny_config(), "flex", tokens_per_step=5)
    assert type(config).from_dict(config.to_dict()) == config

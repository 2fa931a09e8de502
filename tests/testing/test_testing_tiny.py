import functools
import inspect

import jax
import numpy as np
import pytest

from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.testing import tiny
from alpamayo_jax.tokens.positions import mrope_positions
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.tokens.vocabulary import SPECIAL_NAMES, special_token_id

CONFIG = tiny.tiny_config()


def test_it_is_small_and_its_vocabulary_is_full():
    assert sum(leaf.size for leaf in jax.tree.leaves(param_shapes(CONFIG))) < 100_000
    last = special_token_id(CONFIG, SPECIAL_NAMES[-1])
    assert last + 1 == CONFIG.language.vocab_size == tiny_tokenizer(CONFIG).size


def test_sections_are_replaced():
    flow = CONFIG.flow.__class__(num_inference_steps=1)
    assert tiny.tiny_config(flow=flow).flow == flow and CONFIG.flow != flow


def test_random_parameters_have_no_silent_part():
    params = tiny.random_params(CONFIG)
    shapes = param_shapes(CONFIG)
    assert jax.tree.structure(params) == jax.tree.structure(shapes)
    for leaf, shape in zip(jax.tree.leaves(params), jax.tree.leaves(shapes)):
        assert leaf.shape == shape.shape and leaf.dtype == shape.dtype and leaf.std() > 0.01
    again = tiny.random_params(CONFIG)
    assert all(map(np.array_equal, jax.tree.leaves(params), jax.tree.leaves(again)))


@pytest.fixture(scope="module")
def inputs():
    return jax.tree.map(np.asarray, tiny.random_inputs(CONFIG, tiny.GRIDS[::-1]))


def test_prompts_are_consistent(inputs):
    ids, mask = inputs.input_ids, inputs.attention_mask
    lengths = mask.sum(-1)
    assert lengths[0] < lengths[1] == ids.shape[1]
    assert (ids[~mask] == CONFIG.text_tokens.pad_token_id).all() and not mask[0, 0]
    assert (ids[:, -1] == special_token_id(CONFIG, "cot_start")).all()
    at_image = inputs.image_index >= 0
    np.testing.assert_array_equal(at_image, ids == CONFIG.text_tokens.image_token_id)
    assert at_image.sum(-1).tolist() == [4, 8]
    positions, delta = mrope_positions(ids, mask, inputs.image_grid, CONFIG)
    np.testing.assert_array_equal(inputs.position_ids, positions)
    np.testing.assert_array_equal(inputs.rope_delta, delta)
    # Every image token has a place of its own, inside its image.
    for row, grid in zip(inputs.image_index, inputs.image_grid):
        places = row[row >= 0]
        slots = inputs.pixel_values.shape[2] // 4
        assert len(set(places)) == len(places)
        assert (places % slots < grid.prod(-1)[places // slots] // 4).all()


def test_a_row_does_not_depend_on_its_companions(inputs):
    alone = jax.tree.map(np.asarray, tiny.random_inputs(CONFIG, tiny.GRIDS[::-1][:1]))
    size = alone.input_ids.shape[1]
    np.testing.assert_array_equal(inputs.input_ids[:1, -size:], alone.input_ids)
    np.testing.assert_array_equal(inputs.position_ids[:, :1, -size:], alone.position_ids)
    np.testing.assert_array_equal(inputs.pixel_values[:1, :1, :16], alone.pixel_values)
    np.testing.assert_array_equal(inputs.ego_history_xyz[:1], alone.ego_history_xyz)


def test_shapes_can_be_padded():
    inputs = tiny.random_inputs(CONFIG, length=80, num_images=3, num_patches=28)
    assert inputs.input_ids.shape == (2, 80) and inputs.image_grid.shape == (2, 3, 2)
    assert inputs.pixel_values.shape[1:3] == (3, 28)
    assert (np.asarray(inputs.camera_index)[:, 2] == -1).all()


def test_seeds_differ():
    first, other = (tiny.random_inputs(CONFIG, seed=seed) for seed in (0, 1))
    assert (first.pixel_values != other.pixel_values).any()
    assert (first.ego_history_xyz != other.ego_history_xyz).any()


def test_conversations_are_whole():
    batch = tiny.random_train_batch(CONFIG, num_reasoning=(4, 0))
    ids = np.asarray(batch.inputs.input_ids)
    waypoints = CONFIG.action.n_waypoints
    assert (ids == special_token_id(CONFIG, "traj_future")).sum(-1).tolist() == [2 * waypoints] * 2
    assert (ids[:, -1] == CONFIG.text_tokens.eos_token_id).all()
    labels = np.asarray(batch.labels_mask)
    # Start, words and end of the reasoning; start, bins and end of the future; end of the turn.
    assert labels.sum(-1).tolist() == [n + 2 + 2 * waypoints + 2 + 1 for n in (4, 0)]
    assert batch.ego_future_xyz.shape == (2, waypoints, 3)
    # The future goes on where the history ends, at the origin.
    steps = np.diff(np.asarray(batch.inputs.ego_history_xyz)[:, -2:], axis=1)[:, 0]
    np.testing.assert_allclose(batch.ego_future_xyz[:, 0], steps, atol=0.05)
    np.testing.assert_allclose(np.asarray(batch.inputs.ego_history_xyz)[:, -1], 0, atol=1e-6)


def test_continued_appends_text():
    inputs = tiny.random_inputs(CONFIG)
    new = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    got = jax.tree.map(np.asarray, tiny.continued(inputs, new))
    length = inputs.input_ids.shape[1]
    assert got.input_ids.shape == (6, length + 4) and got.position_ids.shape == (3, 6, length + 4)
    for row in range(6):
        np.testing.assert_array_equal(got.input_ids[row, :length], inputs.input_ids[row // 3])
        np.testing.assert_array_equal(got.input_ids[row, length:], new[row // 3, row % 3])
    positions, delta = mrope_positions(got.input_ids, got.attention_mask, got.image_grid, CONFIG)
    np.testing.assert_array_equal(got.position_ids, positions)
    np.testing.assert_array_equal(got.rope_delta + 0, np.asarray(delta))
    assert (got.image_index[:, length:] == -1).all() and got.attention_mask[:, length:].all()


def test_observations_and_targets_pass_the_processor():
    observation = tiny.random_observation(CONFIG, seed=3, navigation="Turn left.")
    target = tiny.random_target(CONFIG, seed=3, reasoning="Keep lane.")
    batch = Processor(CONFIG, tiny_tokenizer(CONFIG)).train_batch([observation], [target])
    assert batch.inputs.image_grid.shape == (1, 4, 2)
    np.testing.assert_array_equal(batch.ego_future_xyz[0], target.ego_future_xyz)


def test_its_compilers_differ_in_effort_alone():
    quick, full = tiny.quick_jit, tiny.full_jit
    assert quick(lambda x: 2 * x)(3.0) == full(lambda x: 2 * x)(3.0) == 6.0
    options = [inspect.unwrap(f).keywords["compiler_options"] for f in (quick, full)]
    assert options[0] != options[1] and isinstance(quick, functools.partial)

"""Rotary positions of prompts with images."""

import dataclasses

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.presets import preset
from alpamayo_jax.tokens.positions import PAD_POSITION, mrope_positions
from alpamayo_jax.types import InputError

CONFIG = preset("tiny")
IMAGE = CONFIG.text_tokens.image_token_id


def _row(*parts):
    """Ids of text runs (int) and images ((h, w) in merged tokens), and the grids in patches."""
    ids, grids = [], []
    for part in parts:
        if isinstance(part, int):
            ids += [7] * part
        else:
            ids += [IMAGE] * (part[0] * part[1])
            grids.append((2 * part[0], 2 * part[1]))
    return ids, grids


def _batch(*rows):
    length = max(len(ids) for ids, _ in rows)
    images = max(len(grids) for _, grids in rows)
    ids = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), bool)
    grid = np.zeros((len(rows), images, 2), np.int32)
    for b, (tokens, grids) in enumerate(rows):
        ids[b, length - len(tokens) :] = tokens
        mask[b, length - len(tokens) :] = True
        grid[b, : len(grids)] = np.reshape(grids, (-1, 2))
    return ids, mask, grid


class PositionsTest(parameterized.TestCase):
    def test_text_counts_up(self):
        positions, delta = mrope_positions(*_batch(_row(5)), CONFIG)
        np.testing.assert_array_equal(positions, np.tile(np.arange(5), (3, 1, 1)))
        np.testing.assert_array_equal(delta, [0])

    def test_one_image(self):
        positions, delta = mrope_positions(*_batch(_row(2, (2, 3), 2)), CONFIG)
        np.testing.assert_array_equal(
            positions[:, 0],
            [
                [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
                [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
                [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
            ],
        )
        np.testing.assert_array_equal(delta, [7 - 10])

    def test_release_image_advances_by_its_longer_side(self):
        positions, delta = mrope_positions(*_batch(_row(1, (10, 18), 1)), CONFIG)
        self.assertEqual(positions[0, 0, -1], 1 + 18)
        self.assertEqual(delta[0], 20 - 182)

    def test_padding_on_the_left(self):
        short, long = _row(1, (2, 2), 3), _row(4, (3, 2), (1, 4), 9)
        alone, alone_delta = mrope_positions(*_batch(short), CONFIG)
        ids, mask, grid = _batch(short, long)
        positions, delta = mrope_positions(ids, mask, grid, CONFIG)
        pads = int((~mask[0]).sum())
        np.testing.assert_array_equal(positions[:, 0, pads:], alone[:, 0])
        np.testing.assert_array_equal(positions[:, 0, :pads], PAD_POSITION)
        # A later token's slot is larger by the padding, its position is not.
        self.assertEqual(delta[0], alone_delta[0] - pads)

    def test_images_without_text_between(self):
        positions, _ = mrope_positions(*_batch(_row((1, 2), (2, 1))), CONFIG)
        np.testing.assert_array_equal(positions[:, 0], [[0, 0, 2, 2], [0, 0, 2, 3], [0, 1, 2, 2]])

    def test_empty_row(self):
        ids, mask, grid = _batch(_row(3), _row(0))
        _, delta = mrope_positions(ids, mask, grid, CONFIG)
        np.testing.assert_array_equal(delta, [0, -3])

    def test_counts_must_match(self):
        ids, mask, grid = _batch(_row(2, (2, 3), 2))
        with pytest.raises(InputError, match="row 0 .* 6 image tokens, .*1 image grid.* 8"):
            mrope_positions(ids, mask, grid + np.array([0, 2]), CONFIG)

    def test_an_image_is_one_run(self):
        ids, mask, grid = _batch(_row(2, (2, 3), 2))
        ids[0, 1], ids[0, 4] = IMAGE, 7
        with pytest.raises(InputError, match="tokens of image 0 are not together"):
            mrope_positions(ids, mask, grid, CONFIG)

    def test_shapes_must_match(self):
        ids, mask, grid = _batch(_row(4))
        with pytest.raises(AssertionError):
            mrope_positions(ids, mask[:, 1:], grid, CONFIG)

    @pytest.mark.torch
    def test_equals_transformers(self):
        torch = pytest.importorskip("torch")
        modeling = pytest.importorskip("transformers.models.qwen3_vl.modeling_qwen3_vl")
        configuration = pytest.importorskip("transformers").Qwen3VLConfig()
        configuration.image_token_id = IMAGE

        class Owner:
            config = configuration
            get_vision_position_ids = modeling.Qwen3VLModel.get_vision_position_ids

        rows = [_row(3, (4, 2), 5, (2, 6), 1), _row(2, (3, 3), 2, (1, 5), 1), _row(11)]
        ids, mask, grid = _batch(*rows)
        thw = np.concatenate([np.insert(np.reshape(g, (-1, 2)), 0, 1, axis=1) for _, g in rows])
        want, delta = modeling.Qwen3VLModel.get_rope_index(
            Owner(),
            torch.from_numpy(ids.astype(np.int64)),
            mm_token_type_ids=torch.from_numpy((ids == IMAGE).astype(np.int64)),
            image_grid_thw=torch.from_numpy(thw.astype(np.int64)),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
        )
        got, got_delta = mrope_positions(ids, mask, grid, CONFIG)
        for b in range(len(rows)):
            np.testing.assert_array_equal(got[:, b, mask[b]], want.numpy()[:, b, mask[b]])
        # Newer versions do not count the padding in the difference.
        np.testing.assert_array_equal(got_delta, delta.numpy()[:, 0] - (~mask).sum(-1))


def test_other_merge_sizes():
    vision = dataclasses.replace(CONFIG.vision, spatial_merge_size=1)
    config = dataclasses.replace(CONFIG, vision=vision)
    ids, mask, _ = _batch(_row(1, (2, 3)))
    positions, _ = mrope_positions(ids, mask, np.array([[[2, 3]]]), config)
    np.testing.assert_array_equal(positions[2, 0], [0, 1, 2, 3, 1, 2, 3])

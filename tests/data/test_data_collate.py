"""Rows made one by one and joined are what the processor makes of all at once."""

import jax
import numpy as np
import pytest

from alpamayo_jax.data.collate import concatenate
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.clips import small_clip

processor_lib = pytest.importorskip("alpamayo_jax.tokens.processor")
tokenizer_lib = pytest.importorskip("alpamayo_jax.tokens.tokenizer")

# (image size, cameras, frames, reasoning) of the rows of one batch.
ROWS = {
    "alike": [((64, 48), 1, 4, "")] * 2,
    "text": [((64, 48), 1, 2, text) for text in ("", "Yield to the pedestrian ahead.", "x")],
    "cameras": [((64, 48), 2, 1, "a"), ((64, 48), 0, 1, "a"), ((64, 48), 1, 3, "a b c")],
    "sizes": [((64, 48), 1, 2, ""), ((160, 64), 2, 2, "Stop."), ((64, 64), 1, 1, "")],
}


@pytest.fixture(scope="module")
def processor():
    config = preset("tiny")
    return processor_lib.Processor(config, tokenizer_lib.tiny_tokenizer(config))


def _windows(rows):
    names = ("camera_front_wide_120fov", "camera_front_tele_30fov")
    for seed, (size, cameras, frames, text) in enumerate(rows):
        clip = small_clip(
            9.0, cameras=names[:cameras], size=size, seed=seed, reasoning=[(0.0, text)]
        )
        yield observe(clip, 2.0, frames), target(clip, 2.0)


@pytest.mark.parametrize("pad_to", [None, "bucket"])
@pytest.mark.parametrize("name", ROWS)
def test_joined_rows_equal_the_batch(processor, name, pad_to):
    observations, targets = zip(*_windows(ROWS[name]))
    whole = processor.train_batch(observations, targets, pad_to=pad_to)
    rows = [
        processor.train_batch([o], [t], pad_to=pad_to) for o, t in zip(observations, targets)
    ]
    joined = concatenate(rows, processor.config)
    for path, expected in jax.tree_util.tree_leaves_with_path(whole):
        found = dict(jax.tree_util.tree_leaves_with_path(joined))[path]
        assert found.dtype == expected.dtype, path
        np.testing.assert_array_equal(found, expected, err_msg=jax.tree_util.keystr(path))


def test_joining_leaves_the_rows_alone(processor):
    observations, targets = zip(*_windows(ROWS["sizes"]))
    rows = [processor.train_batch([o], [t]) for o, t in zip(observations, targets)]
    copies = jax.tree.map(np.copy, rows)
    first, second = (concatenate(rows, processor.config) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, rows, copies)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_batches_of_several_rows_join(processor):
    observations, targets = zip(*_windows(ROWS["cameras"]))
    whole = processor.train_batch(observations, targets)
    parts = [
        processor.train_batch(observations[:2], targets[:2]),
        processor.train_batch(observations[2:], targets[2:]),
    ]
    jax.tree.map(np.testing.assert_array_equal, concatenate(parts, processor.config), whole)


def test_wrong_ranks_are_refused(processor):
    (pair,) = _windows(ROWS["alike"][:1])
    row = processor.train_batch([pair[0]], [pair[1]])
    flat = row.replace(inputs=row.inputs.replace(input_ids=row.inputs.input_ids[0]))
    with pytest.raises(AssertionError):
        concatenate([row, flat], processor.config)

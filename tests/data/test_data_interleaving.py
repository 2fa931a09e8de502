"""Windows as rows of moments."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import interleaving
from alpamayo_jax.data.pipeline import training_batches
from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.data.windows import observe
from alpamayo_jax.presets import preset, with_compressor
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

FRAMES = 3


@pytest.fixture(scope="module")
def source():
    return make_source("procedural", num_clips=2, seed=3)


@pytest.fixture(scope="module")
def windows(source):
    every = list_windows(source, stride_s=0.1, num_frames=FRAMES)
    return interleaving.with_moments(source, every, FRAMES)


def test_windows_without_a_past_at_their_first_moment_are_left_out(source, windows):
    every = list_windows(source, stride_s=0.1, num_frames=FRAMES)
    missing = set(every) - set(windows)
    # Two moments before t0: the first two windows of both clips.
    assert missing == {w for n in (0, 1) for w in [x for x in every if x[0] == n][:2]}
    assert interleaving.with_moments(source, every, 1) == tuple(every)


def test_windows_explained_only_after_their_first_moment_are_left_out(source):
    clip = source.clip(0)
    label = dataclasses.replace(clip.reasoning[0], t=5.0, text="Stop because the light is red.")

    class Labelled:
        def clip(self, number):
            return dataclasses.replace(clip, reasoning=(label,))

    times = [4.8, 4.9, 5.0, 5.1, 5.2, 5.3]
    kept = interleaving.with_moments(Labelled(), [(0, t) for t in times], FRAMES)
    # Before the label nothing is explained, which is what a clip without labels is like.
    assert [t for _, t in kept] == [4.8, 4.9, 5.2, 5.3]


def test_each_part_ends_with_its_own_frame(source, windows):
    number, t0 = windows[0]
    parts = interleaving.parts(source, [(number, t0)], FRAMES)
    whole = observe(source.clip(number), t0, FRAMES)
    assert [len(seen[0].cameras[0].images) for seen, _ in parts] == [1, 2, 3]
    for count, (seen, wanted) in enumerate(parts, 1):
        moment = t0 - 0.1 * (FRAMES - count)
        assert seen[0].t0 == pytest.approx(moment)
        np.testing.assert_array_equal(seen[0].cameras[0].images, whole.cameras[0].images[:count])
        assert len(wanted) == 1
    # A step later on the same road: what was the future lies in the history's frame.
    first, second = (wanted[0].ego_future_xyz for _, wanted in parts[:2])
    step = np.linalg.norm(np.diff(first, axis=0), axis=-1)[1:]
    np.testing.assert_allclose(
        step, np.linalg.norm(np.diff(second, axis=0), axis=-1)[:-1], atol=1e-3
    )


@pytest.mark.parametrize("cached", [False, True])
def test_the_pipeline_makes_interleaved_rows(source, windows, cached):
    config = with_compressor(preset("tiny"), "flex", (4, 1))
    batches = training_batches(
        source, windows, Processor(config, tiny_tokenizer(config)), batch_size=2, seed=0,
        num_frames=FRAMES, pad_to=1024, interleaved=True, cache_windows=cached,
    )  # fmt: skip
    batch = next(iter(batches))
    assert batch.labels_mask.shape == (2, 1024)
    assert set(np.unique(batch.inputs.prefix)) == {-3, -2, -1, 0, 1, 2, 3}
    assert batch.earlier.history_xyz.shape == (2, FRAMES - 1, 16, 3)
    assert batch.earlier.future_rot.shape == (2, FRAMES - 1, 64, 3, 3)
    # The newest pose of every history is the origin of its own frame.
    np.testing.assert_allclose(batch.earlier.history_xyz[:, :, -1], 0, atol=1e-5)
    assert np.abs(np.diff(batch.earlier.future_xyz, axis=1)).max() > 0


def test_what_has_no_moments_is_refused(source, windows):
    for wrong in (dict(pack_lengths=(512, 1024)),):
        with pytest.raises(ConfigError, match="interleaved prediction"):
            training_batches(
                source, windows, None, batch_size=1, seed=0, interleaved=True, **wrong
            )

    @dataclasses.dataclass
    class Questions:
        example: int = 0

    with pytest.raises(ConfigError, match="questions"):
        interleaving.check(Questions(), ())

"""Several sources as one: shares, order, names; batches of drives and questions, resumed."""

import collections

import jax
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.mixture import Mixture, Part
from alpamayo_jax.data.pipeline import batch_plan, row_order, training_batches
from alpamayo_jax.data.question_answering import QuestionSource
from alpamayo_jax.data.sources import FolderSource, list_windows
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.testing.questions import write_questions
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.tokens.vocabulary import special_token_id

CONFIG = preset("tiny")


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    found = []
    for name, text in (("short", "Go."), ("long", "Slow down because the car ahead is braking.")):
        root = tmp_path_factory.mktemp(name)
        for number in range(2):
            folder = root / f"{name}{number}"
            write_small_clip(folder, seconds=8.4, size=(32, 32), reasoning=[(0.0, text)])
        found.append(FolderSource(root))
    return found


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return QuestionSource(write_questions(tmp_path_factory.mktemp("qa"), 5), num_frames=2)


@pytest.fixture(scope="module")
def mixture(drives, questions):
    parts = [Part(source, list_windows(source), w) for source, w in zip(drives, (3.0, 1.0))]
    return Mixture([*parts, Part(questions, questions.windows, 2.0)])


def test_numbers_go_through_all_parts(mixture, drives, questions):
    assert len(mixture) == 2 + 2 + 5
    assert mixture.clip(3).clip_id == drives[1].clip(1).clip_id == mixture.clip_name(3)
    assert mixture.clip_name(4) == questions.clip_name(0)
    assert {number for number, _ in mixture.windows} == set(range(9))
    source, window = mixture.own((5, 0.0))
    assert source is questions and window == (1, 0.0)
    assert mixture.name.startswith("a mixture of 3 x ")
    with pytest.raises(ConfigError, match="has examples, no clips"):
        mixture.clip(4)
    with pytest.raises(IndexError):
        mixture.clip(9)


def test_rows_come_in_the_shares_of_the_weights(mixture):
    order = row_order(mixture, mixture.windows, seed=3)
    rows = [order[i] for i in range(600)]
    parts = collections.Counter(np.searchsorted([2, 4, 9], number, "right") for number, _ in rows)
    assert [parts[k] for k in range(3)] == [300, 100, 200]
    # Each part is gone through whole before it begins again.
    asked = [number for number, _ in rows if number >= 4]
    for epoch in range(0, 200, 5):
        assert sorted(asked[epoch : epoch + 5]) == [4, 5, 6, 7, 8]
    assert len({tuple(asked[e : e + 5]) for e in range(0, 50, 5)}) > 1


def test_parts_that_cannot_be(drives):
    windows = list_windows(drives[0])
    for parts, message in (
        ([], "at least one part"),
        ([Part(drives[0], ())], "has 0 windows and weight 1.0"),
        ([Part(drives[0], windows, 0.0)], "weight 0.0; both must be above 0"),
        ([Part(drives[0], windows, float("nan"))], "weight nan"),
    ):
        with pytest.raises(ConfigError, match=message):
            Mixture(parts)
    mixture = Mixture([Part(source, list_windows(source)) for source in drives])
    with pytest.raises(ConfigError, match="no window of .* is left"):
        row_order(mixture, mixture.windows[:1], seed=0)


def _make(mixture, **options):
    processor = Processor(CONFIG, tiny_tokenizer(CONFIG))
    defaults = {"batch_size": 4, "seed": 1, "num_frames": 1}
    return training_batches(mixture, mixture.windows, processor, **(defaults | options))


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


def _same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def lengths(mixture):
    """Two buckets that part the rows."""
    processor = Processor(CONFIG, tiny_tokenizer(CONFIG))
    plan = batch_plan(
        mixture, mixture.windows, processor, batch_size=1, seed=0, num_frames=1,
        pack_lengths=[10_000],
    )  # fmt: skip
    need = sorted({_length_of(mixture, plan[i][0][0]) for i in range(60)})
    assert len(need) >= 3
    return need[len(need) // 2], need[-1]


def _length_of(mixture, window):
    processor = Processor(CONFIG, tiny_tokenizer(CONFIG))
    source, own = mixture.own(window)
    batch = next(
        iter(
            training_batches(
                source, [own], processor, batch_size=1, seed=0, num_frames=1, pad_to=None
            )
        )
    )
    return batch.inputs.input_ids.shape[1]


def test_counted_lengths_are_those_of_the_rows(mixture):
    processor = Processor(CONFIG, tiny_tokenizer(CONFIG))
    for window in mixture.windows[::7]:
        needed = _length_of(mixture, window)
        options = dict(batch_size=1, seed=0, num_frames=1)
        plan = batch_plan(
            *mixture_of(mixture, window), processor, pack_lengths=[needed - 1, needed], **options
        )
        assert plan[0][1] == needed


def mixture_of(mixture, window):
    source, own = mixture.own(window)
    return source, [own]


@pytest.mark.parametrize("cache", [False, True])
def test_packed_batches_of_drives_and_questions_resume_exactly(mixture, lengths, cache):
    options = {"pack_lengths": lengths, "cache_windows": cache}
    whole = _take(iter(_make(mixture, **options)), 8)
    assert {batch.inputs.input_ids.shape[1] for batch in whole} == set(lengths)
    assert all(batch.labels_mask.any(-1).all() for batch in whole)
    begun = iter(_make(mixture, **options))
    _take(begun, 3)
    fresh = iter(_make(mixture, **options))
    fresh.set_state(begun.get_state())
    for found, expected in zip(_take(fresh, 5), whole[3:]):
        _same(found, expected)


def test_packing_with_and_without_cache_and_cut(drives, lengths):
    mixture = Mixture([Part(source, list_windows(source)) for source in drives])
    stop = special_token_id(CONFIG, "traj_future_start")
    for options in ({}, {"stop_after": stop}):
        plain, cached = (
            _take(iter(_make(mixture, pack_lengths=lengths, cache_windows=c, **options)), 3)
            for c in (False, True)
        )
        for a, b in zip(plain, cached):
            _same(a, b)
        if options:
            assert (a.inputs.input_ids[:, -1] == stop).all()


def test_hosts_together_make_the_batches_of_one(mixture, lengths):
    options = {"pack_lengths": lengths, "batch_size": 2}
    shards = [iter(_make(mixture, shard_index=i, shard_count=2, **options)) for i in range(2)]
    for whole in _take(iter(_make(mixture, pack_lengths=lengths)), 3):
        parts = [next(shard).inputs.input_ids for shard in shards]
        np.testing.assert_array_equal(np.concatenate(parts), whole.inputs.input_ids)


@pytest.mark.slow
def test_workers_change_nothing(mixture, lengths):
    plain = _take(iter(_make(mixture, pack_lengths=lengths)), 5)
    dataset = _make(mixture, pack_lengths=lengths, num_workers=2)
    iterator = iter(dataset)
    for expected in plain[:3]:
        _same(next(iterator), expected)
    state = iterator.get_state()
    iterator.close()
    resumed = iter(dataset)
    resumed.set_state(state)
    for expected in plain[3:]:
        _same(next(resumed), expected)
    resumed.close()

"""Training batches: order, resuming, workers, caches."""

import jax
import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax import types
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.pipeline import batch_plan, training_batches
from alpamayo_jax.data.sources import FolderSource, list_windows
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.clips import write_small_clip


class FakeProcessor:
    """Rows that say where they come from, in place of tokens and patches."""

    def __init__(self):
        self.config = preset("tiny")
        self.calls = 0

    def train_batch(self, observations, targets, *, pad_to=None, components=None):
        self.calls += 1
        assert pad_to in (None, "bucket", 16)
        length = 16 if pad_to else 5 + len(observations)
        tokens = np.zeros((len(observations), length), np.int32)
        images = np.stack([o.cameras[0].images[:, :2, :2].reshape(-1, 4, 3) for o in observations])
        frames = images.shape[1]
        first = np.array([[int(o.clip_id[-1]), round(o.t0 * 10)] for o in observations])
        tokens[:, -2:] = first
        inputs = types.ModelInputs(
            input_ids=tokens,
            attention_mask=tokens >= 0,
            position_ids=np.tile(tokens, (3, 1, 1)),
            rope_delta=np.zeros(len(tokens), np.int32),
            image_index=np.full(tokens.shape, -1, np.int32),
            pixel_values=images.astype(np.float32),
            image_grid=np.full((len(tokens), frames, 2), 2, np.int32),
            camera_index=np.ones((len(tokens), frames), np.int32),
            frame_time=np.stack([o.cameras[0].times for o in observations]).astype(np.float32),
            ego_history_xyz=np.stack([o.ego_history_xyz for o in observations]),
            ego_history_rot=np.stack([o.ego_history_rot for o in observations]),
        )
        return types.TrainBatch(
            inputs=inputs,
            labels_mask=tokens > 0,
            ego_future_xyz=np.stack([t.ego_future_xyz for t in targets]),
            ego_future_rot=np.stack([t.ego_future_rot for t in targets]),
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for number, seconds in enumerate((8.3, 8.4)):
        write_small_clip(root / f"clip{number}", seconds=seconds, seed=number, size=(16, 8))
    return FolderSource(root)


def _rows(batch):
    """(clip, t0 in tenths) of each row."""
    return [tuple(row) for row in np.asarray(batch.inputs.input_ids)[:, -2:].tolist()]


def _same(a, b):
    np.testing.assert_array_equal(a.inputs.input_ids, b.inputs.input_ids)
    np.testing.assert_array_equal(a.inputs.pixel_values, b.inputs.pixel_values)
    np.testing.assert_array_equal(a.ego_future_xyz, b.ego_future_xyz)


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


def _make(source, **options):
    defaults = {"batch_size": 3, "seed": 7}
    windows = list_windows(source)
    return training_batches(source, windows, FakeProcessor(), **(defaults | options))


def test_every_window_once_an_epoch_in_a_new_order(source):
    windows = [(clip, round(10 * t0)) for clip, t0 in list_windows(source)]
    assert len(windows) == 9
    rows = sum((_rows(b) for b in _take(iter(_make(source)), 9)), [])
    epochs = [rows[i : i + 9] for i in range(0, 27, 9)]
    for epoch in epochs:
        assert sorted(epoch) == windows
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != windows


def test_batches_run_over_the_end_of_an_epoch(source):
    batches = _take(iter(_make(source, batch_size=4)), 9)
    assert all(len(_rows(b)) == 4 for b in batches)
    rows = sum((_rows(b) for b in batches), [])
    assert all(rows.count(row) == 4 for row in rows)


def test_a_batch_larger_than_the_list(source):
    rows = _rows(next(iter(_make(source, batch_size=20))))
    assert len(rows) == 20
    assert len(set(rows)) == 9


def test_the_seed_decides_the_order(source):
    first, again, other = (
        [_rows(b) for b in _take(iter(_make(source, seed=seed)), 6)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("options", [{}, {"cache_windows": True}, {"batch_size": 5}])
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_resumed_equals_uninterrupted(source, options, stop):
    dataset = _make(source, **options)
    whole = _take(iter(dataset), stop + 5)
    begun = iter(dataset)
    _take(begun, stop)
    state = begun.get_state()
    fresh = iter(_make(source, **options))
    fresh.set_state(state)
    for found, expected in zip(_take(fresh, 5), whole[stop:]):
        _same(found, expected)


def test_caching_changes_nothing_but_the_work(source):
    plain, windows = iter(_make(source)), list_windows(source)
    processor = FakeProcessor()
    cached = iter(
        training_batches(
            source, windows, processor, batch_size=3, seed=7, cache_windows=True, pad_to="bucket"
        )
    )
    for _ in range(12):
        _same(next(cached), next(plain))
    assert processor.calls <= 2 * len(windows)  # two threads may meet at one window


def test_a_small_cache_makes_the_rest_anew(source):
    processor = FakeProcessor()
    batches = iter(
        training_batches(
            source, list_windows(source), processor,
            batch_size=3, seed=7, cache_windows=True, cache_mb=0,
        )
    )  # fmt: skip
    for found, expected in zip(_take(batches, 6), _take(iter(_make(source)), 6)):
        _same(found, expected)
    assert processor.calls >= 18


@pytest.mark.slow
def test_workers_change_nothing(source):
    plain = _take(iter(_make(source)), 7)
    dataset = _make(source, num_workers=2)
    iterator = iter(dataset)
    for expected in plain[:4]:
        _same(next(iterator), expected)
    state = iterator.get_state()
    iterator.close()
    resumed = iter(dataset)
    resumed.set_state(state)
    for expected in plain[4:]:
        _same(next(resumed), expected)
    resumed.close()


def test_shards_together_make_the_batches_of_one(source):
    shards = [iter(_make(source, shard_index=i, shard_count=2)) for i in range(2)]
    for whole in _take(iter(_make(source, batch_size=6)), 5):
        assert sum((_rows(next(shard)) for shard in shards), []) == _rows(whole)


def test_the_windows_of_a_batch_are_known_without_making_it(source):
    windows = list_windows(source)
    plan = batch_plan(source, windows, FakeProcessor(), batch_size=3, seed=7)
    for number, batch in enumerate(_take(iter(_make(source)), 5)):
        assert [(clip, round(10 * t0)) for clip, t0 in plan[number][0]] == _rows(batch)


def test_options_reach_the_processor_and_the_windows(source):
    batch = next(iter(_make(source, pad_to=None, num_frames=2)))
    assert batch.inputs.input_ids.shape == (3, 8)
    assert batch.inputs.pixel_values.shape[1] == 2


def test_rows_hold_their_window(source):
    batch = next(iter(_make(source)))
    for row, (number, tenths) in enumerate(_rows(batch)):
        clip = source.clip(number)
        distance = np.linalg.norm(batch.ego_future_xyz[row, -1])
        i = int(np.argmin(np.abs(clip.ego.t - tenths / 10)))
        expected = np.linalg.norm(clip.ego.xyz[i + 64] - clip.ego.xyz[i])
        assert abs(distance - expected) < 1e-4


def test_the_real_processor_gives_the_same_with_and_without_cache(source):
    lib = pytest.importorskip("alpamayo_jax.tokens.processor")
    tokenizer = pytest.importorskip("alpamayo_jax.tokens.tokenizer")
    config = preset("tiny")
    processor = lib.Processor(config, tokenizer.tiny_tokenizer(config))
    plain, cached = (
        iter(
            training_batches(
                source, list_windows(source)[:3], processor, batch_size=2, seed=0, num_frames=2,
                components=("traj_future",), cache_windows=cache,
            )
        )
        for cache in (False, True)
    )  # fmt: skip
    for _ in range(3):
        batch, again = next(plain), next(cached)
        jax.tree.map(np.testing.assert_array_equal, batch, again)
        assert batch.inputs.input_ids.shape[0] == 2
        assert batch.labels_mask.any(-1).all()


def test_a_defective_image_stops_with_its_name(tmp_path):
    folder = write_small_clip(tmp_path / "clip0", seconds=8.2)
    for path in (folder / "frames").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    broken = FolderSource(tmp_path)
    with pytest.raises(types.InputError, match=r"clip 'clip0': camera .*\.jpg: .*cut off"):
        next(iter(_make(broken)))


class SizesTest(parameterized.TestCase):
    @parameterized.parameters(
        {"batch_size": 0}, {"num_workers": -1}, {"shard_index": 1}, {"shard_count": 0},
        {"shard_index": -1},
    )  # fmt: skip
    def test_sizes_that_make_no_batch(self, **options):
        arguments = {"batch_size": 1, "seed": 0} | options
        with self.assertRaisesRegex(ConfigError, "do not make batches"):
            training_batches(None, [(0, 2.0)], FakeProcessor(), **arguments)

    def test_no_windows(self):
        with self.assertRaisesRegex(ConfigError, "0 windows in batches of 1 make no batch"):
            training_batches(None, [], FakeProcessor(), batch_size=1, seed=0)

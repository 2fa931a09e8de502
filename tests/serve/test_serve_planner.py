"""A checkpoint's policy as a planner: few batch sizes, images resized once, seeds per row."""

import collections
import functools

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode import sample as sample_lib
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.presets import preset
from alpamayo_jax.serve import planner as planner_lib
from alpamayo_jax.serve.planner import PolicyPlanner, StreamingPlanner
from alpamayo_jax.testing.tiny import quick_jit, random_observation, random_params, tiny_config
from alpamayo_jax.tokens.images import image_patches
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

_CONFIG = tiny_config()
_SETTINGS = SampleSettings(num_samples=2, max_new_tokens=4, flow_steps=2)


@functools.cache
def _policy():
    return Policy(config=_CONFIG, params=random_params(_CONFIG), tokenizer=tiny_tokenizer(_CONFIG))


class Recorder:
    """Stands in for `sample`: notes what is asked for, answers with the seeds."""

    def __init__(self):
        self.calls = []

    def __call__(self, policy, observations, *, seed, settings):
        self.calls.append((list(observations), list(seed)))
        return list(seed)


@pytest.mark.parametrize("count, size", [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8)])
def test_batches_have_few_sizes_and_answers_their_own_rows(monkeypatch, count, size):
    recorder = Recorder()
    monkeypatch.setattr(planner_lib, "sample", recorder)
    planner = PolicyPlanner(_policy(), _SETTINGS, max_batch=8)
    observations = [random_observation(_CONFIG, i) for i in range(count)]
    seeds = [10 + i for i in range(count)]
    assert planner.plan(observations, seeds) == seeds
    ((asked, asked_seeds),) = recorder.calls
    assert len(asked) == size and asked[:count] == observations and asked_seeds[:count] == seeds


def test_every_size_is_warmed_with_what_will_come(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(planner_lib, "sample", recorder)
    planner = PolicyPlanner(_policy(), _SETTINGS, max_batch=4)
    planner.warm((1, 6), num_frames=3, height=40, width=60, navigation=False)
    assert [len(observations) for observations, _ in recorder.calls] == [1, 2, 4]
    observation = recorder.calls[0][0][0].validate()
    assert [c.camera_index for c in observation.cameras] == [1, 6]
    blank = planner.prepare(np.zeros((40, 60, 3), np.uint8))
    assert {c.images.shape for c in observation.cameras} == {(3, *blank.shape)}


@pytest.mark.parametrize("most", (0, 3, 12))
def test_the_largest_batch_is_a_power_of_two(most):
    with pytest.raises(ConfigError, match=f"max_batch {most}"):
        PolicyPlanner(_policy(), _SETTINGS, max_batch=most)


@pytest.mark.parametrize("height, width", [(108, 192), (33, 47), (400, 30)])
def test_a_prepared_image_gives_the_same_patches(height, width):
    config = preset("tiny")
    policy = Policy(config=config, params={}, tokenizer=None)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    prepared = PolicyPlanner(policy, _SETTINGS).prepare(image)
    for found, want in zip(
        image_patches(prepared, config.vision, config.prompt),
        image_patches(image, config.vision, config.prompt),
    ):
        np.testing.assert_array_equal(found, want)


def test_a_plan_does_not_depend_on_its_company(monkeypatch):
    quick = quick_jit(
        sample_lib._sample.__wrapped__,
        static_argnames=("config", "settings", "score_trajectories"),
    )
    monkeypatch.setattr(sample_lib, "_sample", quick)
    planner = PolicyPlanner(_policy(), _SETTINGS, max_batch=2)
    first, second, third = (random_observation(_CONFIG, i) for i in (0, 1, 2))
    here = planner.plan([first, third], [7, 5])[0]
    there = planner.plan([second, first], [3, 7])[1]
    np.testing.assert_array_equal(here.token_ids, there.token_ids)
    np.testing.assert_allclose(here.xyz, there.xyz, atol=1e-4)


class RecordedDrives:
    """Stands in for `Drives`: notes what is asked for, answers with the seeds."""

    def __init__(self, policy, settings, *, reuse, most):
        self.options, self.calls = (policy, settings, reuse, most), []
        self.totals = collections.Counter(steps=1)

    def __call__(self, keys, observations, seeds):
        self.calls.append((list(keys), [o.t0 for o in observations], list(seeds)))
        return list(seeds)


def test_sessions_are_streamed_apart(monkeypatch):
    monkeypatch.setattr(planner_lib, "Drives", RecordedDrives)
    planner = StreamingPlanner(_policy(), _SETTINGS, "approximate", most=5)
    assert planner.drives.options == (_policy(), _SETTINGS, "approximate", 5)
    seen = [random_observation(_CONFIG, i, clip_id=name, t0=2.0) for i, name in enumerate("ab")]
    assert planner.plan(seen, [4, 9]) == [4, 9]
    assert planner.drives.calls == [(["a", "b"], [2.0, 2.0], [4, 9])]


def test_a_drive_of_three_steps_is_warmed(monkeypatch):
    monkeypatch.setattr(planner_lib, "Drives", RecordedDrives)
    planner = StreamingPlanner(_policy(), _SETTINGS, "exact")
    planner.warm((1,), num_frames=2, height=40, width=60, navigation=False)
    keys, times, _ = zip(*planner.drives.calls)
    assert keys == (["warm-up"],) * 3 and not planner.drives.totals
    np.testing.assert_allclose(np.ravel(times), [0.0, 0.1, 0.2])

"""Evaluation of known predictions: what is measured, averaged and asked of the sampler."""

import types

import numpy as np
import pytest

from alpamayo_jax import evaluate as evaluate_lib
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.clips import small_clip
from alpamayo_jax.testing.predictions import shifted_prediction
from alpamayo_jax.types import InputError

POLICY = types.SimpleNamespace(config=preset("tiny"))
SETTINGS = SampleSettings(num_samples=3)
OFFSETS = (2.0, 1.0, 4.0)  # metres to the left, by sample


class Source:
    """Clips of one length whose drives differ."""

    name = "two clips"

    def __len__(self):
        return 2

    def clip(self, index):
        return small_clip(12.0, seed=index, clip_id=f"clip{index}", cameras=("front",))


WINDOWS = ((0, 2.0), (0, 3.0), (1, 2.0))


@pytest.fixture
def calls(monkeypatch):
    """Replaces the sampler by the recorded future with offsets; clip 1 is twice as far off."""
    made, source = [], Source()

    def sample(policy, observations, *, seed, settings, score_trajectories):
        made.append((len(observations), seed, settings, score_trajectories))
        return [
            shifted_prediction(
                target(source.clip(int(o.clip_id[-1])), o.t0),
                np.array(OFFSETS) * (1 + int(o.clip_id[-1])),
            )
            for o in observations
        ]

    monkeypatch.setattr(evaluate_lib, "sample", sample)
    return made


def run(**options):
    options = dict(settings=SETTINGS, num_frames=1, progress=False) | options
    return evaluate_lib.evaluate(POLICY, Source(), WINDOWS, **options)


def test_every_window_is_measured(calls):
    evaluation = run(batch_size=2)
    assert [r.window for r in evaluation.results] == list(WINDOWS)
    assert [r.clip_id for r in evaluation.results] == ["clip0", "clip0", "clip1"]
    first, _, last = (r.metrics for r in evaluation.results)
    assert first["min_ade"] == pytest.approx(1.0, abs=1e-4)
    assert first["ade"] == pytest.approx(2.0, abs=1e-4)  # the first sample
    assert first["ade_most_likely"] == pytest.approx(2.0, abs=1e-4)
    assert first["mean_ade"] == pytest.approx(7 / 3, abs=1e-4)
    assert first["min_fde"] == pytest.approx(1.0, abs=1e-4)
    assert last["min_ade"] == pytest.approx(2.0, abs=1e-4)
    assert all(isinstance(value, float) for value in first.values())
    assert evaluation.seconds > 0


def test_baselines_are_measured_on_the_same_windows(calls):
    evaluation = run(batch_size=3)
    for result in evaluation.results:
        clip = Source().clip(result.window[0])
        history, future = observe(clip, result.window[1], 1, ()), target(clip, result.window[1])
        for name, baseline in evaluate_lib.BASELINES.items():
            driven = baseline(
                history.ego_history_xyz, history.ego_history_rot, POLICY.config.action
            )
            distance = np.linalg.norm((driven.xyz - future.ego_future_xyz)[:, :2], axis=-1)
            assert result.metrics[f"ade_{name}"] == pytest.approx(distance.mean(), abs=1e-4)
            assert result.metrics[f"fde_{name}"] == pytest.approx(distance[-1], abs=1e-4)
            curve = result.displacement[name.replace("_", " ")]
            np.testing.assert_allclose(curve, distance, atol=1e-4)


def test_means_and_rows_are_by_clip_and_over_windows(calls):
    evaluation = run(batch_size=2)
    assert evaluation.mean("clip0")["min_ade"] == pytest.approx(1.0, abs=1e-4)
    assert evaluation.mean("clip1")["min_ade"] == pytest.approx(2.0, abs=1e-4)
    assert evaluation.mean()["min_ade"] == pytest.approx(4 / 3, abs=1e-4)  # windows, not clips
    rows = evaluation.rows()
    assert [(r["clip"], r["windows"]) for r in rows] == [("clip0", 2), ("clip1", 1), ("all", 3)]
    assert rows[-1]["min_ade"] == evaluation.mean()["min_ade"]
    curves = evaluation.displacement()
    assert set(curves) == {"nearest sample", "constant velocity", "constant turn rate"}
    np.testing.assert_allclose(curves["nearest sample"], np.full(64, 4 / 3), atol=1e-4)


def test_batches_have_one_size_and_their_own_seeds(calls):
    evaluation = run(batch_size=2, seed=10, score_trajectories=False)
    assert calls == [(2, 10, SETTINGS, False), (2, 12, SETTINGS, False)]
    assert len(evaluation.results) == 3  # what fills up the last batch is not counted


def test_the_most_likely_sample_counts_its_trajectory(calls):
    clip = Source().clip(0)
    observation, future = observe(clip, 2.0, 1, ()), target(clip, 2.0)
    # By reasoning sample 0 (2 m off), by reasoning and trajectory sample 2 (4 m off).
    for trajectory, error in ((None, 2.0), ((-9.0, -9.0, -1.0), 4.0)):
        prediction = shifted_prediction(future, OFFSETS, None, (-5, -9, -7), trajectory)
        metrics, _ = evaluate_lib.measure(POLICY, observation, future, prediction)
        assert metrics["ade_most_likely"] == pytest.approx(error, abs=1e-4)
        assert prediction.xyz[prediction.most_likely, 0, 1] == pytest.approx(
            future.ego_future_xyz[0, 1] + error, abs=1e-4
        )


def test_the_bar_ends_its_line_when_a_window_is_bad(calls, capsys):
    with pytest.raises(InputError, match="t0=30.000 s"):
        evaluate_lib.evaluate(
            POLICY, Source(), [(0, 2.0), (0, 30.0)], settings=SETTINGS, num_frames=1, batch_size=1
        )
    assert capsys.readouterr().err.endswith("\n")


def test_no_window_is_refused(calls):
    with pytest.raises(InputError, match="no window"):
        evaluate_lib.evaluate(POLICY, Source(), [], settings=SETTINGS)

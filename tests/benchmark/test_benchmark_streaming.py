"""Ways of driving beside each other: what is compared with what, on drives that are made up."""

import dataclasses
import types

import numpy as np
import pytest

from alpamayo_jax.benchmark import streaming
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.streaming import StepReport
from alpamayo_jax.types import InputError, Prediction

STEPS, K, W = 6, 2, 4
_REPORT = StepReport(100, 60, 4, 2, passes=3, said_tokens=12, proposed=8, accepted=6)


def _prediction(shift, token=5):
    xyz = np.zeros((K, W, 3), np.float32)
    xyz[..., 0] = np.arange(1, W + 1)
    xyz[..., 1] = np.array([[shift], [2 * shift]])
    none = np.zeros((K, 1))
    return Prediction(
        xyz=xyz, rot=np.tile(np.eye(3, dtype=np.float32), (K, W, 1, 1)), actions=xyz[..., :2],
        reasoning=("",) * K, meta_action=("",) * K, token_ids=np.array([[5], [token]]),
        token_logprobs=none, reasoning_logprob=none[:, 0], ended=np.ones(K, bool),
    )  # fmt: skip


@dataclasses.dataclass
class FakeDrive:
    """Drives `shift` metres beside plain sampling."""

    shift: float
    token: int
    report: StepReport | None = None

    def __call__(self, observation, seed):
        self.report = _REPORT
        return _prediction(self.shift, self.token)


@pytest.fixture
def made_up(monkeypatch):
    seeds = []

    def plain(observation, seed):
        seeds.append(seed)
        return _prediction(0.0)

    def way(policy, settings, options):
        if options is None:
            return plain
        approximate = options.get("reuse") == "approximate"
        return FakeDrive(0.5, 6) if approximate else FakeDrive(0.0, 5)

    future = np.zeros((W, 3), np.float32)
    future[:, 0], future[:, 1], future[:, 2] = np.arange(1, W + 1), 0.25, 9.0
    target = types.SimpleNamespace(ego_future_xyz=future)
    monkeypatch.setattr(streaming, "_way", way)
    monkeypatch.setattr(streaming, "window_times", lambda clip, **_: list(range(clip.steps)))
    monkeypatch.setattr(streaming, "observe", lambda clip, t0, frames: (clip, t0))
    monkeypatch.setattr(streaming, "target", lambda clip, t0: target)
    return seeds


class Source:
    def __init__(self, steps):
        self.steps = steps

    def clip(self, index):
        return types.SimpleNamespace(clip_id=f"clip {index}", steps=self.steps)


def test_metres_tokens_and_passes(made_up):
    found = streaming.run(None, Source(20), [3, 4], settings=None, steps=STEPS)
    assert found["steps"] == 2 * STEPS and set(found["drives"]) == set(streaming.WAYS)
    plain, exact, approximate = (found["drives"][w] for w in ("plain", "exact", "approximate"))
    assert plain["difference"] == exact["difference"] == 0 and exact["same_tokens"] == 1
    # Samples are 0.5 and 1 m aside; the height does not count in minADE.
    np.testing.assert_allclose(approximate["difference"], 0.75)
    np.testing.assert_allclose(approximate["largest_difference"], 1.0)
    assert approximate["same_tokens"] == 0.5
    np.testing.assert_allclose([plain["min_ade"], approximate["min_ade"]], [0.25, 0.25])
    assert exact["acceptance_rate"] == 0.75 and exact["tokens_per_pass"] == 4.0
    assert exact["computed_tokens"] == 60 and "computed_tokens" not in plain


def test_every_step_has_its_own_seed_and_the_first_are_not_timed(made_up):
    found = streaming.run(None, Source(20), [3, 4], settings=None, steps=STEPS, seed=7)
    assert len(set(made_up)) == 2 * STEPS and min(made_up) == 7
    assert found["phases"]["step/plain"]["times"] == 2 * STEPS - streaming._WARM
    assert set(found["phases"]) == {f"step/{way}" for way in streaming.WAYS}


@pytest.mark.parametrize("clips, steps, message", [([], 6, "no drive"), ([1], 21, "clip 1")])
def test_too_little_to_drive(made_up, clips, steps, message):
    with pytest.raises(InputError, match=message):
        streaming.run(None, Source(20), clips, settings=None, steps=steps)


def test_the_drives_that_the_demo_holds_out():
    source, clips = streaming.held_out(3)
    assert list(clips) == [32, 33, 34] and len(source) == 40
    with pytest.raises(ConfigError, match="9 drives"):
        streaming.held_out(9)

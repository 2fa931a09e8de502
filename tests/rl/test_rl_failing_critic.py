"""A run whose critic fails: it goes on, learns nothing from what has no score, and says so."""

import dataclasses
import json
import math
import pathlib
import sys
import zlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from small_learning import STAGE, small_learning  # noqa: E402
from small_runs import folder  # noqa: E402

from alpamayo_jax.coc.chat import ChatClient  # noqa: E402
from alpamayo_jax.coc.endpoint import Endpoint  # noqa: E402
from alpamayo_jax.rl.rewards.critic import EndpointCritic  # noqa: E402
from alpamayo_jax.rl.rewards.total import TotalReward  # noqa: E402
from alpamayo_jax.testing.chat_server import serving  # noqa: E402
from alpamayo_jax.testing.clips import write_small_clip  # noqa: E402
from alpamayo_jax.train.run import run_in_folder  # noqa: E402
from alpamayo_jax.train.writers import read_json_lines  # noqa: E402

PER_ROLLOUT = STAGE.steps // 2


class Spoken:
    """A critic of what the samples would say if a policy of random parameters could speak."""

    name, unit, low, high, cost = "reasoning", "", 0.0, 5.0, False

    def __init__(self, critic):
        self._critic = critic

    def __call__(self, episodes):
        texts = tuple(tuple(f"Sample {k}." for k in range(len(row))) for row in episodes.reasoning)
        return self._critic(dataclasses.replace(episodes, reasoning=texts))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for number, seconds in enumerate((8.3, 8.6)):
        write_small_clip(
            root / f"clip{number}", seconds=seconds, seed=number, size=(16, 8),
            reasoning=[(0.0, "Stop because the traffic light is red.")],
        )  # fmt: skip
    return root


def _learn(clips, path, reply):
    """The log of a run of two rollouts; `reply` is what the endpoint says to each request."""
    with serving(reply) as (url, _):
        critic = EndpointCritic(ChatClient(Endpoint(url, "m", attempts=1, concurrency=1)))
        reward = TotalReward([Spoken(critic)], {"reasoning": 1.0})
        training = small_learning(clips, reward=reward).training
        run_in_folder(training, folder(path), log_every=1, progress=False)
    return read_json_lines(path / "metrics.jsonl"), critic


@pytest.mark.slow
def test_an_endpoint_that_comes_back(clips, tmp_path):
    seen = []

    def reply(body):
        seen.append(body)
        if len(seen) == 1:  # and with it the rest of the first rollout
            return 503, {}, b"starting"
        return json.dumps({"score": zlib.crc32(json.dumps(body).encode()) % 6})

    lines, critic = _learn(clips, tmp_path, reply)
    first, second = lines[:PER_ROLLOUT], lines[PER_ROLLOUT:]
    assert len(first) == len(second) == PER_ROLLOUT
    # Nothing of the first rollout has a score: nothing is learned, and no reward of 0 is logged.
    assert {line["unscored"] for line in first} == {1.0} and critic.failures > 0
    assert all(line["grad_norm"] == 0 and line["loss"] == 0 for line in first)
    assert not any("reward" in line or "reasoning" in line for line in first)
    assert {line["unscored"] for line in second} == {0.0}
    assert all(line["grad_norm"] > 0 and math.isfinite(line["reasoning"]) for line in second)

"""The host's way in and out, and how the parts of the program are put together."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.action import unicycle
from alpamayo_jax.decode import sample as sample_lib
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import SampleOutput, answer, sample, sample_program
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.testing.tiny import (
    quick_jit,
    random_inputs,
    random_observation,
    random_params,
    tiny_config,
)
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError, Trajectory

K, N = 3, 5
_CONFIG = tiny_config()
_WAYPOINTS = _CONFIG.action.n_waypoints
_SETTINGS = SampleSettings(num_samples=K, max_new_tokens=N, flow_steps=2)
_drive = quick_jit(unicycle.action_to_trajectory, static_argnums=3)
_quick_sample = quick_jit(
    sample_lib._sample.__wrapped__, static_argnames=("config", "settings", "score_trajectories")
)


@functools.cache
def _policy():
    return Policy(config=_CONFIG, params=random_params(_CONFIG), tokenizer=tiny_tokenizer(_CONFIG))


@functools.cache
def _pair(second=1, seed=0):
    """Predictions for observations 0 and `second`, run as one batch."""
    observations = [random_observation(_CONFIG, 0), random_observation(_CONFIG, second)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_lib, "_sample", _quick_sample)
        return sample(_policy(), observations, seed=seed, settings=_SETTINGS)


def _ids(*texts):
    ids = [_policy().tokenizer.encode(text) for text in texts]
    pad = _CONFIG.text_tokens.pad_token_id
    padded = np.full((1, len(texts), max(map(len, ids))), pad, np.int32)
    for k, row in enumerate(ids):
        padded[0, k, : len(row)] = row
    return padded


def _generation(ids, end_index):
    rng = np.random.default_rng(0)
    return Generation(
        token_ids=ids,
        logprobs=rng.standard_normal(ids.shape).astype(np.float32),
        end_index=np.array([end_index]),
        num_tokens=np.int32(ids.shape[-1]),
        cache=None,
    )


class _Recorder:
    """Stands in for a function: keeps its arguments and returns a value."""

    def __init__(self, value):
        self.value, self.calls = value, []

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.value


def test_a_prediction_holds_what_was_sampled():
    prediction = _pair()[0]
    assert prediction.xyz.shape == (K, _WAYPOINTS, 3)
    assert prediction.rot.shape == (K, _WAYPOINTS, 3, 3)
    assert prediction.actions.shape == (K, _WAYPOINTS, 2)
    assert prediction.token_ids.shape == prediction.token_logprobs.shape == (K, N)
    assert len(prediction.reasoning) == len(prediction.meta_action) == K
    assert prediction.ended.tolist() == [True] * K and prediction.trajectory_logprob is None
    np.testing.assert_allclose(
        prediction.reasoning_logprob, prediction.token_logprobs.sum(-1), rtol=1e-6
    )
    for name in ("xyz", "rot", "actions", "token_ids", "ended"):
        assert isinstance(getattr(prediction, name), np.ndarray)


def test_the_trajectory_is_that_of_the_actions():
    for seed, prediction in enumerate(_pair()):
        observation = random_observation(_CONFIG, seed)
        history = [
            np.repeat(h[None], K, 0)
            for h in (observation.ego_history_xyz, observation.ego_history_rot)
        ]
        want = _drive(prediction.actions, *history, _CONFIG.action)
        np.testing.assert_allclose(prediction.xyz, want.xyz, atol=1e-4)
        np.testing.assert_allclose(prediction.rot, want.rot, atol=1e-5)


def test_each_observation_gets_its_own_prediction():
    first, other = _pair(), _pair(second=2)
    np.testing.assert_array_equal(first[0].token_ids, other[0].token_ids)
    np.testing.assert_allclose(first[0].xyz, other[0].xyz, atol=1e-4)
    assert np.abs(first[1].xyz - other[1].xyz).max() > 1e-2


def test_the_seed_decides():
    first, other = _pair(), _pair(seed=1)
    assert (first[0].token_ids != other[0].token_ids).any()
    assert np.abs(first[0].actions - other[0].actions).max() > 1e-2


def test_one_observation_gives_one_prediction_with_its_texts(monkeypatch):
    ids = _ids(
        "Keep lane<|cot_end|><|meta_action_start|>go straight<|meta_action_end|>"
        "<|traj_future_start|>",
        "Stop",
    )
    rng = np.random.default_rng(0)
    actions = rng.standard_normal((1, 2, _WAYPOINTS, 2)).astype(np.float32)
    poses = Trajectory(
        xyz=rng.standard_normal((1, 2, _WAYPOINTS, 3)), rot=np.zeros((1, 2, _WAYPOINTS, 3, 3))
    )
    score = np.array([[-3.0, -1.0]], np.float32)
    out = SampleOutput(_generation(ids, [9, -1]), actions, poses, score)
    recorder = _Recorder(out)
    monkeypatch.setattr(sample_lib, "_sample", recorder)
    prediction = sample(
        _policy(), random_observation(_CONFIG), num_samples=2, seed=7, score_trajectories=True
    )
    assert prediction.reasoning == ("Keep lane", "")
    assert prediction.meta_action == ("go straight", "")
    assert prediction.ended.tolist() == [True, False]
    np.testing.assert_array_equal(prediction.xyz, poses.xyz[0])
    np.testing.assert_array_equal(prediction.trajectory_logprob, score[0])
    (params, inputs, rng, config, settings, unconditional, scored), _ = recorder.calls[0]
    assert params is _policy().params and config is _CONFIG
    assert settings == SampleSettings(num_samples=2) and unconditional is None and scored
    assert inputs.input_ids.shape[1] % 128 == 0
    np.testing.assert_array_equal(jax.random.key_data(rng), jax.random.key_data(jax.random.key(7)))


def test_guidance_runs_beside_the_prompt_without_navigation(monkeypatch):
    recorder = _Recorder(None)
    monkeypatch.setattr(sample_lib, "_sample", recorder)
    monkeypatch.setattr(sample_lib, "prediction_of", lambda policy, out, row: row)
    observation = random_observation(_CONFIG, navigation="Turn left in 40 m.")
    settings = dataclasses.replace(_SETTINGS, guidance_weight=1.5)
    assert sample(_policy(), [observation] * 2, settings=settings) == [0, 1]
    (_, inputs, _, _, _, unconditional, _), _ = recorder.calls[0]
    with_text, without = (
        _policy().tokenizer.decode(i.input_ids[0]) for i in (inputs, unconditional)
    )
    assert "Turn left in 40 m." in with_text and "<|route_start|>" in with_text
    assert "Turn left" not in without and "<|route_start|>" not in without


def test_guidance_needs_navigation():
    settings = dataclasses.replace(_SETTINGS, guidance_weight=1.5)
    with pytest.raises(InputError, match="navigation.*'lost'"):
        sample(_policy(), random_observation(_CONFIG, clip_id="lost"), settings=settings)


def test_a_malformed_observation_is_refused():
    observation = random_observation(_CONFIG, clip_id="broken")
    poses = observation.ego_history_xyz.copy()
    poses[3, 1] = np.nan
    with pytest.raises(InputError, match="'broken'.*ego_history_xyz"):
        sample(_policy(), dataclasses.replace(observation, ego_history_xyz=poses))


def test_answers_are_cut_at_their_end(monkeypatch):
    ids = _ids("Yes, it is.<|answer_end|><|im_end|>", "No<|im_end|>", "Red and")
    recorder = _Recorder(_generation(ids, [9, 2, -1]))
    monkeypatch.setattr(sample_lib, "_answer", recorder)
    observation = random_observation(_CONFIG, question="Which light is on?")
    assert answer(_policy(), observation, 3, seed=2) == ["Yes, it is.", "No", "Red and"]
    (_, inputs, _, _, settings), _ = recorder.calls[0]
    text = _policy().tokenizer.decode(inputs.input_ids[0])
    assert "Which light is on?" in text and text.endswith("<|answer_start|>")
    assert settings.num_samples == 3


def test_an_answer_needs_a_question():
    with pytest.raises(InputError, match="'silent'.*no question"):
        answer(_policy(), random_observation(_CONFIG, clip_id="silent"))


@pytest.fixture
def parts(monkeypatch):
    """`sample_program` with every part replaced by a recorder."""
    inputs = random_inputs(_CONFIG)
    found = {
        "prefill": _Recorder(type("Prefix", (), {"mask": inputs.attention_mask})()),
        "generate": _Recorder("generation"),
    }
    for name, recorder in found.items():
        monkeypatch.setattr(sample_lib, name, recorder)
    monkeypatch.setattr(
        sample_lib.unicycle,
        "action_to_trajectory",
        quick_jit(
            unicycle.action_to_trajectory, static_argnums=3, static_argnames="bf16_constants"
        ),
    )
    shape = (2, K, _WAYPOINTS, 2)
    found["initial_noise"] = _Recorder("noise")
    found["sample_actions"] = _Recorder(jnp.asarray(np.random.default_rng(0).normal(size=shape)))
    found["trajectory_logprob"] = _Recorder("logprob")
    monkeypatch.setattr(sample_lib.act, "initial_noise", found["initial_noise"])
    monkeypatch.setattr(sample_lib.act, "sample_actions", found["sample_actions"])
    monkeypatch.setattr(sample_lib.score, "trajectory_logprob", found["trajectory_logprob"])
    return inputs, found


def test_program_draws_text_and_noise_from_different_keys(parts):
    inputs, found = parts
    rng = jax.random.key(5)
    out = sample_program({}, inputs, rng, _CONFIG, _SETTINGS)
    keys = [found["generate"].calls[0][0][4], found["initial_noise"].calls[0][0][0]]
    for i, key in enumerate(keys):
        want = jax.random.fold_in(rng, i)
        np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(want))
    args, kwargs = found["sample_actions"].calls[0]
    assert args[2] == "generation" and args[5] == "noise" and kwargs["unconditional"] is None
    assert len(found["prefill"].calls) == 1
    assert out.trajectory_logprob is None and not found["trajectory_logprob"].calls


def test_program_takes_noise_another_prompt_and_scores(parts):
    inputs, found = parts
    other = random_inputs(_CONFIG, seed=1)
    out = sample_program(
        {}, inputs, jax.random.key(0), _CONFIG, _SETTINGS,
        noise="given", unconditional=other, score_trajectories=True,
    )  # fmt: skip
    assert not found["initial_noise"].calls
    assert [call[0][1] for call in found["prefill"].calls] == [inputs, other]
    args, kwargs = found["sample_actions"].calls[0]
    assert args[5] == "given" and kwargs["unconditional"] is found["prefill"].value
    assert out.trajectory_logprob == "logprob"
    assert found["trajectory_logprob"].calls[0][0][4] is found["sample_actions"].value


def test_program_rounds_constants_with_the_buffers(parts):
    inputs, _ = parts
    rounded = tiny_config(
        precision=dataclasses.replace(_CONFIG.precision, bf16_buffers=True)
    )
    plain, other = (
        sample_program({}, inputs, jax.random.key(0), config, _SETTINGS).trajectory.xyz
        for config in (_CONFIG, rounded)
    )
    assert 1e-5 < np.abs(plain - other).max() < 1

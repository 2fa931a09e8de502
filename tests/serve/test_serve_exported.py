"""Exported programs behind the service: they plan what the policy in JAX plans, or are refused."""

import dataclasses
import types

import numpy as np
import pytest

from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.errors import InputError
from alpamayo_jax.export import load
from alpamayo_jax.export.parity import Reference
from alpamayo_jax.export.run import ExportSettings, export, make_windows
from alpamayo_jax.export.stages import STAGES, host_facts, sizes_of
from alpamayo_jax.serve.exported import ExportedPlanner
from alpamayo_jax.testing.tiny import random_observation, random_params, tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

CONFIG = tiny_config()
SAMPLES, TOKENS = 2, 4
SETTINGS = SampleSettings(num_samples=SAMPLES, max_new_tokens=TOKENS, greedy=True)
STEPWISE = tuple(name for name in STAGES if name != "policy")


@pytest.fixture(scope="module")
def policy():
    return Policy(CONFIG, random_params(CONFIG), tiny_tokenizer(CONFIG))


@pytest.fixture(scope="module")
def observations():
    return [random_observation(CONFIG, seed) for seed in (0, 1)]


class InJax:
    """Stands in for `export.Exported`: the stages as JAX runs them."""

    def __init__(self, policy, observations, stages):
        sizes = sizes_of(
            make_windows(policy, observations)[0], samples=SAMPLES, new_tokens=TOKENS
        )
        self.folder, self.stages, self.ran = "OUT", stages, []
        self.run_stage = Reference(policy.config, policy.params, sizes).run
        artefact = types.SimpleNamespace(sizes=dataclasses.asdict(sizes))
        self.manifest = types.SimpleNamespace(
            model=host_facts(policy.config), artefact=lambda stage: artefact
        )

    def __contains__(self, stage):
        return stage in self.stages

    def run(self, stage, values):
        self.ran.append(stage)
        return self.run_stage(stage, values)


def check_plans(planner, policy, observations):
    seeds = [5, 6]
    for got, want in zip(
        planner.plan(observations, seeds),
        [sample(policy, o, seed=s, settings=SETTINGS) for o, s in zip(observations, seeds)],
    ):
        np.testing.assert_array_equal(got.token_ids, want.token_ids)
        assert (got.reasoning, got.meta_action) == (want.reasoning, want.meta_action)
        np.testing.assert_array_equal(got.ended, want.ended)
        np.testing.assert_allclose(got.xyz, want.xyz, atol=1e-4)
        np.testing.assert_allclose(got.rot, want.rot, atol=1e-4)
        assert got.xyz.shape[0] == SAMPLES and np.abs(got.xyz[0] - got.xyz[1]).max() > 1e-3
        assert np.isnan(got.reasoning_logprob).all() and got.most_likely == 0


@pytest.mark.parametrize(
    "stages", [("policy",), pytest.param(STEPWISE, marks=pytest.mark.slow)], ids=["whole", "stepwise"]
)
def test_it_plans_what_the_policy_plans(policy, observations, stages):
    exported = InJax(policy, observations, stages)
    check_plans(ExportedPlanner(policy, exported), policy, observations)
    assert set(exported.ran) <= set(stages) and "flow_step" not in exported.ran


@pytest.mark.slow
def test_it_drives_with_an_export(policy, observations, tmp_path):
    settings = ExportSettings(
        "stablehlo", stages=("policy",), samples=SAMPLES, new_tokens=TOKENS
    )
    assert export(policy, observations, tmp_path, settings).valid
    check_plans(ExportedPlanner(policy, load(tmp_path)), policy, observations)


def test_an_export_without_what_drives_is_refused(policy, observations):
    some = tuple(name for name in STEPWISE if name != "prefill")
    with pytest.raises(InputError, match="neither stage policy nor prefill; export all stages"):
        ExportedPlanner(policy, InJax(policy, observations, some))


def test_the_export_of_another_policy_is_refused(policy, observations):
    exported = InJax(policy, observations, ("policy",))
    exported.manifest.model = {**exported.manifest.model, "end_id": 3}
    with pytest.raises(InputError, match="OUT was exported from another policy"):
        ExportedPlanner(policy, exported)


def test_a_longer_prompt_is_refused(policy, observations):
    exported = InJax(policy, observations, ("policy",))
    planner = ExportedPlanner(policy, exported)
    more = [
        dataclasses.replace(
            camera,
            images=np.repeat(camera.images, 30, 0),
            times=np.linspace(-1.0, 0.0, 30 * len(camera.images)),
        )
        for camera in observations[0].cameras
    ]
    with pytest.raises(InputError, match="tokens"):
        planner.plan([dataclasses.replace(observations[0], cameras=tuple(more))], [0])
    assert exported.ran == []

"""Suite "rl" on the smallest case: what it counts and what it says."""

import types

import numpy as np

from alpamayo_jax.benchmark import rollouts
from alpamayo_jax.benchmark.rollouts import RolloutCase
from alpamayo_jax.benchmark.timing import Times
from alpamayo_jax.benchmark.train import Case
from alpamayo_jax.testing.tiny import tiny_config

MODEL = Case("tiny", rows=2, images=1, grid=(4, 4), length=90)
CASE = RolloutCase(MODEL, num_samples=3, reasoning=2)


def test_prompts_have_the_length_asked_for():
    config = tiny_config()
    inputs = rollouts.make_prompts(CASE, config, 0)
    assert inputs.input_ids.shape == (2, 90) and np.asarray(inputs.attention_mask).all()
    short = RolloutCase(Case("tiny", rows=1, images=1, grid=(4, 4), length=10))
    assert rollouts.make_prompts(short, config, 0).input_ids.shape[1] > 10


def test_what_is_timed_and_said(monkeypatch):
    """The programs are replaced: what counts is how often which one runs."""
    made, calls = [], []

    def make(config, settings):
        made.append(settings)

        def program(params, inputs, key):
            calls.append(settings.num_samples)
            return types.SimpleNamespace(num_tokens=np.zeros(()))

        return program

    def alternate(candidates, rounds):
        for call in candidates.values():
            call()
        return {"shared": Times((2.0, 2.0), 5.0), "independent": Times((9.0, 9.0), 7.0)}

    monkeypatch.setattr(rollouts, "make_rollout", make)
    monkeypatch.setattr(rollouts, "alternate", alternate)
    (name, row), = rollouts.run((CASE,), rounds=2)["phases"].items()
    assert name == "tiny/rollouts" and calls == [3, 1, 1, 1]
    assert all(s.constrained and s.force_end and s.max_reasoning_tokens == 2 for s in made)
    assert row["rollouts_per_second"] == 3.0 and row["speedup"] == 4.5
    assert row["independent_per_second"] == 6 / 9 and row["tokens"] == 2 + 129
    assert row["case"]["model"]["length"] == 90 and row["median"] == 2.0


def test_the_default_cases_are_of_one_prompt_on_a_cpu():
    names = [case.model.name for case in rollouts.cases("cpu")]
    assert names == ["tiny", "paper_0p5b_2_layers"]
    assert all(case.num_samples == 12 for case in (*rollouts.cases("cpu"), *rollouts.cases("gpu")))

"""The expert's reinforcement learning: densities of chains, the objective, and that it learns."""

import dataclasses
import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.rl import flow_objectives
from alpamayo_jax.rl.advantages import group_advantages
from alpamayo_jax.rl.flow_objectives import chain_logprobs
from alpamayo_jax.rl.objectives import make_rl_objective
from alpamayo_jax.rl.rollout import rollout_program
from alpamayo_jax.rl.types import FlowChain, RolloutBatch
from alpamayo_jax.settings import RLSettings
from alpamayo_jax.testing.tiny import quick_jit
from alpamayo_jax.train.optimiser import train_everything
from alpamayo_jax.train.state import create_state
from alpamayo_jax.train.step import make_train_step

from rollout_cases import CONFIG, FLOW, K, inputs, params, rollouts

_chain = quick_jit(chain_logprobs, static_argnums=(4, 5))


def _batch(found, advantages, counts=None):
    return RolloutBatch(
        inputs=found.inputs,
        token_ids=found.token_ids,
        mask=found.mask,
        old_logprobs=found.logprobs,
        ref_logprobs=None,
        advantages=advantages,
        counts=np.ones_like(advantages) if counts is None else counts,
        flow=found.flow,
    )


class ChainTest(parameterized.TestCase):
    def test_densities_are_those_of_the_sampler(self):
        found = rollouts(FLOW)
        assert len(set(np.asarray(found.num_tokens).ravel())) > 2  # reasoning of several lengths
        got = np.asarray(
            _chain(params(), inputs(), found.token_ids, found.flow.states, CONFIG, FLOW)
        )
        assert got.shape == (2, K, 3)
        # The density of 16 numbers with deviations of a third and less, summed.
        np.testing.assert_allclose(got, found.flow.logprobs, atol=2e-2)
        np.testing.assert_allclose(got[..., 0], found.flow.logprobs[..., 0], atol=5e-4)
        assert (got[..., -1] == 0).all() and got[..., :-1].std() > 1

    def test_what_follows_the_reasoning_has_no_effect(self):
        found = rollouts(FLOW)
        slots = np.arange(found.token_ids.shape[-1])
        ids = np.where(slots < np.asarray(found.num_tokens)[..., None], found.token_ids, 7)
        want, got = (
            _chain(params(), inputs(), i, found.flow.states, CONFIG, FLOW)
            for i in (np.asarray(found.token_ids), ids)
        )
        np.testing.assert_array_equal(got, want)

    def test_the_gradient_reaches_the_expert_and_not_the_language_model(self):
        found = rollouts(FLOW)

        @quick_jit
        def gradient(params):
            return jax.grad(lambda p: chain_logprobs(
                p, inputs(), found.token_ids, found.flow.states, CONFIG, FLOW
            ).sum())(params)  # fmt: skip

        grads = gradient(jax.tree.map(jnp.asarray, params()))
        for part, tree in grads.items():
            moved = {bool(np.any(leaf)) for leaf in jax.tree.leaves(tree)}
            assert moved == {part != "vlm"}, part
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


class TermsTest(parameterized.TestCase):
    def _terms(self, settings, seed=0):
        rng = np.random.default_rng(seed)
        new, old, ref = (rng.standard_normal((2, 4, 3)).astype(np.float32) for _ in range(3))
        for a in (new, old, ref):
            a[..., -1] = 0  # the last step is certain
        counts = np.float32([[1, 1, 0, 1], [0, 1, 1, 1]])
        batch = RolloutBatch(
            inputs=None, token_ids=None, mask=None, old_logprobs=None, ref_logprobs=None,
            advantages=rng.standard_normal((2, 4)).astype(np.float32), counts=counts,
            flow=FlowChain(np.zeros((2, 4, 4, 8, 2)), old, ref),
        )  # fmt: skip
        batch = batch.replace(inputs=0, token_ids=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flow_objectives, "chain_logprobs", lambda p, *rest, **stack: p)
            objective = make_rl_objective(settings, CONFIG, FLOW)
            loss, terms = objective(jnp.asarray(new), batch, jax.random.key(0))
        return loss, terms, new, batch

    @parameterized.parameters("k1", "k3")
    def test_clipped_ratios_of_every_random_step(self, estimator):
        settings = RLSettings(kl=0.2, kl_estimator=estimator)
        loss, terms, new, batch = self._terms(settings)
        policy, kl, total = 0.0, 0.0, 0.0
        for b, k, s in np.ndindex(2, 4, 2):
            ratio = np.exp(new[b, k, s] - batch.flow.logprobs[b, k, s])
            a = batch.advantages[b, k]
            value = max(-ratio * a, -np.clip(ratio, 0.8, 1.28) * a)
            value = min(value, -10 * a) if a < 0 else value
            d = batch.flow.ref_logprobs[b, k, s] - new[b, k, s]
            policy += batch.counts[b, k] * value
            kl += batch.counts[b, k] * (-d if estimator == "k1" else np.exp(d) - d - 1)
            total += batch.counts[b, k]
        np.testing.assert_allclose(terms["loss_policy"], policy / total, rtol=1e-5)
        np.testing.assert_allclose(terms["kl"], kl / total, rtol=1e-5)
        np.testing.assert_allclose(loss, (policy + 0.2 * kl) / total, rtol=1e-5)

    def test_the_papers_weights(self):
        loss, _, new, batch = self._terms(RLSettings(algorithm="paper", beta=1.5))
        want = []
        for b in range(2):
            share = np.exp(1.5 * batch.advantages[b]) * batch.counts[b]
            want.append(-(share / share.sum() * new[b, :, :2].sum(-1)).sum() / 2)
        np.testing.assert_allclose(loss, np.mean(want), rtol=1e-5)

    def test_refuses(self):
        for changes, message in (
            (dict(algorithm="gspo"), "'gspo' has no steps"),
            (dict(entropy=0.1), "entropy must be 0"),
        ):
            with pytest.raises(ConfigError, match=message):
                make_rl_objective(RLSettings(**changes), CONFIG, FLOW)
        with pytest.raises(ConfigError, match="at least 2 steps"):
            wild = dataclasses.replace(FLOW, flow_noise=2.0)
            make_rl_objective(RLSettings(), CONFIG, wild)


class LearningTest(parameterized.TestCase):
    @pytest.mark.slow
    def test_the_expert_learns_what_is_rewarded_and_the_language_model_stays(self):
        """Rewarded: a mean acceleration near 1. Only rewards say so."""
        settings = dataclasses.replace(FLOW, flow_noise=0.85)
        draw = quick_jit(functools.partial(rollout_program, config=CONFIG, settings=settings))
        adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2, b2=0.95))
        optimiser = train_everything(adam, params())
        state = create_state(params(), optimiser)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "jit", quick_jit)
            step = make_train_step(make_rl_objective(RLSettings(), CONFIG, settings), optimiser)
        scores = []
        for number in range(50):
            found = draw(state.params, inputs(), jax.random.key(number))
            accel = np.asarray(found.flow.states[:, :, -1, :, 0])
            reward = -np.abs(accel.mean(-1) - 1.0)
            scores.append(reward.mean())
            advantages, counts = group_advantages(
                reward, np.asarray(found.trajectory_valid), "standardised"
            )
            state, metrics = step(state, _batch(found, advantages, counts), jax.random.key(0))
            assert float(metrics["finite"]) == 1
        before, after = -np.mean(scores[:8]), -np.mean(scores[-8:])
        assert after < 0.4 * before, (before, after)
        for a, b in zip(jax.tree.leaves(params()["vlm"]), jax.tree.leaves(state.params["vlm"])):
            np.testing.assert_array_equal(a, b)

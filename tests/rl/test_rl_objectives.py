"""Every objective against loops over samples and tokens in NumPy, and what its gradient does."""

import dataclasses
import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.rl import objectives
from alpamayo_jax.rl.advantages import ADVANTAGES
from alpamayo_jax.rl.objectives import ALGORITHMS, advantage_kind, make_rl_objective
from alpamayo_jax.rl.types import RolloutBatch
from alpamayo_jax.settings import RLSettings
from alpamayo_jax.testing.tiny import quick_jit

from rollout_cases import CONFIG, CONSTRAINED, FREE, inputs, params, rollouts

B, K, N = 3, 4, 7
LENGTHS = np.array([[7, 3, 1, 5], [2, 2, 6, 0], [4, 7, 7, 1]])
# Of the third group nothing counts but two samples.
COUNTS = np.float32([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0]])


def _batch(seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(N) < LENGTHS[..., None]
    noise = lambda scale: np.float32(scale * rng.standard_normal((B, K, N)) * mask)  # noqa: E731
    new = noise(1.0) - 3 * mask
    return new.astype(np.float32), np.abs(noise(1.0)), RolloutBatch(
        inputs=None,
        token_ids=np.zeros((B, K, N), np.int32),
        mask=mask,
        old_logprobs=(new + noise(0.3)).astype(np.float32),
        ref_logprobs=(new + noise(0.5)).astype(np.float32),
        advantages=np.float32(rng.standard_normal((B, K)) * 3),
        counts=COUNTS,
    )


def _terms(settings, seed=0):
    """Weighted means of all terms, with the model's answer put in its place."""
    new, entropy, batch = _batch(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            objectives, "completion_logprobs", lambda p, *rest, **stack: (p["new"], entropy)
        )
        objective = make_rl_objective(settings, CONFIG, FREE)
        (loss, terms), grads = jax.value_and_grad(
            lambda p: objective(p, batch, jax.random.key(0)), has_aux=True
        )({"new": jnp.asarray(new)})
    return loss, terms, np.asarray(grads["new"])


def _by_hand(settings, seed=0):
    """The same in loops."""
    new, entropy, batch = (jax.tree.map(np.float64, a) for a in _batch(seed))
    mean = settings.mean or ALGORITHMS[settings.algorithm][0]
    sums = dict.fromkeys(("loss_policy", "kl", "entropy"), 0.0)
    total = 0.0
    for b in range(B):
        share = np.exp(settings.beta * batch.advantages[b]) * COUNTS[b]
        for k in range(K):
            length, a = LENGTHS[b, k], batch.advantages[b, k]
            if not length:
                continue
            weight = COUNTS[b, k]
            if settings.algorithm == "paper":
                weight = share[k] / share.sum()
            log_ratio = (new - batch.old_logprobs)[b, k, :length]
            if settings.algorithm == "gspo":
                log_ratio = np.full(length, log_ratio.mean())
            tokens = {"loss_policy": [], "kl": [], "entropy": []}
            for t in range(length):
                ratio = np.exp(log_ratio[t])
                near = np.clip(ratio, 1 - settings.clip_low, 1 + settings.clip_high)
                loss = max(-ratio * a, -near * a)
                if a < 0 and settings.dual_clip:
                    loss = min(loss, -settings.dual_clip * a)
                if settings.algorithm == "paper":
                    loss = -new[b, k, t]
                d = batch.ref_logprobs[b, k, t] - new[b, k, t]
                kl = -d if settings.kl_estimator == "k1" else np.exp(d) - d - 1
                for name, value in zip(tokens, (loss, kl, entropy[b, k, t])):
                    tokens[name].append(value)
            for name, values in tokens.items():
                sums[name] += weight * {
                    "token_mean": np.sum, "sequence_mean": np.mean, "sum": np.sum,
                    "sequence": np.mean, "constant": lambda v: np.sum(v) / N,
                }[mean](values)  # fmt: skip
            total += weight * (length if mean == "token_mean" else 1)
    terms = {name: value / total for name, value in sums.items()}
    loss = terms["loss_policy"] + settings.kl * terms["kl"] - settings.entropy * terms["entropy"]
    return loss, terms


_EVERY = (
    dict(algorithm="paper", beta=0.7),
    dict(algorithm="paper", beta=0.0, mean="sequence_mean"),
    dict(algorithm="paper", beta=2.0, mean="token_mean"),
    dict(algorithm="grpo"),
    dict(algorithm="grpo", mean="sequence_mean", dual_clip=0.0),
    dict(algorithm="grpo", clip_low=0.05, clip_high=0.02, dual_clip=1.1),
    dict(algorithm="dr_grpo"),
    dict(algorithm="gspo", clip_low=0.03, clip_high=0.04),
)


class AgainstLoopsTest(parameterized.TestCase):
    @parameterized.product(variant=_EVERY, kl_estimator=["k1", "k3"])
    def test_loss_and_terms(self, variant, kl_estimator):
        settings = RLSettings(kl=0.3, kl_estimator=kl_estimator, entropy=0.05, **variant)
        loss, terms, _ = _terms(settings)
        want, parts = _by_hand(settings)
        np.testing.assert_allclose(loss, want, rtol=1e-4, atol=1e-6)
        for name, value in parts.items():
            np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-6)
        assert 0 <= float(terms["clip_fraction"]) <= 1

    @parameterized.product(variant=_EVERY)
    def test_the_gradient_is_the_slope_of_the_loops(self, variant):
        settings = RLSettings(kl=0.3, entropy=0.0, **variant)
        _, _, got = _terms(settings)
        new, _, batch = _batch()
        for place in ((0, 1, 2), (1, 2, 5), (2, 1, 0), (0, 0, 6)):
            sides = []
            for shift in (1e-4, -1e-4):
                moved = new.astype(np.float64)
                moved[place] += shift
                with pytest.MonkeyPatch.context() as patch:
                    found = moved, np.zeros_like(new), batch
                    patch.setitem(globals(), "_batch", lambda seed: found)
                    sides.append(_by_hand(settings)[0])
            slope = (sides[0] - sides[1]) / 2e-4
            np.testing.assert_allclose(got[place], slope, rtol=2e-3, atol=1e-6)

    def test_what_does_not_count_has_no_gradient(self):
        for variant in _EVERY:
            _, _, grads = _terms(RLSettings(**variant))
            assert (grads[COUNTS == 0] == 0).all() and (grads[~_batch()[2].mask] == 0).all()
            assert np.isfinite(grads).all() and grads.any()

    def test_a_kl_of_zero_is_not_computed(self):
        _, terms, _ = _terms(RLSettings())
        assert set(terms) == {"loss_policy", "clip_fraction", "entropy"}

    def test_micro_batches_add_up(self):
        """Uneven rows: the loss of the parts over the weights of the whole."""
        settings = RLSettings(kl=0.1)
        new, entropy, batch = _batch()
        batch = batch.replace(inputs=np.zeros((B, 1)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                objectives, "completion_logprobs",
                lambda p, inputs, ids, *rest, **stack: (p[ids[:, 0, 0]], entropy[ids[:, 0, 0]]),
            )  # fmt: skip
            objective = make_rl_objective(settings, CONFIG, FREE)
            number = np.arange(B, dtype=np.int32)[:, None, None]
            batch = batch.replace(token_ids=np.broadcast_to(number, (B, K, N)))
            whole, _ = objective(jnp.asarray(new), batch, jax.random.key(0))
            examples, weights = objective.prepare(batch, jax.random.key(0))
            sizes = {name: w.sum() for name, w in weights.items()}
            parts = 0.0
            for b in range(B):
                part = jax.tree.map(lambda a: a[b : b + 1], (examples, weights))
                parts += objective.loss(objective.sums(jnp.asarray(new), *part), sizes)
        np.testing.assert_allclose(parts, whole, rtol=1e-5)
        np.testing.assert_allclose(whole, _by_hand(settings)[0], rtol=1e-4)


class PolicyTest(parameterized.TestCase):
    def test_on_policy_the_gradient_is_that_of_the_policy(self):
        """The first update after a rollout: -sum A grad log pi / tokens; nothing is clipped."""
        found = rollouts(CONSTRAINED)
        advantages = np.random.default_rng(0).standard_normal(found.ended.shape).astype(np.float32)
        batch = RolloutBatch(
            inputs=inputs(), token_ids=found.token_ids, mask=found.mask,
            old_logprobs=found.logprobs, ref_logprobs=None, advantages=advantages,
            counts=np.ones_like(advantages),
        )  # fmt: skip
        head = params()["vlm"]["lm_head"]

        def with_head(head):
            return {**params(), "vlm": {**params()["vlm"], "lm_head": head}}

        @quick_jit
        def both(head, batch):
            objective = make_rl_objective(RLSettings(), CONFIG, CONSTRAINED)

            def plain(head):
                logprobs, _ = objectives.completion_logprobs(
                    with_head(head), batch.inputs, batch.token_ids, batch.mask, CONFIG, CONSTRAINED
                )
                total = (batch.advantages[..., None] * logprobs).sum()
                return -total / batch.mask.sum()

            ours = jax.grad(
                lambda h: objective(with_head(h), batch, jax.random.key(0)), has_aux=True
            )(head)
            return ours, jax.grad(plain)(head)

        (ours, terms), plain = both(head, batch)
        scale = np.abs(plain["kernel"]).max()
        np.testing.assert_allclose(ours["kernel"], plain["kernel"], atol=1e-3 * scale)
        assert scale > 0 and float(terms["clip_fraction"]) == 0 and float(terms["entropy"]) > 1


class SettingsTest(parameterized.TestCase):
    @parameterized.parameters(
        (dict(algorithm="ppo"), "'ppo'.*paper, grpo, dr_grpo, gspo"),
        (dict(mean="median"), "'median'.*'grpo'.*token_mean, sequence_mean"),
        (dict(algorithm="dr_grpo", mean="token_mean"), "'dr_grpo'; it has constant"),
        (dict(algorithm="gspo", mean="token_mean"), "'gspo'; it has sequence"),
        (dict(kl_estimator="k2"), "'k2'.*k1, k3"),
        (dict(clip_low=1.0), "clip_low"),
        (dict(clip_high=-0.1), "clip_high"),
        (dict(dual_clip=0.5), "dual_clip"),
        (dict(kl=-1.0), "kl is -1"),
        (dict(entropy=float("nan")), "entropy is nan"),
        (dict(beta=-0.1), "beta"),
    )
    def test_refuses(self, changes, message):
        with pytest.raises(ConfigError, match=message):
            make_rl_objective(dataclasses.replace(RLSettings(), **changes), CONFIG, FREE)

    def test_every_algorithm_names_its_advantage(self):
        kinds = {name: advantage_kind(RLSettings(algorithm=name)) for name in ALGORITHMS}
        assert set(kinds.values()) == set(ADVANTAGES)
        assert kinds["grpo"] == "standardised" and kinds["paper"] == "centred"

    def test_weights(self):
        mask = np.array([[[1, 1, 0], [1, 0, 0], [0, 0, 0]]], bool)
        counts = np.float32([[2, 1, 1]])
        weights = functools.partial(objectives.token_weights, mask, counts)
        assert weights("token_mean").tolist() == [[[2, 2, 0], [1, 0, 0], [0, 0, 0]]]
        assert weights("sequence_mean").tolist() == [[[1, 1, 0], [1, 0, 0], [0, 0, 0]]]
        assert weights("constant").tolist() == weights("sum").tolist() == [[2, 1, 0]]

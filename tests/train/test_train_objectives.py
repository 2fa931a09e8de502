"""What is trained, on a tiny policy and random conversations."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode import act
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.flow import matching
from alpamayo_jax.ops.losses import token_cross_entropy
from alpamayo_jax.testing.tiny import (
    quick_jit,
    random_inputs,
    random_params,
    random_train_batch,
    tiny_config,
)
from alpamayo_jax.tokens import history, trajectory
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train import objectives
from alpamayo_jax.train.objective import totals
from alpamayo_jax.train.optimiser import train_everything
from alpamayo_jax.train.state import create_state
from alpamayo_jax.train.step import make_train_step
from alpamayo_jax.train.targets import fused_ids, future_actions
from alpamayo_jax.types import KVCache

_CONFIG = tiny_config()
_TOKENS = _CONFIG.trajectory_tokens
START = special_token_id(_CONFIG, "traj_future_start")
_params = functools.cache(lambda: random_params(_CONFIG))
_batch = functools.cache(lambda: random_train_batch(_CONFIG, num_reasoning=(4, 2)))


@quick_jit
def _actions(batch):
    return future_actions(batch, _CONFIG)


@functools.cache
def _fused():
    """The conversation of `_batch()` with the ids of its drives."""
    fuse = quick_jit(fused_ids, static_argnums=2)
    return np.asarray(fuse(_batch(), _actions(_batch()), _CONFIG))


class TokensTest(parameterized.TestCase):
    def test_future_actions_lead_along_the_recorded_future(self):
        batch = _batch()
        actions = _actions(batch)
        driven = quick_jit(unicycle.action_to_trajectory, static_argnums=3)(
            actions, batch.inputs.ego_history_xyz, batch.inputs.ego_history_rot, _CONFIG.action
        )
        np.testing.assert_allclose(driven.xyz, batch.ego_future_xyz, atol=0.1)

    def test_both_kinds_of_placeholders_are_replaced(self):
        batch = _batch()
        raw, fused = np.asarray(batch.inputs.input_ids), _fused()
        actions = _actions(batch)
        past = history.encode_history(
            batch.inputs.ego_history_xyz, batch.inputs.ego_history_rot, _TOKENS
        )
        future = trajectory.encode_future(actions, _TOKENS)
        want = {
            "traj_history": past + _TOKENS.history_start_idx,
            "traj_future": future + _TOKENS.traj_token_start_idx,
        }
        others = np.ones_like(raw, bool)
        for name, ids in want.items():
            place = raw == special_token_id(_CONFIG, name)
            np.testing.assert_array_equal(fused[place].reshape(2, -1), ids)
            others &= ~place
        np.testing.assert_array_equal(fused[others], raw[others])

    def _random_case(self):
        rng = np.random.default_rng(0)
        ids = _fused()
        logits = rng.standard_normal((*ids.shape, _CONFIG.language.vocab_size)).astype(np.float32)
        return logits, ids, np.asarray(_batch().labels_mask)

    def test_token_losses(self):
        logits, ids, labels = self._random_case()
        got = objectives.token_losses(logits, ids, labels, _CONFIG)
        logprob = np.asarray(jax.nn.log_softmax(logits))
        ends = [special_token_id(_CONFIG, f"traj_future_{edge}") for edge in ("start", "end")]
        future, others = [], []
        for row in range(2):
            for place in range(1, ids.shape[1]):
                token = ids[row, place]
                if not labels[row, place]:
                    continue
                is_bin = _TOKENS.traj_token_start_idx <= token < _TOKENS.traj_token_end_idx
                kind = future if is_bin or token in ends else others
                kind.append(-logprob[row, place - 1, token])
        assert len(future) == 2 * 18 and len(others) > 6
        np.testing.assert_allclose(got["loss_future_traj"], np.mean(future), rtol=1e-5)
        np.testing.assert_allclose(got["loss_others"], np.mean(others), rtol=1e-5)
        np.testing.assert_allclose(got["loss_tokens"], np.mean(future + others), rtol=1e-5)

    def test_no_labels_give_no_loss(self):
        logits, ids, labels = self._random_case()
        got = objectives.token_losses(logits, ids, np.zeros_like(labels), _CONFIG)
        assert [float(value) for value in got.values()] == [0.0, 0.0, 0.0]

    def test_two_means_or_one(self):
        logits, ids, labels = self._random_case()
        parts = objectives.token_losses(logits, ids, labels, _CONFIG)
        two = objectives.token_objective(_CONFIG)
        one = objectives.token_objective(_CONFIG, mean="one_mean")
        examples, weights = quick_jit(two.prepare)(_batch(), jax.random.key(0))
        np.testing.assert_array_equal(examples.inputs.input_ids, ids)
        values = token_cross_entropy(logits[:, :-1], ids[:, 1:])
        sums = {name: jnp.sum(values * mask) for name, mask in weights.items()}
        got = [float(objective.loss(sums, totals(weights))) for objective in (two, one)]
        both = parts["loss_future_traj"] + parts["loss_others"]
        np.testing.assert_allclose(got, [both, parts["loss_tokens"]], rtol=1e-6)
        assert set(weights) == {"loss_future_traj", "loss_others", "loss_tokens"}

    def test_refuses_unknown_names(self):
        with pytest.raises(ConfigError, match="'three_means'.*two_means, one_mean"):
            objectives.token_objective(_CONFIG, mean="three_means")
        with pytest.raises(ConfigError, match="'rewards'.*tokens, expert"):
            objectives.make_objective("rewards", _CONFIG)


@quick_jit
def _velocity(params, inputs, ids, x, t):
    return objectives.expert_velocity(params, inputs, ids, x, t, _CONFIG)


def _flow_case(samples=1):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, samples, _CONFIG.action.n_waypoints, 2)).astype(np.float32)
    return x, rng.uniform(0, 1, (2, samples)).astype(np.float32)


class ExpertTest(parameterized.TestCase):
    def test_training_sees_what_sampling_sees(self):
        batch, (x, t) = _batch(), _flow_case()
        got = _velocity(_params(), batch.inputs, _fused(), x, t)

        # The same prompts with the same reasoning, as if it had just been generated.
        prompts = random_inputs(_CONFIG)
        prefix = quick_jit(prefill, static_argnums=2)(_params(), prompts, _CONFIG)
        raw, size = np.asarray(batch.inputs.input_ids), 6
        ids, end_index = np.zeros((2, 1, size), np.int32), np.zeros((2, 1), np.int32)
        for row in range(2):
            first = int(np.flatnonzero(raw[row] == special_token_id(_CONFIG, "cot_start"))[0]) + 1
            last = int(np.flatnonzero(raw[row] == START)[0])
            ids[row, 0, : last - first + 1] = raw[row, first : last + 1]
            end_index[row] = last - first
        assert end_index.ravel().tolist() == [5, 3]
        shape = (2, 2, 1, 2, size, 16)
        generation = Generation(
            token_ids=jnp.asarray(ids),
            logprobs=jnp.zeros(ids.shape),
            end_index=jnp.asarray(end_index),
            num_tokens=jnp.int32(size),
            cache=KVCache(k=jnp.zeros(shape), v=jnp.zeros(shape)),
        )

        @quick_jit
        def sampled(params, prefix, generation):
            generation = act.recondition(params, prefix, generation, _CONFIG)
            return act.velocity_field(params, prefix, generation, _CONFIG)(x, t[..., None, None])

        np.testing.assert_allclose(got, sampled(_params(), prefix, generation), atol=2e-5)

    def test_nothing_after_the_start_of_the_future_is_seen(self):
        batch, (x, t) = _batch(), _flow_case()
        ids = _fused()
        want = _velocity(_params(), batch.inputs, ids, x, t)
        after = np.cumsum(np.cumsum(ids == START, 1), 1) > 1
        other = np.where(after, 5, ids)
        np.testing.assert_array_equal(_velocity(_params(), batch.inputs, other, x, t), want)
        other = np.where(ids == START, 5, ids)  # no start: everything moves
        other[:, 40] = START
        assert np.abs(_velocity(_params(), batch.inputs, other, x, t) - want).max() > 1e-3

    def test_left_padding_is_not_seen(self):
        x, t = _flow_case()
        want = _velocity(_params(), _batch().inputs, _fused(), x, t)
        longer = random_train_batch(
            _CONFIG, num_reasoning=(4, 2), length=_batch().labels_mask.shape[1] + 5
        )
        ids = np.pad(_fused(), ((0, 0), (5, 0)))
        got = _velocity(_params(), longer.inputs, ids, x, t)
        np.testing.assert_allclose(got, want, atol=2e-5)
        ids = np.where(np.asarray(longer.inputs.attention_mask), ids, 9)
        np.testing.assert_array_equal(_velocity(_params(), longer.inputs, ids, x, t), got)

    @parameterized.parameters(1, 3)
    def test_the_loss_is_that_of_flow_matching(self, noises):
        batch, rng = _batch(), jax.random.key(4)
        actions = _actions(batch)
        pair = matching.sample_pair(rng, jnp.repeat(actions[:, None], noises, 1), _CONFIG.flow)
        seen = []

        def fake(params, cache, inputs, ids, x, t, config, **stack):
            seen.append((ids, x, t))
            return 2 * x

        class NoModel:
            def __init__(self, config, **stack):
                assert stack == {"remat": "full"}

            def apply(self, *args, **kwargs):
                return None, None

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objectives, "Alpamayo", NoModel)
            patch.setattr(objectives, "velocity_on_cache", fake)
            patch.setattr(objectives, "future_actions", lambda batch, *rest: _actions(batch))
            objective = objectives.make_objective(
                "expert", _CONFIG, noises_per_row=noises, remat="full"
            )
            loss, metrics = objective({}, batch, rng)
        ids, x, t = seen[0]
        np.testing.assert_array_equal(ids, _fused())
        np.testing.assert_allclose(x, pair.x_t, rtol=1e-6)
        assert x.shape[:2] == t.shape == (2, noises)
        np.testing.assert_allclose(loss, np.mean((2 * pair.x_t - pair.target) ** 2), rtol=1e-5)
        np.testing.assert_allclose(metrics["loss_flow"], loss)


class LearningTest(parameterized.TestCase):
    def _train(self, objective, steps, rate):
        """Adam on one batch: the first parameters, the last ones, and the losses."""
        optimiser = train_everything(optax.adam(rate), _params())
        state = create_state(_params(), optimiser)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "jit", quick_jit)
            step = make_train_step(objective, optimiser)
        losses = []
        for _ in range(steps):
            state, metrics = step(state, _batch(), jax.random.key(0))
            losses.append(float(metrics["loss"]))
        assert np.isfinite(losses).all()
        return _params(), state.params, losses

    def test_tokens_are_learnt_by_the_whole_language_model_and_by_nothing_else(self):
        first, last, losses = self._train(objectives.token_objective(_CONFIG), 25, 1e-2)
        assert losses[-1] < 0.3 * losses[0]
        for part in first:
            for path, before in jax.tree_util.tree_leaves_with_path(first[part]):
                after = last[part]
                for key in path:
                    after = after[key.key]
                moved = (np.asarray(before) != np.asarray(after)).any()
                assert moved == (part == "vlm"), (part, jax.tree_util.keystr(path))

    def test_the_flow_is_learnt_by_the_expert_and_by_nothing_else(self):
        objective = objectives.expert_objective(_CONFIG, noises_per_row=16)
        first, last, losses = self._train(objective, 60, 1e-2)
        # A field that knows the data but not the noise has loss 1, a field of 0 the mean square of
        # the actions more.
        unknown = np.mean(losses[-20:]) - 1
        assert unknown < 0.2 * np.mean(np.square(_actions(_batch())))
        for part in first:
            moved = jax.tree.map(
                lambda a, b: (np.asarray(a) != np.asarray(b)).any(), first[part], last[part]
            )
            # A gradient of exactly zero leaves every bit of the language model alone.
            assert set(jax.tree.leaves(moved)) == {part != "vlm"}, part

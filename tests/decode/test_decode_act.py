"""The expert on caches of reasoning: what it may look at, where it stands, guidance."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import FlowConfig
from alpamayo_jax.decode import act
from alpamayo_jax.decode.generate import Generation, generate
from alpamayo_jax.decode.prefix import Prefix, prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.layers.stack import separate
from alpamayo_jax.testing.tiny import GRIDS, quick_jit, random_inputs, random_params, tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import KVCache

K, N = 3, 6
_CONFIG = tiny_config()
END = special_token_id(_CONFIG, "traj_future_start")
# Two rows of three samples: ends early, at the limit, and nowhere.
_END_INDEX = np.array([[2, N - 1, -1], [-1, 0, 3]])

_prefill = quick_jit(prefill, static_argnums=2)
_recondition = quick_jit(act.recondition, static_argnums=3)
_velocity = quick_jit(
    lambda p, prefix, generation, x, t: act.velocity_field(p, prefix, generation, _CONFIG)(x, t)
)
_sample_actions = quick_jit(act.sample_actions, static_argnums=(3, 4))


@functools.cache
def _params():
    return random_params(_CONFIG)


@functools.cache
def _prefix(seed=0):
    return _prefill(_params(), random_inputs(_CONFIG, GRIDS[::-1], seed=seed), _CONFIG)


def _empty(end_index, num_tokens=N, seed=0):
    """Random reasoning with its end tokens, without a cache."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 200, (*end_index.shape, N)).astype(np.int32)
    for place in zip(*np.nonzero(end_index >= 0)):
        ids[place][end_index[place]] = END
    shape = (_CONFIG.language.num_layers, *end_index.shape, _CONFIG.language.num_kv_heads, N, 16)
    cache = KVCache(k=jnp.zeros(shape), v=jnp.zeros(shape))
    return Generation(
        token_ids=jnp.asarray(ids),
        logprobs=jnp.zeros(ids.shape),
        end_index=jnp.asarray(end_index),
        num_tokens=jnp.int32(num_tokens),
        cache=cache,
    )


@functools.cache
def _generation():
    return _recondition(_params(), _prefix(), _empty(_END_INDEX), _CONFIG)


def _noise(seed=0):
    shape = (2, K, _CONFIG.action.n_waypoints, 2)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _actions(prefix=None, generation=None, weight=None, unconditional=None):
    settings = SampleSettings(
        num_samples=K, max_new_tokens=N, flow_steps=2, guidance_weight=weight
    )
    return np.asarray(_sample_actions(
        _params(), prefix or _prefix(), generation or _generation(), _CONFIG, settings, _noise(),
        unconditional=unconditional,
    ))  # fmt: skip


class ContextTest(parameterized.TestCase):
    def _context(self, num_tokens):
        mask = np.ones((2, 5), bool)
        mask[1, :2] = False
        empty = KVCache(k=jnp.zeros((1, 2, 1, 5, 2)), v=jnp.zeros((1, 2, 1, 5, 2)))
        prefix = Prefix(cache=empty, mask=mask, last_hidden=jnp.zeros((2, 4)),
                        rope_delta=jnp.zeros(2, jnp.int32))  # fmt: skip
        return act.expert_context(prefix, _empty(_END_INDEX, num_tokens)), mask

    def test_waypoints_follow_the_end_token(self):
        ((_, (_, own)), first), _ = self._context(N)
        assert first[0].tolist() == [5 + 3, 5 + 6, 5 + 6]
        assert first[1].tolist() == [5 + 6, 5 + 1, 5 + 4]
        # Without an end token the last one has no keys and values.
        assert own[:, :, 0].sum(-1).tolist() == [[3, 6, 5], [5, 1, 4]]
        assert own.shape == (2, K, 1, N)

    def test_waypoints_follow_the_longest_sample_where_there_is_no_end_token(self):
        ((_, (_, own)), first), _ = self._context(4)
        assert (int(first[0, 2]), int(first[1, 0])) == (5 + 4, 5 + 4)
        assert own[0, 2, 0].tolist() == own[1, 0, 0].tolist() == [True] * 3 + [False] * 3

    def test_left_padding_is_masked(self):
        (((_, prompt), _), _), mask = self._context(N)
        np.testing.assert_array_equal(prompt[:, 0, 0], mask)


class ActionsTest(parameterized.TestCase):
    def test_what_comes_after_the_end_token_has_no_effect(self):
        generation = _generation()
        want = _actions()
        visible = np.where(_END_INDEX >= 0, _END_INDEX + 1, N - 1)[..., None] > np.arange(N)
        visible = visible[None, :, :, None, :, None]
        scramble = lambda a, b: jnp.where(visible, a, b)  # noqa: E731
        loud = jax.tree.map(lambda a: scramble(a, 7.0), generation.cache)
        np.testing.assert_array_equal(_actions(generation=generation.replace(cache=loud)), want)
        # Whereas each visible slot has one.
        for slot in range(N):
            moved = jax.tree.map(lambda a: a.at[..., slot, :].add(1.0), generation.cache)
            got = _actions(generation=generation.replace(cache=moved))
            change = np.abs(got - want).max((-2, -1))
            np.testing.assert_array_equal(change > 1e-6, visible[0, :, :, 0, slot, 0])

    def test_left_padding_has_no_effect(self):
        prefix = _prefix()
        assert not prefix.mask.all()
        real = prefix.mask[:, None, :, None]
        loud = jax.tree.map(lambda a: jnp.where(real, a, 7.0), prefix.cache)
        np.testing.assert_array_equal(_actions(prefix.replace(cache=loud)), _actions())

    def test_samples_have_their_own_reasoning_and_rows_their_own_prompt(self):
        want = _actions()
        other = _recondition(_params(), _prefix(), _empty(_END_INDEX, seed=5), _CONFIG).cache
        only = lambda a, b: a.at[:, 0, 1].set(b[:, 0, 1])  # noqa: E731
        cache = jax.tree.map(only, _generation().cache, other)
        got = _actions(generation=_generation().replace(cache=cache))
        changed = np.abs(got - want).max((-2, -1)) > 1e-6
        assert changed.tolist() == [[False, True, False], [False] * 3]

    @parameterized.named_parameters(("stacked", False), ("apart", True))
    def test_one_sample_alone_moves_as_among_others(self, apart):
        """Alone, it reads prompt and reasoning as one run of keys."""
        first = _generation()
        alone = first.replace(
            token_ids=first.token_ids[:, :1],
            logprobs=first.logprobs[:, :1],
            end_index=first.end_index[:, :1],
            cache=jax.tree.map(lambda a: a[:, :, :1], first.cache),
        )
        x, t = _noise(), jnp.full((2, K, 1, 1), 0.3)
        want = _velocity(_params(), _prefix(), first, x, t)
        params = separate(_params()) if apart else _params()
        got = _velocity(params, _prefix(), alone, x[:, :1], t[:, :1])
        np.testing.assert_allclose(got, want[:, :1], atol=1e-5)

    def test_every_state_on_the_way(self):
        settings = SampleSettings(num_samples=K, max_new_tokens=N, flow_steps=2)
        policy = _params(), _prefix(), _generation()  # computed, not traced
        states = jax.eval_shape(
            lambda n: act.sample_actions(*policy, _CONFIG, settings, n, return_all=True), _noise()
        )
        assert states.shape == (3, *_noise().shape) and states.dtype == jnp.float32

    def test_equals_euler_steps_of_the_velocity(self):
        x = _noise()
        for t in (0.0, 0.5):
            x = x + 0.5 * _velocity(_params(), _prefix(), _generation(), x, jnp.full((2, K, 1, 1), t))
        np.testing.assert_allclose(_actions(), x, atol=1e-5)


class GuidanceTest(parameterized.TestCase):
    def test_weight_one_is_conditional_and_zero_unconditional(self):
        other = _prefix(seed=1)
        conditional = _actions()
        np.testing.assert_allclose(
            _actions(weight=1.0, unconditional=other), conditional, atol=1e-5
        )
        generation = _recondition(_params(), other, _generation(), _CONFIG)
        unconditional = _actions(other, generation)
        got = _actions(weight=0.0, unconditional=other)
        np.testing.assert_allclose(got, unconditional, atol=1e-5)
        assert np.abs(conditional - unconditional).max() > 1e-2

    def test_without_a_weight_the_other_prompt_is_not_read(self):
        settings = SampleSettings(num_samples=K, max_new_tokens=N, flow_steps=2)
        trace = lambda other: str(jax.make_jaxpr(  # noqa: E731
            lambda n: act.sample_actions(
                _params(), _prefix(), _generation(), _CONFIG, settings, n, unconditional=other
            )
        )(_noise()))  # fmt: skip
        assert trace(None).count("dot_general") == trace(_prefix(seed=1)).count("dot_general")

    def test_reconditioning_on_the_same_prompt_gives_the_cache_of_decoding(self):
        settings = SampleSettings(num_samples=16, max_new_tokens=N)
        run = quick_jit(generate, static_argnums=(2, 3))
        decoded = run(_params(), _prefix(), _CONFIG, settings, jax.random.key(0))
        again = _recondition(_params(), _prefix(), decoded, _CONFIG)
        real = np.arange(N) <= np.asarray(decoded.end_index)[..., None]
        for ours, theirs in zip(*map(jax.tree.leaves, (again.cache, decoded.cache))):
            ours, theirs = (np.moveaxis(np.asarray(a), -2, 3)[:, real] for a in (ours, theirs))
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        np.testing.assert_array_equal(again.token_ids, decoded.token_ids)


class NoiseTest(parameterized.TestCase):
    def _noise(self, samples, temperature=None, config=_CONFIG):
        settings = SampleSettings(num_samples=samples, flow_temperature=temperature)
        return np.asarray(act.initial_noise(jax.random.key(0), 2, config, settings))

    def test_a_sample_does_not_depend_on_how_many_there_are(self):
        many = self._noise(5)
        assert many.shape == (2, 5, _CONFIG.action.n_waypoints, 2)
        np.testing.assert_array_equal(self._noise(2), many[:, :2])
        assert len(np.unique(many)) == many.size

    def test_temperature(self):
        wide = self._noise(2)
        np.testing.assert_allclose(self._noise(2, 0.25), 0.25 * wide, rtol=1e-6)
        np.testing.assert_array_equal(self._noise(2, 0.0), 0)
        config = tiny_config(flow=FlowConfig(temperature=0.5))
        np.testing.assert_allclose(self._noise(2, config=config), 0.5 * wide, rtol=1e-6)
        np.testing.assert_allclose(self._noise(2, 1.0, config), wide, rtol=1e-6)

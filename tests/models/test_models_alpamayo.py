"""The whole network at tiny sizes: what may and what may not change its results."""

import dataclasses
import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import PrecisionConfig
from alpamayo_jax.models.alpamayo import Alpamayo, expert_tower_config
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.testing.tiny import (
    GRIDS,
    full_jit,
    quick_jit,
    random_inputs,
    random_params,
    tiny_config,
)

_CONFIG = tiny_config()
_BF16 = tiny_config(precision=PrecisionConfig(params="bfloat16", compute="bfloat16"))
_random_params = functools.lru_cache(random_params)


@functools.partial(quick_jit, static_argnums=2)
def _prefill(params, inputs, config):
    return Alpamayo(config).apply({"params": params}, inputs, inputs.input_ids, method="prefill")


@functools.partial(quick_jit, static_argnums=5)
def _velocity(params, x, t, positions, context, config):
    return Alpamayo(config).apply({"params": params}, x, t, positions, context, method="velocity")


def _logits(params, hidden, config):
    return Alpamayo(config).apply({"params": params}, hidden, method="logits")


def _everything(config, samples=2, tokens=3, **stack):
    """Prefill, K continuations, their logits, and the velocity after them, as one program."""
    model = Alpamayo(config, **stack)

    def run(params, inputs, ids, x, t):
        params = {"params": params}
        hidden, cache = model.apply(params, inputs, inputs.input_ids, method="prefill")
        batch, length = inputs.input_ids.shape

        def positions(start, count):
            offset = (start + inputs.rope_delta)[:, None, None] + jnp.arange(count)
            return jnp.broadcast_to(offset, (3, batch, samples, count))

        context = [(cache, inputs.attention_mask[:, None, None, :])]
        causal = jnp.tril(jnp.ones((1, 1, tokens, tokens), bool))
        extended, more = model.apply(
            params, ids, positions(length, tokens), causal, context, method="extend"
        )
        context.append((more, jnp.ones((1, 1, 1, tokens), bool)))
        waypoints = positions(length + tokens, x.shape[-2])
        velocity = model.apply(params, x, t, waypoints, context, method="velocity")
        return hidden, cache, extended, model.apply(params, extended, method="logits"), velocity

    return run


def _arguments(config, samples=2, tokens=3, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, config.language.vocab_size, (2, samples, tokens)).astype(np.int32)
    x = rng.standard_normal((2, samples, config.action.n_waypoints, 2)).astype(np.float32)
    t = rng.uniform(0, 1, (2, samples)).astype(np.float32)
    return _random_params(config), random_inputs(config), ids, x, t


class PrefillTest(parameterized.TestCase):
    def test_neither_companions_nor_padding_matter(self):
        config, params = _CONFIG, _random_params(_CONFIG)
        # Together with a longer row, the short one has left padding, an absent image, and padded
        # patches.
        alone = random_inputs(config, GRIDS[::-1][:1])
        together = random_inputs(config, GRIDS[::-1])
        pad = together.input_ids.shape[1] - alone.input_ids.shape[1]
        assert pad > 0 and together.pixel_values.shape[1] > 1
        assert together.pixel_values.shape[2] > alone.pixel_values.shape[2]
        want, want_cache = _prefill(params, alone, config)
        got, cache = _prefill(params, together, config)
        np.testing.assert_allclose(got[:1, pad:], want, atol=1e-5)
        for ours, theirs in zip(*map(jax.tree.leaves, (cache, want_cache))):
            np.testing.assert_allclose(ours[:, :1, :, pad:], theirs, atol=1e-5)
        assert np.isfinite(got).all()

    def test_the_content_of_padding_is_not_read(self):
        config, params = _CONFIG, _random_params(_CONFIG)
        inputs = random_inputs(config, GRIDS[::-1])
        want, _ = _prefill(params, inputs, config)
        real = np.asarray(inputs.attention_mask)
        present = np.arange(inputs.pixel_values.shape[2]) < inputs.image_grid.prod(-1)[..., None]
        other = inputs.replace(
            input_ids=jnp.where(real, inputs.input_ids, 7),
            position_ids=jnp.where(real, inputs.position_ids, 99),
            pixel_values=jnp.where(present[..., None], inputs.pixel_values, 30.0),
        )
        got, _ = _prefill(params, other, config)
        np.testing.assert_array_equal(np.asarray(got)[real], np.asarray(want)[real])

    def test_every_image_goes_to_its_own_place(self):
        config, params = _CONFIG, _random_params(_CONFIG)
        inputs = random_inputs(config, [[(4, 4), (4, 4)]] * 2, num_patches=24)
        want, _ = _prefill(params, inputs, config)
        slots = inputs.pixel_values.shape[2] // config.vision.merge_unit
        index = np.asarray(inputs.image_index)
        moved = inputs.replace(
            pixel_values=inputs.pixel_values[:, ::-1], image_grid=inputs.image_grid[:, ::-1]
        )
        follow = (1 - index // slots) * slots + index % slots
        same = moved.replace(image_index=jnp.asarray(np.where(index >= 0, follow, -1)))
        np.testing.assert_allclose(_prefill(params, same, config)[0], want, atol=1e-5)
        assert np.abs(_prefill(params, moved, config)[0] - want).max() > 1e-2

    def test_image_tokens_replace_word_embeddings(self):
        config, params = _CONFIG, _random_params(_CONFIG)
        inputs = random_inputs(config)
        at_image = inputs.image_index >= 0

        def hidden(ids):
            return np.asarray(_prefill(params, inputs.replace(input_ids=ids), config)[0])

        want = hidden(inputs.input_ids)
        np.testing.assert_array_equal(hidden(jnp.where(at_image, 3, inputs.input_ids)), want)
        last = hidden(inputs.input_ids.at[:, -1].set(3))
        np.testing.assert_array_equal(last[:, :-1], want[:, :-1])
        assert np.abs(last[:, -1] - want[:, -1]).max() > 1e-2

    def test_deepstack_reaches_the_image_positions(self):
        config, params = _CONFIG, _random_params(_CONFIG)
        inputs = random_inputs(config)
        want, _ = _prefill(params, inputs, config)
        visual = params["vlm"]["visual"]
        merger = visual["deepstack_merger_list"]
        merger = merger | {"linear_fc2": jax.tree.map(jnp.zeros_like, merger["linear_fc2"])}
        silent = params["vlm"] | {"visual": visual | {"deepstack_merger_list": merger}}
        moved = np.abs(_prefill(params | {"vlm": silent}, inputs, config)[0] - want).max(-1)
        image = np.asarray(inputs.image_index >= 0)
        assert moved[image].min() > 1e-3
        first = np.asarray(inputs.attention_mask) & (np.cumsum(image, 1) == 0)
        assert first.any() and moved[first].max() < 1e-5

    def test_no_deepstack(self):
        config = tiny_config(
            vision=dataclasses.replace(_CONFIG.vision, deepstack_visual_indexes=())
        )
        shapes = param_shapes(config)
        assert "deepstack_merger_list" not in shapes["vlm"]["visual"]
        inputs = random_inputs(config)
        hidden, _ = jax.eval_shape(
            lambda p: Alpamayo(config).apply(
                {"params": p}, inputs, inputs.input_ids, method="prefill"
            ),
            shapes,
        )
        assert hidden.shape[-1] == 32

    def test_scene_tokens(self):
        config, params = _CONFIG, _random_params(_CONFIG)
        inputs = random_inputs(config)
        scene = jax.eval_shape(
            lambda: Alpamayo(config).apply({"params": params}, inputs, method="scene_tokens")
        )
        assert scene.tokens.shape == (2, 12, 32) and scene.deepstack.shape == (1, 2, 12, 32)


class LogitsTest(parameterized.TestCase):
    def test_tied_embeddings(self):
        language = dataclasses.replace(_CONFIG.language, tie_word_embeddings=True)
        config = tiny_config(language=language)
        params = _random_params(config)
        assert "lm_head" not in params["vlm"]
        hidden = np.random.default_rng(0).standard_normal((2, 3, 32)).astype(np.float32)
        table = np.asarray(params["vlm"]["language_model"]["embed_tokens"]["embedding"])
        np.testing.assert_allclose(_logits(params, hidden, config), hidden @ table.T, atol=1e-4)
        some = Alpamayo(config).apply({"params": params}, hidden, slice(7, 20), method="logits")
        np.testing.assert_allclose(some, hidden @ table[7:20].T, atol=1e-4)

    def test_separate_head(self):
        hidden = np.random.default_rng(0).standard_normal((2, 3, 32)).astype(np.float32)
        params = _random_params(_CONFIG)
        want = hidden @ np.asarray(params["vlm"]["lm_head"]["kernel"])
        np.testing.assert_allclose(_logits(params, hidden, _CONFIG), want, atol=1e-4)
        some = Alpamayo(_CONFIG).apply({"params": params}, hidden, slice(7, 20), method="logits")
        np.testing.assert_allclose(some, want[..., 7:20], atol=1e-4)


class VelocityTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.params = _random_params(_CONFIG)
        inputs = random_inputs(_CONFIG)
        _, self.cache = _prefill(self.params, inputs, _CONFIG)
        self.mask = np.asarray(inputs.attention_mask)[:, None, None, :]
        rng = np.random.default_rng(0)
        waypoints = _CONFIG.action.n_waypoints
        self.x = rng.standard_normal((2, 3, waypoints, 2)).astype(np.float32)
        self.t = rng.uniform(0, 1, (2, 3)).astype(np.float32)
        offset = self.mask.shape[-1] + np.asarray(inputs.rope_delta)
        self.positions = np.broadcast_to(
            offset[:, None, None] + np.arange(waypoints), (3, 2, 3, waypoints)
        )

    def run_(self, x=None, t=None, positions=None, cache=None, mask=None):
        pick = lambda given, own: own if given is None else given  # noqa: E731
        context = [(pick(cache, self.cache), pick(mask, self.mask))]
        return np.asarray(_velocity(
            self.params, pick(x, self.x), pick(t, self.t), pick(positions, self.positions), context,
            _CONFIG,
        ))  # fmt: skip

    def test_every_waypoint_sees_every_other(self):
        want = self.run_()
        for changed in (0, 7):
            x = self.x.copy()
            x[:, :, changed] += 0.5
            moved = np.abs(self.run_(x=x) - want).max(-1)
            assert moved.min() > 1e-5

    def test_samples_do_not_see_each_other(self):
        want = self.run_()
        x, t = self.x.copy(), self.t.copy()
        x[:, 1] += 1
        t[:, 1] = 0.9
        got = self.run_(x=x, t=t)
        np.testing.assert_array_equal(got[:, [0, 2]], want[:, [0, 2]])
        assert np.abs(got[:, 1] - want[:, 1]).max() > 1e-3

    def test_masked_slots_are_not_seen(self):
        mask = self.mask & (np.arange(self.mask.shape[-1]) < 30)
        loud = jax.tree.map(lambda a: a.at[..., 30:, :].set(9.0), self.cache)
        np.testing.assert_array_equal(self.run_(cache=loud, mask=mask), self.run_(mask=mask))
        assert np.abs(self.run_(mask=mask) - self.run_()).max() > 1e-4

    def test_time_and_positions_matter(self):
        want = self.run_()
        assert np.abs(self.run_(t=self.t * 0.5) - want).max() > 1e-3
        # Rotary positions are relative, and the cache stays where it is.
        assert np.abs(self.run_(positions=self.positions + 4) - want).max() > 1e-4

    def test_the_expert_reads_the_language_models_shape_of_cache(self):
        tower, language = expert_tower_config(_CONFIG), _CONFIG.language
        assert (tower.hidden_size, tower.num_heads, tower.intermediate_size) == (24, 2, 40)
        for name in ("num_layers", "num_kv_heads", "head_dim", "rope_theta", "mrope_section"):
            assert getattr(tower, name) == getattr(language, name)


class TwinTest(parameterized.TestCase):
    def test_scan_and_unrolled_twin_are_equal_bit_for_bit(self):
        arguments = _arguments(_CONFIG)
        scanned, unrolled = (
            full_jit(_everything(_CONFIG, unroll=u))(*arguments) for u in (False, True)
        )
        for got, want in zip(*map(jax.tree.leaves, (scanned, unrolled))):
            np.testing.assert_array_equal(got, want)

    def test_unrolled_has_no_loop(self):
        jaxpr = str(jax.make_jaxpr(_everything(_CONFIG, unroll=True))(*_arguments(_CONFIG)))
        assert "scan[" not in jaxpr and "while[" not in jaxpr
        assert "scan[" in str(jax.make_jaxpr(_everything(_CONFIG))(*_arguments(_CONFIG)))

    @parameterized.parameters("full", "dots")
    @pytest.mark.slow
    def test_remat_changes_neither_values_nor_gradients(self, remat):
        params, *rest = _arguments(_CONFIG)

        def run(remat):
            def loss(params):
                hidden, _, _, logits, velocity = _everything(_CONFIG, remat=remat)(params, *rest)
                parts = (hidden, logits, velocity)
                return sum(jnp.mean(jnp.square(a)) for a in parts), parts

            return quick_jit(jax.value_and_grad(loss, has_aux=True))(params)

        for got, want in zip(*map(jax.tree.leaves, (run(remat), run("none")))):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


class PrecisionTest(parameterized.TestCase):
    def test_types_of_a_bfloat16_policy(self):
        shapes = param_shapes(_BF16)
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.bfloat16)}
        _, *rest = _arguments(_CONFIG)
        hidden, cache, extended, logits, velocity = jax.eval_shape(
            _everything(_BF16), shapes, *rest
        )
        assert {a.dtype for a in (hidden, extended, cache.k, cache.v)} == {jnp.dtype(jnp.bfloat16)}
        assert logits.dtype == velocity.dtype == jnp.float32

    def test_the_experts_residual_stream_is_float32(self):
        _, _, _, x, t = _arguments(_CONFIG)
        positions = jnp.zeros((3, *x.shape[:-1]), jnp.int32)
        mask = jnp.ones((1, 1, x.shape[-2], x.shape[-2]), bool)
        run = lambda m: m.expert(m.action_in_proj(x, t), positions, mask)  # noqa: E731
        hidden, cache = jax.eval_shape(
            lambda p: Alpamayo(_BF16).apply({"params": p}, method=run), param_shapes(_BF16)
        )
        assert hidden.dtype == jnp.float32 and cache.k.dtype == jnp.bfloat16

    def test_bfloat16_runs_and_stays_close(self):
        params, inputs, _, x, t = _arguments(_CONFIG, samples=3)
        narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
        wide = jax.tree.map(lambda a: a.astype(jnp.float32), narrow)
        positions = jnp.broadcast_to(90 + jnp.arange(x.shape[-2]), (3, *x.shape[:-1]))

        def run(params, config):
            hidden, cache = _prefill(params, inputs, config)
            context = [(cache, inputs.attention_mask[:, None, None, :])]
            return hidden, _velocity(params, x, t, positions, context, config)

        real = np.asarray(inputs.attention_mask)
        got, want = run(narrow, _BF16), run(wide, _CONFIG)
        for ours, theirs in ((got[0][real], want[0][real]), (got[1], want[1])):
            error = np.asarray(ours, np.float32) - np.asarray(theirs)
            assert np.sqrt(np.mean(error**2)) < 0.05 * np.std(theirs)

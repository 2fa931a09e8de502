from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser, parameter_factors


def _params():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    return {
        "vlm": {
            "visual": {"blocks": {"kernel": draw(2, 3, 4), "bias": draw(2, 4)}},
            "head": {"kernel": draw(3, 4)},
        },
        "expert": {"layers": {"scale": draw(2, 3)}, "norm": {"scale": draw(3)}},
    }


def _grads(params, size=1.0):
    return jax.tree.map(lambda a: size * jnp.ones_like(a), params)


def _config(**options):
    return OptimiserConfig(**{"learning_rate": 0.1, "num_steps": 10, "clip_norm": 1e9} | options)


def _steps(config, params, grads, count=1):
    """Parameters after `count` steps with the same gradient."""
    optimiser = make_optimiser(config, params)
    state = optimiser.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimiser.update(grads, state, params)
        moved = jax.tree.map(
            lambda u, p: p if u is None else p + u, updates, params, is_leaf=lambda leaf: leaf is None
        )
        return moved, state

    for _ in range(count):
        params, state = step(params, state)
    return params, state


def _moves(config, params=None, grads=None, count=1):
    params = _params() if params is None else params
    after, _ = _steps(config, params, _grads(params) if grads is None else grads, count)
    return jax.tree.map(lambda a, b: np.asarray(b - a), params, after)


class FactorsTest(parameterized.TestCase):
    def test_the_first_matching_pattern_decides(self):
        groups = ((r"vlm/visual/.*", 0.1), (r"vlm/.*", 1.0), (r"expert/.*", 0.0))
        factors = parameter_factors(_params(), groups)
        assert factors["vlm"]["visual"]["blocks"] == {"kernel": 0.1, "bias": 0.1}
        assert factors["vlm"]["head"] == {"kernel": 1.0}
        assert factors["expert"] == {"layers": {"scale": 0.0}, "norm": {"scale": 0.0}}

    def test_every_parameter_must_be_covered(self):
        with pytest.raises(ConfigError, match="expert/layers/scale, expert/norm/scale"):
            parameter_factors(_params(), ((r"vlm/.*", 1.0),))

    def test_a_pattern_covers_the_whole_path(self):
        with pytest.raises(ConfigError, match="vlm/head/kernel"):
            parameter_factors(_params(), ((r"vlm", 1.0), (r"expert/.*", 1.0)))

    def test_a_pattern_that_matches_nothing_is_refused(self):
        with pytest.raises(ConfigError, match="exprt"):
            parameter_factors(_params(), ((r"exprt/.*", 0.0), (r".*", 1.0)))

    def test_paths_of_the_policy(self):
        groups = (
            (r"vlm/visual/.*", 0.1),
            (r"vlm/(language_model|lm_head)/.*", 1.0),
            (r"(expert|action_in_proj|action_out_proj)/.*", 0.0),
        )
        assert parameter_factors(param_shapes(tiny_config()), groups)


class OptimiserTest(parameterized.TestCase):
    def test_frozen_parameters_do_not_move_by_one_bit(self):
        config = _config(groups=((r"vlm/.*", 0.0), (r".*", 1.0)), weight_decay=0.5)
        moves = _moves(config, count=3)
        assert not any(leaf.any() for leaf in jax.tree.leaves(moves["vlm"]))
        assert all((leaf != 0).all() for leaf in jax.tree.leaves(moves["expert"]))

    def test_frozen_parameters_have_no_moments(self):
        params = _params()
        free = sum(leaf.size for leaf in jax.tree.leaves(params["expert"]))
        _, state = _steps(
            _config(groups=((r"vlm/.*", 0.0), (r".*", 1.0))), params, _grads(params)
        )
        assert sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim) == 2 * free

    def test_frozen_gradients_do_not_count_in_the_norm(self):
        config = _config(groups=((r"vlm/.*", 0.0), (r".*", 1.0)), clip_norm=1.0, beta1=0.0)
        grads = _grads(_params(), 0.1)
        loud = grads | {"vlm": _grads(grads["vlm"], 1e6)}
        want, got = _moves(config, grads=grads), _moves(config, grads=loud)
        for a, b in zip(*map(jax.tree.leaves, (got["expert"], want["expert"]))):
            np.testing.assert_array_equal(a, b)

    def test_factors_scale_the_whole_update(self):
        plain = _moves(_config(weight_decay=0.3))
        slow = _moves(_config(weight_decay=0.3, groups=((r"vlm/visual/.*", 0.25), (r".*", 1.0))))
        for got, want in zip(*map(jax.tree.leaves, (slow["vlm"], plain["vlm"]))):
            factor = 1.0 if got.shape == (3, 4) else 0.25  # the head is not visual
            np.testing.assert_allclose(got, factor * want, rtol=1e-4, atol=1e-7)
        for got, want in zip(*map(jax.tree.leaves, (slow["expert"], plain["expert"]))):
            np.testing.assert_allclose(got, want)

    def test_the_first_step_has_the_size_of_the_learning_rate(self):
        for leaf in jax.tree.leaves(_moves(_config(learning_rate=0.03))):
            np.testing.assert_allclose(leaf, -0.03, rtol=1e-3)

    def test_the_norm_is_clipped_over_everything(self):
        # Adam forgets the scale of a gradient, but not that the second is larger than the first.
        params = _params()
        total = np.sqrt(sum(leaf.size for leaf in jax.tree.leaves(params)))

        def second_move(clip_norm):
            config = _config(clip_norm=clip_norm, beta1=0.0, beta2=0.5)
            optimiser = make_optimiser(config, params)

            @jax.jit
            def run(small, large):
                _, state = optimiser.update(small, optimiser.init(params), params)
                return optimiser.update(large, state, params)[0]

            moves = run(_grads(params, 1 / total), _grads(params, 100 / total))
            return np.asarray(moves["expert"]["norm"]["scale"])

        # Gradients of norm 1 and 100. Clipped to 1 they are equal, and the move is a full step.
        ratio = second_move(1.0) / second_move(1e9)
        second_moment = (1 / 4 + 100**2 / 2) / (3 / 4)
        np.testing.assert_allclose(ratio, np.sqrt(second_moment) / 100, rtol=1e-3)

    def test_only_matrices_decay(self):
        params = _params()
        moves = _moves(_config(weight_decay=0.5), grads=_grads(params, 0.0))
        step = -0.1 * 0.5
        for path in (("vlm", "visual", "blocks", "kernel"), ("vlm", "head", "kernel")):
            move, value = moves, params
            for key in path:
                move, value = move[key], value[key]
            np.testing.assert_allclose(move, step * value, rtol=1e-4, atol=1e-7)
        assert not moves["vlm"]["visual"]["blocks"]["bias"].any()  # a vector for each layer
        assert not any(leaf.any() for leaf in jax.tree.leaves(moves["expert"]))

    def test_schedule(self):
        config = _config(learning_rate=1.0, num_steps=12, warmup_steps=4, final_fraction=0.2)
        params = {"a": jnp.zeros(1)}
        path = [0.0] + [float(_steps(config, params, {"a": jnp.ones(1)}, n)[0]["a"][0])
                        for n in range(1, 15)]  # fmt: skip
        sizes = -np.diff(path)
        np.testing.assert_allclose(sizes[:5], [0, 0.25, 0.5, 0.75, 1], atol=1e-3)
        np.testing.assert_allclose(sizes[8], 0.6, atol=1e-3)  # half way: the mean of 1 and 0.2
        np.testing.assert_allclose(sizes[12:], 0.2, atol=1e-3)

    def test_without_warm_up_the_first_step_is_full(self):
        np.testing.assert_allclose(
            _moves(_config(learning_rate=1.0))["vlm"]["head"]["kernel"], -1, rtol=1e-3
        )

    @parameterized.parameters(
        dict(warmup_steps=10),
        dict(warmup_steps=-1),
        dict(learning_rate=0.0),
        dict(learning_rate=float("inf")),
        dict(weight_decay=-0.1),
    )
    def test_refuses(self, **options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            _config(**options)

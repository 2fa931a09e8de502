"""Operation counts of programs."""

import jax
import jax.numpy as jnp
import pytest

from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.tiny import random_train_batch, tiny_config
from alpamayo_jax.train.flops import program_flops, train_flops
from alpamayo_jax.train.objectives import make_objective

M, K, N = 3, 5, 7


def _shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_products():
    assert program_flops(jnp.dot, _shape(M, K), _shape(K, N)) == 2 * M * K * N
    batched = lambda a, b: jnp.einsum("bmk,bkn->bmn", a, b)  # noqa: E731
    assert program_flops(batched, _shape(4, M, K), _shape(4, K, N)) == 4 * 2 * M * K * N
    assert program_flops(jnp.sin, _shape(9)) == 0


def test_convolution():
    conv = lambda x, w: jax.lax.conv(x, w, (1, 1), "VALID")  # noqa: E731
    got = program_flops(conv, _shape(2, 3, 8, 8), _shape(5, 3, 2, 2))
    assert got == 2 * (2 * 5 * 7 * 7) * (3 * 2 * 2)


def _scan(x, w):
    return jax.lax.scan(lambda c, _: (jnp.dot(c, w), None), x, length=6)[0]


def _cond(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda: jnp.dot(jnp.dot(x, w), w), lambda: jnp.dot(x, w))


def _while(x, w):
    return jax.lax.while_loop(lambda c: c[0, 0] > 0, lambda c: jnp.dot(c, w), x)


@pytest.mark.parametrize("function, times", [(_scan, 6), (_cond, 1), (_while, 1)])
def test_control_flow(function, times):
    one = 2 * M * K * K
    assert program_flops(function, _shape(M, K), _shape(K, K)) == times * one
    assert program_flops(jax.jit(function), _shape(M, K), _shape(K, K)) == times * one
    assert program_flops(jax.checkpoint(function), _shape(M, K), _shape(K, K)) == times * one


def test_a_gradient_costs_twice_the_forward_pass():
    config, batch = tiny_config(), random_train_batch(tiny_config())
    params, objective = param_shapes(config), make_objective("tokens", config)
    forward = program_flops(objective, params, batch, jax.random.key(0))
    everything = jax.tree.map(lambda _: 1.0, params)
    assert train_flops(objective, everything, params, batch) == pytest.approx(3 * forward, rel=0.02)
    unrolled = make_objective("tokens", config, unroll=True)
    program = jax.jit(lambda *args: unrolled(*args)).lower(params, batch, jax.random.key(0))
    # XLA also counts elementwise work, which weighs more the smaller the model.
    assert 0.8 < forward / program.compile().cost_analysis()["flops"] <= 1


def test_frozen_parameters_cost_no_gradient():
    config, batch = tiny_config(), random_train_batch(tiny_config())
    params, objective = param_shapes(config), make_objective("tokens", config)
    last = jax.tree.map(lambda _: 0.0, params)
    last["vlm"]["lm_head"]["kernel"] = 1.0
    forward = program_flops(objective, params, batch, jax.random.key(0))
    rows, vocab = batch.inputs.input_ids.shape, config.language.vocab_size
    head = 2 * rows[0] * rows[1] * vocab * config.language.hidden_size
    assert train_flops(objective, last, params, batch) == pytest.approx(forward + head, rel=0.01)


def test_a_tower_is_two_operations_per_weight_and_token_and_attention():
    config = preset("tiny")
    length = 64
    ids = jax.ShapeDtypeStruct((2, length), jnp.int32)
    positions = jax.ShapeDtypeStruct((3, 2, length), jnp.int32)
    mask = jax.ShapeDtypeStruct((2, length, length), bool)

    def tower(params, ids, positions, mask):
        return Alpamayo(config).apply({"params": params}, ids, positions, mask, [], method="extend")

    params = param_shapes(config)
    layers = params["vlm"]["language_model"]["layers"]
    weights = sum(leaf.size for leaf in jax.tree.leaves(layers) if leaf.ndim == 3)
    got = program_flops(tower, params, ids, positions, mask)
    c = config.language
    attention = 2 * 2 * c.num_layers * c.num_heads * c.head_dim * 2 * length**2
    assert got == pytest.approx(2 * weights * 2 * length + attention, rel=1e-6)

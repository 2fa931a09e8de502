"""Adapters: new ones change nothing, only they train, merged they compute the same, and export."""

import functools
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax import convert
from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.table import flatten
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.init import example_inputs
from alpamayo_jax.sharding import AxisRules, make_mesh
from alpamayo_jax.testing.tiny import GRIDS, random_inputs, random_params, tiny_config
from alpamayo_jax.train import lora, partition
from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser
from alpamayo_jax.train.state import create_state, state_shardings
from alpamayo_jax.train.step import make_train_step

CONFIG = tiny_config()
EVERYWHERE = lora.LoraConfig(rank=2, alpha=3.0, targets=(r".*",))
# All but the last layer, whose two outputs have no rank 2 below them.
WIDE = lora.LoraConfig(2, 3.0, (r"vlm/.*", r"expert/.*", r"action_in_proj/.*"))


@functools.cache
def base():
    return random_params(CONFIG)


@functools.cache
def adapted(strength=0.2):
    """Adapters on every layer that do something."""
    params = lora.add_adapters(base(), WIDE, jax.random.key(1))

    def fill(path, leaf):
        if path[-1].key != "lora_b":
            return leaf
        seed = zlib.crc32(jax.tree_util.keystr(path).encode())
        noise = np.random.default_rng(seed).standard_normal(leaf.shape)
        return strength * jnp.asarray(noise, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, params)


@functools.cache
def arguments():
    inputs = random_inputs(CONFIG, GRIDS)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((len(GRIDS), CONFIG.action.n_waypoints, 2)).astype(np.float32)
    return inputs, x, np.full((len(GRIDS),), 0.3, np.float32)


@functools.cache
def network():
    args = arguments()
    return jax.jit(lambda params: Alpamayo(CONFIG).apply({"params": params}, *args))


def assert_close(got, want, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * float(np.abs(b).max()))


def test_new_adapters_change_nothing():
    params = lora.add_adapters(base(), WIDE, jax.random.key(0))
    got, want = network()(params), network()(base())
    assert_close(got, want, 1e-6)
    flat = flatten(params)
    kernel = flat["vlm", "language_model", "layers", "mlp", "up_proj", "kernel"]
    a, b, scale = (
        flat["vlm", "language_model", "layers", "mlp", "up_proj", name] for name in lora.NAMES
    )
    assert a.shape == (*kernel.shape[:2], 2) and b.shape == (kernel.shape[0], 2, kernel.shape[2])
    assert scale.tolist() == [1.5] * kernel.shape[0]
    assert flat["vlm", "lm_head", "lora_scale"].shape == ()


def test_merged_equals_unmerged():
    want = network()(adapted())
    plain = network()(base())
    assert all(np.abs(a - b).max() > 1e-2 for a, b in zip(want, plain))
    merged = lora.merge(adapted())
    assert jax.tree.structure(merged) == jax.tree.structure(base())
    assert_close(network()(merged), want)


def test_exported_it_loads_strictly_and_computes_the_same(tmp_path):
    convert.save_checkpoint(tmp_path / "out", CONFIG, lora.merge(adapted()))
    config, _ = convert.read_config(tmp_path / "out")
    assert config == CONFIG
    loaded = convert.load_params(tmp_path / "out", config)
    assert_close(network()(loaded), network()(adapted()))


def test_only_adapters_train():
    """A step on a plain loss of the outputs: no model is needed to see what the optimiser touches."""
    params = adapted()
    groups = ((lora.TRAINED, 1.0), (r".*", 0.0))
    optimiser = make_optimiser(OptimiserConfig(1e-2, 10, groups=groups), params)

    def loss(params, batch, rng):
        return sum(jnp.sum(jnp.square(leaf - 1)) for leaf in jax.tree.leaves(params)), {}

    state, _ = make_train_step(loss, optimiser)(
        create_state(params, optimiser), {"x": jnp.zeros(1)}, jax.random.key(0)
    )
    after = flatten(state.params)
    for path, leaf in flatten(params).items():
        moved = np.asarray(after[path]).tobytes() != np.asarray(leaf).tobytes()
        assert moved == (path[-1] in ("lora_a", "lora_b")), path
    flat = flatten(params)
    count = sum(leaf.size for path, leaf in flat.items() if path[-1] in lora.NAMES)
    scales = sum(leaf.size for path, leaf in after.items() if path[-1] == "lora_scale")
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert moments == 2 * (count - scales)


def test_frozen_kernels_get_no_gradient_and_adapters_no_large_product():
    args, c = example_inputs(CONFIG), CONFIG.language

    def program(params, factors):
        trained, frozen = partition.split(params, factors)

        def loss(trained):
            params = partition.merge(trained, frozen)
            logits, velocity = Alpamayo(CONFIG).apply({"params": params}, *args)
            return jnp.sum(logits**2) + jnp.sum(velocity**2)

        return str(jax.make_jaxpr(jax.grad(loss))(trained))

    shape = f"({c.hidden_size},{c.intermediate_size}|{c.intermediate_size},{c.hidden_size})"
    product = rf"f32\[{shape}\] = dot_general"
    everything = jax.tree.map(lambda leaf: 1.0, adapted())
    adapters = partition.parameter_factors(adapted(), ((lora.TRAINED, 1.0), (r".*", 0.0)))
    assert re.search(product, program(adapted(), everything))
    assert not re.search(product, program(adapted(), adapters))


def test_a_narrow_base_keeps_wide_adapters():
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), base())
    params = flatten(lora.add_adapters(narrow, WIDE, jax.random.key(0)))
    for path, leaf in params.items():
        assert leaf.dtype == (jnp.float32 if path[-1] in lora.NAMES else jnp.bfloat16)
    merged = flatten(lora.merge(lora.add_adapters(narrow, WIDE, jax.random.key(0))))
    for path, leaf in flatten(narrow).items():
        np.testing.assert_array_equal(merged[path], leaf)
        assert merged[path].dtype == jnp.bfloat16


def test_adapters_are_sharded_like_their_layers():
    mesh, rules = make_mesh(data=2, fsdp=2, tensor=2), AxisRules()
    optimiser = make_optimiser(OptimiserConfig(1e-2, 10), adapted())
    where = state_shardings(CONFIG, mesh, rules, optimiser, params=adapted())
    layer = where.params["vlm"]["language_model"]["layers"]["mlp"]["up_proj"]
    assert tuple(layer["lora_a"].spec) == (None, "fsdp", None)
    assert tuple(layer["lora_b"].spec) == (None, None, "tensor")
    assert tuple(layer["lora_scale"].spec) == (None,)
    create_state(adapted(), optimiser, shardings=where)


@pytest.mark.parametrize("config, message", [
    (lora.LoraConfig(rank=2, targets=(r"vlm/none/.*",)), "vlm/none/.* match no linear layer"),
    (EVERYWHERE, "action_out_proj is 24 x 2: no rank 2 below"),
    (lora.LoraConfig(rank=64), "no rank 64 below"),
])  # fmt: skip
def test_targets_that_make_no_sense(config, message):
    with pytest.raises(ConfigError, match=message):
        lora.add_adapters(base(), config, jax.random.key(0))


def test_a_second_adapter_is_refused():
    with pytest.raises(ConfigError, match="has an adapter already"):
        lora.add_adapters(adapted(), WIDE, jax.random.key(0))
    with pytest.raises(ConfigError):
        lora.LoraConfig(rank=0)

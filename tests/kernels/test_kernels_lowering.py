"""Lowering and compiling for chips that are not there, with a small kernel of each kind."""

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.dispatch import Unsupported

X = jax.ShapeDtypeStruct((256, 128), jnp.bfloat16)


def _double(block, params):
    """A kernel that doubles x, in blocks of rows."""

    def kernel(x_ref, out_ref):
        out_ref[...] = x_ref[...] * 2

    def function(x):
        spec = pl.BlockSpec(block, lambda i: (i, 0))
        return pl.pallas_call(
            kernel,
            out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
            grid=(x.shape[0] // block[0],),
            in_specs=[spec],
            out_specs=spec,
            compiler_params=params,
        )(x)

    return function


TRITON = _double((64, 128), plt.CompilerParams(num_warps=4))
MOSAIC = _double((64, 128), pltpu.CompilerParams(dimension_semantics=("parallel",)))
CHIPS = [*((chip, TRITON) for chip in lowering.GPUS), *((chip, MOSAIC) for chip in lowering.TPUS)]


@pytest.mark.parametrize(("chip", "function"), CHIPS)
def test_a_kernel_lowers_to_one_custom_call(chip, function):
    lowered = lowering.lower(function, X, target=chip)
    assert lowering.kernels_in(lowered) == 1
    assert lowering.kernels_in(lowering.lower(lambda x: function(function(x)), X, target=chip)) == 2


def test_plain_xla_has_no_kernel():
    assert lowering.kernels_in(lowering.lower(lambda x: x * 2, X, target="h100")) == 0


def test_what_the_chip_cannot_express_is_rejected():
    bad = _double((2, 100), pltpu.CompilerParams())  # TPU tiles are multiples of 8 x 128
    with pytest.raises(ValueError):
        lowering.lower(bad, X, target="v5e")


def test_one_function_for_two_chips_is_traced_twice():
    def function(x):
        with_gpu = jax.sharding.get_abstract_mesh().abstract_device.platform == "gpu"
        return x * (2 if with_gpu else 3)

    text = {chip: lowering.lower(function, X, target=chip).as_text() for chip in ("h100", "v5e")}
    assert "2.0" in text["h100"] and "3.0" in text["v5e"]


@pytest.mark.parametrize(("chip", "function"), CHIPS)
def test_machine_code_without_the_chip(chip, function):
    if not lowering.can_compile(chip):
        pytest.skip(f"the compiler for {chip} is not installed")
    compiled = lowering.compile_ahead(function, X, target=chip)
    assert compiled.memory_analysis().argument_size_in_bytes == 256 * 128 * 2


def test_too_much_shared_memory_is_found_without_a_gpu():
    if not lowering.can_compile("h100"):
        pytest.skip("the compiler for h100 is not installed")

    def kernel(x_ref, out_ref):
        x = x_ref[...]
        out_ref[...] = plt.dot(x, x.T).astype(x.dtype)

    def function(x):
        size = x.shape[0]
        return pl.pallas_call(
            kernel,
            out_shape=jax.ShapeDtypeStruct((size, size), x.dtype),
            compiler_params=plt.CompilerParams(num_warps=8),
        )(x)

    with pytest.raises(jax.errors.JaxRuntimeError, match="(?i)shared memory"):
        lowering.compile_ahead(
            function, jax.ShapeDtypeStruct((256, 512), jnp.float32), target="h100"
        )


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(lowering, "can_compile", lambda name: False)
    with pytest.raises(Unsupported, match="install jax-cuda13-plugin"):
        lowering.compile_ahead(TRITON, X, target="h100")
    with pytest.raises(Unsupported, match="install libtpu"):
        lowering.compile_ahead(MOSAIC, X, target="v5e")


@pytest.mark.parametrize("call", [lowering.lower, lowering.compile_ahead])
def test_an_unknown_chip(call):
    with pytest.raises(ConfigError, match="target 'h900' is unknown; known: h100, b200"):
        call(TRITON, X, target="h900")


@pytest.mark.parametrize("name", lowering.GPUS)
def test_the_description_of_a_gpu_is_whole(name):
    chip = lowering.find_target(name)
    assert 0 < chip.shared_memory < chip.shared_memory_core
    assert min(chip.cores, chip.l2_bytes, chip.memory_bytes, chip.bandwidth) > 1
    assert f"major: {chip.capability[0]}" in chip.description()

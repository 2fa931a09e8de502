"""The product in Triton: its body in Triton's interpreter, its machine code for GPUs not there."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from kernel_chips import GPUS

from alpamayo_jax.kernels import lowering
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.quantised_matvec import quantised_matvec
from alpamayo_jax.kernels.quantised_matvec.shapes import cases
from alpamayo_jax.presets import preset

pytest.importorskip("triton")

# TRITON_INTERPRET is read when Triton is imported, hence a process of its own.
INTERPRET = """
import json, sys
import numpy as np, torch
from alpamayo_jax.kernels.quantised_matvec import triton_body

found = []
for rows, depth, width, fp8, kind in json.loads(sys.argv[1]):
    rng = np.random.default_rng(rows)
    x = torch.tensor(rng.standard_normal((rows, depth)), dtype=getattr(torch, kind))
    if fp8:
        spread = rng.standard_normal((depth, width)) * np.exp2(rng.integers(-10, 7, (depth, width)))
        values = torch.tensor(spread).to(torch.float8_e4m3fn)
        bits = values.view(torch.uint8)
    else:
        values = bits = torch.tensor(rng.integers(-127, 128, (depth, width)), dtype=torch.int8)
    constants = triton_body.sizes(rows, depth, width, fp8)
    grid = triton_body.grid(constants)
    out = torch.full((grid[1], rows, width), torch.nan)
    triton_body.matvec_kernel[grid](x, bits, out, **constants)
    want = x.double() @ values.double()
    error = (out.double().sum(0) - want).abs().max() / want.abs().max()
    found.append([float(error), grid[1]])
print(json.dumps(found))
"""


def test_the_body_is_the_product():
    pytest.importorskip("torch")
    wanted = [
        (1, 300, 200, False, "float32"),
        (1, 70, 130, True, "bfloat16"),
        (6, 600, 70, False, "float16"),
        (16, 64, 129, True, "float32"),
    ]
    environment = dict(os.environ, TRITON_INTERPRET="1", JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-c", INTERPRET, json.dumps(wanted)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [shares for _, shares in found] == [2, 1, 2, 1]
    assert max(error for error, _ in found) < 1e-5


def test_constants_cover_the_matrix():
    from alpamayo_jax.kernels.quantised_matvec import triton_body

    for rows, depth, width in ((1, 4096, 12288), (6, 12288, 4096), (16, 1, 1), (1, 100, 155_697)):
        constants = triton_body.sizes(rows, depth, width, False)
        columns, shares = triton_body.grid(constants)
        assert columns * constants["BLOCK_WIDTH"] >= width
        share = constants["STEPS"] * constants["BLOCK_DEPTH"]
        assert (shares - 1) * share < depth <= shares * share
        assert constants["BLOCK_ROWS"] >= rows


@pytest.mark.parametrize(
    "capability", [90, *(pytest.param(other, marks=pytest.mark.slow) for other in (80, 100, 120))]
)
@pytest.mark.parametrize("rows, fp8", [(1, True), (6, False)])
def test_machine_code_without_a_gpu(capability, rows, fp8):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from alpamayo_jax.kernels.quantised_matvec import triton_body

    if not isinstance(triton_body.matvec_kernel, triton.runtime.JITFunction):
        pytest.skip("Triton interprets in this process")
    constants = triton_body.sizes(rows, 4096, 12288, fp8)
    pointers = {"x_ptr": "*bf16", "values_ptr": "*u8" if fp8 else "*i8", "out_ptr": "*fp32"}
    source = ASTSource(
        fn=triton_body.matvec_kernel,
        signature=pointers | dict.fromkeys(constants, "constexpr"),
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in range(3)},
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": 4, "num_stages": 4},
    )
    assert compiled.asm["cubin"][:4] == b"\x7fELF"
    code = compiled.asm["ptx"]
    # Values come 16 bytes at a time, and several rows go to the matrix units.
    assert "cp.async.cg.shared.global" in code or "ld.global" in code and ".v4.b32" in code
    assert ("mma" in code) == (rows > 1)


CASES = {case.name: case for case in cases(preset("r1_10b"))}


@pytest.mark.parametrize("chip", GPUS)
def test_it_lowers_in_a_jax_program(chip):
    def run(*arguments):
        return quantised_matvec(*arguments, implementation="triton")

    try:
        lowered = lowering.lower(run, *CASES["gate_proj/fp8/1"].specs(), target=chip)
    except Unsupported as error:
        pytest.skip(str(error))
    assert lowering.kernels_in(lowered) == 1


def test_a_chip_of_unknown_capability_is_named(monkeypatch):
    from alpamayo_jax.kernels.quantised_matvec import triton_call

    assert triton_call._capability() is None
    with lowering.abstract_device("b200"):
        assert triton_call._capability() == 100
        monkeypatch.setattr(triton_call, "TARGETS", {})
        with pytest.raises(Unsupported, match="compute capability of 'NVIDIA B200'"):
            triton_call._capability()


def test_without_jax_triton_the_reason_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax_triton", None)
    x = jax.numpy.ones((1, 32))
    values, scale = jax.numpy.ones((32, 8), np.int8), jax.numpy.ones(8)
    monkeypatch.setattr("alpamayo_jax.kernels.dispatch.current_platform", lambda: "gpu")
    monkeypatch.setattr(
        "alpamayo_jax.kernels.quantised_matvec.triton_call.current_platform", lambda: "gpu"
    )
    with pytest.raises(Unsupported, match="jax-triton cannot be imported"):
        quantised_matvec(x, values, scale, implementation="triton")

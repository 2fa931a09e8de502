"""Bytes of compiled programs."""

import jax
import jax.numpy as jnp
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.hardware import chip
from alpamayo_jax.layers.stack import run_stack, separate
from alpamayo_jax.plan.traffic import program_bytes
from alpamayo_jax.plan.virtual import bandwidth

_TEXT = """HloModule jit_f, is_scheduled=true

%fused_slice (p0: f32[8,64,64], p1: s32[]) -> f32[1,64,64] {
  %p0 = f32[8,64,64]{2,1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %cut = f32[1,64,64]{2,1,0} dynamic-slice(%p0, %p1, %zero, %zero), dynamic_slice_sizes={1,64,64}
}

%fused_tanh (q0: f32[8,64,64], q1: f32[4,64]) -> f32[4,64] {
  %q0 = f32[8,64,64]{2,1,0} parameter(0)
  %q1 = f32[4,64]{1,0} parameter(1)
  %row = f32[1,4,64]{2,1,0} slice(%q0), slice={[0:1],[0:4],[0:64]}
  %flat = f32[4,64]{1,0} bitcast(%row)
  ROOT %out = f32[4,64]{1,0} add(%flat, %q1)
}

%body (arg: (s32[], f32[4,64], f32[8,64,64])) -> (s32[], f32[4,64], f32[8,64,64]) {
  %arg = (s32[], f32[4,64]{1,0}, f32[8,64,64]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %x = f32[4,64]{1,0} get-tuple-element(%arg), index=1
  %w = f32[8,64,64]{2,1,0} get-tuple-element(%arg), index=2
  %part = f32[1,64,64]{2,1,0} fusion(%w, %i), kind=kLoop, calls=%fused_slice
  %matrix = f32[64,64]{1,0} bitcast(%part)
  %call = (f32[4,64]{1,0}, s8[4096]{0}) custom-call(%x, %matrix), custom_call_target="gemm"
  %y = f32[4,64]{1,0} get-tuple-element(%call), index=0
  %z = f32[4,64]{1,0} fusion(%w, %y), kind=kLoop, calls=%fused_tanh
  ROOT %next = (s32[], f32[4,64]{1,0}, f32[8,64,64]{2,1,0}) tuple(%i, %z, %w)
}

%test (arg.1: (s32[], f32[4,64], f32[8,64,64])) -> pred[] {
  %arg.1 = (s32[], f32[4,64]{1,0}, f32[8,64,64]{2,1,0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (a: s32[], b: f32[4,64], c: f32[8,64,64]) -> f32[4,64] {
  %a = s32[] parameter(0)
  %b = f32[4,64]{1,0} parameter(1)
  %c = f32[8,64,64]{2,1,0} parameter(2)
  %begin = (s32[], f32[4,64]{1,0}, f32[8,64,64]{2,1,0}) tuple(%a, %b, %c)
  %loop = (s32[], f32[4,64]{1,0}, f32[8,64,64]{2,1,0}) while(%begin), condition=%test, body=%body, backend_config={"known_trip_count":{"n":"8"}}
  ROOT %end = f32[4,64]{1,0} get-tuple-element(%loop), index=1
}
"""
_ROW, _MATRIX = 4 * 64 * 4, 64 * 64 * 4


def test_a_loop_that_cuts_its_matrices_out_of_a_stack():
    found = program_bytes(_TEXT)
    assert found["copies"] == 8 * (2 * _MATRIX + 4)  # and the number of the layer
    assert found["products"] == 8 * (_MATRIX + 2 * _ROW)  # without the library's workspace
    assert found["fusions"] == 8 * 3 * _ROW  # of the stack only the rows that it looks at
    assert found["total"] == sum(found.values()) - found["total"]


def test_a_loop_of_unknown_length():
    text = _TEXT.replace('{"known_trip_count":{"n":"8"}}', "{}")
    assert program_bytes(text, loop_trips=3)["total"] * 8 == program_bytes(_TEXT)["total"] * 3


def test_what_is_updated_in_place_counts_as_the_update():
    text = """HloModule jit_g

%fused_put (p0: f32[100,64], p1: f32[1,64], p2: s32[]) -> f32[100,64] {
  %p0 = f32[100,64]{1,0} parameter(0)
  %p1 = f32[1,64]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %put = f32[100,64]{1,0} dynamic-update-slice(%p0, %p1, %p2, %zero)
}

ENTRY %main (a: f32[100,64], b: f32[1,64], c: s32[]) -> f32[100,64] {
  %a = f32[100,64]{1,0} parameter(0)
  %b = f32[1,64]{1,0} parameter(1)
  %c = s32[] parameter(2)
  ROOT %out = f32[100,64]{1,0} fusion(%a, %b, %c), kind=kLoop, calls=%fused_put
}
"""
    assert program_bytes(text)["total"] == 2 * 64 * 4 + 4


def test_separate_layers_move_no_more_than_a_loop():
    params = {"layers": {"w": jnp.zeros((6, 256, 256))}}

    def run(params, x):
        return run_stack(lambda p, x, _: (x @ p["w"], None), params["layers"], x)[0]

    x = jnp.zeros((4, 256))
    loop, apart = (
        program_bytes(jax.jit(run).lower(p, x).compile().as_text())["total"]
        for p in (params, separate(params))
    )
    weights = 6 * 256 * 256 * 4
    assert weights <= apart <= 1.2 * weights
    assert apart <= loop


def test_bandwidth():
    assert bandwidth(chip("H100")) == 3.35e12
    with pytest.raises(ConfigError, match="bandwidth of v5e is not known"):
        bandwidth(chip("v5e"))

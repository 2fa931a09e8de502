"""Collectives read from program texts, written and compiled."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from alpamayo_jax.plan.collectives import by_kind, collectives, largest, shape_bytes
from alpamayo_jax.sharding import make_mesh

PROGRAM = """HloModule step, entry_computation_layout={(f32[8,4]{1,0})->f32[8,4]{1,0}}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%yes (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %exchange = f32[8,4]{1,0} all-to-all(%p), replica_groups=[1,8]<=[8], dimensions={0}
}

%no (p.1: f32[8,4]) -> f32[8,4] {
  ROOT %p.1 = f32[8,4]{1,0} parameter(0)
}

%body (carry: (s32[], bf16[2,4])) -> (s32[], bf16[2,4]) {
  %carry = (s32[], bf16[2,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %x = bf16[2,4]{1,0} get-tuple-element(%carry), index=1
  %start = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%x), GROUPS_OF_4, NAMED
  %done = bf16[8,4]{1,0} all-gather-done(%start)
  %part = bf16[2,4]{1,0} reduce-scatter(%done), ALONG_AXIS_1, to_apply=%add
  ROOT %out = (s32[], bf16[2,4]{1,0}) tuple(%i, /*index=1*/%part)
}

%condition (carry.1: (s32[], bf16[2,4])) -> pred[] {
  %carry.1 = (s32[], bf16[2,4]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (input: f32[8,4], start.1: (s32[], bf16[2,4]), which: pred[]) -> f32[8,4] {
  %input = f32[8,4]{1,0} parameter(0)
  %start.1 = (s32[], bf16[2,4]{1,0}) parameter(1)
  %which = pred[] parameter(2)
  %loop = (s32[], bf16[2,4]{1,0}) while(%start.1), condition=%condition, body=%body, FIVE_TIMES
  %again = (s32[], bf16[2,4]{1,0}) while(%loop), condition=%condition, body=%body
  %chosen = f32[8,4]{1,0} conditional(%which, %input, %input), branch_computations={%no, %yes}
  %alone = f32[8,4]{1,0} all-reduce(%chosen), replica_groups={{0},{1},{2},{3}}, to_apply=%add
  %sent = f32[8,4]{1,0} collective-permute(%alone), source_target_pairs={{0,1},{1,0}}
  ROOT %all = f32[8,4]{1,0} all-reduce(%sent), replica_groups={}, to_apply=%add
}
"""
for short, long in {
    "GROUPS_OF_4": "replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}",
    "ALONG_AXIS_1": "replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, dimensions={0}",
    "NAMED": 'metadata={op_name="layer/dot"}',
    "FIVE_TIMES": 'backend_config={"known_trip_count":{"n":"5"}}',
}.items():
    PROGRAM = PROGRAM.replace(short, long)


def test_kinds_times_and_bytes():
    table = by_kind(collectives(PROGRAM, 8))
    rows = {kind: tuple(row.values()) for kind, row in table.items()}
    assert rows == {
        # 5 known turns and one of an unknown number; three quarters of 64 bytes each.
        "all-gather": (6, 6 * 48, 0, 1),
        # Its only one beside that of a single device, which sends nothing.
        "all-reduce": (1, 2 * 128 * 7 // 8, 0, 0),
        "reduce-scatter": (6, 6 * 48, 0, 1),
        "all-to-all": (1, 128 * 7 // 8, 128 * 7 // 8, 0),
        "collective-permute": (1, 128, 0, 0),
    }
    assert list(table) == sorted(table, key=list(rows).index)


def test_the_largest_come_with_their_source():
    first, second = largest(collectives(PROGRAM, 8), 2)
    assert first["bytes"] == second["bytes"] == 5 * 48 and first["times"] == 5
    gather = first if first["kind"] == "all-gather" else second
    assert gather["source"] == "layer/dot" and gather["group"] == 4
    assert gather["shape"] == "(bf16[2,4], bf16[8,4])"


@pytest.mark.parametrize("shape, size", [
    ("f32[]", 4), ("bf16[3,5]{1,0}", 30), ("(s32[2]{0}, pred[7]{0})", 15), ("f8e4m3fn[4]{0}", 4),
    ("s4[6]{0}", 3), ("token[]", 0), ("c64[2]", 16),
])  # fmt: skip
def test_shape_bytes(shape, size):
    assert shape_bytes(shape) == size


def test_groups_along_part_of_an_axis():
    text = PROGRAM.replace("{'axis_1'}", "{'axis_1':(2)2}")
    assert by_kind(collectives(text, 8))["reduce-scatter"]["bytes"] == 6 * 32


def test_a_compiled_loop():
    """One gather of a sharded matrix per layer, one reduction over the mesh at the end."""
    mesh, layers, side = make_mesh(fsdp=8), 3, 16
    split = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    rows, whole = NamedSharding(mesh, PartitionSpec("fsdp")), NamedSharding(mesh, PartitionSpec())

    def loss(weights, x):
        def layer(x, w):
            w = jax.lax.with_sharding_constraint(w, whole)
            return jax.lax.with_sharding_constraint(jnp.sin(x @ w), rows), None

        return jnp.sum(jax.lax.scan(layer, x, weights)[0])

    program = jax.jit(loss, in_shardings=(split, rows), out_shardings=whole).lower(
        jax.ShapeDtypeStruct((layers, side, side), jnp.float32),
        jax.ShapeDtypeStruct((8, side), jnp.float32),
    )
    table = by_kind(collectives(program.compile().as_text(), 8))
    assert set(table) == {"all-gather", "all-reduce"}
    assert table["all-gather"]["count"] in (1, layers)  # in the loop, or once before it
    assert table["all-gather"]["bytes"] == layers * side * side * 4 * 7 // 8
    assert table["all-reduce"] == dict(count=1, bytes=7, conditional_bytes=0, uncounted=0)

"""Attention of a flow step on GPUs, in Pallas through Triton.

A program owns a sample's waypoints for the query heads of one key-value head, and a share of the
prefix; one share more is the sample's own reasoning and the waypoints themselves. Shares are combined
exactly by their log-sum-exp. All programs of a prefix run side by side, so its keys and values come
from memory once and then from the second-level cache.
"""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
import jax.numpy as jnp

from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.kernels.flow_attention.reference import Keys, check_shapes
from alpamayo_jax.kernels.tiles import LOWEST, power_of_two, product

Array = Any

_KEYS = 64  # of a step
_ROWS = 128  # at most, of a program: waypoints times query heads
_PROGRAMS = 256  # two for each multiprocessor of a large GPU


def _power_of_two(size: int) -> bool:
    return size & (size - 1) == 0


def _halves(ref, at, mask, half):
    """[..., H] of a ref as two arrays [..., H / 2] in float32; zero where the mask is not."""
    given = {} if mask is None else {"mask": mask, "other": 0.0}
    return tuple(
        plt.load(ref.at[(*at, pl.ds(start, half))], **given).astype(jnp.float32)
        for start in (0, half)
    )


def _normed_and_rotated(first, second, norms, tables, eps, dtype):
    """As `reference.normed_and_rotated`, of two halves; tables [W, H / 2] of each half."""
    size = 2 * first.shape[-1]
    power = ((first * first).sum(-1) + (second * second).sum(-1)) / size
    inverse = jax.lax.rsqrt(power + eps)[..., None]
    extra = (1,) * (first.ndim - 2)
    shaped = lambda table: table.reshape(table.shape[0], *extra, table.shape[1])  # noqa: E731
    first, second = (
        (half * inverse * norm).astype(dtype).astype(jnp.float32)
        for half, norm in zip((first, second), norms)
    )
    (cos_first, cos_second), (sin_first, sin_second) = (
        tuple(shaped(half) for half in table) for table in tables
    )
    return (
        (first * cos_first - second * sin_first).astype(dtype),
        (second * cos_second + first * sin_second).astype(dtype),
    )


def _kernel(
    q_ref, k_ref, v_ref, q_norm_ref, k_norm_ref, cos_ref, sin_ref,
    shared_k_ref, shared_v_ref, shared_mask_ref, own_k_ref, own_v_ref, own_mask_ref,
    out_ref, sum_ref, *, scale, eps, wide, share, shares,
):  # fmt: skip
    waypoints, heads, size = q_ref.shape
    half, dtype = size // 2, q_ref.dtype
    here = jnp.arange(wide) < waypoints
    which = pl.program_id(2)
    last = (which == shares).astype(jnp.int32)  # 1 for the share of what is the sample's own

    at_rows = (pl.ds(0, wide),)
    tables = tuple(_halves(ref, at_rows, here[:, None], half) for ref in (cos_ref, sin_ref))
    halved = lambda ref: _halves(ref, (), None, half)  # noqa: E731
    q = _halves(q_ref, (pl.ds(0, wide), pl.ds(0, heads)), here[:, None, None], half)
    q = _normed_and_rotated(*q, halved(q_norm_ref), tables, eps, dtype)
    q = tuple(a.reshape(wide * heads, half) for a in q)

    def attend(state, keys, values, mask):
        """One more block of keys (two halves [S, H / 2]), values [S, H] and mask [S]."""
        total, norm, highest = state
        score = sum(product(a, b, trans_b=True) for a, b in zip(q, keys))
        score = jnp.where(mask[None, :], score * scale, LOWEST)
        higher = jnp.maximum(highest, score.max(1))
        shrink = jnp.exp(highest - higher)
        # Where nothing counted yet, the lowest score equals the highest.
        weights = jnp.where(mask[None, :], jnp.exp(score - higher[:, None]), 0.0)
        total = total * shrink[:, None] + product(weights.astype(dtype), values)
        return total, norm * shrink + weights.sum(1), higher

    def run(refs, first, steps, state):
        """Blocks of earlier keys, from `first` on."""
        keys_ref, values_ref, mask_ref = refs
        count = keys_ref.shape[0]

        def step(i, state):
            start = first + i * _KEYS
            at = pl.ds(start, _KEYS)
            inside = start + jnp.arange(_KEYS) < count
            mask = plt.load(mask_ref.at[at], mask=inside, other=0) != 0
            keys = tuple(
                plt.load(keys_ref.at[at, pl.ds(h, half)], mask=inside[:, None], other=0.0)
                for h in (0, half)
            )
            values = plt.load(values_ref.at[at, pl.ds(0, size)], mask=inside[:, None], other=0.0)
            return attend(state, keys, values, mask & inside)

        return jax.lax.fori_loop(0, steps, step, state)

    rows = wide * heads
    state = (
        jnp.zeros((rows, size), jnp.float32),
        jnp.zeros(rows, jnp.float32),
        jnp.full(rows, LOWEST, jnp.float32),
    )
    state = run(
        (shared_k_ref, shared_v_ref, shared_mask_ref),
        which * (share * _KEYS),
        share * (1 - last),
        state,
    )
    own_steps = pl.cdiv(own_k_ref.shape[0], _KEYS)
    state = run((own_k_ref, own_v_ref, own_mask_ref), 0, own_steps * last, state)

    def among(_, state):
        k = _halves(k_ref, at_rows, here[:, None], half)
        keys = _normed_and_rotated(*k, halved(k_norm_ref), tables, eps, dtype)
        values = plt.load(v_ref.at[pl.ds(0, wide), pl.ds(0, size)], mask=here[:, None], other=0.0)
        return attend(state, keys, values, here)

    total, norm, highest = jax.lax.fori_loop(0, last, among, state)
    out = (total / jnp.maximum(norm, 1e-30)[:, None]).reshape(wide, heads, size)
    plt.store(
        out_ref.at[pl.ds(0, wide), pl.ds(0, heads), pl.ds(0, size)], out, mask=here[:, None, None]
    )
    log_sum = jnp.where(norm > 0, highest + jnp.log(jnp.maximum(norm, 1e-30)), LOWEST)
    plt.store(
        sum_ref.at[pl.ds(0, wide), pl.ds(0, heads)],
        log_sum.reshape(wide, heads),
        mask=here[:, None],
    )


def supported(q: Array, shared: Keys, own: Keys) -> None:
    """Raises `Unsupported` for types and sizes that the kernels do not know."""
    if q.dtype not in (jnp.bfloat16, jnp.float16, jnp.float32):
        raise Unsupported(f"queries of {q.dtype}")
    for keys in (shared, own):
        if keys.k.dtype != q.dtype or keys.v.dtype != q.dtype:
            raise Unsupported(f"keys of {keys.k.dtype} and values of {keys.v.dtype}, not {q.dtype}")
    if q.shape[-1] < 32 or not _power_of_two(q.shape[-1]):
        raise Unsupported(f"heads of {q.shape[-1]}, not a power of two of at least 32")


def flow_attention(
    q: Array,
    k: Array,
    v: Array,
    q_norm: Array,
    k_norm: Array,
    cos: Array,
    sin: Array,
    shared: Keys,
    own: Keys,
    *,
    scale: float,
    eps: float,
    interpret: bool,
) -> Array:
    """What `flow_attention` computes, see there.

    Raises:
      Unsupported: types and sizes that the kernel does not know.
    """
    check_shapes(q, k, v, q_norm, k_norm, cos, sin, shared, own)
    supported(q, shared, own)
    batch, samples, waypoints, heads, size = q.shape
    groups, prefix, suffix = k.shape[3], shared.k.shape[2], own.k.shape[3]
    wide = power_of_two(waypoints)
    ratio = heads // groups
    # The query heads of a key-value head share a program where they fit one.
    together = ratio if _power_of_two(ratio) and wide * ratio <= _ROWS else 1
    parts = heads // together
    if wide > _ROWS:
        raise Unsupported(f"{waypoints} waypoints; the kernel takes at most {_ROWS}")
    tiles = pl.cdiv(prefix, _KEYS)
    shares = max(1, min(tiles // 2, pl.cdiv(_PROGRAMS, batch * samples * parts)))
    share = pl.cdiv(tiles, shares)
    shares = pl.cdiv(tiles, share)

    group = lambda n: n * together // ratio  # noqa: E731
    row = lambda r, s: (r // samples, r % samples)  # noqa: E731
    head_rows = pl.BlockSpec(
        (None, None, waypoints, together, size), lambda n, r, s: (*row(r, s), 0, n, 0)
    )
    kv_rows = pl.BlockSpec(
        (None, None, waypoints, None, size), lambda n, r, s: (*row(r, s), 0, group(n), 0)
    )
    table = pl.BlockSpec((None, None, waypoints, size), lambda n, r, s: (*row(r, s), 0, 0))
    weights = pl.BlockSpec((size,), lambda n, r, s: (0,))
    shared_rows = pl.BlockSpec(
        (None, None, prefix, size), lambda n, r, s: (r // samples, group(n), 0, 0)
    )
    own_rows = pl.BlockSpec(
        (None, None, None, suffix, size), lambda n, r, s: (*row(r, s), group(n), 0, 0)
    )
    out, log_sum = pl.pallas_call(
        functools.partial(
            _kernel, scale=scale, eps=eps, wide=wide, share=share, shares=shares
        ),
        out_shape=[
            jax.ShapeDtypeStruct((shares + 1, *q.shape), jnp.float32),
            jax.ShapeDtypeStruct((shares + 1, *q.shape[:-1]), jnp.float32),
        ],
        grid=(parts, batch * samples, shares + 1),
        in_specs=[
            head_rows, kv_rows, kv_rows, weights, weights, table, table,
            shared_rows, shared_rows, pl.BlockSpec((None, prefix), lambda n, r, s: (r // samples, 0)),
            own_rows, own_rows,
            pl.BlockSpec((None, None, suffix), lambda n, r, s: (*row(r, s), 0)),
        ],
        out_specs=[
            pl.BlockSpec(
                (None, None, None, waypoints, together, size),
                lambda n, r, s: (s, *row(r, s), 0, n, 0),
            ),
            pl.BlockSpec(
                (None, None, None, waypoints, together), lambda n, r, s: (s, *row(r, s), 0, n)
            ),
        ],
        compiler_params=plt.CompilerParams(num_warps=8, num_stages=2),
        interpret=interpret,
        name="flow_attention",
    )(
        q, k, v, q_norm, k_norm, cos, sin,
        shared.k, shared.v, shared.mask.astype(jnp.int8), own.k, own.v, own.mask.astype(jnp.int8),
    )  # fmt: skip
    # The waypoints see themselves, so one share at least counts.
    weight = jax.nn.softmax(log_sum, axis=0)[..., None]
    return (out * weight).sum(0).astype(q.dtype)

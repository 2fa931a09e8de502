"""The narrow product in Triton itself: one row needs no matrix units, and loads are as wide as lines.

Imported only where Triton is installed.
"""

import triton
import triton.language as tl


@triton.jit
def widen(bits, FP8: tl.constexpr):
    """Stored values as float32: int8 as it is, fp8 from its bits, shifted to where float16 has them."""
    if FP8:
        half = ((bits & 0x80).to(tl.int16) << 8) | ((bits & 0x7F).to(tl.int16) << 7)
        return half.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    return bits.to(tl.float32)


@triton.jit
def matvec_kernel(
    x_ptr,
    values_ptr,
    out_ptr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
    STEPS: tl.constexpr,
    FP8: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """x [ROWS, DEPTH] times values [DEPTH, WIDTH], over a share of the depth.

    Program (i, j) writes its block of columns of out [shares, ROWS, WIDTH], float32, for share j of
    STEPS steps. With one row, products are kept apart along the depth until the end: a sum in every
    step would have the threads wait for each other.
    """
    column = tl.program_id(0) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
    first = tl.program_id(1) * (STEPS * BLOCK_DEPTH)
    row = tl.arange(0, BLOCK_ROWS)
    if BLOCK_ROWS == 1:
        total = tl.zeros((BLOCK_DEPTH, BLOCK_WIDTH), tl.float32)
    else:
        total = tl.zeros((BLOCK_ROWS, BLOCK_WIDTH), tl.float32)
    for i in range(STEPS):
        depth = first + i * BLOCK_DEPTH + tl.arange(0, BLOCK_DEPTH)
        bits = tl.load(
            values_ptr + depth.to(tl.int64)[:, None] * WIDTH + column[None, :],
            mask=(depth < DEPTH)[:, None] & (column < WIDTH)[None, :],
            other=0,
            eviction_policy="evict_first",
        )
        values = widen(bits, FP8)
        if BLOCK_ROWS == 1:
            x = tl.load(x_ptr + depth, mask=depth < DEPTH, other=0.0).to(tl.float32)
            total += x[:, None] * values
        else:
            x = tl.load(
                x_ptr + row[:, None] * DEPTH + depth[None, :],
                mask=(row < ROWS)[:, None] & (depth < DEPTH)[None, :],
                other=0.0,
            )
            total = tl.dot(x, values.to(x.dtype), total, input_precision="ieee")
    out = out_ptr + tl.program_id(1).to(tl.int64) * (ROWS * WIDTH)
    if BLOCK_ROWS == 1:
        tl.store(out + column, tl.sum(total, axis=0), mask=column < WIDTH)
    else:
        tl.store(
            out + row[:, None] * WIDTH + column[None, :],
            total,
            mask=(row < ROWS)[:, None] & (column < WIDTH)[None, :],
        )


def sizes(rows: int, depth: int, width: int, fp8: bool, programs: int = 512) -> dict[str, int]:
    """Constants of `matvec_kernel`; the grid is (WIDTH / BLOCK_WIDTH, DEPTH / BLOCK_DEPTH / STEPS)."""
    block_depth, block_width = (32, 128) if rows == 1 else (64, 128)
    tiles, blocks = triton.cdiv(depth, block_depth), triton.cdiv(width, block_width)
    shares = max(1, min(triton.cdiv(programs, blocks), tiles // 4))
    return {
        "ROWS": rows,
        "DEPTH": depth,
        "WIDTH": width,
        "STEPS": triton.cdiv(tiles, shares),
        "FP8": fp8,
        "BLOCK_ROWS": 1 if rows == 1 else 16,
        "BLOCK_DEPTH": block_depth,
        "BLOCK_WIDTH": block_width,
    }


def grid(constants: dict[str, int]) -> tuple[int, int]:
    """Programs along the columns and along the depth."""
    share = constants["STEPS"] * constants["BLOCK_DEPTH"]
    blocks = triton.cdiv(constants["WIDTH"], constants["BLOCK_WIDTH"])
    return blocks, triton.cdiv(constants["DEPTH"], share)

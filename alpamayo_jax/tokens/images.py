"""From a camera image to the patches that the vision tower reads (Qwen3-VL processor).

The resize is the antialiased bicubic (a = -0.5) of torchvision, width first, then height. On uint8
it works in int16 fixed point and rounds to uint8 after each pass, as inference of the release does;
on floats nothing is rounded or clipped, as its training does. Both passes are narrow matrix
products: an output pixel depends on few input pixels, so the weight matrix is cut into blocks.
"""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.config import PromptConfig, VisionConfig
from alpamayo_jax.ops.image_size import smart_resize
from alpamayo_jax.types import InputError

_BLOCK = 16  # output pixels per matrix product
# Multiplications per matrix product. OpenBLAS runs products of this size on the calling thread;
# with fewer free cores than threads (a loader beside a training step) it is 50 times slower.
_MAX_PRODUCT = 1 << 18
_ZERO = 128  # uint8 values are centred, so that float32 sums of products stay exact


def resize_uint8(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 [..., H, W] planes to uint8 [..., height, width] in fixed point."""
    _check_planes(image, np.uint8)
    planes = image
    for axis, size in ((-1, width), (-2, height)):
        if planes.shape[axis] == size:
            continue
        weights = _fixed_point(planes.shape[axis], size)
        centred = np.subtract(planes, _ZERO, dtype=weights.dtype, order="C")
        total = _apply(centred, weights.blocks, axis).astype(np.int32)
        # Undo the centring and add the half that turns the shift into rounding.
        bias = weights.bias if axis == -1 else weights.bias[:, None]
        total += bias
        total >>= weights.shift
        planes = np.clip(total, 0, 255, out=total).astype(np.uint8)
    return planes


def resize_float(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes float32 [..., H, W] planes to float32 [..., height, width], not clipped."""
    _check_planes(image, np.float32)
    planes = image
    for axis, size in ((-1, width), (-2, height)):
        if planes.shape[axis] != size:
            planes = _apply(planes, _float_blocks(planes.shape[axis], size), axis)
    return planes


def patchify(planes: np.ndarray, vision: VisionConfig) -> tuple[np.ndarray, tuple[int, int]]:
    """Cuts planes [C, H, W] into patches, rows in merge-block order.

    Rows are ordered (block row, block column, row in block, column in block); a row is the
    flattened (channel, time, height, width) of one patch, the frame repeated over time.

    Returns:
      [P, patch_dim] of the dtype of `planes`, and the grid (patches in height, in width).

    Raises:
      InputError: the sides are not multiples of a merge block.
    """
    size, merge = vision.patch_size, vision.spatial_merge_size
    channels, height, width = planes.shape
    block = size * merge
    if height % block or width % block or channels != vision.in_channels:
        raise InputError(
            f"planes {list(planes.shape)} must be [{vision.in_channels}, H, W] with H and W "
            f"multiples of {block}"
        )
    cut = planes.reshape(
        channels, height // block, merge, size, width // block, merge, size
    ).transpose(1, 4, 2, 5, 0, 3, 6)
    cut = cut[:, :, :, :, :, None]
    shape = cut.shape[:5] + (vision.temporal_patch_size,) + cut.shape[6:]
    patches = np.broadcast_to(cut, shape).reshape(-1, vision.patch_dim)
    return patches, (height // size, width // size)


def image_patches(
    image: np.ndarray, vision: VisionConfig, prompt: PromptConfig
) -> tuple[np.ndarray, tuple[int, int]]:
    """Resizes, normalises and cuts one camera image.

    Args:
      image: uint8 [H, W, 3].
      vision: patch sizes.
      prompt: pixel limits, normalisation, and whether to resize floats.

    Returns:
      float32 [P, patch_dim] and the grid (patches in height, patches in width).

    Raises:
      InputError: not a uint8 colour image, or an impossible shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != vision.in_channels:
        raise InputError(
            f"image must be uint8 [height, width, {vision.in_channels}], got {image.dtype} "
            f"{list(image.shape)}"
        )
    height, width = smart_resize(
        *image.shape[:2],
        vision.patch_size * vision.spatial_merge_size,
        prompt.min_pixels,
        prompt.max_pixels,
    )
    planes = image.transpose(2, 0, 1)
    mean = np.asarray(prompt.image_mean, np.float32)[:, None, None]
    std = np.asarray(prompt.image_std, np.float32)[:, None, None]
    if prompt.float_resize:
        planes = resize_float(planes.astype(np.float32) / np.float32(255), height, width)
        planes = (planes - mean) / std
    else:
        # The release folds the division by 255 into mean and deviation.
        planes = resize_uint8(planes, height, width)
        planes = (planes - mean * np.float32(255)) / (std * np.float32(255))
    return patchify(planes, vision)


@dataclasses.dataclass(frozen=True)
class _FixedPoint:
    """Weights of one uint8 pass: blocks, what to add to a sum, and how far to shift it."""

    blocks: tuple[tuple[int, np.ndarray], ...]
    bias: np.ndarray
    shift: int
    dtype: type


def _weights(in_size: int, out_size: int) -> tuple[np.ndarray, np.ndarray]:
    """First input pixel [out] and normalised weights float64 [out, taps] of every output pixel."""
    scale = in_size / out_size
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    centre = scale * (np.arange(out_size) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + support + 0.5).astype(np.int64), in_size)
    taps = np.arange(int((end - first).max()))
    x = np.abs((taps + first[:, None] - centre[:, None] + 0.5) / stretch)
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    weights = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    weights[taps >= (end - first)[:, None]] = 0.0
    return first, weights / weights.sum(-1, keepdims=True)


def _cut(first: np.ndarray, weights: np.ndarray, in_size: int, dtype) -> tuple:
    """Dense blocks (first input pixel, [inputs, outputs]) of a banded weight matrix."""
    blocks = []
    for start in range(0, len(first), _BLOCK):
        rows = slice(start, start + _BLOCK)
        low = int(first[rows][0])
        columns = first[rows, None] - low + np.arange(weights.shape[1])
        columns = np.minimum(columns, in_size - 1 - low)  # only taps of weight 0 lie beyond
        block = np.zeros((columns.max() + 1, len(columns)), dtype)
        np.add.at(block, (columns, np.arange(len(columns))[:, None]), weights[rows])
        blocks.append((low, block))
    return tuple(blocks)


@functools.lru_cache(maxsize=64)
def _float_blocks(in_size: int, out_size: int) -> tuple:
    first, weights = _weights(in_size, out_size)
    return _cut(first, weights, in_size, np.float32)


@functools.lru_cache(maxsize=64)
def _fixed_point(in_size: int, out_size: int) -> _FixedPoint:
    first, weights = _weights(in_size, out_size)
    shift = 0
    while shift < 22 and int(0.5 + weights.max() * (1 << (shift + 1))) < 1 << 15:
        shift += 1
    scaled = weights * (1 << shift)
    fixed = np.trunc(scaled + np.copysign(0.5, scaled))
    # Every product and partial sum is an integer below this bound; float32 holds those to 2^24.
    bound = np.abs(fixed).sum(-1).max() * _ZERO
    dtype = np.float32 if bound <= 1 << 24 else np.float64
    bias = (fixed.sum(-1) * _ZERO + (1 << shift >> 1)).astype(np.int32)
    return _FixedPoint(_cut(first, fixed, in_size, dtype), bias, shift, dtype)


def _apply(planes: np.ndarray, blocks: tuple, axis: int) -> np.ndarray:
    """Products with the blocks along the last (-1) or last but one (-2) axis."""
    height, width = planes.shape[-2:]
    size = sum(block.shape[1] for _, block in blocks)
    if axis == -1:
        rows = planes.reshape(-1, width)
        out = np.empty((len(rows), size), planes.dtype)
        for start, low, block, step in _pieces(blocks):
            columns = slice(start, start + block.shape[1])
            window = slice(low, low + len(block))
            for r in range(0, len(rows), step):
                np.matmul(rows[r : r + step, window], block, out=out[r : r + step, columns])
        return out.reshape(*planes.shape[:-1], size)
    images = planes.reshape(-1, height, width)
    out = np.empty((len(images), size, width), planes.dtype)
    for start, low, block, step in _pieces(blocks):
        rows = slice(start, start + block.shape[1])
        window = slice(low, low + len(block))
        for image, result in zip(images, out):
            for c in range(0, width, step):
                columns = slice(c, c + step)
                np.matmul(block.T, image[window, columns], out=result[rows, columns])
    return out.reshape(*planes.shape[:-2], size, width)


def _pieces(blocks: tuple):
    """Each block with its first output pixel and how many lines to multiply at once."""
    start = 0
    for low, block in blocks:
        yield start, low, block, max(1, _MAX_PRODUCT // block.size)
        start += block.shape[1]


def _check_planes(image: np.ndarray, dtype: type) -> None:
    if image.dtype != dtype or image.ndim < 2:
        raise InputError(
            f"planes must be {np.dtype(dtype).name} [..., height, width], got {image.dtype} "
            f"{list(image.shape)}"
        )

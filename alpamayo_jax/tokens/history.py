"""Trajectory history as tokens: the step from each pose to the next, in bins.

A step is a difference of positions and, with `history_predict_yaw`, of headings. The first step
starts at the origin, so for a history (which ends there) it is the oldest position itself and
mostly falls into an outermost bin at speed; the released weights are trained so.
"""

import chex
import jax.numpy as jnp
from jax import lax
import numpy as np

from alpamayo_jax.config import TrajectoryTokenConfig
from alpamayo_jax.ops import so3
from alpamayo_jax.types import Array, Trajectory

FIT_WINDOW = 10  # samples of one local fit
FIT_DEGREE = 3


def _divide(values: Array, divisor: Array | float) -> Array:
    # Compilers replace a division by a constant with a product. It rounds differently, which moves
    # ties to another bin and turns the decoded heading of a slow path.
    return values / lax.optimization_barrier(jnp.asarray(divisor, jnp.float32))


def quantize(values: Array, low: Array, high: Array, num_bins: int) -> Array:
    """Nearest of `num_bins` bins on [low, high]; half to even, outside values to the edge bins."""
    position = _divide(values - low, high - low) * (num_bins - 1)
    return jnp.clip(jnp.round(position), 0, num_bins - 1).astype(jnp.int32)


def dequantize(bins: Array, low: Array, high: Array, num_bins: int) -> Array:
    """The value that each bin of `quantize` stands for, float32."""
    return _divide(bins, num_bins - 1) * (high - low) + low


def _range(cfg: TrajectoryTokenConfig) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest step per value: metres, and radians for the heading."""
    yaw = (np.pi,) if cfg.history_predict_yaw else ()
    return (
        np.asarray((*cfg.history_min, *(-y for y in yaw)), np.float32),
        np.asarray((*cfg.history_max, *yaw), np.float32),
    )


def _steps(values: Array, axis: int) -> Array:
    return jnp.diff(values, axis=axis, prepend=jnp.zeros_like(lax.index_in_dim(values, 0, axis)))


def encode_history(xyz: Array, rot: Array | None, cfg: TrajectoryTokenConfig) -> Array:
    """Bins of the steps of a trajectory; futures work as histories do.

    Args:
      xyz: float32 [..., N, 3] metres in the ego frame at t0, oldest first.
      rot: float32 [..., N, 3, 3]; read only with `history_predict_yaw`, may be None otherwise.
      cfg: token layout.

    Returns:
      int32 [..., 3 N], x, y, z of the first step, then of the second ...; with
      `history_predict_yaw` [..., 4 N], the fourth being the step of the *clockwise* heading
      atan2(R01, R00), as the released tokens have it.
    """
    chex.assert_shape(xyz, (..., None, 3))
    steps = _steps(xyz, axis=-2)
    if cfg.history_predict_yaw:
        chex.assert_shape(rot, (*xyz.shape[:-1], 3, 3))
        clockwise = so3.yaw_from_rot(jnp.swapaxes(rot, -1, -2))
        turns = so3.wrap_angle(_steps(clockwise, axis=-1))
        steps = jnp.concatenate([steps, turns[..., None]], axis=-1)
    bins = quantize(steps, *_range(cfg), cfg.num_history_bins)
    return bins.reshape(*xyz.shape[:-2], -1)


def decode_history(bins: Array, cfg: TrajectoryTokenConfig) -> Trajectory:
    """Poses that `encode_history` bins stand for, within half a bin per step.

    Headings are those of `history_predict_yaw`; without it they follow the path: each is the
    tangent of cubic polynomials x(t), y(t) fitted to the 10 poses around it, 5 before and 4 after,
    fewer at the ends.

    The released model returns the encoded clockwise heading as if it were counter-clockwise; here
    it is turned back, so decoding inverts encoding.

    Args:
      bins: int32 [..., 3 N], or [..., 4 N] with `history_predict_yaw`; N >= 10 without it.
      cfg: token layout.

    Returns:
      xyz [..., N, 3] and rot [..., N, 3, 3], rotations about z.
    """
    low, high = _range(cfg)
    if bins.shape[-1] % low.size:
        raise ValueError(
            f"{bins.shape[-1]} history bins are not a multiple of {low.size} values per step"
        )
    bins = bins.reshape(*bins.shape[:-1], -1, low.size)
    steps = dequantize(bins, low, high, cfg.num_history_bins)
    poses = jnp.cumsum(steps, axis=-2)
    xyz = poses[..., :3]
    yaw = -poses[..., 3] if cfg.history_predict_yaw else path_heading(xyz[..., :2])
    return Trajectory(xyz=xyz, rot=so3.rot_from_yaw(yaw))


def path_heading(xy: Array) -> Array:
    """Heading [..., N] of the tangent of local cubic fits to a path `xy` [..., N, 2], N >= 10."""
    n = xy.shape[-2]
    if n < FIT_WINDOW:
        raise ValueError(f"a path of {n} poses is too short to fit; {FIT_WINDOW} are needed")
    # The derivative of a least-squares fit is linear in the samples: one row of weights for each
    # place in the window.
    time = np.linspace(-1, 1, FIT_WINDOW)
    powers = np.vander(time, FIT_DEGREE + 1, increasing=True)
    slopes = np.zeros_like(powers)
    slopes[:, 1:] = powers[:, :-1] * np.arange(1, FIT_DEGREE + 1)
    weights = slopes @ np.linalg.pinv(powers)  # [place, sample]

    first = np.clip(np.arange(n) - FIT_WINDOW // 2, 0, n - FIT_WINDOW)
    windows = xy[..., first[:, None] + np.arange(FIT_WINDOW), :]  # [..., N, 10, 2]
    # The weights of a row sum to zero; without its offset a far path keeps its digits.
    windows = windows - windows[..., :1, :]
    row = jnp.asarray(weights[np.arange(n) - first], jnp.float32)
    tangent = jnp.einsum("ns,...nsd->...nd", row, windows, precision=lax.Precision.HIGHEST)
    return jnp.arctan2(tangent[..., 1], tangent[..., 0])

"""Future trajectories as tokens: bins of normalised controls, and ids in place of placeholders."""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import TrajectoryTokenConfig
from alpamayo_jax.tokens.history import dequantize, quantize
from alpamayo_jax.types import Array


def encode_future(actions: Array, cfg: TrajectoryTokenConfig) -> Array:
    """Bins of normalised controls.

    Args:
      actions: float32 [..., W, 2], normalised (acceleration, curvature).
      cfg: token layout; controls outside [future_min, future_max] go to the edge bins.

    Returns:
      int32 [..., 2 W]: acceleration and curvature of the first waypoint, then of the second ...
    """
    chex.assert_shape(actions, (..., cfg.tokens_per_future_traj // 2, 2))
    low, high = np.float32(cfg.future_min), np.float32(cfg.future_max)
    bins = quantize(actions, low, high, cfg.num_future_bins)
    return bins.reshape(*actions.shape[:-2], -1)


def decode_future(bins: Array, cfg: TrajectoryTokenConfig) -> Array:
    """Normalised controls [..., W, 2] of `encode_future` bins [..., 2 W], within half a bin."""
    chex.assert_shape(bins, (..., cfg.tokens_per_future_traj))
    low, high = np.float32(cfg.future_min), np.float32(cfg.future_max)
    return dequantize(bins.reshape(*bins.shape[:-1], -1, 2), low, high, cfg.num_future_bins)


class ExtractedFuture(NamedTuple):
    """Bins found in generated ids, and what was wrong with the ids.

    Attributes:
      bins: int32 [..., tokens_per_future_traj]; 0 where ids are missing (ten standard deviations
        below the mean), as the released model decodes them.
      num_ids: int32 [...], ids between start and end, surplus included.
      num_foreign: int32 [...], how many of those are no future bin.
      has_start: bool [...].
      has_end: bool [...].
    """

    bins: Array
    num_ids: Array
    num_foreign: Array
    has_start: Array
    has_end: Array

    @property
    def valid(self) -> Array:
        """bool [...]: start, exactly the expected number of future bins, end."""
        complete = self.num_ids == self.bins.shape[-1]
        return complete & (self.num_foreign == 0) & self.has_start & self.has_end


def inspect_future(
    ids: Array, cfg: TrajectoryTokenConfig, start_id: int, end_id: int
) -> ExtractedFuture:
    """Reads the bins between the last start token and the first end token of generated ids.

    The rule is the released model's: without a start token the count begins at the first id,
    without an end token it runs to the last. Whatever stands between counts; an id that is no
    future bin is clamped to the nearest one, so that text becomes bin 0 and shifts the rest.
    Surplus ids are dropped.

    Args:
      ids: int32 [..., T].
      cfg: token layout.
      start_id: id of <|traj_future_start|>.
      end_id: id of <|traj_future_end|>.
    """
    chex.assert_shape(ids, (..., None))
    length, count = ids.shape[-1], cfg.tokens_per_future_traj
    place = jnp.arange(length)
    starts, ends = ids == start_id, ids == end_id
    begin = jnp.where(starts, place + 1, 0).max(axis=-1, initial=0)
    stop = jnp.where(ends, place, length).min(axis=-1, initial=length)
    values = ids - cfg.traj_token_start_idx
    inside = (place >= begin[..., None]) & (place < stop[..., None])
    foreign = inside & ((values < 0) | (values >= cfg.num_future_bins))

    wanted = begin[..., None] + jnp.arange(count)
    # A padded end keeps every wanted place inside the array.
    padded = jnp.pad(values, [(0, 0)] * (ids.ndim - 1) + [(0, count)])
    bins = jnp.take_along_axis(padded, wanted, axis=-1)
    bins = jnp.where(wanted < stop[..., None], jnp.clip(bins, 0, cfg.num_future_bins - 1), 0)
    return ExtractedFuture(
        bins=bins.astype(jnp.int32),
        num_ids=inside.sum(axis=-1),
        num_foreign=foreign.sum(axis=-1),
        has_start=starts.any(axis=-1),
        has_end=ends.any(axis=-1),
    )


def extract_future(
    ids: Array, cfg: TrajectoryTokenConfig, start_id: int, end_id: int
) -> tuple[Array, Array]:
    """Bins int32 [..., tokens_per_future_traj] and whether they are a whole, clean trajectory.

    `inspect_future` explains the rule, the arguments and what can be wrong.
    """
    found = inspect_future(ids, cfg, start_id, end_id)
    return found.bins, found.valid


def fuse(
    input_ids: Array,
    cfg: TrajectoryTokenConfig,
    history_placeholder_id: int,
    history_bins: Array,
    future_placeholder_id: int | None = None,
    future_bins: Array | None = None,
) -> Array:
    """Puts trajectory ids in place of placeholders: the r-th of a row gets the row's r-th bin.

    Args:
      input_ids: int32 [B, T].
      cfg: token layout; says at which ids the bins of histories and futures start.
      history_placeholder_id: id of <|traj_history|>.
      history_bins: int32 [B, tokens_per_history_traj].
      future_placeholder_id: id of <|traj_future|>, with `future_bins`.
      future_bins: int32 [B, tokens_per_future_traj].

    Returns:
      int32 [B, T]. Placeholders beyond the last bin stay, so that a malformed prompt shows.
    """
    ids = _replace(input_ids, history_placeholder_id, history_bins + cfg.history_start_idx)
    if (future_placeholder_id is None) != (future_bins is None):
        raise ValueError("fuse needs both future_placeholder_id and future_bins, or neither")
    if future_bins is not None:
        ids = _replace(ids, future_placeholder_id, future_bins + cfg.traj_token_start_idx)
    return ids


def _replace(ids: Array, placeholder_id: int, values: Array) -> Array:
    chex.assert_shape(values, (ids.shape[0], None))
    chex.assert_rank(ids, 2)
    here = ids == placeholder_id
    rank = jnp.cumsum(here, axis=-1) - 1
    count = values.shape[-1]
    replacement = jnp.take_along_axis(values, jnp.clip(rank, 0, count - 1), axis=-1)
    return jnp.where(here & (rank < count), replacement, ids).astype(ids.dtype)

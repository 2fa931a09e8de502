"""Other road users of Physical AI AV: from boxes beside the ego to tracks in the world."""

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data.tables import Table
from alpamayo_jax.types import InputError

_US = 1e-6
_SLACK_S = 1e-6
MAX_GAP_S = 0.5  # between two boxes of a track; beyond it the track is not known


def world_agents(
    table: Table, t: np.ndarray, xyz: np.ndarray, quat: np.ndarray, ego: clip_lib.EgoTrack
) -> clip_lib.AgentTable:
    """Boxes in the ego frame of their own time -> world, at the 10 Hz of the ego's grid.

    Args:
      table: timestamp_us, track_id, label_class, center_*, size_*, orientation_* of every box.
      t, xyz, quat: recorded poses of the ego, world.
      ego: the same at 10 Hz.

    Returns:
      Positions and yaw interpolated linearly within each track, not across gaps above 0.5 s.

    Raises:
      InputError: names file and column.
    """
    time = table.numbers("timestamp_us")[:, 0] * _US
    inside = (time >= t[0]) & (time <= t[-1])
    table, time = table.rows(inside), time[inside]
    centre = table.numbers("center_x", "center_y", "center_z")
    size = table.numbers("size_x", "size_y", "size_z")
    turn = table.numbers("orientation_w", "orientation_x", "orientation_y", "orientation_z")
    norm = np.linalg.norm(turn, axis=-1)
    if (np.abs(norm - 1.0) > 1e-2).any():
        raise InputError(f"{table.where}: orientation_* are no unit quaternions in some rows")
    track, category = table.names(0, "track_id"), table.names(0, "label_class")
    rows: dict[str, list[np.ndarray]] = {n: [] for n in ("t", "track", "xyz", "yaw", "lwh", "c")}
    if len(time):
        turns = Slerp(t, Rotation.from_quat(quat, scalar_first=True))(time)
        at = np.stack([np.interp(time, t, xyz[:, axis]) for axis in range(3)], -1)
        centre = at + turns.apply(centre)
        heading = (turns * Rotation.from_quat(turn, scalar_first=True)).apply([1.0, 0.0, 0.0])
        yaw = np.arctan2(heading[:, 1], heading[:, 0])
    for number, name in enumerate(sorted(set(track.tolist()))):
        mine = np.flatnonzero(track == name)
        mine = mine[np.argsort(time[mine], kind="stable")]
        own, first = np.unique(time[mine], return_index=True)
        mine = mine[first]
        # Rounding of tenths must not put a time behind the box that was seen at it.
        after = np.clip(np.searchsorted(own, ego.t - _SLACK_S), 0, len(own) - 1)
        before = np.maximum(after - (own[after] > ego.t + _SLACK_S), 0)
        seen = (ego.t >= own[0] - _SLACK_S) & (ego.t <= own[-1] + _SLACK_S)
        grid = ego.t[seen & (own[after] - own[before] <= MAX_GAP_S)]
        if not len(grid):
            continue
        rows["t"].append(grid)
        rows["track"].append(np.full(len(grid), number, np.int32))
        rows["xyz"].append(_interpolate(grid, own, centre[mine]))
        rows["yaw"].append(_interpolate(grid, own, np.unwrap(yaw[mine])[:, None])[:, 0])
        rows["lwh"].append(_interpolate(grid, own, size[mine]))
        rows["c"].append(np.full(len(grid), category[mine[0]]))
    if not rows["t"]:
        empty = np.zeros((0, 3))
        return clip_lib.AgentTable(
            np.zeros(0), np.zeros(0, np.int32), empty, np.zeros(0), empty, np.zeros(0, str)
        )
    joined = {name: np.concatenate(parts) for name, parts in rows.items()}
    order = np.lexsort((joined["track"], joined["t"]))
    joined = {name: values[order] for name, values in joined.items()}
    return clip_lib.AgentTable(*(joined[n] for n in ("t", "track", "xyz", "yaw", "lwh", "c")))


def _interpolate(grid: np.ndarray, t: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(grid, t, column) for column in values.T], -1)

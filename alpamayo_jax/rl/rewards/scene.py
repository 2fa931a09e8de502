"""The other road users of a window, as boxes that a predicted trajectory can run into.

Recorded agents are replayed: they do what they did, whatever the ego does instead.
"""

import dataclasses

import chex
import numpy as np
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import GRID_DT, AgentTable, Clip
from alpamayo_jax.data.windows import NUM_FUTURE
from alpamayo_jax.ops.oriented_boxes import overlap
from alpamayo_jax.types import InputError

GAP_S = 0.55  # a track is interpolated over gaps of its annotation up to this long
_SLACK_S = 1e-3  # how far the clock of the annotation may be off


@dataclasses.dataclass(frozen=True)
class EgoBox:
    """The ego's outline: metres; `centre` is how far its centre is ahead of the rear axle."""

    length: float = 4.9
    width: float = 1.9
    centre: float = 1.4


@dataclasses.dataclass(frozen=True)
class Scene:
    """Boxes at t0 + 0.1 s, ..., in the ego frame at t0.

    Attributes:
      boxes: float32 [W, A, 5]: x, y of the centre, yaw, length, width; metres and radians. Where an
        agent is not annotated its box is all zeros.
      present: bool [W, A].
      ego: the ego's own box.
    """

    boxes: np.ndarray
    present: np.ndarray
    ego: EgoBox = EgoBox()

    def __post_init__(self):
        chex.assert_shape(self.boxes, (*self.present.shape, 5))
        chex.assert_rank(self.present, 2)


def window_scene(
    clip: Clip, t0: float, num_waypoints: int = NUM_FUTURE, ego: EgoBox = EgoBox()
) -> Scene | None:
    """The boxes of everybody annotated after t0; None where the clip has no annotation of agents.

    Positions between two annotations of a track, at most 0.55 s apart, are interpolated.

    Args:
      clip: the drive.
      t0: seconds on the clip's clock.
      num_waypoints: W.
      ego: the outline of the ego.

    Raises:
      InputError: t0 is outside the ego track.
    """
    if clip.agents is None:
        return None
    agents, times = clip.agents, t0 + GRID_DT * np.arange(1, num_waypoints + 1)
    near = (agents.t >= times[0] - GAP_S) & (agents.t <= times[-1] + GAP_S)
    rows = AgentTable(*(getattr(agents, f.name)[near] for f in dataclasses.fields(AgentTable)))
    tracks = np.unique(rows.track)
    boxes = np.zeros((num_waypoints, len(tracks), 5))
    present = np.zeros((num_waypoints, len(tracks)), bool)
    for a, track in enumerate(tracks):
        ours = np.flatnonzero(rows.track == track)
        ours = ours[np.argsort(rows.t[ours], kind="stable")]
        boxes[:, a], present[:, a] = _replay(rows, ours, times)
    origin, yaw = _ego_pose(clip, t0)
    offset = boxes[..., :2] - origin
    cos, sin = np.cos(yaw), np.sin(yaw)
    boxes[..., 0] = offset[..., 0] * cos + offset[..., 1] * sin
    boxes[..., 1] = offset[..., 1] * cos - offset[..., 0] * sin
    boxes[..., 2] -= yaw
    boxes = np.where(present[..., None], boxes, 0.0).astype(np.float32)
    return Scene(boxes, present, ego)


def _replay(
    rows: AgentTable, ours: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """World boxes [W, 5] of one track, rows `ours` in order of time, and where it is there."""
    t = rows.t[ours]
    after = np.clip(np.searchsorted(t, times), 0, len(t) - 1)
    before = np.maximum(after - 1, 0)
    gap = np.where(after == before, 0.0, t[after] - t[before])
    inside = (times >= t[0] - _SLACK_S) & (times <= t[-1] + _SLACK_S)
    present = inside & ((gap <= GAP_S) | (np.abs(times - t[after]) < _SLACK_S))
    columns = [rows.xyz[ours, 0], rows.xyz[ours, 1], np.unwrap(rows.yaw[ours])]
    columns += [rows.lwh[ours, 0], rows.lwh[ours, 1]]
    return np.stack([np.interp(times, t, column) for column in columns], -1), present


def _ego_pose(clip: Clip, t0: float) -> tuple[np.ndarray, float]:
    """Planar position and yaw of the ego in the world at t0."""
    ego = clip.ego
    if not ego.t[0] - _SLACK_S <= t0 <= ego.t[-1] + _SLACK_S:
        raise InputError(
            f"clip {clip.clip_id!r}: t0={t0:.3f} s is outside the ego track, {ego.t[0]:.3f} to "
            f"{ego.t[-1]:.3f} s"
        )
    matrix = Rotation.from_quat(ego.quat_wxyz, scalar_first=True).as_matrix()
    yaw = np.unwrap(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    xy = np.array([np.interp(t0, ego.t, ego.xyz[:, axis]) for axis in range(2)])
    return xy, float(np.interp(t0, ego.t, yaw))


def collides(scene: Scene, xyz: np.ndarray, rot: np.ndarray) -> np.ndarray:
    """Whether the ego's box overlaps an agent's at the same time.

    Args:
      scene: of the window.
      xyz: [..., W, 3] rear-axle positions, ego frame at t0.
      rot: [..., W, 3, 3].

    Returns:
      bool [...].
    """
    waypoints = scene.present.shape[0]
    chex.assert_shape(xyz, (..., waypoints, 3))
    chex.assert_shape(rot, (..., waypoints, 3, 3))
    hits = overlap(ego_boxes(scene.ego, xyz, rot)[..., None, :], scene.boxes) & scene.present
    return hits.any((-2, -1))


def ego_boxes(ego: EgoBox, xyz: np.ndarray, rot: np.ndarray) -> np.ndarray:
    """The ego's box [..., W, 5] along poses of its rear axle."""
    yaw = np.arctan2(rot[..., 1, 0], rot[..., 0, 0])
    x = xyz[..., 0] + ego.centre * np.cos(yaw)
    y = xyz[..., 1] + ego.centre * np.sin(yaw)
    size = np.broadcast_to(np.array([ego.length, ego.width]), (*yaw.shape, 2))
    return np.concatenate([np.stack([x, y, yaw], -1), size], -1)

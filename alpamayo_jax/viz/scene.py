"""What surrounds the ego at one moment, in the ego frame, ready to be drawn."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from alpamayo_jax.clip import GRID_DT, Clip
from alpamayo_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class MapLine:
    """A polyline: xy float64 [N, 2] metres, ego frame at t0, and its kind in the source."""

    xy: np.ndarray
    kind: str


@dataclasses.dataclass(frozen=True)
class Scene:
    """Other road users and the map around the ego.

    Attributes:
      boxes: float64 [N, 5]: x, y of the centre, yaw, length, width; ego frame at t0.
      categories: N names of the source.
      lines: the map.
    """

    boxes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 5)))
    categories: tuple[str, ...] = ()
    lines: tuple[MapLine, ...] = ()


def scene_at(clip: Clip, t0: float, reach: float = 150.0) -> Scene:
    """Boxes of the annotation nearest to t0 (within 0.1 s) and the map, in the ego frame at t0.

    Args:
      clip: the drive; without agents or a map those parts are empty.
      t0: seconds on the clip's clock.
      reach: metres from the ego beyond which boxes and whole map lines are left out.

    Raises:
      InputError: t0 is outside the ego track.
    """
    rotation, origin, t0 = _pose_at(clip, t0)

    def local(world: np.ndarray) -> np.ndarray:
        return rotation.inv().apply(np.asarray(world, np.float64) - origin)

    boxes, categories, lines = np.zeros((0, 5)), (), []
    if clip.agents is not None and len(clip.agents.t):
        agents = clip.agents
        nearest = agents.t[np.argmin(np.abs(agents.t - t0))]
        if abs(nearest - t0) <= GRID_DT:
            rows = np.flatnonzero(np.abs(agents.t - nearest) < 1e-6)
            xy = local(agents.xyz[rows])[:, :2]
            forward = rotation.as_matrix()[:, 0]
            yaw = agents.yaw[rows] - np.arctan2(forward[1], forward[0])
            near = np.linalg.norm(xy, axis=-1) <= reach
            boxes = np.concatenate([xy, yaw[:, None], agents.lwh[rows, :2]], -1)[near]
            categories = tuple(str(agents.category[row]) for row in rows[near])
    if clip.map_lines is not None and len(clip.map_lines.kind):
        points, offsets = local(clip.map_lines.points)[:, :2], clip.map_lines.offsets
        for i, kind in enumerate(clip.map_lines.kind):
            xy = points[offsets[i] : offsets[i + 1]]
            # By extent and not by points: a long straight line has few of them.
            if len(xy) > 1 and (xy.min(0) <= reach).all() and (xy.max(0) >= -reach).all():
                lines.append(MapLine(xy, str(kind)))
    return Scene(boxes, categories, tuple(lines))


def to_local(clip: Clip, t0: float, world: np.ndarray) -> np.ndarray:
    """Points [..., 3] of the world frame in the ego frame at t0; refuses t0 off the ego track."""
    rotation, origin, _ = _pose_at(clip, t0)
    points = np.asarray(world, np.float64) - origin
    return rotation.inv().apply(points.reshape(-1, 3)).reshape(points.shape)


def local_track(clip: Clip, t0: float, start_s: float, end_s: float) -> np.ndarray:
    """Recorded positions of the ego between two times: float64 [N, 3], ego frame at t0.

    Times are on the clip's clock; what is outside the track is left out, so N may be 0.

    Raises:
      InputError: t0 is outside the ego track.
    """
    inside = (clip.ego.t >= start_s - 1e-3) & (clip.ego.t <= end_s + 1e-3)
    return to_local(clip, t0, clip.ego.xyz[inside])


def _pose_at(clip: Clip, t0: float) -> tuple[Rotation, np.ndarray, float]:
    """(world from ego, position, the time within the track) at t0; refuses times outside."""
    ego = clip.ego
    if not ego.t[0] - 1e-3 <= t0 <= ego.t[-1] + 1e-3:
        raise InputError(
            f"clip {clip.clip_id!r}: t0={t0:.3f} s is outside the ego track, "
            f"{ego.t[0]:.3f} to {ego.t[-1]:.3f} s"
        )
    t0 = min(max(t0, ego.t[0]), ego.t[-1])
    begin = min(max(int(np.searchsorted(ego.t, t0, side="right")) - 1, 0), len(ego.t) - 2)
    pair = slice(begin, begin + 2)
    rotation = Slerp(ego.t[pair], Rotation.from_quat(ego.quat_wxyz[pair], scalar_first=True))(t0)
    origin = np.array([np.interp(t0, ego.t[pair], ego.xyz[pair, axis]) for axis in range(3)])
    return rotation, origin, t0

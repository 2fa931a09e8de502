"""Reads the arrays of a clip folder: ego.npz, agents.npz and map.npz, each checked."""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.types import InputError

MAX_GAP_S = 0.5  # between two recorded poses; beyond it an interpolated pose is a guess
_RAW = ("t", "xyz", "quat_wxyz")
_GRID = ("t10", "xyz10", "quat10_wxyz")


def read_ego(clip_id: str, path: Path) -> clip_lib.EgoTrack:
    """Reads ego.npz: the recorded track and, where stored, the same on the 10 Hz grid.

    The stored grid (t10, xyz10, quat10_wxyz) is used as it is. Without it the recorded track is
    interpolated from its first pose on: positions linearly, rotations along the shortest arc.

    Raises:
      InputError: names clip, file and field: unreadable, missing, misshaped, not finite, clocks
        that repeat or go backwards, rotations that are not unit, gaps above `MAX_GAP_S`.
    """
    return ego_of(*load(clip_id, path))


def ego_of(arrays: dict[str, np.ndarray], where: str) -> clip_lib.EgoTrack:
    """The track in the arrays of an ego.npz; raises `InputError` as `read_ego`."""
    t, xyz, quat = (_numbers(where, arrays, name) for name in _RAW)
    clip_lib.check_track(where, _RAW, t, xyz, quat)
    check_gaps(where, "t", t)
    if not any(name in arrays for name in _GRID):
        return resample(t, xyz, quat)
    t10, xyz10, quat10 = (_numbers(where, arrays, name) for name in _GRID)
    clip_lib.check_track(where, _GRID, t10, xyz10, quat10)
    clip_lib.check_grid(where, "t10", t10)
    slack = clip_lib.GRID_DT
    if t10[0] < t[0] - slack or t10[-1] > t[-1] + slack:
        raise InputError(
            f"{where}: t10 covers {t10[0]:.3f} to {t10[-1]:.3f} s, beyond the recorded t from "
            f"{t[0]:.3f} to {t[-1]:.3f} s; write both on one clock"
        )
    return clip_lib.EgoTrack(t=t10, xyz=xyz10, quat_wxyz=quat10)


def read_agents(clip_id: str, path: Path) -> clip_lib.AgentTable:
    """Reads agents.npz; other columns than those of `clip.AgentTable` are left.

    Raises:
      InputError: names clip, file and field.
    """
    return agents_of(*load(clip_id, path))


def agents_of(arrays: dict[str, np.ndarray], where: str) -> clip_lib.AgentTable:
    """The table in the columns of an agents.npz; raises `InputError` as `read_agents`."""
    agents = clip_lib.AgentTable(
        t=_numbers(where, arrays, "t"),
        track=_integers(where, arrays, "track", np.int32),
        xyz=_numbers(where, arrays, "xyz"),
        yaw=_numbers(where, arrays, "yaw"),
        lwh=_numbers(where, arrays, "lwh"),
        category=_strings(where, arrays, "category"),
    )
    clip_lib.check_agents(where, agents)
    return agents


def read_map_lines(clip_id: str, path: Path) -> clip_lib.MapLines:
    """Reads map.npz.

    Raises:
      InputError: names clip, file and field.
    """
    return map_lines_of(*load(clip_id, path))


def map_lines_of(arrays: dict[str, np.ndarray], where: str) -> clip_lib.MapLines:
    """The lines in the arrays of a map.npz; raises `InputError` as `read_map_lines`."""
    lines = clip_lib.MapLines(
        points=_numbers(where, arrays, "points"),
        offsets=_integers(where, arrays, "offsets", np.int64),
        kind=_strings(where, arrays, "kind"),
        ids=_strings(where, arrays, "ids") if "ids" in arrays else None,
    )
    clip_lib.check_map_lines(where, lines)
    return lines


def resample(
    t: np.ndarray, xyz: np.ndarray, quat: np.ndarray, start: float | None = None
) -> clip_lib.EgoTrack:
    """A recorded track at 10 Hz: positions linearly, rotations along the shortest arc.

    Args:
      t, xyz, quat: recorded poses, checked.
      start: first time of the grid, within the track; None: that of the track.
    """
    start = t[0] if start is None else start
    # The last step is kept when rounding alone would lose it.
    count = int((t[-1] - start) / clip_lib.GRID_DT + 1e-6) + 1
    grid = start + clip_lib.GRID_DT * np.arange(count)
    inside = np.clip(grid, t[0], t[-1])
    rotations = Slerp(t, Rotation.from_quat(quat, scalar_first=True))(inside)
    return clip_lib.EgoTrack(
        t=grid,
        xyz=np.stack([np.interp(inside, t, xyz[:, axis]) for axis in range(3)], -1),
        quat_wxyz=rotations.as_quat(scalar_first=True),
    )


def check_gaps(where: str, name: str, t: np.ndarray) -> None:
    """Raises `InputError` where two recorded poses are more than `MAX_GAP_S` apart."""
    gaps = np.diff(t)
    if gaps.max() > MAX_GAP_S:
        row = int(np.argmax(gaps)) + 1
        raise InputError(
            f"{where}: {name} has a gap of {gaps[row - 1]:.3f} s between {t[row - 1]:.3f} s and "
            f"{t[row]:.3f} s (row {row}); split the clip where {MAX_GAP_S} s are exceeded"
        )


def load(clip_id: str, path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of an npz file, and how messages name it.

    Raises:
      InputError: it is missing or damaged, or holds pickled objects.
    """
    where = f"clip {clip_id!r}: {path}"
    if not path.is_file():
        raise InputError(f"{where}: the file is missing")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}, where
    # A damaged archive fails in zipfile, zlib, struct or numpy, each with its own exception.
    except Exception as error:
        raise InputError(
            f"{where}: cannot be read as an npz archive without pickled objects: {error}"
        ) from error


def _field(where: str, arrays: dict[str, np.ndarray], name: str, kinds: str, what: str):
    if name not in arrays:
        raise InputError(f"{where}: no field {name!r}; found {', '.join(sorted(arrays)) or 'none'}")
    value = arrays[name]
    if value.dtype.kind not in kinds or not value.ndim:
        raise InputError(
            f"{where}: {name} must be an array of {what}, got {value.dtype} {list(value.shape)}"
        )
    return value


def _numbers(where: str, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    return _field(where, arrays, name, "fiu", "numbers").astype(np.float64)


def _integers(where: str, arrays: dict[str, np.ndarray], name: str, dtype: type) -> np.ndarray:
    value = _field(where, arrays, name, "iu", "whole numbers")
    if value.size and not np.iinfo(dtype).min <= value.min() <= value.max() <= np.iinfo(dtype).max:
        raise InputError(f"{where}: {name} has values beyond {np.dtype(dtype).name}")
    return value.astype(dtype)


def _strings(where: str, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    return _field(where, arrays, name, "U", "strings")

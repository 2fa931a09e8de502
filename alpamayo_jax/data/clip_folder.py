"""Clips on disk: one folder per drive.

    ego.npz       t, xyz, quat_wxyz (world from ego) at the source's rate; optional t10, xyz10,
                  quat10_wxyz: the same on the 10 Hz grid
    meta.json     an object; optional fields below
    frames.csv    optional: camera, index, t_s, file; `file` is an image inside the folder
    agents.npz    optional: t, track, xyz, yaw, lwh, category
    map.npz       optional: points, offsets, kind, ids

Fields of meta.json that are read, all optional except `cameras` where there is a frames.csv:

    cameras       name -> calibration (`clip_calibration.read_calibration`)
    ground_z      height of the road in the ego frame, metres, 0 or below. Without it: -1.65 where
                  no camera of the clip has a mounting (`ego_from_camera`), because the ego origin
                  is then the camera, which on a passenger car is about that high; 0 otherwise
    reasoning     list of {"t": seconds, "text": str}, in order of time
    clip_id       default: the folder's name
"""

import json
from pathlib import Path
from typing import Any

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data import clip_calibration
from alpamayo_jax.data.clip_frames import FrameFiles, FrameReader, read_frame_table
from alpamayo_jax.data.clip_npz import read_agents, read_ego, read_map_lines
from alpamayo_jax.data.clip_writer import write_clip
from alpamayo_jax.types import InputError

__all__ = ["CAMERA_HEIGHT_M", "find_clips", "read_clip", "write_clip"]

CAMERA_HEIGHT_M = 1.65


def find_clips(root: str | Path) -> list[Path]:
    """Every folder at or below `root` that holds an ego.npz, sorted; hidden folders are left out.

    Raises:
      InputError: `root` is no folder or holds no clip.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"clips: {root} is not a folder")
    folders = (path.parent for path in root.rglob("ego.npz"))
    found = [f for f in folders if not any(p.startswith(".") for p in f.relative_to(root).parts)]
    if not found:
        raise InputError(f"clips: no folder at or below {root} holds an ego.npz")
    return sorted(found)


def read_clip(folder: str | Path, clip_id: str | None = None) -> clip_lib.Clip:
    """Reads and checks one clip; images are decoded when asked for (`Camera.read`).

    A camera that is calibrated but has no row in frames.csv is not part of the clip.

    Args:
      folder: the clip's folder.
      clip_id: name of the clip in messages and reports; default: meta.json's, or the folder's name.

    Raises:
      InputError: names clip, file and field of the first defect found.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"clip {clip_id or str(folder)!r}: {folder} is not a folder")
    # The name is needed for every message, also for those about meta.json itself.
    name = clip_id or folder.resolve().name
    meta = _read_meta(name, folder / "meta.json")
    where = f"clip {name!r}: {folder / 'meta.json'}"
    if clip_id is None and "clip_id" in meta:
        if not isinstance(meta["clip_id"], str) or not meta["clip_id"]:
            raise InputError(f"{where}: clip_id must be a name, got {meta['clip_id']!r:.60}")
        name = meta["clip_id"]
    ego = read_ego(name, folder / "ego.npz")
    cameras, mounted = _cameras(name, where, folder, meta, ego)
    agents, map_lines = folder / "agents.npz", folder / "map.npz"
    return clip_lib.Clip(
        clip_id=name,
        ego=ego,
        cameras=cameras,
        ground_z=_ground_z(where, meta, bool(cameras) and not mounted),
        agents=read_agents(name, agents) if agents.exists() else None,
        map_lines=read_map_lines(name, map_lines) if map_lines.exists() else None,
        reasoning=_reasoning(where, meta.get("reasoning", [])),
    ).validate()


def _read_meta(name: str, path: Path) -> dict[str, Any]:
    where = f"clip {name!r}: {path}"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{where}: missing; a clip without metadata has {{}} there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not valid JSON: {error}") from error
    if not isinstance(meta, dict):
        raise InputError(f"{where}: must hold an object, got {type(meta).__name__}")
    return meta


def _cameras(
    name: str, where: str, folder: Path, meta: dict[str, Any], ego: clip_lib.EgoTrack
) -> tuple[tuple[clip_lib.Camera, ...], bool]:
    """The clip's cameras in order of index, and whether any of them has a mounting."""
    table_path = folder / "frames.csv"
    known = meta.get("cameras", {})
    if not isinstance(known, dict):
        raise InputError(f"{where}: cameras must be an object of named cameras, got {known!r:.60}")
    calibrations = {
        camera: clip_calibration.read_calibration(f"{where}: cameras.{camera}", entry)
        for camera, entry in known.items()
    }
    if not table_path.exists():
        if calibrations:
            raise InputError(f"clip {name!r}: {table_path}: missing, but meta.json has cameras")
        return (), False
    table = read_frame_table(name, table_path)
    for camera, frames in table.items():
        if camera not in calibrations:
            raise InputError(
                f"{where}: cameras has no calibration of {camera!r}, which frames.csv names; "
                f"calibrated: {', '.join(calibrations) or 'none'}"
            )
        _check_overlap(f"clip {name!r}: {table_path}: camera {camera!r}", frames, ego)
    used = {camera: c for camera, c in calibrations.items() if camera in table}
    indices = clip_calibration.assign_indices(where, used)
    cameras = [
        clip_lib.Camera(
            name=camera,
            index=indices[camera],
            width=calibration.width,
            height=calibration.height,
            intrinsics=calibration.intrinsics,
            ego_from_camera=calibration.ego_from_camera,
            times=table[camera].times,
            read=FrameReader(
                name, camera, table[camera].files, calibration.width, calibration.height
            ),
        )
        for camera, calibration in used.items()
    ]
    mounted = any(calibration.has_mounting for calibration in used.values())
    return tuple(sorted(cameras, key=lambda camera: camera.index)), mounted


def _check_overlap(where: str, frames: FrameFiles, ego: clip_lib.EgoTrack) -> None:
    first, last = frames.times[0], frames.times[-1]
    if first > ego.t[-1] or last < ego.t[0]:
        raise InputError(
            f"{where}: t_s runs from {first:.3f} to {last:.3f} s, but ego.npz from "
            f"{ego.t[0]:.3f} to {ego.t[-1]:.3f} s; write both on one clock"
        )


def _ground_z(where: str, meta: dict[str, Any], origin_is_camera: bool) -> float:
    if "ground_z" not in meta:
        return -CAMERA_HEIGHT_M if origin_is_camera else 0.0
    value = clip_calibration.number(where, "ground_z", meta["ground_z"])
    if value > 0:
        raise InputError(f"{where}: ground_z is {value}; the road is at or below the ego origin")
    return value


def _reasoning(where: str, entries: Any) -> tuple[clip_lib.ReasoningLabel, ...]:
    if not isinstance(entries, list):
        raise InputError(f"{where}: reasoning must be a list, got {entries!r:.60}")
    labels: list[clip_lib.ReasoningLabel] = []
    for i, entry in enumerate(entries):
        place = f"{where}: reasoning[{i}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            raise InputError(f'{place}: must be {{"t": seconds, "text": str}}, got {entry!r:.60}')
        time = clip_calibration.number(place, "t", entry.get("t"))
        if labels and time <= labels[-1].t:
            raise InputError(f"{place}: t is {time}, not after {labels[-1].t} of the label before")
        labels.append(clip_lib.ReasoningLabel(t=time, text=entry["text"]))
    return tuple(labels)

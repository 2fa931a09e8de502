"""Clips on disk: one folder per drive.

    ego.npz       t, xyz, quat_wxyz (world from ego) at the source's rate; optional t10, xyz10,
                  quat10_wxyz: the same on the 10 Hz grid
    meta.json     an object; optional fields of `clip_meta`, `cameras` where there is a frames.csv
    frames.csv    optional: camera, index, t_s, file; `file` is an image inside the folder, or a
                  video, of which `index` is the number of the frame
    agents.npz    optional: t, track, xyz, yaw, lwh, category
    map.npz       optional: points, offsets, kind, ids; an area is a closed line

Without a `clip_id` in meta.json a clip has the folder's name.
"""

from pathlib import Path
from typing import Any

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data import clip_meta
from alpamayo_jax.data.clip_frames import read_frame_table
from alpamayo_jax.data.clip_meta import CAMERA_HEIGHT_M
from alpamayo_jax.data.clip_npz import read_agents, read_ego, read_map_lines
from alpamayo_jax.data.clip_writer import write_clip
from alpamayo_jax.types import InputError

__all__ = ["CAMERA_HEIGHT_M", "find_clips", "read_clip", "write_clip"]


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
    agents, map_lines = folder / "agents.npz", folder / "map.npz"
    return clip_meta.make_clip(
        name,
        where,
        meta,
        ego,
        _frames(name, folder / "frames.csv", meta),
        f"clip {name!r}: {folder / 'frames.csv'}",
        agents=read_agents(name, agents) if agents.exists() else None,
        map_lines=read_map_lines(name, map_lines) if map_lines.exists() else None,
    )


def _read_meta(name: str, path: Path) -> dict[str, Any]:
    where = f"clip {name!r}: {path}"
    try:
        size = path.stat().st_size
        if size > clip_meta.MAX_BYTES:
            raise InputError(f"{where}: has {size} bytes, more than {clip_meta.MAX_BYTES}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{where}: missing; a clip without metadata has {{}} there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: is not valid JSON: {error}") from error
    return clip_meta.parse_meta(where, text)


def _frames(name: str, path: Path, meta: dict[str, Any]) -> dict[str, clip_meta.Frames]:
    if path.exists():
        return read_frame_table(name, path)
    if meta.get("cameras"):
        raise InputError(f"clip {name!r}: {path}: missing, but meta.json has cameras")
    return {}

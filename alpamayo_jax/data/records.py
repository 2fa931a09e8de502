"""A clip as one record of a store, and back.

The record holds what a clip folder holds: the arrays of ego.npz, agents.npz and map.npz, the fields
of meta.json as text, and, in place of frames.csv, where each frame lies in the clip's media file.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any, Mapping

import numpy as np

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data import clip_meta
from alpamayo_jax.data.clip_npz import agents_of, ego_of, map_lines_of
from alpamayo_jax.data.media import FrameIndex, StoredFrames
from alpamayo_jax.data.windows import FUTURE_S, PAST_S, window_times
from alpamayo_jax.types import InputError

EGO = ("t", "xyz", "quat_wxyz")
AGENTS = ("t", "track", "xyz", "yaw", "lwh", "category")
MAP = ("points", "offsets", "kind", "ids")
FRAMES = ("camera", "t", "record", "kind")
FLAGS = ("has_agents", "has_map", "has_map_ids")
_NO_AGENTS = clip_lib.AgentTable(
    *(np.zeros(0), np.zeros(0, np.int32), np.zeros((0, 3))),
    *(np.zeros(0), np.zeros((0, 3)), np.zeros(0, str)),
)
_NO_MAP = clip_lib.MapLines(np.zeros((0, 3)), np.zeros(1, np.int64), np.zeros(0, str))
_NO_FRAMES = FrameIndex(*(np.zeros(0, t) for t in (np.int32, np.float64, np.int32, np.int32)))


def count_windows(clip: clip_lib.Clip) -> int:
    """How many t0 of the 10 Hz grid have 1.6 s of past, 6.4 s of future and their images.

    A clip whose cameras are too slow for any window counts those of its poses alone.

    Raises:
      InputError: the clip is too short for one window.
    """
    found = len(window_times(clip)) or len(window_times(clip, need_images=False))
    if not found:
        raise InputError(
            f"clip {clip.clip_id!r}: no t0 has {PAST_S} s of past and {FUTURE_S} s of future"
        )
    return found


def to_record(clip: clip_lib.Clip, frames: FrameIndex | None, media: str) -> dict[str, Any]:
    """The record of a clip: a dictionary of texts, flags, numbers and dictionaries of arrays.

    Args:
      clip: the clip; its frames are not read.
      frames: where `media.write_media` put them, or None without cameras.
      media: the file they are in, relative to the store.

    Raises:
      InputError: the clip is too short for one window.
    """
    agents = clip.agents or _NO_AGENTS
    lines = clip.map_lines or _NO_MAP
    ids = np.zeros(0, str) if lines.ids is None else lines.ids
    return {
        "clip_id": clip.clip_id,
        "windows": count_windows(clip),
        "meta": json.dumps(clip_meta.describe(clip)),
        "media": media if frames is not None else "",
        "has_agents": clip.agents is not None,
        "has_map": clip.map_lines is not None,
        "has_map_ids": lines.ids is not None,
        "ego": {name: getattr(clip.ego, name) for name in EGO},
        "agents": {name: getattr(agents, name) for name in AGENTS},
        "map": {name: getattr(lines, name) for name in MAP[:-1]} | {"ids": ids},
        "frames": {name: getattr(frames or _NO_FRAMES, name) for name in FRAMES},
    }


def to_clip(record: Mapping[str, Any], root: Path) -> clip_lib.Clip:
    """The clip of a record; its cameras read from the media file below `root` when asked.

    Raises:
      InputError: names the clip and the field: a record that is not of this schema, or a media file
        outside of the store.
    """
    name = text(record["clip_id"])
    where = f"clip {name!r}: store {root}"
    ego = {column: np.asarray(record["ego"][column]) for column in EGO}
    meta = clip_meta.parse_meta(f"{where}: meta", text(record["meta"]))
    agents = _columns(record["agents"], AGENTS)
    lines = _columns(record["map"], MAP)
    if not record["has_map_ids"]:
        del lines["ids"]
    # The track is on its grid already; naming it so keeps it bit for bit.
    grid = dict(zip(("t10", "xyz10", "quat10_wxyz"), ego.values()))
    return clip_meta.make_clip(
        name,
        f"{where}: meta",
        meta,
        ego_of(ego | grid, f"{where}: ego"),
        _frames(where, record, meta, root),
        f"{where}: frames",
        agents=agents_of(agents, f"{where}: agents") if record["has_agents"] else None,
        map_lines=map_lines_of(lines, f"{where}: map") if record["has_map"] else None,
    )


def text(value: str | bytes) -> str:
    """A text of a record; TFDS gives bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _columns(table: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    columns = {name: np.asarray(table[name]) for name in names}
    for name, value in columns.items():
        if value.dtype.kind in "OS":
            columns[name] = np.array([text(item) for item in value], str)
    return columns


def _frames(
    where: str, record: Mapping[str, Any], meta: Mapping[str, Any], root: Path
) -> dict[str, StoredFrames]:
    index = FrameIndex(**{name: np.asarray(record["frames"][name]) for name in FRAMES})
    if not len(index.t):
        return {}
    media = PurePosixPath(text(record["media"]))
    if not media.parts or media.is_absolute() or ".." in media.parts:
        raise InputError(f"{where}: media is {str(media)!r}, not a file of the store")
    names = list(meta.get("cameras", {}))
    if not 0 <= index.camera.min() <= index.camera.max() < len(names):
        raise InputError(f"{where}: frames.camera goes beyond the {len(names)} cameras")
    frames = {}
    for place in np.unique(index.camera):
        rows = index.camera == place
        frames[names[place]] = StoredFrames(
            root / media, index.t[rows], index.record[rows], bool(index.kind[rows][0])
        )
    return frames

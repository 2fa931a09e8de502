"""NVIDIA's Physical AI AV data set in its own layout, from a folder or streamed from its hub.

Of a clip are read, as far as they are there: ego motion (resampled to 10 Hz at whole tenths of a
second), cameras (videos, one time per frame, f-theta lenses), obstacles (boxes in the ego frame of
their own time, put into the world and resampled to the same 10 Hz), reasoning. The ego frame is the
rig's: rear axle, on the ground.
"""

import functools
import json
import math
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import clip_meta, clip_npz
from alpamayo_jax.data import physical_ai_layout as layout
from alpamayo_jax.data.archives import Files, HubFiles, MemberFile, member_names
from alpamayo_jax.data.physical_ai_agents import world_agents
from alpamayo_jax.data.tables import Table, read_parquet
from alpamayo_jax.data.video import VideoReader
from alpamayo_jax.types import InputError

_US = 1e-6
_QUAT = ("qw", "qx", "qy", "qz")
_XYZ = ("x", "y", "z")
_MAX_POLY = 16  # coefficients that are looked for
_OBSTACLES = "obstacle.offline"


class PhysicalAISource:
    """The clips of a data set (`sources.ClipSource`), in the order of its index."""

    def __init__(
        self,
        root: str | Path,
        chunks: str | None = None,
        cameras: Sequence[str] | None = None,
        stream: bool = False,
    ):
        """Reads the index.

        Args:
          root: folder of the data set; when streaming, what is there is not fetched.
          chunks: which, see `physical_ai_layout.parse_chunks`; None: all that the folder has.
          cameras: names; None: all of a chunk that the folder has, or every camera when streaming.
          stream: fetch what the folder lacks.

        Raises:
          ConfigError: an unknown camera, or malformed chunks.
          InputError: no such data set, a damaged index, or no clip.
        """
        self.name = f"Physical AI AV in {root}"
        self._files = HubFiles(root) if stream else Files(root)
        self._stream = stream
        if not stream and not Path(root).is_dir():
            raise InputError(f"Physical AI AV: {root} is not a folder")
        self._features = layout.read_features(self._files)
        if "egomotion" not in self._features:
            raise InputError("Physical AI AV: features.csv has no feature 'egomotion'")
        known = [n for n, f in self._features.items() if f.directory == "camera"]
        for camera in cameras or ():
            if camera not in known:
                raise ConfigError(f"camera {camera!r} is unknown; the set has {', '.join(known)}")
        self._cameras, self._all_cameras = cameras and tuple(cameras), tuple(known)
        self._chunk_of = layout.read_clip_index(self._files)
        wanted = layout.parse_chunks(chunks)
        if wanted is None and not stream:
            ego = self._features["egomotion"]
            present = set(self._chunk_of.values())
            wanted = {c for c in present if self._files.has(ego.chunk_file(c))}
        self.clips = [c for c, n in self._chunk_of.items() if wanted is None or n in wanted]
        if not self.clips:
            raise InputError(f"{self.name}: no clip in chunks {chunks or 'that are there'}")
        self._reasoning = layout.read_reasoning(self._files)

    def __len__(self) -> int:
        return len(self.clips)

    def clip_name(self, index: int) -> str:
        """The id of clip number `index`."""
        return self.clips[index]

    def clip(self, index: int) -> clip_lib.Clip:
        """Reads clip number `index`; raises `InputError` naming file and field of a defect."""
        name = self.clips[index]
        where = f"clip {name!r}"
        reasoning, events = _labels(where, self._reasoning.get(name))
        t, xyz, quat = self._ego(where, name)
        start = math.ceil(t[0] / clip_lib.GRID_DT - 1e-6) * clip_lib.GRID_DT
        ego = clip_npz.resample(t, xyz, quat, max(start, t[0]))
        cameras = self._present_cameras(where, name)
        frames = {camera: self._frames(where, name, camera) for camera in cameras}
        calibrations = {camera: self._calibration(where, name, camera) for camera in cameras}
        meta = {
            "cameras": calibrations, "ground_z": 0.0, "reasoning": reasoning, "events": events
        }  # fmt: skip
        return clip_meta.make_clip(
            name,
            f"{where}: calibration",
            meta,
            ego,
            frames,
            f"{where}: frame_timestamps",
            agents=self._agents(where, name, t, xyz, quat, ego),
        )

    @functools.cached_property
    def _neighbours(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, list[str]] = {}
        for clip, chunk in self._chunk_of.items():
            found.setdefault(chunk, []).append(clip)
        return {chunk: tuple(clips) for chunk, clips in found.items()}

    def _member(self, where: str, clip: str, feature: str, kind: str) -> MemberFile:
        chunk = self._chunk_of[clip]
        return self._features[feature].member(
            where, self._files, chunk, clip, kind, self._neighbours[chunk]
        )

    def _table(self, where: str, clip: str, feature: str, kind: str) -> Table:
        member = self._member(where, clip, feature, kind)
        return read_parquet(f"{where}: {member.archive}: {member.member}", member.read())

    def _ego(self, where: str, clip: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = self._table(where, clip, "egomotion", "egomotion")
        t = table.numbers("timestamp")[:, 0] * _US
        order = np.argsort(t, kind="stable")
        t, xyz, quat = t[order], table.numbers(*_XYZ)[order], table.numbers(*_QUAT)[order]
        names = ("timestamp", "x, y, z", "qw, qx, qy, qz")
        clip_lib.check_track(table.where, names, t, xyz, quat)
        clip_npz.check_gaps(table.where, "timestamp", t)
        return t, xyz, quat

    def _present_cameras(self, where: str, clip: str) -> tuple[str, ...]:
        if self._cameras is not None:
            return self._cameras
        if self._stream:
            return self._all_cameras
        chunk = self._chunk_of[clip]
        return tuple(
            camera
            for camera in self._all_cameras
            if self._files.has(self._features[camera].chunk_file(chunk))
        )

    def _frames(self, where: str, clip: str, camera: str) -> "VideoFrames":
        where = f"{where}: camera {camera!r}"
        table = self._table(where, clip, camera, "frame_timestamps")
        if "frame_index" in table.columns:
            table = table.rows(np.argsort(table.numbers("frame_index")[:, 0], kind="stable"))
        times = table.numbers("timestamp")[:, 0] * _US
        clip_lib.check_rising(table.where, "timestamp", times)
        return VideoFrames(times, self._member(where, clip, camera, "video"))

    def _calibration(self, where: str, clip: str, camera: str) -> dict[str, Any]:
        """The camera as an entry of meta.json."""
        lens = self._calibrations(self._chunk_of[clip], "camera_intrinsics")
        pose = self._calibrations(self._chunk_of[clip], "sensor_extrinsics")
        lens, pose = (_sensor_row(where, table, clip, camera) for table in (lens, pose))
        poly = []
        for i in range(_MAX_POLY):
            if f"fw_poly_{i}" in lens.columns:
                poly.append(float(lens.numbers(f"fw_poly_{i}")[0, 0]))
        width, height, cx, cy = lens.numbers("width", "height", "cx", "cy")[0].tolist()
        return {
            "model": "ftheta",
            "stored_size": [width, height],
            "cx": cx,
            "cy": cy,
            "fw_poly": poly,
            "ego_from_camera": {
                "quat_wxyz": pose.numbers(*_QUAT)[0].tolist(),
                "xyz": pose.numbers(*_XYZ)[0].tolist(),
            },
        }

    @functools.lru_cache(maxsize=8)
    def _calibrations(self, chunk: int, feature: str) -> Table:
        if feature not in self._features:
            raise InputError(f"Physical AI AV: features.csv has no feature {feature!r}")
        name = self._features[feature].chunk_file(chunk)
        with self._files.open(f"Physical AI AV: {feature}", name) as file:
            return read_parquet(f"Physical AI AV: {name}", file.read())

    def _agents(
        self,
        where: str,
        clip: str,
        t: np.ndarray,
        xyz: np.ndarray,
        quat: np.ndarray,
        ego: clip_lib.EgoTrack,
    ) -> clip_lib.AgentTable | None:
        feature = self._features.get(_OBSTACLES)
        if feature is None or not self._files.has(feature.chunk_file(self._chunk_of[clip])):
            return None
        kind = next(iter(feature.members or {}), _OBSTACLES)
        member = self._member(where, clip, _OBSTACLES, kind)
        if member.member not in member_names(where, self._files, member.archive):
            return None
        table = self._table(where, clip, _OBSTACLES, kind)
        return world_agents(table, t, xyz, quat, ego)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_neighbours"}


class VideoFrames:
    """The frames of a camera (`clip_meta.Frames`)."""

    def __init__(self, times: np.ndarray, member: MemberFile):
        self.times, self._member = times, member

    def reader(self, clip_id: str, camera: str, width: int, height: int) -> VideoReader:
        """`Camera.read`; the video is opened, and its frames counted, at the first frame."""
        return VideoReader(clip_id, camera, self._member, (width, height), len(self.times))


def _sensor_row(where: str, table: Table, clip: str, sensor: str) -> Table:
    rows = layout.clip_rows(table, clip)
    mask = rows.names(1, "sensor_name" if "sensor_name" in rows.columns else "camera_name")
    mask = mask == sensor
    if mask.sum() != 1:
        raise InputError(f"{where}: {table.where}: {int(mask.sum())} rows of sensor {sensor!r}")
    return rows.rows(mask)


def _labels(where: str, cell: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Reasoning and events of meta.json from a cell of the reasoning table."""
    place = f"{where}: {layout.REASONING}: events"
    if isinstance(cell, str):
        try:
            cell = json.loads(cell) if cell.strip() else []
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: is not valid JSON: {error}") from None
    labels: dict[float, str] = {}
    for i, event in enumerate(cell if cell is not None else []):
        if not isinstance(event, dict) or "event_start_timestamp" not in event:
            raise InputError(f"{place}[{i}]: has no event_start_timestamp, got {event!r:.60}")
        try:
            time = round(float(event["event_start_timestamp"]) * _US, 6)
        except (TypeError, ValueError):
            raise InputError(f"{place}[{i}]: event_start_timestamp is no number") from None
        text = event.get("cot")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{place}[{i}]: cot is empty or no text")
        if labels.get(time, text) != text:
            raise InputError(f"{place}[{i}]: a second cot at {time} s")
        labels[time] = text
    times = sorted(labels)
    reasoning = [{"t": time, "text": labels[time]} for time in times]
    return reasoning, [{"t": time, "kind": "keyframe"} for time in times]

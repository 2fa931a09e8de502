"""A small data set in the layout of Physical AI AV, for tests: real zips, Parquet and mp4."""

import csv
import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from alpamayo_jax.testing.videos import encode_video

CAMERAS = ("camera_cross_left_120fov", "camera_front_wide_120fov")
SIZE = (160, 32)
FPS = 30
EGO_HZ = 100
EGO_START_S = -0.537  # ego motion begins before the cameras, at no tenth of a second


@dataclasses.dataclass(frozen=True)
class SmallSet:
    """What is written.

    Attributes:
      clips: names by chunk.
      seconds: length of the videos.
      cameras: names.
      reasoning: clip -> (seconds, text) pairs.
    """

    clips: tuple[tuple[str, ...], ...] = (("aaa-0", "aaa-1"), ("bbb-0",))
    seconds: float = 9.0
    cameras: tuple[str, ...] = CAMERAS
    reasoning: tuple[tuple[str, tuple[tuple[float, str], ...]], ...] = (
        ("aaa-0", ((2.5, "Slow down for the car ahead."),)),
    )


def write_small_set(root: str | Path, small: SmallSet = SmallSet()) -> Path:
    """Writes the data set; returns its folder."""
    root = Path(root)
    _write_features(root, small.cameras)
    names = [clip for chunk in small.clips for clip in chunk]
    chunks = [number for number, chunk in enumerate(small.clips) for _ in chunk]
    index = {"clip_id": names, "chunk": chunks, "split": ["train"] * len(names)}
    write_parquet(root / "clip_index.parquet", index | {"clip_is_valid": [True] * len(names)}, 1)
    events = [
        [{"event_start_timestamp": int(t * 1e6), "cot": text} for t, text in labels]
        for _, labels in small.reasoning
    ]
    reasoning = {"clip_id": [name for name, _ in small.reasoning], "events": events}
    write_parquet(root / "reasoning" / "ood_reasoning.parquet", reasoning, 1)
    for number, clips in enumerate(small.clips):
        _write_chunk(root, number, clips, small)
    return root


def edit_zip(path: Path, change) -> None:
    """Lets `change` edit the members of a zip archive, a dictionary name -> bytes, in place."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def ego_pose(clip: str, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World position [N, 3] and quaternion (w, x, y, z) of a clip's ego at times t."""
    rate = 0.05 + 0.01 * (sum(clip.encode()) % 5)
    yaw = rate * t
    xyz = np.stack([8.0 * np.sin(yaw) / rate, 8.0 * (1 - np.cos(yaw)) / rate, 0.01 * t], -1)
    return xyz, Rotation.from_euler("z", yaw[:, None]).as_quat(scalar_first=True)


def agent_position(t: np.ndarray) -> np.ndarray:
    """World position [N, 3] of the one other road user of every clip at times t."""
    return np.stack([20.0 + 3.0 * t, 4.0 + 0.0 * t, 0.8 + 0.0 * t], -1)


def camera_base(clip: str, camera: str) -> int:
    """What the numbered frames of a video start at, so that no two videos are alike."""
    return sum((clip + camera).encode()) % 300


def write_parquet(path: Path | None, columns: dict[str, Any], levels: int = 0) -> bytes:
    """A table whose first `levels` columns name its rows, as pandas marks them; also to `path`."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(columns)
    described = [
        {"name": name, "field_name": name, "pandas_type": "object", "numpy_type": "object",
         "metadata": None}
        for name in columns
    ]  # fmt: skip
    mark = {"index_columns": list(columns)[:levels], "column_indexes": [], "columns": described}
    table = table.replace_schema_metadata({b"pandas": json.dumps(mark).encode()})
    file = io.BytesIO()
    parquet.write_table(table, file)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return file.getvalue()


def chunk_file(feature: str, chunk: int) -> str:
    """Name of a chunk's file in the data set."""
    if feature.startswith("camera_") and feature != "camera_intrinsics":
        return f"camera/{feature}/{feature}.chunk_{chunk:04d}.zip"
    if feature in ("camera_intrinsics", "sensor_extrinsics"):
        return f"calibration/{feature}/{feature}.chunk_{chunk:04d}.parquet"
    return f"labels/{feature}/{feature}.chunk_{chunk:04d}.zip"


def _write_features(root: Path, cameras: tuple[str, ...]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "features.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("feature", "directory", "chunk_path", "clip_files_in_zip"))
        for name in (*cameras, "egomotion", "obstacle.offline", "camera_intrinsics",
                     "sensor_extrinsics"):  # fmt: skip
            path = chunk_file(name, 0).replace("0000", "{chunk_id:04d}")
            members: dict[str, str] | None = {name: f"{{clip_id}}.{name}.parquet"}
            if name in cameras:
                members = {
                    "video": f"{{clip_id}}.{name}.mp4",
                    "frame_timestamps": f"{{clip_id}}.{name}.timestamps.parquet",
                    "blurred_boxes": f"{{clip_id}}.{name}.blurred_boxes.parquet",
                }
            if path.endswith(".parquet"):
                members = None
            table.writerow((name, path.split("/")[0], path, json.dumps(members) if members else ""))


def _write_chunk(root: Path, number: int, clips: tuple[str, ...], small: SmallSet) -> None:
    count = round(small.seconds * FPS)
    stamps = (np.arange(count) * 1e6 / FPS + 137).astype(np.int64)
    for camera in small.cameras:
        with _archive(root / chunk_file(camera, number)) as archive:
            for clip in clips:
                video = encode_video(count, SIZE, FPS, base=camera_base(clip, camera))
                archive.writestr(f"{clip}.{camera}.mp4", video)
                table = {"frame_index": np.arange(count), "timestamp": stamps}
                name = f"{clip}.{camera}.timestamps.parquet"
                archive.writestr(name, write_parquet(None, table))
    with _archive(root / chunk_file("egomotion", number)) as archive:
        for clip in clips:
            archive.writestr(f"{clip}.egomotion.parquet", write_parquet(None, _ego(clip, small)))
    with _archive(root / chunk_file("obstacle.offline", number)) as archive:
        for clip in clips:
            table = write_parquet(None, _obstacles(clip, small))
            archive.writestr(f"{clip}.obstacle.offline.parquet", table)
    _write_calibration(root, number, clips, small.cameras)


def _archive(path: Path) -> zipfile.ZipFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    return zipfile.ZipFile(path, "w")


def _ego(clip: str, small: SmallSet) -> dict[str, Any]:
    t = np.arange(EGO_START_S, small.seconds + 1.0, 1 / EGO_HZ).round(6)
    xyz, quat = ego_pose(clip, t)
    zero = np.zeros_like(t)
    table = {"timestamp": np.round(t * 1e6).astype(np.int64)}
    table |= dict(zip(("qw", "qx", "qy", "qz"), quat.T)) | dict(zip("xyz", xyz.T))
    return table | {n: zero for n in ("vx", "vy", "vz", "ax", "ay", "az", "curvature")}


def _obstacles(clip: str, small: SmallSet) -> dict[str, Any]:
    t = np.arange(0.033, small.seconds, 0.1)
    xyz, quat = ego_pose(clip, t)
    turn = Rotation.from_quat(quat, scalar_first=True)
    centre = turn.inv().apply(agent_position(t) - xyz)
    orientation = turn.inv().as_quat()  # the agent's yaw in the world is 0
    table = {
        "timestamp_us": np.round(t * 1e6).astype(np.int64),
        "track_id": ["7"] * len(t),
        "label_class": ["automobile"] * len(t),
    }
    table |= {f"center_{axis}": centre[:, i] for i, axis in enumerate("xyz")}
    table |= {f"size_{axis}": np.full(len(t), (4.5, 1.9, 1.6)[i]) for i, axis in enumerate("xyz")}
    return table | {f"orientation_{axis}": orientation[:, i] for i, axis in enumerate("xyzw")}


def _write_calibration(
    root: Path, number: int, clips: tuple[str, ...], cameras: tuple[str, ...]
) -> None:
    rows = [(clip, camera) for clip in clips for camera in cameras]
    n = len(rows)
    names = {"clip_id": [r[0] for r in rows]}
    width, height = SIZE
    lens = {"width": [width] * n, "height": [height] * n, "cx": [79.5] * n, "cy": [15.5] * n}
    poly = (0.0, 90.0, 0.0, -2.0, 0.0)
    lens |= {f"fw_poly_{i}": [value] * n for i, value in enumerate(poly)}
    lens |= {f"bw_poly_{i}": [0.0] * n for i in range(len(poly))}  # the inverse; not read here
    lens = names | {"camera_name": [r[1] for r in rows]} | lens
    write_parquet(root / chunk_file("camera_intrinsics", number), lens, 2)
    # A camera's z looks along ego x: x right is -y, y down is -z.
    forward = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]).as_quat()
    pose = {axis: [float(v)] * n for axis, v in zip(("qx", "qy", "qz", "qw"), forward)}
    pose |= {"x": [1.7] * n, "y": [0.0] * n, "z": [1.4] * n}
    pose = names | {"sensor_name": [r[1] for r in rows]} | pose
    write_parquet(root / chunk_file("sensor_extrinsics", number), pose, 2)

"""Writes a clip, recorded or procedural, as a folder that `clip_folder.read_clip` reads back."""

import csv
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data import clip_meta
from alpamayo_jax.types import InputError


def write_clip(folder: str | Path, clip: clip_lib.Clip, jpeg_quality: int = 95) -> Path:
    """Writes every field of a clip; all but the images comes back bit for bit.

    The folder appears whole or not at all: it is written beside its final place and renamed.

    Args:
      folder: must not exist, or be empty.
      clip: the clip; all its frames are read.
      jpeg_quality: 1 to 100.

    Returns:
      The folder.

    Raises:
      InputError: the folder holds something, a camera's name is no file name, the quality is out of
        range, or a frame of the clip cannot be read.
    """
    folder = Path(folder)
    clip.validate()
    if not 1 <= jpeg_quality <= 100:
        raise InputError(f"clip {clip.clip_id!r}: jpeg_quality {jpeg_quality} is not in 1 to 100")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"clip {clip.clip_id!r}: {folder} exists; nothing is written over it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The leading dot keeps an interrupted write out of `find_clips`.
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_files(partial, clip, jpeg_quality)
        # mkdtemp makes a folder that only its owner can read.
        partial.chmod(0o755)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_files(folder: Path, clip: clip_lib.Clip, jpeg_quality: int) -> None:
    ego = clip.ego
    speed = np.linalg.norm(np.gradient(ego.xyz, ego.t, axis=0), axis=-1).astype(np.float32)
    grid = {"t": ego.t, "xyz": ego.xyz, "quat_wxyz": ego.quat_wxyz, "speed": speed}
    stored = {"t10": ego.t, "xyz10": ego.xyz, "quat10_wxyz": ego.quat_wxyz, "speed10": speed}
    np.savez(folder / "ego.npz", **grid, **stored)
    if clip.cameras:
        _write_frames(folder, clip, jpeg_quality)
    if clip.agents is not None:
        np.savez_compressed(folder / "agents.npz", **_columns(clip.agents))
    if clip.map_lines is not None:
        np.savez_compressed(folder / "map.npz", **_columns(clip.map_lines))
    meta = json.dumps(clip_meta.describe(clip), indent=1)
    (folder / "meta.json").write_text(meta + "\n", encoding="utf-8")


def _write_frames(folder: Path, clip: clip_lib.Clip, jpeg_quality: int) -> None:
    (folder / "frames").mkdir()
    with open(folder / "frames.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("camera", "index", "t_s", "file"))
        for camera in clip.cameras:
            name = camera.name
            if not name.isprintable() or set(name) & set("/\\") or name[:1] in ".":
                raise InputError(
                    f"clip {clip.clip_id!r}: camera name {camera.name!r} is no part of a file name"
                )
            for frame, time in enumerate(camera.times):
                name = f"frames/{camera.name}_{frame:06d}.jpg"
                image = Image.fromarray(np.ascontiguousarray(camera.read(frame)))
                # Colour at full resolution: small rendered signs lose theirs otherwise.
                image.save(folder / name, quality=jpeg_quality, subsampling=0)
                table.writerow((camera.name, frame, repr(float(time)), name))


def _columns(table: clip_lib.AgentTable | clip_lib.MapLines) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(table).items() if value is not None}

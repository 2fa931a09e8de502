"""What a drive is besides its arrays: the fields of meta.json, read and written.

A clip folder and a record of a store hold the same fields; both make their clips here.

    cameras       name -> calibration (`clip_calibration.read_calibration`)
    ground_z      height of the road in the ego frame, metres, 0 or below. Without it: -1.65 where
                  no camera of the clip has a mounting (`ego_from_camera`), because the ego origin
                  is then the camera, which on a passenger car is about that high; 0 otherwise
    reasoning     list of {"t": seconds, "text": str}, in order of time
    events        list of {"t": seconds, "kind": str}, optional "value" (str) and "xyz" (three
                  numbers, world), in order of time
    clip_id       the drive's name
"""

import json
from typing import Any, Callable, Mapping, Protocol

import numpy as np

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data import clip_calibration
from alpamayo_jax.types import InputError

CAMERA_HEIGHT_M = 1.65
MAX_BYTES = 64 * 2**20  # of one meta.json; a larger one is not a description of a drive

Read = Callable[[int], np.ndarray]


class Frames(Protocol):
    """When a camera took its frames, and how to read them.

    Attributes:
      times: float64 [F], strictly rising.
    """

    times: np.ndarray

    def reader(self, clip_id: str, camera: str, width: int, height: int) -> Read:
        """`Camera.read` of these frames; raises `InputError` where they do not fit the times."""


def parse_meta(where: str, text: str) -> dict[str, Any]:
    """The object in the text of a meta.json; raises `InputError` for anything else."""
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not valid JSON: {error}") from error
    if not isinstance(meta, dict):
        raise InputError(f"{where}: must hold an object, got {type(meta).__name__}")
    return meta


def make_clip(
    name: str,
    where: str,
    meta: Mapping[str, Any],
    ego: clip_lib.EgoTrack,
    frames: Mapping[str, Frames],
    frames_where: str,
    agents: clip_lib.AgentTable | None = None,
    map_lines: clip_lib.MapLines | None = None,
) -> clip_lib.Clip:
    """Puts a clip together and checks it.

    A camera that is calibrated but has no frames is not part of the clip.

    Args:
      name: of the clip.
      where: names clip and place of `meta` in messages.
      meta: fields of meta.json.
      ego: poses at 10 Hz.
      frames: camera name -> its frames.
      frames_where: names clip and place of `frames` in messages.
      agents, map_lines: annotations.

    Raises:
      InputError: names clip, place and field of the first defect.
    """
    known = meta.get("cameras", {})
    if not isinstance(known, dict):
        raise InputError(f"{where}: cameras must be an object of named cameras, got {known!r:.60}")
    calibrations = {
        camera: clip_calibration.read_calibration(f"{where}: cameras.{camera}", entry)
        for camera, entry in known.items()
    }
    for camera, table in frames.items():
        if camera not in calibrations:
            raise InputError(
                f"{where}: cameras has no calibration of {camera!r}, which frames.csv names; "
                f"calibrated: {', '.join(calibrations) or 'none'}"
            )
        _check_overlap(f"{frames_where}: camera {camera!r}", table.times, ego)
    used = {camera: c for camera, c in calibrations.items() if camera in frames}
    indices = clip_calibration.assign_indices(where, used)
    cameras = [
        clip_lib.Camera(
            name=camera,
            index=indices[camera],
            width=c.width,
            height=c.height,
            intrinsics=c.intrinsics,
            ego_from_camera=c.ego_from_camera,
            times=frames[camera].times,
            read=frames[camera].reader(name, camera, c.width, c.height),
        )
        for camera, c in used.items()
    ]
    mounted = any(calibration.has_mounting for calibration in used.values())
    return clip_lib.Clip(
        clip_id=name,
        ego=ego,
        cameras=tuple(sorted(cameras, key=lambda camera: camera.index)),
        ground_z=_ground_z(where, meta, bool(cameras) and not mounted),
        agents=agents,
        map_lines=map_lines,
        reasoning=_reasoning(where, meta.get("reasoning", [])),
        events=_events(where, meta.get("events", [])),
    ).validate()


def describe(clip: clip_lib.Clip) -> dict[str, Any]:
    """The fields of meta.json of a clip, with which `make_clip` makes the same clip again."""
    meta = {
        "clip_id": clip.clip_id,
        "ego_frame": "x forward, y left, z up",
        "world_frame": "right-handed, z up, metres",
        "ground_z": float(clip.ground_z),
        "n_images": sum(len(camera.times) for camera in clip.cameras),
        "cameras": {camera.name: _calibration(camera) for camera in clip.cameras},
        "reasoning": [{"t": float(label.t), "text": label.text} for label in clip.reasoning],
    }
    if clip.events:
        meta["events"] = [_event(event) for event in clip.events]
    return meta


def _check_overlap(where: str, times: np.ndarray, ego: clip_lib.EgoTrack) -> None:
    first, last = times[0], times[-1]
    if first > ego.t[-1] or last < ego.t[0]:
        raise InputError(
            f"{where}: t_s runs from {first:.3f} to {last:.3f} s, but ego.npz from "
            f"{ego.t[0]:.3f} to {ego.t[-1]:.3f} s; write both on one clock"
        )


def _ground_z(where: str, meta: Mapping[str, Any], origin_is_camera: bool) -> float:
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


def _events(where: str, entries: Any) -> tuple[clip_lib.Event, ...]:
    if not isinstance(entries, list):
        raise InputError(f"{where}: events must be a list, got {entries!r:.60}")
    return tuple(_read_event(f"{where}: events[{i}]", entry) for i, entry in enumerate(entries))


def _read_event(where: str, entry: Any) -> clip_lib.Event:
    known = {"t", "kind", "value", "xyz"}
    if not isinstance(entry, dict) or set(entry) - known or "kind" not in entry:
        raise InputError(f"{where}: must be an object of t, kind, value and xyz, got {entry!r:.60}")
    for name in ("kind", "value"):
        if not isinstance(entry.get(name, ""), str):
            raise InputError(f"{where}: {name} must be text, got {entry[name]!r:.60}")
    xyz = entry.get("xyz")
    if xyz is not None:
        if not isinstance(xyz, list) or len(xyz) != 3:
            raise InputError(f"{where}: xyz must be three numbers, got {xyz!r:.60}")
        xyz = tuple(clip_calibration.number(where, f"xyz[{i}]", v) for i, v in enumerate(xyz))
    time = clip_calibration.number(where, "t", entry.get("t"))
    return clip_lib.Event(time, entry["kind"], entry.get("value", ""), xyz)


def _event(event: clip_lib.Event) -> dict[str, Any]:
    entry = {"t": float(event.t), "kind": event.kind, "value": event.value}
    return entry if event.xyz is None else entry | {"xyz": [float(v) for v in event.xyz]}


def _calibration(camera: clip_lib.Camera) -> dict[str, Any]:
    lens = camera.intrinsics
    entry: dict[str, Any] = {
        "index": camera.index,
        "stored_size": [camera.width, camera.height],
        "cx": float(lens.cx),
        "cy": float(lens.cy),
        "ego_from_camera": np.asarray(camera.ego_from_camera, np.float64).tolist(),
    }
    if isinstance(lens, clip_lib.FTheta):
        poly = [float(value) for value in lens.forward_poly]
        return entry | {"model": "ftheta", "fw_poly": poly, "max_angle": float(lens.max_angle)}
    return entry | {"model": "pinhole", "fx": float(lens.fx), "fy": float(lens.fy)}

"""Clips seen in a mirror: left becomes right. It doubles what a small set of drives can teach."""

import dataclasses
import functools
import re
from typing import Any

import numpy as np

from alpamayo_jax.clip import Camera, Clip, Event, FTheta, Pinhole
from alpamayo_jax.data.sources import ClipSource

_FLIP_Y = np.array([1.0, -1.0, 1.0])
# What each camera of the release's map becomes: cross left and right, rear left and right.
_MIRRORED_INDEX = {0: 2, 2: 0, 3: 5, 5: 3}
_SIDES = {"left": "right", "right": "left"}
_SIDE = re.compile(
    r"\b(left|right)(?=\b|most|ward|hand)(?![ -](?:of[ -]way|away|now))", re.IGNORECASE
)
_SIDE_IN_NAME = re.compile(r"(?<![a-z])(left|right)(?![a-z])", re.IGNORECASE)


class WithMirrored:
    """A source's clips, then the mirror image of each: clip i + len(source) mirrors clip i."""

    def __init__(self, source: ClipSource):
        self._source = source
        self.name = f"{source.name} and its mirror image"
        self._mirrored: dict[int, Clip] = {}

    def __len__(self) -> int:
        return 2 * len(self._source)

    def label(self, index: int, t0: float) -> Any:
        """The source's own label of a window; None for a mirrored one, whose text is mirrored."""
        own = getattr(self._source, "label", None)
        return own(index, t0) if own and index < len(self._source) else None

    def clip(self, index: int) -> Clip:
        """Clip number `index`."""
        count = len(self._source)
        if index < count:
            return self._source.clip(index)
        if index not in self._mirrored:
            self._mirrored[index] = mirror_clip(self._source.clip(index - count))
        return self._mirrored[index]


def mirror_clip(clip: Clip) -> Clip:
    """The clip reflected in the plane y = 0 of the world, images and words included.

    A reflection turns y and the rotations about x and z around, and swaps the sides of the images,
    of the side cameras, and "left" and "right" in the reasoning, in the kinds of map lines and in
    the values of events.
    """
    ego = dataclasses.replace(
        clip.ego,
        xyz=clip.ego.xyz * _FLIP_Y,
        quat_wxyz=clip.ego.quat_wxyz * np.array([1.0, -1.0, 1.0, -1.0]),
    )
    agents, lines = clip.agents, clip.map_lines
    if agents is not None:
        agents = dataclasses.replace(agents, xyz=agents.xyz * _FLIP_Y, yaw=-agents.yaw)
    if lines is not None:
        kinds = [_SIDE_IN_NAME.sub(_swap, str(kind)) for kind in lines.kind]
        lines = dataclasses.replace(
            lines, points=lines.points * _FLIP_Y, kind=np.array(kinds, str)
        )
    cameras = sorted((_mirror_camera(camera) for camera in clip.cameras), key=lambda c: c.index)
    return dataclasses.replace(
        clip,
        clip_id=f"{clip.clip_id}-mirrored",
        ego=ego,
        cameras=tuple(cameras),
        agents=agents,
        map_lines=lines,
        reasoning=tuple(
            dataclasses.replace(label, text=mirror_text(label.text)) for label in clip.reasoning
        ),
        events=tuple(_mirror_event(event) for event in clip.events),
    )


def mirror_text(text: str) -> str:
    """Swaps the words left and right, keeping their capitals.

    Right of way, right away and right now stay; "left" for "departed" is taken for the side.
    """
    return _SIDE.sub(_swap, text)


def _swap(match: re.Match) -> str:
    word = match.group()
    swapped = _SIDES[word.lower()]
    if word.isupper():
        return swapped.upper()
    return swapped.capitalize() if word[0].isupper() else swapped


def _mirror_event(event: Event) -> Event:
    xyz = event.xyz and (event.xyz[0], -event.xyz[1], event.xyz[2])
    value = _SIDE_IN_NAME.sub(_swap, event.value)
    return dataclasses.replace(event, value=value, xyz=xyz)


def _mirror_camera(camera: Camera) -> Camera:
    intrinsics: Pinhole | FTheta = dataclasses.replace(
        camera.intrinsics, cx=camera.width - 1 - camera.intrinsics.cx
    )
    # Reflected in the ego frame (y) and in the camera frame (x), which leaves a rotation.
    flip_ego, flip_camera = np.diag([1.0, -1.0, 1.0, 1.0]), np.diag([-1.0, 1.0, 1.0, 1.0])
    return dataclasses.replace(
        camera,
        name=_SIDE_IN_NAME.sub(_swap, camera.name),
        index=_MIRRORED_INDEX.get(camera.index, camera.index),
        intrinsics=intrinsics,
        ego_from_camera=flip_ego @ camera.ego_from_camera @ flip_camera,
        read=functools.partial(_read_mirrored, camera),
    )


def _read_mirrored(camera: Camera, frame: int) -> np.ndarray:
    return np.ascontiguousarray(camera.read(frame)[:, ::-1])

"""Episodes for tests of rewards: simple motions, and texts about them."""

import dataclasses

import numpy as np

from alpamayo_jax.rl.rewards.base import Episodes, Situation
from alpamayo_jax.rl.rewards.scene import Scene
from alpamayo_jax.types import CameraFrames, Observation, Target

W = 64


def poses(speed, heading=None):
    """xyz [64, 3] and rot [64, 3, 3] after t0, from speeds [64] m/s and headings [64] rad."""
    speed = np.broadcast_to(np.asarray(speed, float), (W,))
    heading = np.zeros(W) if heading is None else np.broadcast_to(heading, (W,))
    step = 0.1 * speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    xyz = np.concatenate([np.cumsum(step, 0), np.zeros((W, 1))], -1)
    rot = np.zeros((W, 3, 3))
    rot[:, 0, 0] = rot[:, 1, 1] = np.cos(heading)
    rot[:, 1, 0], rot[:, 0, 1] = np.sin(heading), -np.sin(heading)
    rot[:, 2, 2] = 1
    return xyz.astype(np.float32), rot.astype(np.float32)


def ramp(first, last, begin=0.0, end=6.4):
    """64 values that go from `first` to `last` between two times, constant outside."""
    return np.interp(0.1 * np.arange(1, W + 1), [begin, end], [first, last])


def bump(size, begin, end):
    """64 values: half a sine wave of that size between two times, 0 outside."""
    phase = np.clip((0.1 * np.arange(1, W + 1) - begin) / (end - begin), 0, 1)
    return size * np.sin(np.pi * phase)


def observation(**changes):
    """Two cameras of two tiny frames; the history stands."""
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    cameras = tuple(CameraFrames(i, images + 40 * i, np.array([-0.1, 0.0])) for i in (1, 2))
    return dataclasses.replace(
        Observation(
            cameras,
            np.zeros((16, 3), np.float32),
            np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
            clip_id="c",
        ),
        **changes,
    )


def situation(reasoning="", motion=None, boxes=None, label=None):
    """A window; `boxes` [A, 5] stand where they are, None is no annotation."""
    xyz, rot = poses(8.0) if motion is None else motion
    scene = None
    if boxes is not None:
        boxes = np.asarray(boxes, np.float32).reshape(-1, 5)
        scene = Scene(np.tile(boxes, (W, 1, 1)), np.ones((W, len(boxes)), bool))
    return Situation(observation(), Target(xyz, rot, reasoning), scene, label)


def episodes(situations, texts, motions=None, valid=True, ended=True, num_tokens=10):
    """B situations, texts [B][K], motions [B][K] of (xyz, rot); default: what the driver did."""
    situations, texts = tuple(situations), tuple(tuple(row) for row in texts)
    shape = len(texts), len(texts[0])
    if motions is None:
        targets = [(s.target.ego_future_xyz, s.target.ego_future_rot) for s in situations]
        motions = [[target] * shape[1] for target in targets]
    xyz, rot = (np.stack([[m[i] for m in row] for row in motions]) for i in (0, 1))
    return Episodes(
        situations, texts, xyz, rot,
        np.broadcast_to(np.asarray(valid), shape).copy(),
        np.broadcast_to(np.asarray(ended), shape).copy(),
        np.broadcast_to(np.asarray(num_tokens, np.int32), shape).copy(),
    )  # fmt: skip

"""A prediction as AlpaSim reads it: timed poses in its local frame, and what its videos show."""

import struct
from typing import Any, Mapping

import numpy as np

from alpamayo_jax.serve import wire
from alpamayo_jax.serve.history import Pose
from alpamayo_jax.types import Prediction

WAYPOINT_US = 100_000


def trajectory(
    prediction: Prediction, sample: int, start: Pose, t0_us: int, current: Pose, now_us: int
) -> Any:
    """One sample as a `common.Trajectory`: the current pose, then the waypoints after it.

    AlpaSim drives on a plane, so the waypoints are turned by the heading of the start alone, keep
    the height of the current pose, and have headings without pitch and roll.

    Args:
      prediction: of the observation.
      sample: k.
      start: pose at t0, where the prediction's ego frame is.
      t0_us: microseconds.
      current: pose at `now_us`.
      now_us: when the plan begins, at or after t0.
    """
    xy, rot = prediction.xyz[sample, :, :2], prediction.rot[sample]
    yaw = np.arctan2(rot[:, 1, 0], rot[:, 0, 0])
    cos, sin = np.cos(start.yaw), np.sin(start.yaw)
    x = start.xyz[0] + cos * xy[:, 0] - sin * xy[:, 1]
    y = start.xyz[1] + sin * xy[:, 0] + cos * xy[:, 1]
    message = wire.Trajectory()
    _add_pose(message, now_us, *current.xyz, current.yaw)
    for i in range(len(xy)):
        time_us = t0_us + (i + 1) * WAYPOINT_US
        if time_us > now_us:
            _add_pose(message, time_us, x[i], y[i], current.xyz[2], start.yaw + yaw[i])
    return message


def _add_pose(message: Any, time_us: int, x: float, y: float, z: float, yaw: float) -> None:
    timed = message.poses.add(timestamp_us=time_us)
    timed.pose.vec.x, timed.pose.vec.y, timed.pose.vec.z = x, y, z
    timed.pose.quat.w, timed.pose.quat.z = np.cos(yaw / 2), np.sin(yaw / 2)


def debug_bytes(texts: Mapping[str, str]) -> bytes:
    """A dictionary of strings in the form in which AlpaSim's evaluation reads debug information.

    That form is a pickle (protocol 2); `reasoning_text` and `command_name` appear in its videos.
    These bytes hold strings alone, and nothing in this library ever reads a pickle.
    """

    def string(text: str) -> bytes:
        data = text.encode("utf-8", "replace")
        return b"X" + struct.pack("<I", len(data)) + data

    items = b"".join(string(name) + string(text) for name, text in texts.items())
    return b"\x80\x02}(" + items + b"u."

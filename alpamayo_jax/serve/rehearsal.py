"""A rollout without a simulator: the messages that AlpaSim would send of a car on a wide arc."""

import dataclasses
import io
import math
from typing import Any, Sequence

import numpy as np
from PIL import Image

from alpamayo_jax.clip import RELEASE_CAMERAS
from alpamayo_jax.serve import wire

STEP_US = 100_000
SHUTTER_US = 30_000
NUM_WAYPOINTS = 20  # of a route; AlpaSim fills up with NaN
# The cameras that Alpamayo 1 drives with.
CAMERA_INDICES = (0, 1, 2, 6)
CAMERAS = tuple(RELEASE_CAMERAS[index] for index in CAMERA_INDICES)


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """One car, and what is told about it.

    Attributes:
      uuid: of the session.
      begin_us: when the recording begins; 1970 is long ago in AlpaSim.
      origin: where the car is then, local frame, metres.
      heading: radians, then.
      speed: m/s.
      yaw_rate: rad/s.
      cameras: logical ids.
      image_size: height and width of the images.
      image_format: "JPEG" or "PNG".
    """

    uuid: str
    begin_us: int = 1_700_000_000_000_000
    origin: tuple[float, float, float] = (1200.0, -800.0, 30.0)
    heading: float = 2.0
    speed: float = 10.0
    yaw_rate: float = 0.05
    cameras: Sequence[str] = CAMERAS
    image_size: tuple[int, int] = (1080, 1916)
    image_format: str = "JPEG"

    def pose(self, time_us: int) -> tuple[np.ndarray, float]:
        """Position [3] and heading at a time."""
        t = (time_us - self.begin_us) / 1e6
        heading = self.heading + self.yaw_rate * t
        # The chord of an arc, also where it is straight.
        turn = self.yaw_rate * t / 2
        chord = self.speed * t * (math.sin(turn) / turn if turn else 1.0)
        middle = self.heading + turn
        offset = np.array([chord * math.cos(middle), chord * math.sin(middle), 0.0])
        return np.asarray(self.origin) + offset, heading

    def start(self, seed: int = 0) -> Any:
        """The start of the session."""
        message = wire.DriveSessionRequest(session_uuid=self.uuid, random_seed=seed)
        message.debug_info.scene_id = "rehearsal"
        height, width = self.image_size
        for name in self.cameras:
            camera = message.rollout_spec.vehicle.available_cameras.add(logical_id=name)
            spec = camera.intrinsics
            spec.logical_id, spec.resolution_h, spec.resolution_w = name, height, width
            lens = spec.opencv_pinhole_param
            lens.focal_length_x = lens.focal_length_y = 0.6 * width
            lens.principal_point_x, lens.principal_point_y = width / 2, height / 2
            camera.rig_to_camera.vec.z = 1.5
            camera.rig_to_camera.quat.w = 1.0
        return message

    def egomotion(self, times_us: Sequence[int], moving: bool = True) -> Any:
        """Poses at those times; not `moving`: with dynamic states of zero, as AlpaSim begins."""
        message = wire.RolloutEgoTrajectory(session_uuid=self.uuid)
        for time_us in times_us:
            xyz, heading = self.pose(time_us)
            timed = message.trajectory.poses.add(timestamp_us=time_us)
            timed.pose.vec.x, timed.pose.vec.y, timed.pose.vec.z = xyz
            timed.pose.quat.w, timed.pose.quat.z = math.cos(heading / 2), math.sin(heading / 2)
            state = message.dynamic_states.add()
            if moving:
                state.linear_velocity.x, state.angular_velocity.z = self.speed, self.yaw_rate
        return message

    def route(self, time_us: int, num_valid: int = NUM_WAYPOINTS) -> Any:
        """Waypoints 4.2 m apart along the arc in the rig frame, the rest NaN."""
        message = wire.RouteRequest(session_uuid=self.uuid)
        message.route.timestamp_us = time_us
        here, heading = self.pose(time_us)
        for i in range(NUM_WAYPOINTS):
            if i < num_valid:
                there = self.pose(time_us + round(1e6 * i * 80 / 19 / max(self.speed, 1.0)))[0]
                x, y = (there - here)[:2]
                cos, sin = math.cos(heading), math.sin(heading)
                message.route.waypoints.add(x=cos * x + sin * y, y=cos * y - sin * x)
            else:
                message.route.waypoints.add(x=math.nan, y=math.nan, z=math.nan)
        return message

    def image(self, camera: str, time_us: int) -> Any:
        """A frame whose exposure ends at that time: sky, road, and a bar that moves."""
        message = wire.RolloutCameraImage(session_uuid=self.uuid)
        frame = message.camera_image
        frame.frame_start_us, frame.frame_end_us = time_us - SHUTTER_US, time_us
        frame.logical_id = camera
        frame.image_bytes = self._picture((time_us - self.begin_us) // STEP_US)
        return message

    def drive(self, time_us: int) -> Any:
        """The request for a plan from that time on."""
        return wire.DriveRequest(
            session_uuid=self.uuid, time_now_us=time_us, time_query_us=time_us + STEP_US
        )

    def close(self) -> Any:
        """The end of the session."""
        return wire.DriveSessionCloseRequest(session_uuid=self.uuid)

    def observations(
        self, begin_us: int, now_us: int, num_valid: int = NUM_WAYPOINTS
    ) -> list[tuple[str, Any]]:
        """(call, message) of all that is known from `begin_us` to `now_us`."""
        times = range(begin_us, now_us + 1, STEP_US)
        calls = [("submit_image_observation", self.image(camera, time_us))
                 for time_us in times for camera in self.cameras]  # fmt: skip
        calls.append(("submit_egomotion_observation", self.egomotion(times, moving=False)))
        calls.append(("submit_route", self.route(now_us, num_valid)))
        return calls

    def _picture(self, step: int) -> bytes:
        height, width = self.image_size
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[: height // 2] = (140, 180, 220)
        pixels[height // 2 :] = (90, 90, 90)
        bar = step * width // 50 % width
        pixels[height // 3 :, bar : bar + max(width // 40, 1)] = (230, 210, 60)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.image_format)
        return buffer.getvalue()

"""The driver's answer to each call of AlpaSim's interface; knows messages, not connections."""

from concurrent.futures import CancelledError
import dataclasses
import importlib.metadata
from typing import Any, Callable, Sequence

from absl import logging
import numpy as np

from alpamayo_jax.clip import RELEASE_CAMERAS
from alpamayo_jax.config import ConfigError
from alpamayo_jax.serve import images, plans, wire
from alpamayo_jax.serve.batching import Batcher
from alpamayo_jax.serve.errors import bad_message, not_yet
from alpamayo_jax.serve.history import observation_at
from alpamayo_jax.serve.planner import Planner
from alpamayo_jax.serve.sessions import Session, Sessions
from alpamayo_jax.tokens import routes
from alpamayo_jax.types import InputError, Observation, Prediction

_MOST_POSES = 100_000


@dataclasses.dataclass(frozen=True)
class DriverSettings:
    """How the driver drives.

    Attributes:
      cameras: indices in the release's camera map that the policy looks through; None: every
        camera of the session that the release knows; (): none.
      num_frames: per camera, 0.1 s apart.
      camera_names: other logical ids -> index in the release's camera map.
      navigation: give the policy a route text made of the waypoints (Alpamayo 1.5).
      seed: None: each session's own, so that rollouts differ; a number: the same in every session,
        so that rollouts can be repeated.
      max_sessions: open at once.
      idle_s: after so long without a call a session may be forgotten.
      max_batch: plans made at once.
      wait_s: how long a plan waits for others to share its batch.
    """

    cameras: tuple[int, ...] | None = None
    num_frames: int = 4
    camera_names: tuple[tuple[str, int], ...] = ()
    navigation: bool = False
    seed: int | None = None
    max_sessions: int = 64
    idle_s: float = 900.0
    max_batch: int = 8
    wait_s: float = 0.005

    def __post_init__(self):
        if min(self.num_frames, self.max_sessions, self.max_batch) < 1:
            raise ConfigError("num_frames, max_sessions and max_batch must be at least 1")


@dataclasses.dataclass(frozen=True)
class _Job:
    observation: Observation
    seed: int

    @property
    def kind(self) -> tuple:
        """What must be equal in a batch, so that no other program than the warmed ones runs."""
        return tuple((c.camera_index, c.images.shape) for c in self.observation.cameras)


class Driver:
    """Sessions, and a planner that they share. Every method may be called from many threads.

    Methods named as the calls of the interface take its request message and return its reply, or
    raise `Refused`.
    """

    def __init__(self, planner: Planner, settings: DriverSettings = DriverSettings()):
        self._planner, self._settings = planner, settings
        self.sessions = Sessions(settings.max_sessions, settings.idle_s)
        self._batcher: Batcher[_Job, Prediction] = Batcher(
            lambda jobs: planner.plan([j.observation for j in jobs], [j.seed for j in jobs]),
            settings.max_batch,
            settings.wait_s,
            kind=lambda job: job.kind,
        )

    def close(self) -> None:
        """Ends the planning thread; plans that wait are given up."""
        self._batcher.close()

    def get_version(self, request: Any) -> Any:
        """Name and version; the same from every replica."""
        del request
        message = wire.VersionId(
            version_id=f"alpamayo_jax-{importlib.metadata.version('alpamayo_jax')}",
            git_hash="unknown",
        )
        version = message.grpc_api_version
        version.major, version.minor, version.patch = wire.API_VERSION
        return message

    def start_session(self, request: Any) -> Any:
        """Opens a session with those of its cameras that the policy looks through."""
        names = [camera.logical_id for camera in request.rollout_spec.vehicle.available_cameras]
        known = {name: index for index, name in enumerate(RELEASE_CAMERAS)}
        known |= dict(self._settings.camera_names)
        wanted = self._settings.cameras
        used = {n: known[n] for n in names if n in known and (wanted is None or known[n] in wanted)}
        missing = set(wanted or ()) - set(used.values())
        if missing or (not used and wanted is None):
            raise bad_message(
                f"session {request.session_uuid!r} offers camera(s) {', '.join(names) or 'none'}; "
                f"the policy needs {_named(sorted(missing)) if missing else 'one that it knows'}"
            )
        seed = request.random_seed if self._settings.seed is None else self._settings.seed
        ignored = [name for name in names if name not in used]
        self.sessions.start(request.session_uuid, seed, used, ignored)
        logging.info("session %s: cameras %s", request.session_uuid, ", ".join(used) or "none")
        return wire.SessionRequestStatus()

    def close_session(self, request: Any) -> Any:
        """Forgets a session."""
        self.sessions.close(request.session_uuid)
        return wire.Empty()

    def submit_image_observation(self, request: Any) -> Any:
        """Keeps a frame of a camera that the policy looks through, drops that of another."""
        session, message = self.sessions.get(request.session_uuid), request.camera_image
        if message.logical_id in session.ignored:
            return wire.Empty()
        if message.logical_id not in session.cameras:
            have = ", ".join([*session.cameras, *session.ignored])
            raise bad_message(
                f"camera {message.logical_id!r} was not announced by start_session, which had: "
                f"{have}"
            )
        try:
            image = self._planner.prepare(images.decode(message.image_bytes))
        except InputError as error:
            raise bad_message(f"camera {message.logical_id}: {error}") from error
        with session.lock:
            session.cameras[message.logical_id].add(_time(message.frame_end_us), image)
        return wire.Empty()

    def submit_egomotion_observation(self, request: Any) -> Any:
        """Keeps poses. Dynamic states are not read: AlpaSim sends zeros for its first seconds."""
        session, poses = self.sessions.get(request.session_uuid), request.trajectory.poses
        if len(poses) > _MOST_POSES:
            raise bad_message(f"{len(poses)} poses in one message; at most {_MOST_POSES} are read")
        times = np.array([_time(p.timestamp_us) for p in poses], np.int64)
        vecs, quats = [p.pose.vec for p in poses], [p.pose.quat for p in poses]
        xyz = np.array([(v.x, v.y, v.z) for v in vecs]).reshape(-1, 3)
        quat = np.array([(q.w, q.x, q.y, q.z) for q in quats]).reshape(-1, 4)
        try:
            with session.lock:
                session.poses.add(times, xyz, quat)
        except InputError as error:
            raise bad_message(f"ego trajectory: {error}") from error
        return wire.Empty()

    def submit_route(self, request: Any) -> Any:
        """Keeps the newest route, without the rows that only fill it up."""
        session = self.sessions.get(request.session_uuid)
        points = np.array([(p.x, p.y, p.z) for p in request.route.waypoints]).reshape(-1, 3)
        with session.lock:
            session.route = routes.clean(points)
        return wire.Empty()

    def submit_recording_ground_truth(self, request: Any) -> Any:
        """Reads nothing of it: a driver that knew the recording would not be a driver."""
        self.sessions.get(request.session_uuid)
        return wire.Empty()

    def drive(
        self, request: Any, on_future: Callable[[Any], None] = lambda future: None
    ) -> Any:
        """A plan from `time_now_us` on, with all samples in the debug information.

        Args:
          request: a DriveRequest.
          on_future: told the future of the plan, to cancel it if the caller goes away.
        """
        session, now_us = self.sessions.get(request.session_uuid), _time(request.time_now_us)
        try:
            with session.lock:
                cameras = list(session.cameras.values())
                observation, t0_us = observation_at(
                    f"session {session.uuid}", session.poses, cameras, now_us,
                    self._settings.num_frames,
                )  # fmt: skip
                start, current = session.poses.at(t0_us), session.poses.at(now_us)
                observation = self._with_route(session, observation)
                # On the session's clock, which tells a streaming policy what it has seen.
                observation = dataclasses.replace(observation, t0=t0_us / 1e6)
                direction = routes.command(session.route)
                job = _Job(observation, session.next_seed())
        except InputError as error:
            raise not_yet(str(error)) from error
        future = self._batcher.submit(job)
        on_future(future)
        try:
            prediction = future.result()
        except CancelledError:
            raise not_yet("the driver is shutting down") from None
        made = [
            plans.trajectory(prediction, k, start, t0_us, current, now_us)
            for k in range(len(prediction.xyz))
        ]
        chosen = prediction.most_likely
        reply = wire.DriveResponse(trajectory=made[chosen])
        reply.debug_info.sampled_trajectories.extend(made)
        reply.debug_info.unstructured_debug_info = plans.debug_bytes(
            {"command_name": direction, "reasoning_text": prediction.reasoning[chosen]}
        )
        return reply

    def _with_route(self, session: Session, observation: Observation) -> Observation:
        if not self._settings.navigation:
            return observation
        return dataclasses.replace(observation, navigation=routes.navigation(session.route))


def _named(indices: Sequence[int]) -> str:
    known = dict(enumerate(RELEASE_CAMERAS))
    return ", ".join(f"{index} ({known.get(index, 'no name')})" for index in indices)


def _time(microseconds: int) -> int:
    """A time on the wire, which is unsigned 64 bits, as one that can be subtracted."""
    if microseconds >= 1 << 62:
        raise bad_message(f"time {microseconds} us is beyond any clock")
    return int(microseconds)

"""What AlpaSim's runtime and controller need of a plan."""

from typing import Any, Iterator, Sequence

import numpy as np

HORIZON_S = 2.0  # the controller reads the plan so far ahead
UNIT_TOLERANCE = 1e-4  # of the squared length of a quaternion; beyond it the runtime gives up
_MOST_SPEED = 70.0  # m/s between poses of a plan; more is a wrong unit, frame or clock
_NEAR_M = 5.0


def reply_faults(
    reply: Any, now_us: int, query_us: int, xyz: Sequence[float]
) -> Iterator[tuple[str, str]]:
    """(rule, what was found) of everything that is wrong with a DriveResponse.

    Args:
      reply: the message.
      now_us: when the plan was asked for.
      query_us: when the simulator asks where the vehicle is to be.
      xyz: position of the rig at `now_us` in the local frame.
    """
    if reply.terminate_session:
        yield "terminate_session", "is set: the simulator ends the rollout at once"
    yield from plan_faults(reply.trajectory, now_us, query_us, xyz)
    for k, sampled in enumerate(reply.debug_info.sampled_trajectories):
        for rule, found in plan_faults(sampled, now_us, query_us, xyz):
            yield rule, f"sampled trajectory {k}: {found}"


def plan_faults(
    trajectory: Any, now_us: int, query_us: int, xyz: Sequence[float]
) -> Iterator[tuple[str, str]]:
    """(rule, what was found) of one trajectory; arguments as in `reply_faults`."""
    poses = trajectory.poses
    if not poses:
        yield "plan_not_empty", "the plan has no pose; the controller raises"
        return
    # Differences of integers: float64 would round absolute times.
    t = np.array([int(pose.timestamp_us) - now_us for pose in poses]) / 1e6
    where = np.array([(p.pose.vec.x, p.pose.vec.y, p.pose.vec.z) for p in poses], np.float64)
    quat = np.array([(p.pose.quat.w, p.pose.quat.x, p.pose.quat.y, p.pose.quat.z) for p in poses])
    finite = np.isfinite(where).all(-1) & np.isfinite(quat).all(-1)
    if not finite.all():
        yield "plan_finite", f"pose {np.argmin(finite)} has NaN or infinite values"
        return
    off = np.abs((quat**2).sum(-1) - 1.0)
    if off.max() >= UNIT_TOLERANCE:
        i = int(np.argmax(off))
        yield "plan_quaternions", f"pose {i}: {quat[i].tolist()} is not a unit quaternion"
    steps = np.diff(t)
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0)) + 1
        times = f"pose {i} is at {t[i]:.6f} s after now, pose {i - 1} at {t[i - 1]:.6f} s"
        yield "plan_times", times
        return
    if t[0] > (query_us - now_us) / 1e6:
        yield "plan_start", f"begins {t[0]:.3f} s after now, later than the queried time"
    if t[-1] < HORIZON_S:
        yield "plan_horizon", f"ends {t[-1]:.3f} s after now; {HORIZON_S} s are tracked"
    away = float(np.linalg.norm(where[0, :2] - np.asarray(xyz)[:2]))
    if away > _NEAR_M + _MOST_SPEED * abs(t[0]):
        yield "plan_frame", (
            f"begins {away:.1f} m from the vehicle; poses are those of the rig in the local frame"
        )
    speed = np.linalg.norm(np.diff(where[:, :2], axis=0), axis=-1) / steps if len(t) > 1 else [0.0]
    if max(speed) > _MOST_SPEED:
        i = int(np.argmax(speed))
        yield "plan_speed", f"moves at {speed[i]:.0f} m/s between poses {i} and {i + 1}"

"""A checkpoint's policy in the closed loop: it sees, reasons and plans anew at every tick."""

from typing import Sequence

import numpy as np

from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.hosted import HostPlan, Moment
from alpamayo_jax.closed_loop.runner import MOST
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.streaming import Drives
from alpamayo_jax.sim.closed_loop import WAYPOINTS, Plan
from alpamayo_jax.tokens import routes
from alpamayo_jax.types import Observation, Prediction

_BLACK = 10  # AlpaSim: an image none of whose values is larger is black


class CheckpointPolicy:
    """Drives with a `decode.policy.Policy`; a `hosted.HostPolicy`.

    Args:
      policy: from `load_policy`.
      settings: how it is sampled.
      cameras: what it sees, or None: ego motion alone.
      navigation: tell it the route as text (Alpamayo 1.5).
      batch_size: observations per program call.
      streaming: "off", or a reuse of `decode.streaming.Drive`: rollouts use what they have seen and
        said a step before, and are planned one after the other.

    Raises:
      ConfigError: the policy plans another number of waypoints than the loop tracks, or route text
        for a policy that reads none.
    """

    def __init__(
        self,
        policy: Policy,
        settings: SampleSettings,
        cameras: SceneCameras | None,
        navigation: bool = False,
        batch_size: int = 8,
        streaming: str = "off",
    ):
        waypoints = policy.config.action.n_waypoints
        if waypoints != WAYPOINTS:
            raise ConfigError(f"the policy plans {waypoints} waypoints, the loop needs {WAYPOINTS}")
        if navigation and policy.config.release != "alpamayo1_5":
            raise ConfigError(f"navigation: a policy of {policy.config.release} reads no route")
        self._policy, self._settings, self._cameras = policy, settings, cameras
        self._navigation, self._batch_size = navigation, batch_size
        self._drives = None
        if streaming != "off":
            self._drives = Drives(policy, settings, reuse=streaming, most=MOST)

    def plan(self, moments: Sequence[Moment]) -> list[HostPlan]:
        """The most likely sample of each moment, with its reasoning.

        Raises:
          InputError: a scene whose cameras cannot be drawn.
        """
        if self._drives is not None:
            seen = [self.observe(moment) for moment in moments]
            keys = [(moment.scene.name, moment.rollout) for moment in moments]
            drawn = self._drives(keys, seen, [moment.seed % 2**32 for moment in moments])
            return [_plan(o, p) for o, p in zip(seen, drawn)]
        plans: list[HostPlan] = []
        size = self._batch_size
        for start in range(0, len(moments), size):
            chosen = moments[start : start + size]
            seen = [self.observe(moment) for moment in chosen]
            # The last batch is filled up by repetition, so that one program serves all.
            filled = [i % len(chosen) for i in range(size)]
            predictions = sample(
                self._policy,
                [seen[i] for i in filled],
                seed=[chosen[i].seed % 2**32 for i in filled],
                settings=self._settings,
            )
            plans += [_plan(o, p) for o, p in zip(seen, predictions)]
        return plans

    def streamed(self) -> dict[str, int]:
        """What streaming has computed, see `decode.streaming.Drives.totals`; {} where it is off."""
        return {} if self._drives is None else dict(self._drives.totals)

    def observe(self, moment: Moment) -> Observation:
        """What the policy sees at a moment."""
        history = np.asarray(moment.sight.ego_history, np.float64)
        here, cos, sin = history[-1], np.cos(history[-1, 2]), np.sin(history[-1, 2])
        into = np.array([[cos, sin], [-sin, cos]])
        xyz = np.zeros((len(history), 3), np.float32)
        xyz[:, :2] = (history[:, :2] - here[:2]) @ into.T
        turned = history[:, 2] - here[2]
        rot = np.zeros((len(history), 3, 3), np.float32)
        rot[:, 0, 0] = rot[:, 1, 1] = np.cos(turned)
        rot[:, 1, 0], rot[:, 0, 1] = np.sin(turned), -np.sin(turned)
        rot[:, 2, 2] = 1.0
        text = None
        if self._navigation:
            text = routes.navigation(_route_ahead(moment.scene.arrays.route, here, into))
        return Observation(
            cameras=() if self._cameras is None else self._cameras.see(moment),
            ego_history_xyz=xyz,
            ego_history_rot=rot,
            navigation=text,
            clip_id=moment.scene.name,
            t0=0.1 * moment.tick,
        )


def _route_ahead(route: np.ndarray, here: np.ndarray, into: np.ndarray) -> np.ndarray:
    """What is ahead [N, 3] of the route, in the rig frame."""
    nearest = int(np.argmin(np.linalg.norm(route - here[:2], axis=-1)))
    xy = (route[nearest:] - here[:2]) @ into.T
    return np.concatenate([xy, np.zeros((len(xy), 1))], axis=-1)


def _plan(observation: Observation, prediction: Prediction) -> HostPlan:
    chosen = prediction.most_likely
    rot = prediction.rot[chosen]
    yaw = np.arctan2(rot[:, 1, 0], rot[:, 0, 0])
    pose = np.concatenate([prediction.xyz[chosen, :, :2], yaw[:, None]], axis=-1)
    return HostPlan(
        Plan(pose.astype(np.float32), prediction.xyz[..., :2].astype(np.float32)),
        prediction.reasoning[chosen],
        black=any(image.max() <= _BLACK for c in observation.cameras for image in c.images),
    )

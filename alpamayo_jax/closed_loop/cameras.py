"""What the cameras of a simulated vehicle see, wherever a policy has driven it."""

import collections
from typing import Sequence

import numpy as np

from alpamayo_jax.closed_loop.hosted import Moment
from alpamayo_jax.sim import camera
from alpamayo_jax.sim.renderer import Rig, Stage
from alpamayo_jax.sim.scenes import TICK, Scene
from alpamayo_jax.types import CameraFrames, InputError

_MOST_STAGES = 64


class SceneCameras:
    """A rig that is carried through scenes; frames that stay in view are drawn once.

    Args:
      specs: the cameras.
      image_size: width and height of all of them, pixels.
      num_frames: frames that a policy sees, one per tick, the last of now.
    """

    def __init__(
        self,
        specs: Sequence[camera.CameraSpec] = (camera.FRONT,),
        image_size: tuple[int, int] = (320, 192),
        num_frames: int = 4,
    ):
        self.specs, self.num_frames = tuple(specs), num_frames
        self._rig = Rig(tuple(camera.make_view(spec, *image_size) for spec in self.specs))
        self._stages: collections.OrderedDict[int, tuple[Scene, Stage]] = collections.OrderedDict()
        # (scene, rollout) -> tick -> (pose of the ego, images).
        self._seen: dict[tuple[str, int], dict[int, tuple[np.ndarray, np.ndarray]]] = {}

    @property
    def front(self) -> int:
        """Place of the camera that looks most nearly ahead."""
        return min(range(len(self.specs)), key=lambda i: abs(self.specs[i].yaw))

    def check(self, scenes: Sequence[Scene]) -> None:
        """Raises `InputError` where a scene is a recording, whose cameras cannot be moved."""
        for scene in scenes:
            if scene.world is None:
                raise InputError(
                    f"scene {scene.name!r} is a recording: its cameras cannot be moved; drive it "
                    "with a policy that needs none, or with cameras left out"
                )

    def see(self, moment: Moment) -> tuple[CameraFrames, ...]:
        """The newest frames of every camera at a moment.

        Raises:
          InputError: the scene is a recording, whose cameras cannot be moved.
        """
        seen = self._seen.setdefault((moment.scene.name, moment.rollout), {})
        first = moment.tick - self.num_frames + 1
        ticks = [max(tick, 0) for tick in range(first, moment.tick + 1)]
        for tick in ticks:
            pose = moment.ego_poses[tick]
            if tick not in seen or not np.array_equal(seen[tick][0], pose):
                images = self.draw(moment.scene, tick, pose, moment.agent_poses[:, tick])
                seen[tick] = pose, images
        for old in [tick for tick in seen if tick not in ticks]:
            del seen[old]
        images = np.stack([seen[tick][1] for tick in ticks])
        times = TICK * np.arange(first - moment.tick, 1)
        return tuple(
            CameraFrames(spec.index, images[:, i], times)
            for i, spec in sorted(enumerate(self.specs), key=lambda pair: pair[1].index)
        )

    def draw(
        self, scene: Scene, tick: int, ego_pose: np.ndarray, agent_poses: np.ndarray
    ) -> np.ndarray:
        """uint8 [C, H, W, 3] of one tick.

        Args:
          scene: a procedural one.
          tick: what lights show.
          ego_pose: [3], scene frame.
          agent_poses: [A, 3], scene frame.

        Raises:
          InputError: the scene is a recording.
        """
        stage = self._stage(scene)
        count = len(stage.motions)
        shift = np.array([*scene.origin, 0.0])
        return stage.render(self._rig, tick, ego_pose + shift, agent_poses[:count] + shift)

    def _stage(self, scene: Scene) -> Stage:
        self.check([scene])
        found = self._stages.get(id(scene))
        if found is None:
            found = scene, Stage(scene.world.world, scene.world.motions)
            self._stages[id(scene)] = found
            while len(self._stages) > _MOST_STAGES:
                self._stages.popitem(last=False)
        return found[1]

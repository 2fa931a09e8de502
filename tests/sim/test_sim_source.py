"""Procedural clips: validity, laziness, and reproducibility across processes."""

import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim import camera
from alpamayo_jax.sim.scenarios import FAMILIES
from alpamayo_jax.sim.source import ProceduralSource, procedural_clip
from alpamayo_jax.types import InputError

SMALL = (64, 40)


def digest(clip, frames=(0, 30)):
    parts = [clip.ego.xyz, clip.ego.quat_wxyz, clip.agents.xyz, clip.map_lines.points]
    parts += [cam.read(k) for cam in clip.cameras for k in frames]
    text = clip.clip_id + "".join(f"{label.t}{label.text}" for label in clip.reasoning)
    return hashlib.sha256(b"".join(p.tobytes() for p in parts) + text.encode()).hexdigest()


class SourceTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_clip_is_valid(self, family):
        clip = procedural_clip(1, 2, family=family, image_size=SMALL)
        self.assertIs(clip.validate(), clip)
        self.assertIn(family, clip.clip_id)
        self.assertLen(clip.ego.t, 201)
        (front,) = clip.cameras
        np.testing.assert_array_equal(front.times, clip.ego.t)
        self.assertEqual(front.read(3).shape, (40, 64, 3))
        self.assertEqual(front.read(3).dtype, np.uint8)
        self.assertEqual(clip.ground_z, 0.0)
        self.assertNotEmpty(clip.reasoning)

    def test_agents_have_one_row_per_time_and_track(self):
        agents = procedural_clip(1, 0, family="lead_slows", cameras=()).agents
        keys = set(zip(np.round(agents.t, 3), agents.track))
        self.assertLen(keys, len(agents.t))
        self.assertTrue((np.diff(agents.t) >= 0).all())
        self.assertEqual(int((agents.track == 0).sum()), 201)
        self.assertLessEqual(set(agents.category), {"CAR", "VEHICLE", "TRUCK", "PEDESTRIAN"})
        self.assertEqual(agents.xyz.shape, agents.lwh.shape)

    def test_ego_heading_matches_its_motion(self):
        ego = procedural_clip(1, 3, family="s_curve", cameras=()).ego
        yaw = 2 * np.arctan2(ego.quat_wxyz[:, 3], ego.quat_wxyz[:, 0])
        step = np.diff(ego.xyz[:, :2], axis=0)
        course = np.arctan2(step[:, 1], step[:, 0])
        middle = yaw[:-1] + np.angle(np.exp(1j * np.diff(yaw))) / 2
        self.assertLess(np.abs(np.angle(np.exp(1j * (course - middle)))).max(), 0.01)

    def test_same_arrays_in_another_process(self):
        here = digest(procedural_clip(5, 6, image_size=SMALL))
        code = (
            "import sys; sys.path.insert(0, 'tests/sim'); import test_sim_source as t;"
            "print(t.digest(t.procedural_clip(5, 6, image_size=t.SMALL)))"
        )
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        env = {**os.environ, "PYTHONHASHSEED": "77", "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.strip(), here)

    def test_order_of_reading_does_not_matter(self):
        first, second = (procedural_clip(2, 1, image_size=SMALL).cameras[0] for _ in range(2))
        forward = [first.read(k) for k in (0, 10, 20)]
        backward = [second.read(k) for k in (20, 10, 0)]
        np.testing.assert_array_equal(forward, backward[::-1])

    def test_cache_gives_the_same_frame_and_is_safe_to_write(self):
        plain = procedural_clip(2, 1, image_size=SMALL).cameras[0].read(7)
        cached = procedural_clip(2, 1, image_size=SMALL, cache=True).cameras[0]
        cached.read(7)[:] = 0
        np.testing.assert_array_equal(cached.read(7), plain)

    def test_clip_can_be_sent_to_a_worker(self):
        clip = procedural_clip(2, 2, image_size=SMALL)
        copy = pickle.loads(pickle.dumps(clip))
        np.testing.assert_array_equal(copy.cameras[0].read(4), clip.cameras[0].read(4))

    @parameterized.parameters(-1, 201)
    def test_frame_outside_the_clip(self, frame):
        clip = procedural_clip(2, 1, image_size=SMALL)
        with pytest.raises(InputError, match="camera 'front' has frames 0 to 200"):
            clip.cameras[0].read(frame)

    def test_rig_is_ordered_by_index(self):
        clip = procedural_clip(0, 0, cameras=camera.RIG[::-1], image_size=SMALL, seconds=4.0)
        self.assertEqual([cam.index for cam in clip.cameras], list(range(7)))
        for cam in clip.cameras:
            self.assertGreater(cam.read(5).std(), 5.0)

    def test_source_is_a_list_of_clips(self):
        source = ProceduralSource(num_clips=3, seed=4, seconds=6.0, image_size=SMALL)
        self.assertLen(source, 3)
        ids = [source.clip(i).clip_id for i in range(3)]
        self.assertLen(set(ids), 3)
        self.assertEqual(digest(source.clip(1)), digest(source.clip(1)))
        self.assertEqual(source.clip(1).clip_id, procedural_clip(4, 1, seconds=6.0).clip_id)
        for index in (-1, 3):
            with pytest.raises(IndexError):
                source.clip(index)

    def test_family_can_be_fixed(self):
        source = ProceduralSource(num_clips=2, seed=4, cameras=(), family="red_light")
        self.assertTrue(all("red_light" in source.clip(i).clip_id for i in range(2)))

    def test_empty_source_is_refused(self):
        with pytest.raises(ConfigError, match="num_clips"):
            ProceduralSource(num_clips=0, seed=0)

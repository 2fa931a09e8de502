import dataclasses

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.testing.tiny import random_inputs, random_observation, random_target, tiny_config
from alpamayo_jax.types import (
    CameraFrames,
    InputError,
    KVCache,
    ModelInputs,
    Prediction,
    SceneTokens,
    Trajectory,
    TrainBatch,
)

_CONFIG = tiny_config()


def _observation(**fields):
    return random_observation(_CONFIG, clip_id="drive 7", t0=5.1, **fields)


class ObservationTest(parameterized.TestCase):
    def test_a_good_one_passes(self):
        observation = _observation(navigation="Turn left.")
        assert observation.validate() is observation
        assert dataclasses.replace(observation, cameras=()).validate()

    @parameterized.parameters(
        ("ego_history_xyz", np.zeros((15, 3), np.float32), r"\[16, 3\], got \[15, 3\]"),
        ("ego_history_xyz", np.zeros((1, 16, 3), np.float32), r"got \[1, 16, 3\]"),
        ("ego_history_rot", np.zeros((16, 3), np.float32), r"\[16, 3, 3\], got \[16, 3\]"),
        ("ego_history_xyz", np.full((16, 3), np.nan), "NaN or infinite"),
        ("ego_history_rot", np.full((16, 3, 3), np.inf), "NaN or infinite"),
    )
    def test_poses(self, name, value, message):
        observation = dataclasses.replace(_observation(), **{name: value})
        with pytest.raises(InputError, match=f"'drive 7' at t0=5.100 s: {name} .*{message}"):
            observation.validate()

    def test_length_of_the_history(self):
        with pytest.raises(InputError, match=r"\[10, 3\], got \[16, 3\]"):
            _observation().validate(num_history_steps=10)

    @parameterized.parameters(
        (np.zeros((2, 8, 8, 3), np.float32), r"uint8 \[F, height, width, 3\], got float32"),
        (np.zeros((8, 8, 3), np.uint8), r"got uint8 \[8, 8, 3\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"got uint8 \[2, 3, 8, 8\]"),
        (np.zeros((3, 8, 8, 3), np.uint8), "3 frames, 2 times"),
    )
    def test_images(self, images, message):
        camera = CameraFrames(1, images, np.array([-0.1, 0.0]))
        with pytest.raises(InputError, match=rf"'drive 7'.*cameras\[1\]\.images.*{message}"):
            dataclasses.replace(_observation(), cameras=(camera,)).validate()

    def test_cameras_are_told_apart(self):
        camera = _observation().cameras[0]
        with pytest.raises(InputError, match=r"camera indices repeat: \[0, 0\]"):
            dataclasses.replace(_observation(), cameras=(camera, camera)).validate()


class TargetTest(parameterized.TestCase):
    def test_a_good_one_passes(self):
        target = random_target(_CONFIG)
        assert target.validate(_CONFIG.action.n_waypoints) is target

    @parameterized.parameters("ego_future_xyz", "ego_future_rot")
    def test_poses(self, name):
        target = random_target(_CONFIG)
        with pytest.raises(InputError, match=r"clip 3: ego_future_xyz must be \[64, 3\], got \[8"):
            target.validate(64, where="clip 3")
        broken = getattr(target, name).copy()
        broken[2] = np.nan
        broken = dataclasses.replace(target, **{name: broken})
        with pytest.raises(InputError, match=f"target: {name} has NaN"):
            broken.validate(_CONFIG.action.n_waypoints)


class PytreeTest(parameterized.TestCase):
    @parameterized.parameters(ModelInputs, TrainBatch, KVCache, SceneTokens, Trajectory)
    def test_every_field_is_a_leaf(self, cls):
        names = [field.name for field in dataclasses.fields(cls)]
        value = cls(**{name: i for i, name in enumerate(names)})
        assert jax.tree.leaves(value) == list(range(len(names)))
        more = cls(**{name: i + 1 for i, name in enumerate(names)})
        assert jax.tree.map(lambda x: x + 1, value) == more

    def test_a_program_takes_and_returns_them(self):
        inputs = random_inputs(_CONFIG)
        got = jax.jit(lambda i: i.replace(rope_delta=i.rope_delta + 1))(inputs)
        assert isinstance(got, ModelInputs)
        np.testing.assert_array_equal(got.rope_delta, inputs.rope_delta + 1)
        np.testing.assert_array_equal(got.input_ids, inputs.input_ids)

    def test_they_cannot_be_changed(self):
        cache = KVCache(k=jnp.zeros(1), v=jnp.zeros(1))
        with pytest.raises(dataclasses.FrozenInstanceError):
            cache.k = 1


class PredictionTest(parameterized.TestCase):
    def _prediction(self, reasoning, trajectory=None):
        count = len(reasoning)
        return Prediction(
            xyz=np.zeros((count, 8, 3)),
            rot=np.zeros((count, 8, 3, 3)),
            actions=np.zeros((count, 8, 2)),
            reasoning=("",) * count,
            meta_action=("",) * count,
            token_ids=np.zeros((count, 1), np.int32),
            token_logprobs=np.zeros((count, 1)),
            reasoning_logprob=np.array(reasoning),
            ended=np.ones(count, bool),
            trajectory_logprob=None if trajectory is None else np.array(trajectory),
        )

    def test_the_most_likely_sample(self):
        assert self._prediction([-3.0, -1.0, -2.0]).most_likely == 1
        # Together with what the language model thinks of the trajectory, another one may lead.
        assert self._prediction([-3.0, -1.0, -2.0], [-5.0, -9.0, -5.0]).most_likely == 2
        assert self._prediction([-3.0, -1.0], [-5.0, -np.inf]).most_likely == 0
        assert isinstance(self._prediction([-1.0]).most_likely, int)

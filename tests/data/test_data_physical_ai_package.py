"""The data set as the package `physical_ai_av` reads it, and as we do: the same drive."""

import json

import numpy as np
import pytest

from alpamayo_jax.data.physical_ai import PhysicalAISource
from alpamayo_jax.ops.camera import project
from alpamayo_jax.testing import physical_ai as small

pytest.importorskip("av")
package = pytest.importorskip("physical_ai_av.dataset")
pd = pytest.importorskip("pandas")
FRONT = "camera_front_wide_120fov"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    wanted = small.SmallSet(clips=(("aaa-0", "aaa-1"),))
    return small.write_small_set(tmp_path_factory.mktemp("pai") / "set", wanted)


@pytest.fixture(scope="module")
def theirs(root):
    """The package's interface without its hub."""
    found = object.__new__(package.PhysicalAIAVDatasetInterface)
    table = pd.read_csv(root / "features.csv", index_col="feature")
    table["clip_files_in_zip"] = table["clip_files_in_zip"].map(json.loads, na_action="ignore")
    found.features = package.Features(table)
    found.clip_index = pd.read_parquet(root / "clip_index.parquet")
    found.feature_sources = {}
    found.open_file = lambda name, maybe_stream=False: open(root / name, "rb")
    return found


@pytest.mark.parametrize("index", [0, 1])
def test_poses(root, theirs, index):
    clip = PhysicalAISource(root).clip(index)
    interpolate = theirs.get_clip_feature(clip.clip_id, "egomotion")
    pose = interpolate(np.round(clip.ego.t * 1e6).astype(np.int64)).pose
    # Between two poses the package follows a screw, we a line: micrometres at 100 Hz.
    np.testing.assert_allclose(clip.ego.xyz, pose.translation, atol=2e-5)
    quat = pose.rotation.as_quat(scalar_first=True)
    same = np.abs(np.sum(quat * clip.ego.quat_wxyz, -1))
    np.testing.assert_allclose(same, 1.0, atol=1e-9)


@pytest.mark.parametrize("camera", small.CAMERAS)
def test_frames_and_their_times(root, theirs, camera):
    clip = PhysicalAISource(root).clip(1)
    ours = next(c for c in clip.cameras if c.name == camera)
    reader = theirs.get_clip_feature("aaa-1", camera)
    np.testing.assert_allclose(ours.times, reader.timestamps * 1e-6, atol=1e-9)
    numbers = np.array([0, 1, 77, 140, 269])
    images, stamps = reader.decode_images_from_timestamps(reader.timestamps[numbers])
    np.testing.assert_array_equal(stamps, reader.timestamps[numbers])
    for number, image in zip(numbers, images):
        np.testing.assert_array_equal(ours.read(int(number)), image)


def test_the_lens_and_its_place(root, theirs):
    camera = PhysicalAISource(root).clip(0).camera(1)
    lens = theirs.get_clip_feature("aaa-0", "camera_intrinsics").camera_models
    points = np.random.default_rng(0).normal(size=(20, 3)) * [0.4, 0.2, 0.1] + [0, 0, 1]
    pixels, _ = project(points, camera.intrinsics)
    np.testing.assert_allclose(pixels, lens[FRONT].ray2pixel(points), atol=1e-3)
    place = theirs.get_clip_feature("aaa-0", "sensor_extrinsics").sensor_poses[FRONT]
    np.testing.assert_allclose(camera.ego_from_camera, place.as_matrix(), atol=1e-9)

"""A mirrored clip is the drive seen in a mirror: geometry, pixels, windows and words agree."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import RELEASE_CAMERAS, FTheta, MapLines, Pinhole
from alpamayo_jax.data.mirror import WithMirrored, mirror_clip, mirror_text
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.ops import camera as camera_ops
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.testing.clips import small_clip

FLIP = np.array([1.0, -1.0, 1.0])
NAMES = RELEASE_CAMERAS[:4] + RELEASE_CAMERAS[5:6]


def off_axis_clip(ftheta: bool):
    """Five cameras whose optical centres are not the middle of the image."""
    clip = small_clip(9.0, NAMES, num_agents=2, with_map=True, size=(65, 48), ftheta=ftheta)
    cameras = tuple(
        dataclasses.replace(
            camera, intrinsics=dataclasses.replace(camera.intrinsics, cx=20.0 + 5 * i, cy=17.0)
        )
        for i, camera in enumerate(clip.cameras)
    )
    return dataclasses.replace(clip, cameras=cameras).validate()


def pixels(clip, index: int, t0: float, world: np.ndarray):
    """Where a camera sees points of the world at t0: uv [N, 2], seen [N]."""
    row = int(np.argmin(np.abs(clip.ego.t - t0)))
    ego = Rotation.from_quat(clip.ego.quat_wxyz[row], scalar_first=True).inv()
    camera = clip.camera(index)
    points = camera_ops.camera_from_ego(
        ego.apply(world - clip.ego.xyz[row]), camera.ego_from_camera
    )
    return camera_ops.project(points, camera.intrinsics)


@pytest.mark.parametrize("ftheta", [False, True])
def test_a_mirrored_point_is_seen_in_the_mirrored_pixel(ftheta):
    clip = off_axis_clip(ftheta)
    mirrored = mirror_clip(clip).validate()
    rng = np.random.default_rng(0)
    world = clip.ego.xyz[40] + rng.uniform(-30, 30, (200, 3)) * (1, 1, 0.2)
    # Left cameras become right ones; those that look ahead stay.
    for index, other in {0: 2, 2: 0, 3: 5, 5: 3, 1: 1}.items():
        uv, seen = pixels(clip, index, 4.0, world)
        uv_mirrored, seen_mirrored = pixels(mirrored, other, 4.0, world * FLIP)
        np.testing.assert_array_equal(seen, seen_mirrored)
        assert seen.any()
        width = clip.camera(index).width
        np.testing.assert_allclose(uv_mirrored[seen, 0], width - 1 - uv[seen, 0], atol=1e-8)
        np.testing.assert_allclose(uv_mirrored[seen, 1], uv[seen, 1], atol=1e-8)
        image, image_mirrored = clip.camera(index).read(3), mirrored.camera(other).read(3)
        np.testing.assert_array_equal(image_mirrored, image[:, ::-1])
        assert image_mirrored.flags.c_contiguous


def test_road_users_are_seen_in_the_mirrored_pixels():
    clip = procedural_clip(3, 1, seconds=9.0)
    mirrored = mirror_clip(clip)
    agents, moved = clip.agents, mirrored.agents
    rows = np.flatnonzero(np.abs(agents.t - 2.0) < 1e-6)
    uv, seen = pixels(clip, 1, 2.0, agents.xyz[rows])
    uv_mirrored, _ = pixels(mirrored, 1, 2.0, moved.xyz[rows])
    assert seen.any()
    width = clip.cameras[0].width
    np.testing.assert_allclose(uv_mirrored[seen, 0], width - 1 - uv[seen, 0], atol=1e-6)
    np.testing.assert_array_equal(moved.yaw, -agents.yaw)


@pytest.mark.parametrize("ftheta", [False, True])
def test_mirroring_twice_changes_nothing(ftheta):
    clip = dataclasses.replace(
        off_axis_clip(ftheta),
        reasoning=small_clip(reasoning=[(0.0, "Keep left: the RIGHT lane ends.")]).reasoning,
    )
    again = mirror_clip(mirror_clip(clip))
    np.testing.assert_array_equal(again.ego.xyz, clip.ego.xyz)
    np.testing.assert_array_equal(again.ego.quat_wxyz, clip.ego.quat_wxyz)
    np.testing.assert_array_equal(again.agents.xyz, clip.agents.xyz)
    np.testing.assert_array_equal(again.agents.yaw, clip.agents.yaw)
    np.testing.assert_array_equal(again.map_lines.points, clip.map_lines.points)
    np.testing.assert_array_equal(again.map_lines.kind, clip.map_lines.kind)
    assert again.reasoning == clip.reasoning
    for one, two in zip(clip.cameras, again.cameras, strict=True):
        assert (one.name, one.index, one.width) == (two.name, two.index, two.width)
        assert isinstance(two.intrinsics, FTheta if ftheta else Pinhole)
        assert two.intrinsics.cx == pytest.approx(one.intrinsics.cx)
        np.testing.assert_allclose(two.ego_from_camera, one.ego_from_camera)
        np.testing.assert_array_equal(two.read(5), one.read(5))


def test_windows_are_mirrored_in_the_ego_frame():
    clip = small_clip(12.0, seed=4, reasoning=[(0.0, "Turn left.")])
    mirrored = mirror_clip(clip)
    seen, other = observe(clip, 3.0), observe(mirrored, 3.0)
    driven, driven_other = target(clip, 3.0), target(mirrored, 3.0)
    matrix = np.diag(FLIP)
    for before, after in (
        (seen.ego_history_xyz, other.ego_history_xyz),
        (driven.ego_future_xyz, driven_other.ego_future_xyz),
    ):
        assert np.abs(before[:, 1]).max() > 0.1  # a drive with a turn in it
        np.testing.assert_allclose(after, before * FLIP, atol=1e-5)
    for before, after in (
        (seen.ego_history_rot, other.ego_history_rot),
        (driven.ego_future_rot, driven_other.ego_future_rot),
    ):
        np.testing.assert_allclose(after, matrix @ before @ matrix, atol=1e-6)
    assert driven_other.reasoning == "Turn right."
    (frames,), (frames_other,) = seen.cameras, other.cameras
    np.testing.assert_array_equal(frames_other.images, frames.images[:, :, ::-1])
    np.testing.assert_array_equal(frames_other.times, frames.times)


@pytest.mark.parametrize(
    "text, mirrored",
    [
        ("Turn left, then RIGHT.", "Turn right, then LEFT."),
        ("Left-hand bend; keep rightmost.", "Right-hand bend; keep leftmost."),
        ("Nudge leftward for the right-turning van", "Nudge rightward for the left-turning van"),
        ("A bright light, aright.", "A bright light, aright."),
        ("Yield the right of way, right away.", "Yield the right of way, right away."),
        ("It has the right-of-way on the right.", "It has the right-of-way on the left."),
        ("", ""),
    ],
)
def test_words_for_sides_are_swapped(text, mirrored):
    assert mirror_text(text) == mirrored
    assert mirror_text(mirrored) == text


def test_names_with_sides_are_swapped():
    clip = off_axis_clip(ftheta=False)
    kinds = np.array(["lane_left:SOLID_WHITE", "lane_right:NONE", "drivable_area"])
    lines = clip.map_lines
    clip = dataclasses.replace(
        clip, map_lines=MapLines(lines.points, lines.offsets, kinds, lines.ids)
    )
    mirrored = mirror_clip(clip).validate()
    assert mirrored.map_lines.kind.tolist() == [
        "lane_right:SOLID_WHITE",
        "lane_left:NONE",
        "drivable_area",
    ]
    np.testing.assert_array_equal(mirrored.map_lines.points, lines.points * FLIP)
    assert [c.index for c in mirrored.cameras] == [0, 1, 2, 3, 5]
    assert [c.name for c in mirrored.cameras] == list(NAMES)


def test_a_source_gets_the_mirror_image_of_each_clip():
    class Source:
        name = "two clips"

        def __len__(self):
            return 2

        def clip(self, index):
            return small_clip(9.0, seed=index, clip_id=f"clip{index}")

    source = WithMirrored(Source())
    assert len(source) == 4 and "two clips" in source.name
    assert [source.clip(i).clip_id for i in range(4)] == [
        "clip0",
        "clip1",
        "clip0-mirrored",
        "clip1-mirrored",
    ]
    np.testing.assert_array_equal(source.clip(3).ego.xyz, source.clip(1).ego.xyz * FLIP)
    assert source.clip(3) is source.clip(3)  # its frames can be cached
    bare = small_clip(9.0, cameras=())
    assert mirror_clip(bare).agents is None and mirror_clip(bare).map_lines is None

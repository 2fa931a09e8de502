"""Cameras of meta.json: lenses, mountings, indices."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import EGO_FROM_FORWARD_CAMERA, RELEASE_CAMERAS, FTheta, Pinhole
from alpamayo_jax.data.clip_calibration import assign_indices, number, read_calibration
from alpamayo_jax.ops.camera import check_ftheta, project
from alpamayo_jax.types import InputError

PINHOLE = {"stored_size": [640, 480], "fx": 400.0, "fy": 410, "cx": 320.5, "cy": 240.25}
FTHETA = {
    "model": "ftheta",
    "stored_size": [640, 480],
    "cx": 320.0,
    "cy": 240.0,
    "fw_poly": [0.0, 300.0, 1.5, -10.0, 0.5],
}
MATRIX = [[0.0, 0.0, 1.0, 1.7], [-1.0, 0.0, 0.0, 0.1], [0.0, -1.0, 0.0, 1.4], [0, 0, 0, 1]]


def _read(**changes):
    return read_calibration("here", PINHOLE | changes)


def test_pinhole_with_nothing_else():
    camera = _read(color="grayscale", original_size=[1, 2])
    assert camera.intrinsics == Pinhole(fx=400.0, fy=410.0, cx=320.5, cy=240.25)
    assert (camera.width, camera.height, camera.index) == (640, 480, None)
    np.testing.assert_array_equal(camera.ego_from_camera, EGO_FROM_FORWARD_CAMERA)
    assert not camera.has_mounting


def test_mounting_as_matrix_or_rotation_and_place():
    as_matrix = _read(ego_from_camera=MATRIX)
    quat = Rotation.from_matrix(np.array(MATRIX)[:3, :3]).as_quat(scalar_first=True).tolist()
    as_parts = _read(ego_from_camera={"quat_wxyz": quat, "xyz": [1.7, 0.1, 1.4]})
    np.testing.assert_array_equal(as_matrix.ego_from_camera, MATRIX)
    np.testing.assert_allclose(as_parts.ego_from_camera, MATRIX, atol=1e-12)
    assert as_matrix.has_mounting and as_parts.has_mounting


def test_ftheta_keeps_its_polynomial():
    camera = read_calibration("here", FTHETA | {"max_angle": 1.1, "index": 4})
    assert camera.intrinsics == FTheta(320.0, 240.0, (0.0, 300.0, 1.5, -10.0, 0.5), 1.1)
    assert camera.index == 4


def test_ftheta_without_a_limit_reaches_the_far_corner():
    lens = read_calibration("here", FTHETA).intrinsics
    check_ftheta(lens.forward_poly, lens.max_angle)
    corner = math.hypot(320, 240)
    radius = np.polynomial.polynomial.polyval(lens.max_angle, lens.forward_poly)
    assert corner <= radius < corner + 1.0
    ray = [math.sin(lens.max_angle), 0.0, math.cos(lens.max_angle)]
    uv, valid = project(np.array(ray) * 5, lens)
    assert valid
    np.testing.assert_allclose(uv, [320 + radius, 240], atol=1e-6)


def test_ftheta_whose_radius_turns_before_the_corner():
    lens = read_calibration("here", FTHETA | {"fw_poly": [0.0, 300.0, -150.0]}).intrinsics
    check_ftheta(lens.forward_poly, lens.max_angle)
    assert 0.99 < lens.max_angle < 1.0  # the slope is zero at 1 rad


DEFECTS = {
    "no size": (PINHOLE | {"stored_size": None}, "stored_size is missing, expected 2 numbers"),
    "size of one": (PINHOLE | {"stored_size": [3]}, r"stored_size is \[3\]"),
    "half pixels": (PINHOLE | {"stored_size": [3.5, 2]}, "must be whole pixels"),
    "negative": (PINHOLE | {"stored_size": [-3, 2]}, "must be whole pixels"),
    "text": (PINHOLE | {"fx": "400"}, "fx is '400', expected a finite number"),
    "bool": (PINHOLE | {"cx": True}, "cx is True"),
    "nan": (PINHOLE | {"cy": math.nan}, "cy is nan"),
    "missing": ({k: v for k, v in PINHOLE.items() if k != "fy"}, "fy is missing"),
    "zero": (PINHOLE | {"fx": 0}, "fx and fy must be above 0"),
    "model": (PINHOLE | {"model": "fisheye"}, "model is 'fisheye'; known: pinhole, ftheta"),
    "index": (PINHOLE | {"index": -1}, "index must be a whole number"),
    "index text": (PINHOLE | {"index": "1"}, "index must be a whole number"),
    "list": ([1, 2], "must be an object"),
    "no poly": ({k: v for k, v in FTHETA.items() if k != "fw_poly"}, "fw_poly is missing"),
    "falling": (FTHETA | {"fw_poly": [0.0, -300.0]}, "fw_poly: f-theta lens: the radius must rise"),
    "beyond": (FTHETA | {"fw_poly": [0.0, 300.0, -150.0], "max_angle": 1.5}, "lower max_angle"),
    "poly text": (FTHETA | {"fw_poly": [0.0, "x"]}, r"fw_poly\[1\] is 'x'"),
    "3x3": (PINHOLE | {"ego_from_camera": [[1, 0, 0]] * 3}, "must be a 4x4 matrix"),
    "row": (PINHOLE | {"ego_from_camera": [[1, 0, 0, 0]] * 3 + [[1]]}, r"ego_from_camera\[3\]"),
    "scaled": (PINHOLE | {"ego_from_camera": (2 * np.eye(4)).tolist()}, "not a rotation"),
    "mirror": (PINHOLE | {"ego_from_camera": np.diag([1.0, 1, -1, 1]).tolist()}, "det R = -1"),
    "not unit": (
        PINHOLE | {"ego_from_camera": {"quat_wxyz": [1, 1, 0, 0], "xyz": [0, 0, 0]}},
        "not a unit quaternion",
    ),
    "no place": (
        PINHOLE | {"ego_from_camera": {"quat_wxyz": [1, 0, 0, 0]}},
        "ego_from_camera.xyz is missing",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defective_calibration(name):
    entry, message = DEFECTS[name]
    with pytest.raises(InputError, match=rf"^here: .*{message}"):
        read_calibration("here", entry)


def _turned(degrees, **changes):
    matrix = EGO_FROM_FORWARD_CAMERA.copy()
    matrix[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix() @ matrix[:3, :3]
    return _read(ego_from_camera=matrix.tolist(), **changes)


def test_release_names_have_release_indices():
    cameras = {name: _turned(17) for name in reversed(RELEASE_CAMERAS)}
    assert assign_indices("", cameras) == {name: i for i, name in enumerate(RELEASE_CAMERAS)}


def test_the_unknown_camera_that_looks_ahead_is_front_wide():
    angles = {"back": 180, "left": 70, "front": 5, "right": -70}
    cameras = {name: _turned(angle) for name, angle in angles.items()}
    assert assign_indices("", cameras) == {"front": 1, "back": 0, "left": 2, "right": 3}
    assert assign_indices("", {"only": _turned(180)}) == {"only": 1}
    assert assign_indices("", {"a": _read(), "b": _read()}) == {"a": 1, "b": 0}


def test_an_index_that_is_taken_is_left_alone():
    cameras = {"a": _turned(0), "camera_front_wide_120fov": _turned(10), "b": _turned(0, index=0)}
    assert assign_indices("", cameras) == {"camera_front_wide_120fov": 1, "b": 0, "a": 2}


def test_more_cameras_than_the_release_has():
    indices = assign_indices("", {f"c{i}": _turned(40 * i) for i in range(9)})
    assert sorted(indices.values()) == list(range(9))
    assert indices["c0"] == 1


def test_two_cameras_with_one_index():
    cameras = {"a": _read(index=1), "camera_front_wide_120fov": _read()}
    with pytest.raises(InputError, match="'a' and 'camera_front_wide_120fov' both have index 1"):
        assign_indices("here", cameras)


def test_number_says_what_it_found():
    assert number("here", "x", 3) == 3.0
    with pytest.raises(InputError, match="here: x is missing"):
        number("here", "x", None)

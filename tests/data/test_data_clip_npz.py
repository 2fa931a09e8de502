"""ego.npz, agents.npz and map.npz: what is read, and every way they can be wrong."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alpamayo_jax.data.clip_npz import MAX_GAP_S, read_agents, read_ego, read_map_lines
from alpamayo_jax.testing.clips import edit_npz, small_clip, write_small_clip
from alpamayo_jax.types import InputError


@pytest.fixture
def folder(tmp_path):
    return write_small_clip(
        tmp_path / "drive", seconds=4.0, cameras=(), num_agents=2, with_map=True
    )


def _drop(*names):
    return lambda arrays: [arrays.pop(name) for name in names]


def _set(name, change):
    def edit(arrays):
        arrays[name] = change(arrays[name].copy())

    return edit


def _at(row, value):
    def change(array):
        array[row] = value
        return array

    return change


def _gap(array):
    array[20:] += 0.9
    return array


EGO_DEFECTS = {
    "no t": (_drop("t"), r"no field 't'; found .*xyz"),
    "no xyz": (_drop("xyz"), "no field 'xyz'"),
    "no quat": (_drop("quat_wxyz"), "no field 'quat_wxyz'"),
    "half a grid": (_drop("quat10_wxyz"), "no field 'quat10_wxyz'"),
    "xyz shape": (_set("xyz", lambda a: a[:, :2]), r"xyz must be \[41, 3\], got \[41, 2\]"),
    "xyz rows": (_set("xyz", lambda a: a[:-1]), r"xyz must be \[41, 3\], got \[40, 3\]"),
    "t rank": (_set("t", lambda a: a[:, None]), r"t must be \[41\], got \[41, 1\]"),
    "t scalar": (_set("t", lambda a: np.float64(1.0)), "t must be an array of numbers"),
    "nan pose": (_set("xyz", _at((7, 1), np.nan)), "xyz has 1 NaN or infinite.*row 7 of 41"),
    "inf grid": (_set("xyz10", _at((9, 0), np.inf)), "xyz10 has 1 NaN or infinite.*row 9 of 41"),
    "nan time": (_set("t", _at(3, np.nan)), "t has 1 NaN"),
    "nan rotation": (_set("quat_wxyz", _at(3, np.nan)), "quat_wxyz has 4 NaN"),
    "not unit": (_set("quat_wxyz", lambda a: a * 1.01), "quat_wxyz row 0 of 41 has norm 1.0100"),
    "zero rotation": (_set("quat10_wxyz", _at(5, 0.0)), "quat10_wxyz row 5 of 41 has norm 0.0000"),
    "t backwards": (_set("t", _at(12, 0.95)), "t goes backwards in row 12: 0.950000 s after 1.1"),
    "t repeats": (_set("t", _at(12, 1.1)), "t repeats in row 12"),
    "t10 backwards": (_set("t10", _at(12, 0.95)), "t10 goes backwards in row 12"),
    "t10 repeats": (_set("t10", lambda a: np.repeat(a[::2], 2)[:41]), "t10 repeats in row 1"),
    "gap": (_set("t", _gap), r"t has a gap of 1.000 s between 1.900 s and 2.900 s .row 20."),
    "gap in the grid": (_set("t10", _gap), "t10 must be a grid of 0.1 s, but row 20"),
    "other clock": (_set("t10", lambda a: a + 100), "t10 covers 100.000 to 104.000 s, beyond"),
    "strings": (_set("xyz", lambda a: a.astype(str)), "xyz must be an array of numbers"),
    "complex": (_set("xyz", lambda a: a + 1j), "xyz must be an array of numbers, got complex128"),
    "objects": (_set("xyz", lambda a: a.astype(object)), "without pickled objects"),
    "empty": (_set("t", lambda a: a[:0]), "t is empty"),
}


@pytest.mark.parametrize("name", EGO_DEFECTS)
def test_defective_ego_file(folder, name):
    change, message = EGO_DEFECTS[name]
    edit_npz(folder / "ego.npz", change)
    with pytest.raises(InputError, match=rf"^clip 'c': .*ego\.npz.*: .*{message}"):
        read_ego("c", folder / "ego.npz")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_cut_off_archive(folder, keep):
    path = folder / "ego.npz"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"ego\.npz: cannot be read as an npz archive"):
        read_ego("c", path)


def test_changed_bytes_are_noticed(folder):
    path = folder / "ego.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="cannot be read"):
        read_ego("c", path)


def test_other_files_in_its_place(folder):
    path = folder / "ego.npz"
    for write in (
        lambda: path.write_text("t,x,y\n"),
        lambda: np.save(open(path, "wb"), np.zeros(3)),
        lambda: zipfile.ZipFile(path, "w").writestr("t.npy", b"not an array"),
    ):
        write()
        with pytest.raises(InputError, match=r"ego\.npz"):
            read_ego("c", path)
    path.unlink()
    with pytest.raises(InputError, match="file is missing"):
        read_ego("c", path)


def test_the_stored_grid_is_used_as_it_is(folder):
    ego = read_ego("c", folder / "ego.npz")
    with np.load(folder / "ego.npz") as stored:
        np.testing.assert_array_equal(ego.t, stored["t10"])
        np.testing.assert_array_equal(ego.xyz, stored["xyz10"])
        np.testing.assert_array_equal(ego.quat_wxyz, stored["quat10_wxyz"])


def test_without_a_grid_the_track_is_interpolated(folder):
    path = folder / "ego.npz"
    edit_npz(path, _drop("t10", "xyz10", "quat10_wxyz"))
    whole, expected = read_ego("c", path), small_clip(4.0).ego
    np.testing.assert_allclose(whole.xyz, expected.xyz, atol=1e-12)
    # Every other pose is left out: what is put back lies halfway.
    edit_npz(path, lambda a: a.update({k: a[k][::2] for k in ("t", "xyz", "quat_wxyz")}))
    half = read_ego("c", path)
    np.testing.assert_allclose(half.t, expected.t, atol=1e-12)
    np.testing.assert_allclose(half.xyz[::2], expected.xyz[::2], atol=1e-12)
    middle = (expected.xyz[:-2:2] + expected.xyz[2::2]) / 2
    np.testing.assert_allclose(half.xyz[1::2], middle, atol=1e-12)
    turn = Rotation.from_quat(half.quat_wxyz[1::2], scalar_first=True).inv() * Rotation.from_quat(
        expected.quat_wxyz[1::2], scalar_first=True
    )
    assert turn.magnitude().max() < 1e-3


@settings(deadline=None, max_examples=25)
@given(
    rate=st.floats(2.5, 200.0),
    seconds=st.floats(1.0, 9.0),
    start=st.floats(-50.0, 1e6),
    sign=st.booleans(),
)
def test_resampling_any_rate(tmp_path_factory, rate, seconds, start, sign):
    """A straight drive at constant speed with a constant turn is interpolated exactly."""
    t = start + np.arange(int(seconds * rate) + 1) / rate
    if np.diff(t).max() > MAX_GAP_S:
        return
    s = t - t[0]
    rotation = Rotation.from_rotvec(0.2 * s[:, None] * [0.0, 0.0, 1.0])
    quat = rotation.as_quat(scalar_first=True)
    if sign:
        quat[::2] *= -1  # the same rotations
    path = tmp_path_factory.mktemp("ego") / "ego.npz"
    np.savez(path, t=t, xyz=s[:, None] * [3.0, -1.0, 0.5], quat_wxyz=quat)
    ego = read_ego("c", path)
    assert ego.t[0] == t[0]
    assert 0 <= t[-1] - ego.t[-1] + 1e-6 < 0.1 + 1e-5
    s10 = ego.t - t[0]
    np.testing.assert_allclose(ego.xyz, s10[:, None] * [3.0, -1.0, 0.5], atol=1e-5)
    yaw = Rotation.from_quat(ego.quat_wxyz, scalar_first=True).as_euler("ZYX")[:, 0]
    np.testing.assert_allclose(yaw, 0.2 * s10, atol=1e-6)


AGENT_DEFECTS = {
    "missing": (_drop("yaw"), "no field 'yaw'"),
    "length": (_set("yaw", lambda a: a[:-1]), r"yaw must be \[82\], got \[81\]"),
    "shape": (_set("lwh", lambda a: a[:, :2]), r"lwh must be \[82, 3\]"),
    "nan": (_set("xyz", _at((4, 0), np.nan)), "xyz has 1 NaN.*row 4"),
    "size": (_set("lwh", _at(6, -1.0)), "lwh row 6"),
    "track": (_set("track", lambda a: a.astype(float)), "track must be an array of whole numbers"),
    "track range": (_set("track", lambda a: a.astype(np.int64) + 2**40), "beyond int32"),
    "category": (_set("category", lambda a: np.arange(len(a))), "category must be an array of str"),
    "pickled": (_set("category", lambda a: a.astype(object)), "without pickled objects"),
}


@pytest.mark.parametrize("name", AGENT_DEFECTS)
def test_defective_agents_file(folder, name):
    change, message = AGENT_DEFECTS[name]
    edit_npz(folder / "agents.npz", change)
    with pytest.raises(InputError, match=rf"^clip 'c': .*agents\.npz.*: .*{message}"):
        read_agents("c", folder / "agents.npz")


MAP_DEFECTS = {
    "missing": (_drop("kind"), "no field 'kind'"),
    "offsets": (_set("offsets", lambda a: a[:-1]), r"offsets must be \[4\]"),
    "order": (_set("offsets", _at(1, 8)), "offsets must rise"),
    "end": (_set("offsets", _at(-1, 10)), "to the 9 points"),
    "float": (_set("offsets", lambda a: a + 0.5), "offsets must be an array of whole numbers"),
    "ids": (_set("ids", lambda a: a[:1]), r"ids must be \[3\]"),
    "nan": (_set("points", _at((2, 2), np.nan)), "points has 1 NaN"),
    "rank": (_set("points", lambda a: a.ravel()), r"points must be \[27, 3\]"),
}


@pytest.mark.parametrize("name", MAP_DEFECTS)
def test_defective_map_file(folder, name):
    change, message = MAP_DEFECTS[name]
    edit_npz(folder / "map.npz", change)
    with pytest.raises(InputError, match=rf"^clip 'c': .*map\.npz.*: .*{message}"):
        read_map_lines("c", folder / "map.npz")


def test_map_without_ids(folder):
    edit_npz(folder / "map.npz", _drop("ids"))
    lines = read_map_lines("c", folder / "map.npz")
    assert lines.ids is None
    np.testing.assert_array_equal(lines.offsets, [0, 4, 4, 9])


def test_half_precision_agents_come_back_as_double(folder):
    edit_npz(folder / "agents.npz", _set("xyz", lambda a: a.astype(np.float32)))
    assert read_agents("c", folder / "agents.npz").xyz.dtype == np.float64

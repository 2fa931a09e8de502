"""What is written is read back; what is there is never overwritten."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.data.clip_folder import find_clips, read_clip, write_clip
from alpamayo_jax.testing.clips import small_clip
from alpamayo_jax.types import InputError


def _same_tables(a, b):
    if a is None or b is None:
        assert a is b
        return
    for name, value in vars(a).items():
        other = getattr(b, name)
        if value is None:
            assert other is None, name
            continue
        assert value.dtype == other.dtype, name
        np.testing.assert_array_equal(value, other, err_msg=name)


@pytest.mark.parametrize("ftheta", [False, True])
@pytest.mark.parametrize("cameras", [(), ("odd", *clip_lib.RELEASE_CAMERAS[:2])])
def test_nothing_written_is_lost(tmp_path, cameras, ftheta):
    clip = small_clip(
        2.0,
        cameras=cameras,
        num_agents=2 * len(cameras),
        with_map=bool(cameras),
        reasoning=[(0.1, "Yield: “ped”\nahead"), (1 / 3, "")],
        start=1234.5,
        frame_dt=0.103275,
        ftheta=ftheta,
        clip_id="drives/7 ü",
    )
    again = read_clip(write_clip(tmp_path / "deep" / "x", clip))
    assert again.clip_id == clip.clip_id
    assert again.ground_z == clip.ground_z
    assert again.reasoning == clip.reasoning
    _same_tables(again.ego, clip.ego)
    _same_tables(again.agents, clip.agents)
    _same_tables(again.map_lines, clip.map_lines)
    assert len(again.cameras) == len(clip.cameras)
    for new, old in zip(again.cameras, clip.cameras):
        for field in ("name", "index", "width", "height", "intrinsics"):
            assert getattr(new, field) == getattr(old, field), field
        np.testing.assert_array_equal(new.ego_from_camera, old.ego_from_camera)
        np.testing.assert_array_equal(new.times, old.times)
        difference = np.abs(new.read(3).astype(int) - old.read(3))
        assert difference.mean() < 4


def test_written_twice_is_the_same(tmp_path):
    clip = small_clip(1.0, num_agents=1, with_map=True)
    first = write_clip(tmp_path / "a", clip)
    second = write_clip(tmp_path / "b", clip)
    for path in sorted(first.rglob("*")):
        if path.is_file() and path.suffix != ".npz":  # zip members carry the time of day
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path
    third = write_clip(tmp_path / "c", read_clip(first))
    assert (third / "meta.json").read_bytes() == (first / "meta.json").read_bytes()
    assert (third / "frames.csv").read_bytes() == (first / "frames.csv").read_bytes()


def test_quality_changes_the_size(tmp_path):
    clip = small_clip(0.5, size=(256, 128))
    sizes = [
        sum(p.stat().st_size for p in write_clip(tmp_path / str(q), clip, q).rglob("*.jpg"))
        for q in (20, 95)
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_nothing_is_overwritten(tmp_path):
    folder = write_clip(tmp_path / "a", small_clip(1.0, cameras=()))
    before = (folder / "ego.npz").read_bytes()
    with pytest.raises(InputError, match="exists; nothing is written over it"):
        write_clip(folder, small_clip(2.0, cameras=()))
    assert (folder / "ego.npz").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="exists"):
        write_clip(tmp_path / "file", small_clip(1.0, cameras=()))


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "a").mkdir()
    assert read_clip(write_clip(tmp_path / "a", small_clip(1.0))).clip_id == "small"


def test_a_failed_write_leaves_nothing(tmp_path):
    clip = small_clip(1.0)

    def read(frame):
        if frame == 5:
            raise InputError("frame 5 is unreadable")
        return clip.cameras[0].read(frame)

    broken = dataclasses.replace(
        clip, cameras=(dataclasses.replace(clip.cameras[0], read=read),)
    )
    with pytest.raises(InputError, match="frame 5"):
        write_clip(tmp_path / "a", broken)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError):
        find_clips(tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "a\0b", "a\\b"])
def test_camera_names_that_are_paths(tmp_path, name):
    clip = small_clip(0.5)
    camera = dataclasses.replace(clip.cameras[0], name=name)
    with pytest.raises(InputError, match="no part of a file name"):
        write_clip(tmp_path / "a", dataclasses.replace(clip, cameras=(camera,)))


def test_defective_clips_and_qualities_are_refused(tmp_path):
    clip = small_clip(1.0)
    with pytest.raises(InputError, match="ground_z"):
        write_clip(tmp_path / "a", dataclasses.replace(clip, ground_z=2.0))
    for quality in (0, 101):
        with pytest.raises(InputError, match="jpeg_quality"):
            write_clip(tmp_path / "a", clip, quality)


def test_a_procedural_clip_is_stored_and_read_back(tmp_path):
    source = pytest.importorskip("alpamayo_jax.sim.source")
    clip = source.procedural_clip(0, 0, seconds=6.0, image_size=(64, 40))
    again = read_clip(write_clip(tmp_path / "a", clip))
    _same_tables(again.ego, clip.ego)
    _same_tables(again.agents, clip.agents)
    _same_tables(again.map_lines, clip.map_lines)
    assert again.reasoning == clip.reasoning
    assert again.cameras[0].intrinsics == clip.cameras[0].intrinsics
    assert np.abs(again.cameras[0].read(7).astype(int) - clip.cameras[0].read(7)).mean() < 4

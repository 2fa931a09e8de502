"""Whole clip folders: found, read, refused."""

import numpy as np
import pytest

from alpamayo_jax.data.clip_folder import CAMERA_HEIGHT_M, find_clips, read_clip
from alpamayo_jax.testing.clips import edit_json, edit_npz, write_small_clip
from alpamayo_jax.types import InputError

FRONT, TELE = "camera_front_wide_120fov", "camera_front_tele_30fov"


@pytest.fixture
def folder(tmp_path):
    return write_small_clip(
        tmp_path / "drive",
        seconds=2.0,
        cameras=(FRONT, TELE),
        num_agents=1,
        with_map=True,
        reasoning=[(0.5, "Keep the lane."), (1.5, "")],
    )


def test_find_clips_sorts_and_goes_deep(tmp_path):
    for name in ("b/2", "b/10", "a", "c/d/e"):
        write_small_clip(tmp_path / name, seconds=1.0, cameras=())
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "ego.npz").write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in find_clips(tmp_path)]
    assert found == ["a", "b/10", "b/2", "c/d/e"]
    assert find_clips(tmp_path / "a") == [tmp_path / "a"]
    assert find_clips(str(tmp_path / "c"))[0].name == "e"


def test_find_clips_finds_nothing(tmp_path):
    with pytest.raises(InputError, match="no folder at or below .* holds an ego.npz"):
        find_clips(tmp_path)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        find_clips(tmp_path / "nowhere")


def test_all_parts_are_read(folder):
    clip = read_clip(folder)
    assert clip.clip_id == "drive"
    assert [c.index for c in clip.cameras] == [1, 6]
    assert clip.cameras[1].name == TELE
    assert clip.cameras[0].read(20).shape == (48, 64, 3)
    assert clip.ground_z == -0.5
    assert len(clip.agents.t) == 21
    assert clip.map_lines.kind.tolist()[1] == "drivable_area"
    labels = [(label.t, label.text) for label in clip.reasoning]
    assert labels == [(0.5, "Keep the lane."), (1.5, "")]


def test_the_name_of_a_clip(folder):
    assert read_clip(folder, "other").clip_id == "other"
    edit_json(folder / "meta.json", lambda meta: meta.pop("clip_id"))
    assert read_clip(folder).clip_id == "drive"
    edit_json(folder / "meta.json", lambda meta: meta.update(clip_id=3))
    with pytest.raises(InputError, match="clip_id must be a name, got 3"):
        read_clip(folder)


def test_height_of_the_road(folder):
    meta = folder / "meta.json"
    edit_json(meta, lambda m: m.pop("ground_z"))
    assert read_clip(folder).ground_z == 0.0  # mounted cameras: the ego origin is not the camera
    edit_json(meta, lambda m: [camera.pop("ego_from_camera") for camera in m["cameras"].values()])
    assert read_clip(folder).ground_z == -CAMERA_HEIGHT_M
    edit_json(meta, lambda m: m.update(ground_z=-1.2))
    assert read_clip(folder).ground_z == -1.2
    for value, message in ((0.3, "ground_z is 0.3; the road is"), ("low", "ground_z is 'low'")):
        edit_json(meta, lambda m: m.update(ground_z=value))
        with pytest.raises(InputError, match=message):
            read_clip(folder)


def test_a_pose_only_clip(tmp_path):
    clip = read_clip(write_small_clip(tmp_path / "p", seconds=1.0, cameras=()))
    assert clip.cameras == () and clip.agents is None and clip.map_lines is None


def test_a_clip_without_metadata_says_so(tmp_path):
    folder = write_small_clip(tmp_path / "p", seconds=1.0, cameras=())
    (folder / "meta.json").write_text("{}")
    assert read_clip(folder).ground_z == 0.0
    (folder / "meta.json").unlink()
    with pytest.raises(InputError, match=r"clip 'p': .*meta\.json: missing"):
        read_clip(folder)


def test_calibrated_cameras_without_frames_are_left_out(folder):
    path = folder / "frames.csv"
    path.write_text("".join(line for line in open(path) if TELE not in line))
    assert [c.name for c in read_clip(folder).cameras] == [FRONT]


META_DEFECTS = {
    "cut off": (lambda text: text[: len(text) // 2], "not valid JSON"),
    "empty": (lambda text: "", "not valid JSON"),
    "list": (lambda text: "[]", "must hold an object, got list"),
    "binary": (lambda text: "\0" + text, "not valid JSON"),
    "deep": (lambda text: "[" * 100_000, "not valid JSON"),
}


@pytest.mark.parametrize("name", META_DEFECTS)
def test_defective_metadata(folder, name):
    change, message = META_DEFECTS[name]
    path = folder / "meta.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=rf"clip 'drive': .*meta\.json: .*{message}"):
        read_clip(folder)


FIELD_DEFECTS = {
    "no calibration": (lambda m: m["cameras"].pop(TELE), f"no calibration of '{TELE}'"),
    "no cameras": (lambda m: m.pop("cameras"), f"no calibration of '{FRONT}'.*calibrated: none"),
    "cameras list": (lambda m: m.update(cameras=[]), "cameras must be an object"),
    "lens": (lambda m: m["cameras"][TELE].pop("fx"), rf"cameras\.{TELE}: fx is missing"),
    "index": (lambda m: m["cameras"][TELE].update(index=1), "both have index 1"),
    "labels": (lambda m: m.update(reasoning={}), "reasoning must be a list"),
    "label": (lambda m: m["reasoning"].append("go"), r"reasoning\[2\]: must be"),
    "label text": (lambda m: m["reasoning"].append({"t": 3.0}), r"reasoning\[2\]: must be"),
    "label time": (lambda m: m["reasoning"][1].update(t=None), r"reasoning\[1\]: t is missing"),
    "label order": (lambda m: m["reasoning"].reverse(), r"reasoning\[1\]: t is 0.5, not after 1.5"),
}


@pytest.mark.parametrize("name", FIELD_DEFECTS)
def test_defective_field(folder, name):
    change, message = FIELD_DEFECTS[name]
    edit_json(folder / "meta.json", change)
    with pytest.raises(InputError, match=rf"^clip 'drive': .*meta\.json: .*{message}"):
        read_clip(folder)


def test_defects_of_the_other_files_reach_the_caller(folder):
    for name, key, file in (("xyz", "xyz", "ego"), ("t", "yaw", "agents"), ("kind", "kind", "map")):
        edit_npz(folder / f"{file}.npz", lambda arrays: arrays.update({key: arrays[key][:-1]}))
        with pytest.raises(InputError, match=rf"clip 'drive': .*{file}\.npz: "):
            read_clip(folder)
        (folder / f"{file}.npz").unlink()
        if file == "ego":
            edit_source = write_small_clip(folder.parent / "again", seconds=2.0, cameras=())
            (edit_source / "ego.npz").rename(folder / "ego.npz")


def test_calibration_without_a_table(folder):
    (folder / "frames.csv").unlink()
    with pytest.raises(InputError, match=r"frames\.csv: missing, but meta\.json has cameras"):
        read_clip(folder)


def test_frames_on_another_clock(folder):
    edit_npz(
        folder / "ego.npz", lambda ego: ego.update({k: ego[k] + 1.6e9 for k in ("t", "t10")})
    )
    with pytest.raises(InputError, match=r"frames\.csv: camera .* t_s runs from 0.000 to 2.000 s"):
        read_clip(folder)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_clip(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="clip 'empty'"):
        read_clip(tmp_path / "empty")

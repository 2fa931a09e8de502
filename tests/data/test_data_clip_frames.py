"""frames.csv and the images: what is read, and every way they can be wrong."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image, ImageFile

from alpamayo_jax.data.clip_frames import FrameReader, read_frame_table
from alpamayo_jax.testing.clips import small_clip, write_small_clip
from alpamayo_jax.types import InputError

CAMERAS = ("camera_front_wide_120fov", "camera_front_tele_30fov")


@pytest.fixture
def folder(tmp_path):
    return write_small_clip(tmp_path / "clips" / "drive", seconds=1.0, cameras=CAMERAS)


def _table(folder):
    return read_frame_table("c", folder / "frames.csv")


def _reader(folder, size=(64, 48)):
    return FrameReader("c", CAMERAS[0], _table(folder)[CAMERAS[0]].files, *size)


def _edit(folder, change):
    path = folder / "frames.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


def _cell(row, column, value):
    def change(lines):
        cells = lines[row].split(",")
        cells[column] = value
        lines[row] = ",".join(cells)
        return lines

    return change


def test_times_and_files_of_each_camera(folder):
    table = _table(folder)
    assert set(table) == set(CAMERAS)
    for frames in table.values():
        np.testing.assert_array_equal(frames.times, small_clip(1.0).cameras[0].times)
        assert len(frames.files) == 11
        assert all(path.is_file() for path in frames.files)


def test_rows_of_cameras_may_be_mixed_and_columns_in_any_order(folder):
    before = _table(folder)

    def mix(lines):
        rows = sorted(lines[1:], key=lambda line: int(line.split(",")[1]))
        return [",".join(reversed(line.split(","))) + ",more" for line in [lines[0], *rows]]

    _edit(folder, mix)
    after = _table(folder)
    for camera in CAMERAS:
        np.testing.assert_array_equal(after[camera].times, before[camera].times)
        assert after[camera].files == before[camera].files


def test_byte_order_mark_is_no_part_of_the_first_column(folder):
    path = folder / "frames.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert set(_table(folder)) == set(CAMERAS)


TABLE_DEFECTS = {
    "no column": (lambda ls: [line.rsplit(",", 1)[0] for line in ls], r"column\(s\) file missing"),
    "two columns": (lambda ls: ["camera,file"] + ls[1:], r"column\(s\) index, t_s missing"),
    "empty": (lambda ls: [], "the first line has nothing"),
    "no rows": (lambda ls: ls[:1], "no frames; remove the file"),
    "short row": (lambda ls: [*ls[:4], "a,1", *ls[4:]], "line 5: must have 4 values"),
    "long row": (lambda ls: [*ls[:4], ls[4] + ",5", *ls[5:]], "line 5: must have 4 values"),
    "no camera": (_cell(3, 0, ""), "line 4: camera is empty"),
    "index": (_cell(3, 1, "two"), "line 4: index is 'two', not a whole number"),
    "index repeats": (_cell(3, 1, "1"), "index must rise"),
    "index below 0": (_cell(1, 1, "-1"), "index must rise from 0"),
    "time": (_cell(3, 2, "soon"), "line 4: t_s is 'soon', not a number of seconds"),
    "no time": (_cell(3, 2, ""), "line 4: t_s is ''"),
    "nan": (_cell(3, 2, "nan"), "front_wide_120fov': t_s has 1 NaN.*row 2 of 11"),
    "backwards": (_cell(4, 2, "0.05"), "t_s goes backwards in row 3: 0.050000 s after 0.2"),
    "repeats": (_cell(4, 2, "0.2"), "t_s repeats in row 3"),
    "absent": (_cell(4, 3, "frames/none.jpg"), "line 5: file 'frames/none.jpg' is absent"),
    "folder": (_cell(4, 3, "frames"), "line 5: file 'frames' is absent"),
    "up": (_cell(4, 3, "../../secret.jpg"), "line 5: .*secret.jpg', which leaves the clip"),
    "up and back": (_cell(4, 3, "frames/../../other/a.jpg"), "leaves the clip's folder"),
    "absolute": (_cell(4, 3, "/etc/hostname"), "leaves the clip's folder"),
    "itself": (_cell(4, 3, "."), "leaves the clip's folder"),
    "nothing": (_cell(4, 3, ""), "leaves the clip's folder"),
    "null": (_cell(4, 3, "a\0b"), "line 5|cannot be read"),
}


@pytest.mark.parametrize("name", TABLE_DEFECTS)
def test_defective_table(folder, name):
    change, message = TABLE_DEFECTS[name]
    (folder.parent.parent / "secret.jpg").write_bytes(b"x")
    _edit(folder, change)
    with pytest.raises(InputError, match=rf"^clip 'c': .*frames\.csv: .*({message})"):
        _table(folder)


def test_table_that_is_no_text(folder):
    (folder / "frames.csv").write_bytes(b"\xff\xfe\x00camera")
    with pytest.raises(InputError, match="cannot be read as a CSV table"):
        _table(folder)


def test_a_link_must_stay_inside(folder):
    victim = folder / "frames" / f"{CAMERAS[0]}_000003.jpg"
    inside = folder / "frames" / "kept.jpg"
    victim.rename(inside)
    os.symlink("kept.jpg", victim)
    assert _table(folder)[CAMERAS[0]].files[3] == inside
    outside = folder.parent / "outside.jpg"
    inside.rename(outside)
    victim.unlink()
    os.symlink(outside, victim)
    with pytest.raises(InputError, match="line 5: .* leaves the clip's folder"):
        _table(folder)


def test_a_linked_folder_must_stay_inside(folder):
    (folder / "frames").rename(folder.parent / "frames")
    os.symlink(folder.parent / "frames", folder / "frames")
    with pytest.raises(InputError, match="leaves the clip's folder"):
        _table(folder)


def test_a_clip_may_be_reached_through_a_link(folder, tmp_path):
    os.symlink(folder, tmp_path / "link")
    table = read_frame_table("c", tmp_path / "link" / "frames.csv")
    assert table[CAMERAS[0]].files == _table(folder)[CAMERAS[0]].files


def test_decoded_frames_are_close_to_the_source(folder):
    read, expected = _reader(folder), small_clip(1.0).cameras[0].read
    for frame in (0, 10):
        image = read(frame)
        assert image.dtype == np.uint8
        assert image.shape == (48, 64, 3)
        difference = np.abs(image.astype(int) - expected(frame))
        assert difference.mean() < 4
        image[0, 0] = 0  # the caller's own


def test_grey_images_get_three_channels(folder):
    path = folder / "frames" / f"{CAMERAS[0]}_000002.jpg"
    grey = Image.open(path).convert("L")
    grey.save(path, quality=95)
    image = _reader(folder)(2)
    assert image.shape == (48, 64, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 2], np.asarray(Image.open(path)))


def test_png_is_read_too(folder):
    path = folder / "frames" / f"{CAMERAS[0]}_000002.jpg"
    pixels = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    Image.fromarray(pixels).save(path, format="PNG")
    np.testing.assert_array_equal(_reader(folder)(2), pixels)


@pytest.mark.parametrize("lost", [1, 2, 3, 10, 40, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("lenient", [False, True])
def test_cut_off_images(folder, lost, lenient, monkeypatch):
    # Another library may have switched Pillow to filling what is lost with grey.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    path = folder / "frames" / f"{CAMERAS[0]}_000004.jpg"
    data = path.read_bytes()
    keep = len(data) - (lost if isinstance(lost, int) else int(len(data) * lost))
    path.write_bytes(data[:keep])
    with pytest.raises(InputError, match=r"^clip 'c': camera .* frame 4: .*_000004\.jpg: "):
        _reader(folder)(4)
    # What the file system lost in a crash reads as zeros.
    path.write_bytes(data[:keep] + b"\0" * (len(data) - keep))
    with pytest.raises(InputError, match=r"_000004\.jpg: .*(cut off)"):
        _reader(folder)(4)


def test_zeros_after_the_end_marker_are_no_defect(folder):
    path = folder / "frames" / f"{CAMERAS[0]}_000004.jpg"
    before = _reader(folder)(4)
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    np.testing.assert_array_equal(_reader(folder)(4), before)


@pytest.mark.parametrize(
    "data", [b"", b"not an image", b"\xff\xd8\xff\xd9", b"GIF89a\1\0\1\0\0\0\0;"]
)
def test_files_that_are_no_image(folder, data):
    (folder / "frames" / f"{CAMERAS[0]}_000000.jpg").write_bytes(data)
    with pytest.raises(InputError, match=r"frame 0: .*unreadable or cut off"):
        _reader(folder)(0)


def test_other_image_kinds_are_refused(folder):
    path = folder / "frames" / f"{CAMERAS[0]}_000000.jpg"
    Image.new("CMYK", (64, 48)).save(path, format="JPEG")
    with pytest.raises(InputError, match="mode CMYK"):
        _reader(folder)(0)


def test_another_size_than_the_calibration(folder):
    with pytest.raises(InputError, match=r"is 64 x 48 pixels, meta\.json says 48 x 64"):
        _reader(folder, size=(48, 64))(0)


@pytest.mark.parametrize("frame", [-1, 11])
def test_frames_that_do_not_exist(folder, frame):
    with pytest.raises(InputError, match=rf"has frames 0 to 10, not {frame}"):
        _reader(folder)(frame)


def test_a_file_that_vanishes(folder):
    read = _reader(folder)
    (folder / "frames" / f"{CAMERAS[0]}_000001.jpg").unlink()
    with pytest.raises(InputError, match="frame 1: .*unreadable"):
        read(1)


def test_readers_go_to_other_processes(folder):
    read = _reader(folder)
    again = pickle.loads(pickle.dumps(read))
    np.testing.assert_array_equal(again(5), read(5))

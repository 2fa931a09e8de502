"""The store as a TFDS dataset: schema, reading, damage, and what must not be read."""

import dataclasses
import pickle
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import ingest, media, records, store
from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.sim.source import ProceduralSource
from alpamayo_jax.testing import physical_ai as small
from alpamayo_jax.testing.clips import small_clip, write_small_clip
from alpamayo_jax.testing.videos import frame_number
from alpamayo_jax.types import InputError


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    root, out = tmp_path_factory.mktemp("drives"), tmp_path_factory.mktemp("store")
    for number in range(2):
        write_small_clip(
            root / f"clip{number}", seconds=8.4, seed=number, size=(16, 8), num_agents=2,
            cameras=("camera_front_wide_120fov", "camera_front_tele_30fov"), ftheta=True,
        )  # fmt: skip
    ingest.ingest("clips", {"root": str(root)}, out, progress=False)
    return out


def test_it_is_an_ordinary_dataset_without_tensorflow(out):
    builder = tfds.builder_from_directory(str(store.dataset_dir(out)))
    assert builder.name == "driving_clips" and str(builder.version) == store.VERSION
    data = builder.as_data_source("train")
    assert [records.text(row["clip_id"]) for row in data] == ["clip0", "clip1"]
    assert data[1]["ego"]["t"].dtype == np.float64
    own = store.DrivingClips(data_dir=str(out))
    assert own.info.splits["train"].num_examples == 2
    assert "tensorflow" not in sys.modules


def test_the_builder_needs_an_ingest(tmp_path):
    with pytest.raises(InputError, match="no public source"):
        store.DrivingClips(data_dir=str(tmp_path)).download_and_prepare()


def test_sources_by_name(out):
    source = make_source("store", path=str(out), cache_mb=1)
    assert len(source) == 2 and source.clip(1).clip_id == "clip1"
    assert source.name == f"store in {out}"
    with pytest.raises(ConfigError, match="it takes path"):
        make_source("store", root=str(out))
    with pytest.raises(IndexError):
        store.open_store(out).clip(2)
    copy = pickle.loads(pickle.dumps(store.open_store(out)))
    assert copy.clip(0).camera(1).read(3).shape == (8, 16, 3)


def test_there_is_no_store(tmp_path):
    with pytest.raises(InputError, match="no store is there"):
        store.open_store(tmp_path)
    (tmp_path / "ingest.json").write_text("{}")
    with pytest.raises(InputError, match="has not finished; start it again"):
        store.open_store(tmp_path)


def _copy(out, tmp_path):
    return shutil.copytree(out, tmp_path / "copy")


def test_a_damaged_media_file_is_named(out, tmp_path):
    copy = _copy(out, tmp_path)
    path = next(copy.glob("media/*/*"))
    data = bytearray(path.read_bytes())
    data[70_000] ^= 255  # in the middle of the third image or so
    path.write_bytes(bytes(data))
    clip = store.open_store(copy).clip(0)
    found = []
    for camera in clip.cameras:
        for frame in range(len(camera.times)):
            try:
                camera.read(frame)
            except InputError as error:
                found.append(str(error))
    assert len(found) == 1 and "clip 'clip0'" in found[0] and "is unreadable" in found[0]
    path.write_bytes(bytes(data[:1000]))
    with pytest.raises(InputError, match="is unreadable"):
        clip.camera(1).read(0)
    path.unlink()
    with pytest.raises(InputError, match="missing from the store"):
        clip.camera(1).read(0)
    assert store.open_store(copy).clip(1).camera(1).read(0).any()
    with pytest.raises(InputError, match="has frames 0 to 84, not 85"):
        clip.camera(1).read(85)


def _record(**changes):
    clip = small_clip(8.4)
    count = len(clip.cameras[0].times)
    index = media.FrameIndex(
        np.zeros(count, np.int32), clip.cameras[0].times, np.arange(count), np.zeros(count, int)
    )
    return records.to_record(clip, index, "media/x") | changes


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "media/../../x", ""])
def test_media_outside_of_the_store(tmp_path, path):
    with pytest.raises(InputError, match="clip 'small': .*media is .*not a file of the store"):
        records.to_clip(_record(media=path), tmp_path)


def test_records_that_are_not_of_this_schema(tmp_path):
    assert records.to_clip(_record(), tmp_path).clip_id == "small"
    with pytest.raises(InputError, match="meta: is not valid JSON"):
        records.to_clip(_record(meta="{"), tmp_path)
    with pytest.raises(InputError, match="goes beyond the 0 cameras"):
        records.to_clip(_record(meta='{"cameras": {}}'), tmp_path)
    record = _record()
    record["ego"]["xyz"] = record["ego"]["xyz"] * np.nan
    with pytest.raises(InputError, match="ego: xyz has .* NaN"):
        records.to_clip(record, tmp_path)


def test_every_kind_of_clip_round_trips(tmp_path):
    for number, options in enumerate(
        ({"cameras": ()}, {"num_agents": 3}, {"with_map": True}, {"reasoning": [(1.0, "Go.")]})
    ):
        clip = small_clip(8.4, seed=number, **options)
        frames = media.write_media(tmp_path / "m", clip) if clip.cameras else None
        found = records.to_clip(records.to_record(clip, frames, "m"), tmp_path)
        assert found.reasoning == clip.reasoning and found.ground_z == clip.ground_z
        for a, b in ((found.ego, clip.ego), (found.agents, clip.agents),
                     (found.map_lines, clip.map_lines)):  # fmt: skip
            assert (a is None) == (b is None)
            for name, value in vars(b).items() if b is not None else ():
                np.testing.assert_array_equal(getattr(a, name), value)
        for a, b in zip(found.cameras, clip.cameras, strict=True):
            np.testing.assert_array_equal(a.read(7), b.read(7))  # noise: PNG loses nothing
            np.testing.assert_array_equal(a.times, b.times)


def test_a_failed_media_file_leaves_nothing(tmp_path):
    clip = small_clip(1.0)
    broken = dataclasses.replace(clip.cameras[0], read=_fails)
    with pytest.raises(InputError, match="no picture"):
        media.write_media(tmp_path / "a" / "m", dataclasses.replace(clip, cameras=(broken,)))
    assert not list((tmp_path / "a").iterdir())


def _fails(frame):
    raise InputError(f"no picture {frame}")


def test_rendered_drives_come_back_with_their_events(tmp_path):
    options = {"num_clips": 1, "seed": 0, "seconds": 8.4, "family": "red_light"}
    source = ProceduralSource(**options)
    ingest.ingest("procedural", options, tmp_path, progress=False)
    found, expected = store.open_store(tmp_path).clip(0), source.clip(0)
    assert found.events == expected.events and found.events
    assert found.events[0].kind == "traffic_light" and found.events[0].value in ("green", "red")
    assert found.reasoning == expected.reasoning
    np.testing.assert_array_equal(found.camera(1).read(40), expected.camera(1).read(40))


def test_videos_stay_videos(tmp_path):
    pytest.importorskip("av")
    root = small.write_small_set(tmp_path / "set", small.SmallSet(clips=(("aaa-0",),)))
    summary = ingest.ingest("physical_ai", {"root": str(root)}, tmp_path / "out", progress=False)
    assert summary["clips"] == 1
    clip = store.open_store(tmp_path / "out").clip(0)
    for camera in clip.cameras:
        base = small.camera_base("aaa-0", camera.name)
        assert [frame_number(camera.read(n)) - base for n in (200, 3, 4)] == [200, 3, 4]
    assert [label.text for label in clip.reasoning] == ["Slow down for the car ahead."]
    (path,) = (tmp_path / "out").glob("media/*/*")
    videos = sum(len(media.read_record("x", path, k)) for k in range(2))
    assert path.stat().st_size < videos + 200_000
    with pytest.raises(InputError, match="record 2 is unreadable"):
        media.read_record("x", path, 2)


def test_windows_are_counted(out):
    source = store.open_store(out)
    total = sum(int(source.record(i)["windows"]) for i in range(2))
    assert len(list_windows(source)) == total


def test_a_damaged_dataset_is_named(out, tmp_path):
    copy = _copy(out, tmp_path)
    path = next(store.dataset_dir(copy).glob("*.array_record*"))
    data = bytearray(path.read_bytes())
    data[100] ^= 255  # in the first record
    path.write_bytes(bytes(data))
    damaged = store.open_store(copy)
    with pytest.raises(InputError, match="store .*: record 0 is unreadable"):
        damaged.clip(0)
    assert damaged.clip(1).clip_id == "clip1"

"""NVIDIA's Physical AI AV in its own layout: what is read, what is refused, what is streamed."""

import contextlib
import json
import pickle
import shutil
import sys
import types

import numpy as np
import pytest

from alpamayo_jax.clip import FTheta
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data import archives, physical_ai_layout
from alpamayo_jax.data.physical_ai import PhysicalAISource
from alpamayo_jax.data.sources import make_source
from alpamayo_jax.data.windows import keyframe_times, observe, target, window_times
from alpamayo_jax.testing import physical_ai as small
from alpamayo_jax.testing.videos import frame_number
from alpamayo_jax.types import InputError

pytest.importorskip("av")
FRONT = "camera_front_wide_120fov"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return small.write_small_set(tmp_path_factory.mktemp("pai") / "set")


@pytest.fixture
def root(built, tmp_path):
    return shutil.copytree(built, tmp_path / "set")


def _errors(root, **options):
    """name -> message of the clips that cannot be read, frames included."""
    source, found = PhysicalAISource(root, **options), {}
    for index, name in enumerate(source.clips):
        try:
            for camera in source.clip(index).cameras:
                camera.read(0)
        except InputError as error:
            found[name] = str(error)
    return found


def test_everything_is_read(built):
    source = PhysicalAISource(built)
    assert source.clips == ["aaa-0", "aaa-1", "bbb-0"]
    clip = source.clip(0)
    assert clip.clip_id == source.clip_name(0) == "aaa-0"
    assert [(c.name, c.index) for c in clip.cameras] == [(small.CAMERAS[0], 0), (FRONT, 1)]
    assert clip.ground_z == 0.0
    assert [(label.t, label.text) for label in clip.reasoning] == [
        (2.5, "Slow down for the car ahead.")
    ]
    assert [(event.t, event.kind) for event in clip.events] == [(2.5, "keyframe")]
    assert source.clip(1).reasoning == ()


def test_ego_motion_is_at_whole_tenths_and_where_it_was(built):
    clip = PhysicalAISource(built).clip(2)
    np.testing.assert_allclose(clip.ego.t * 10, np.round(clip.ego.t * 10), atol=1e-9)
    assert -0.537 < clip.ego.t[0] < -0.43
    xyz, quat = small.ego_pose("bbb-0", clip.ego.t)
    np.testing.assert_allclose(clip.ego.xyz, xyz, atol=1e-4)
    np.testing.assert_allclose(clip.ego.quat_wxyz, quat, atol=1e-6)


def test_frames_are_those_of_their_times(built):
    for index, name in enumerate(PhysicalAISource(built).clips):
        clip = PhysicalAISource(built).clip(index)
        for camera in clip.cameras:
            base = small.camera_base(name, camera.name)
            assert len(camera.times) == 270
            for number in (0, 100, 101, 269):
                assert frame_number(camera.read(number)) == number + base
                assert abs(camera.times[number] - (number / 30 + 0.000137)) < 2e-6


def test_the_lens_and_its_place(built):
    camera = PhysicalAISource(built).clip(0).camera(1)
    assert isinstance(camera.intrinsics, FTheta)
    assert camera.intrinsics.forward_poly == (0.0, 90.0, 0.0, -2.0, 0.0)
    np.testing.assert_allclose(camera.ego_from_camera[:3, 3], [1.7, 0.0, 1.4])
    np.testing.assert_allclose(camera.ego_from_camera[:3, 2], [1.0, 0.0, 0.0], atol=1e-12)


def test_obstacles_are_put_into_the_world_at_ten_hertz(built):
    clip = PhysicalAISource(built).clip(0)
    agents = clip.agents
    assert set(agents.category) == {"automobile"}
    assert set(np.round(agents.t * 10, 6)) <= set(np.round(clip.ego.t * 10, 6))
    np.testing.assert_allclose(agents.xyz, small.agent_position(agents.t), atol=2e-3)
    np.testing.assert_allclose(agents.yaw, 0.0, atol=1e-3)
    np.testing.assert_allclose(agents.lwh, np.tile([4.5, 1.9, 1.6], (len(agents.t), 1)))


def test_a_window_at_the_keyframe(built):
    clip = PhysicalAISource(built).clip(0)
    assert keyframe_times(clip) == [2.5]
    assert 2.5 in np.round(window_times(clip), 6)
    observation = observe(clip, 2.5)
    assert [c.images.shape for c in observation.cameras] == [(4, 32, 160, 3)] * 2
    base = small.camera_base("aaa-0", FRONT)
    numbers = [frame_number(image) - base for image in observation.cameras[1].images]
    assert numbers == [66, 69, 72, 75]
    assert target(clip, 2.5).reasoning == "Slow down for the car ahead."


def test_chunks_and_cameras_are_chosen(built):
    assert PhysicalAISource(built, chunks="1").clips == ["bbb-0"]
    only = PhysicalAISource(built, chunks="0-1", cameras=(FRONT,)).clip(0)
    assert [c.name for c in only.cameras] == [FRONT]
    with pytest.raises(ConfigError, match="camera 'x' is unknown; the set has camera_cross_left"):
        PhysicalAISource(built, cameras=("x",))
    with pytest.raises(InputError, match="no clip in chunks 7"):
        PhysicalAISource(built, chunks="7")


@pytest.mark.parametrize(
    "text, want", [(None, None), ("3", {3}), ("0-2, 7", {0, 1, 2, 7}), ("5-5", {5})]
)
def test_numbers_of_chunks(text, want):
    assert physical_ai_layout.parse_chunks(text) == want


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "", "1,,2", "1-2-3"])
def test_malformed_chunks(text):
    with pytest.raises(ConfigError, match="chunks"):
        physical_ai_layout.parse_chunks(text)


def test_what_is_not_downloaded_is_left_out(root):
    (root / small.chunk_file("egomotion", 1)).unlink()
    (root / small.chunk_file(small.CAMERAS[0], 0)).unlink()
    (root / small.chunk_file("obstacle.offline", 0)).unlink()
    shutil.rmtree(root / "reasoning")
    source = PhysicalAISource(root)
    assert source.clips == ["aaa-0", "aaa-1"]
    clip = source.clip(0)
    assert [c.name for c in clip.cameras] == [FRONT]
    assert clip.agents is None and clip.reasoning == ()


def test_invalid_clips_are_left_out(root):
    table = {"clip_id": ["aaa-0", "aaa-1"], "chunk": [0, 0], "clip_is_valid": [False, True]}
    small.write_parquet(root / "clip_index.parquet", table, 1)
    assert PhysicalAISource(root).clips == ["aaa-1"]


def test_workers_can_take_it(built):
    copy = pickle.loads(pickle.dumps(PhysicalAISource(built)))
    assert frame_number(copy.clip(0).camera(1).read(9)) == 9 + small.camera_base("aaa-0", FRONT)
    kept = make_source("physical_ai", root=str(built), cache_mb=1)
    assert len(kept) == 3 and "Physical AI" not in kept.clip(0).clip_id


class TestDefects:
    """One clip or chunk is damaged: it is named, with its field; the others are read."""

    def _video(self, root, change):
        small.edit_zip(root / small.chunk_file(FRONT, 0), change)
        return _errors(root)

    def test_a_video_whose_timestamps_disagree(self, root):
        table = {"frame_index": np.arange(200), "timestamp": np.arange(200) * 33333}
        name = f"aaa-1.{FRONT}.timestamps.parquet"
        found = self._video(root, lambda m: m.update({name: small.write_parquet(None, table)}))
        assert set(found) == {"aaa-1"}
        where = "clip 'aaa-1': camera 'camera_front_wide_120fov': the video has 270"
        assert where in found["aaa-1"]
        assert "there are 200 times" in found["aaa-1"]

    def test_times_that_go_back(self, root):
        stamps = np.arange(270) * 33333
        stamps[100] = 0
        table = {"frame_index": np.arange(270), "timestamp": stamps}
        name = f"aaa-1.{FRONT}.timestamps.parquet"
        found = self._video(root, lambda m: m.update({name: small.write_parquet(None, table)}))
        assert set(found) == {"aaa-1"} and "timestamp goes backwards in row 100" in found["aaa-1"]

    def test_a_missing_video(self, root):
        found = self._video(root, lambda m: m.pop(f"aaa-0.{FRONT}.mp4"))
        assert set(found) == {"aaa-0"} and "has no member 'aaa-0." in found["aaa-0"]

    def test_a_damaged_table(self, root):
        name = f"aaa-0.{FRONT}.timestamps.parquet"
        found = self._video(root, lambda m: m.update({name: b"PAR1 nothing"}))
        assert set(found) == {"aaa-0"} and "cannot be read as Parquet" in found["aaa-0"]

    def test_a_member_outside_of_the_folder_concerns_its_clip(self, root):
        evil = f"../../aaa-1.{FRONT}.mp4"
        found = self._video(root, lambda m: m.update({evil: b"x"}))
        assert set(found) == {"aaa-1"}
        assert "leads out of the archive's folder; refused" in found["aaa-1"]
        assert not list(root.parent.parent.rglob("*.mp4"))

    @pytest.mark.parametrize("evil", ["/etc/passwd", "..\\x", "a/../../x", "C:\\x"])
    def test_a_member_of_no_clip_outside_of_the_folder_concerns_all_of_the_chunk(self, root, evil):
        found = self._video(root, lambda m: m.update({evil: b"x"}))
        assert set(found) == {"aaa-0", "aaa-1"}
        assert "leads out" in found["aaa-0"]

    def test_names_of_clips_and_templates_that_lead_out(self, root):
        table = {"clip_id": ["../../bbb-0", "aaa-0"], "chunk": [1, 0]}
        small.write_parquet(root / "clip_index.parquet", table, 1)
        found = _errors(root)
        assert set(found) == {"../../bbb-0"} and "leads out" in found["../../bbb-0"]
        features = (root / "features.csv").read_text()
        (root / "features.csv").write_text(features.replace("labels/", "../labels/"))
        with pytest.raises(InputError, match="is not a file of the data set"):
            PhysicalAISource(root)

    def test_a_damaged_archive(self, root):
        path = root / small.chunk_file(FRONT, 0)
        path.write_bytes(path.read_bytes()[:-50])
        found = _errors(root)
        assert set(found) == {"aaa-0", "aaa-1"}
        assert "cannot be read as a zip archive" in found["aaa-1"]

    def test_a_member_that_is_too_large(self, root, monkeypatch):
        monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 10)
        assert "unpacks to" in _errors(root)["bbb-0"]

    def test_ego_motion(self, root):
        def change(members):
            for name, row, value in (("aaa-0", 5, np.nan), ("aaa-1", slice(300, 400), None)):
                t = np.arange(0, 10, 0.01)
                xyz, quat = small.ego_pose(name, t)
                table = {"timestamp": (t * 1e6).astype(int)} | dict(zip("xyz", xyz.T.copy()))
                table |= dict(zip(("qw", "qx", "qy", "qz"), quat.T))
                if value is None:
                    table = {k: np.delete(v, row) for k, v in table.items()}
                else:
                    table["y"][row] = value
                members[f"{name}.egomotion.parquet"] = small.write_parquet(None, table)

        small.edit_zip(root / small.chunk_file("egomotion", 0), change)
        found = _errors(root)
        assert set(found) == {"aaa-0", "aaa-1"}
        assert "column 'y' has no finite number in row 5" in found["aaa-0"]
        assert "timestamp has a gap of 1.0" in found["aaa-1"]

    def test_calibration(self, root):
        table = {"clip_id": ["aaa-0"], "camera_name": [FRONT], "width": [160], "height": [32]}
        table |= {"cx": [79.5], "cy": [15.5], "fw_poly_0": [0.0], "fw_poly_1": [-3.0]}
        small.write_parquet(root / small.chunk_file("camera_intrinsics", 0), table, 2)
        found = _errors(root, cameras=(FRONT,))
        assert set(found) == {"aaa-0", "aaa-1"}
        assert "fw_poly: f-theta lens: the radius must rise" in found["aaa-0"]
        assert "has no row of clip 'aaa-1'" in found["aaa-1"]

    @pytest.mark.parametrize(
        "events, message",
        [
            ([{"event_start_timestamp": 2, "cot": " "}], r"events\[0\]: cot is empty"),
            ([{"cot": "x"}], r"events\[0\]: has no event_start_timestamp"),
            ("[{", "is not valid JSON"),
            ('[{"event_start_timestamp": "a", "cot": "x"}]', "is no number"),
        ],
    )
    def test_reasoning(self, root, events, message):
        table = {"clip_id": ["aaa-1"], "events": [events]}
        small.write_parquet(root / physical_ai_layout.REASONING, table, 1)
        found = _errors(root)
        assert set(found) == {"aaa-1"}
        with pytest.raises(InputError, match=message):
            raise InputError(found["aaa-1"])

    def test_reasoning_as_text(self, root):
        events = [(3_000_000, "b"), (2_000_000, "a")]
        text = json.dumps([{"event_start_timestamp": t, "cot": cot} for t, cot in events])
        table = {"clip_id": ["aaa-1"], "events": [text]}
        small.write_parquet(root / physical_ai_layout.REASONING, table, 1)
        labels = PhysicalAISource(root).clip(1).reasoning
        assert [(label.t, label.text) for label in labels] == [(2.0, "a"), (3.0, "b")]

    def test_what_every_clip_needs(self, root):
        (root / "features.csv").write_text("feature,directory,chunk_path\nx,camera,\n")
        with pytest.raises(InputError, match="features.csv: line 2: chunk_path is missing"):
            PhysicalAISource(root)
        (root / "clip_index.parquet").unlink()
        (root / "features.csv").unlink()
        with pytest.raises(InputError, match="features.csv is missing"):
            PhysicalAISource(root)
        with pytest.raises(InputError, match="is not a folder"):
            PhysicalAISource(root / "nowhere")


class FakeHub:
    """What is used of the package: open_file of a data set that lies elsewhere."""

    def __init__(self, root, **options):
        self.root, self.asked = root, []
        assert set(options) == {"cache_dir", "confirm_download_threshold_gb"}

    @contextlib.contextmanager
    def open_file(self, name, maybe_stream):
        assert maybe_stream
        self.asked.append(name)
        with open(self.root / name, "rb") as file:
            yield file


def test_what_the_folder_lacks_is_streamed(built, tmp_path, monkeypatch):
    hubs = []

    def interface(**options):
        hubs.append(FakeHub(built, **options))
        return hubs[-1]

    package = types.SimpleNamespace(PhysicalAIAVDatasetInterface=interface)
    monkeypatch.setitem(sys.modules, "physical_ai_av", package)
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(built / "features.csv", here)
    source = PhysicalAISource(here, stream=True, cameras=(FRONT,))
    assert source.clips == ["aaa-0", "aaa-1", "bbb-0"]
    clip = source.clip(0)
    assert frame_number(clip.camera(1).read(50)) == 50 + small.camera_base("aaa-0", FRONT)
    assert len(hubs) == 1
    assert "features.csv" not in hubs[0].asked
    assert small.chunk_file(FRONT, 0) in hubs[0].asked
    assert small.chunk_file(small.CAMERAS[0], 0) not in hubs[0].asked
    with pytest.raises(InputError, match="cannot be streamed: .*No such file"):
        source._files.open("x", "nothing").__enter__()
    copy = pickle.loads(pickle.dumps(source))
    assert copy.clip(1).clip_id == "aaa-1"

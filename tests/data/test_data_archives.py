"""Names that lead out of a folder, and tables with and without names of rows."""

import numpy as np
import pytest

from alpamayo_jax.data import archives, tables
from alpamayo_jax.data.physical_ai_agents import world_agents
from alpamayo_jax.clip import EgoTrack
from alpamayo_jax.testing.physical_ai import write_parquet
from alpamayo_jax.types import InputError

pytest.importorskip("pyarrow")


@pytest.mark.parametrize(
    "name, want",
    [
        ("a/b.mp4", False), ("a/..b", False), ("..", True), ("a/../../b", True), ("/a", True),
        ("\\a", True), ("a\\..\\..\\b", True), ("C:/a", True), ("", True), (".", True),
        ("dir/", False),
    ],
)  # fmt: skip
def test_outside(name, want):
    assert archives.outside(name) is want


def test_files_below_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    files = archives.Files(tmp_path)
    assert files.has("a") and not files.has("b")
    with files.open("here", "a") as file:
        assert file.read() == b"x"
    with pytest.raises(InputError, match="^here: .*b is missing; fetch it"):
        files.open("here", "b").__enter__()
    with pytest.raises(InputError, match="is not a file of the data set"):
        files.has("../a")


def test_tables():
    table = tables.read_parquet("t", write_parquet(None, {"k": ["a", "b"], "v": [1, 2]}, 1))
    assert len(table) == 2 and table.index == ("k",)
    assert table.names(0, "clip_id").tolist() == ["a", "b"]
    assert table.numbers("v", "v").tolist() == [[1, 1], [2, 2]]
    assert table.rows(np.array([False, True])).names(0, "k").tolist() == ["b"]
    for call, message in (
        (lambda: table.column("x"), "t: no column 'x'; found k, v"),
        (lambda: table.numbers("k"), "column 'k' is not numbers"),
        (lambda: table.names(1, "sensor"), "rows have no sensor"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    plain = tables.read_parquet("t", write_parquet(None, {"clip_id": ["a"], "e": [[{"x": 1}]]}))
    assert plain.column("e") == [[{"x": 1}]]
    missing = tables.read_parquet("t", write_parquet(None, {"v": [1.0, None]}))
    with pytest.raises(InputError, match="column 'v' has no finite number in row 1 of 2"):
        missing.numbers("v")


def test_a_missing_table(tmp_path):
    with pytest.raises(InputError, match="t: cannot be read as Parquet"):
        tables.read_parquet("t", tmp_path / "none.parquet")


def _boxes(times, **columns):
    count = len(times)
    table = {"timestamp_us": np.asarray(times) * 1e6, "track_id": ["1"] * count}
    table |= {"label_class": ["person"] * count}
    table |= {f"center_{a}": np.full(count, float(i)) for i, a in enumerate("xyz")}
    table |= {f"size_{a}": np.full(count, 1.0) for a in "xyz"}
    table |= {f"orientation_{a}": np.full(count, float(a == "w")) for a in "xyzw"}
    return tables.read_parquet("t", write_parquet(None, table | columns))


def _world(table):
    t = np.arange(0, 3.05, 0.1)
    xyz = np.stack([5 * t, 0 * t, 0 * t], -1)
    quat = np.tile([1.0, 0, 0, 0], (len(t), 1))
    return world_agents(table, t, xyz, quat, EgoTrack(t, xyz, quat))


def test_tracks_are_not_carried_across_gaps_nor_beyond_their_ends():
    agents = _world(_boxes([0.45, 0.62, 0.8, 1.9, 2.2, 9.0]))
    np.testing.assert_allclose(agents.t, [0.5, 0.6, 0.7, 0.8, 1.9, 2.0, 2.1, 2.2])
    np.testing.assert_allclose(agents.xyz[:, 0], 5 * agents.t)
    assert agents.category.tolist() == ["person"] * 8


def test_no_boxes_and_bad_boxes():
    assert len(_world(_boxes([])).t) == 0
    assert len(_world(_boxes([7.0])).t) == 0
    with pytest.raises(InputError, match="orientation_.* no unit quaternions"):
        _world(_boxes([0.5], orientation_w=[3.0]))

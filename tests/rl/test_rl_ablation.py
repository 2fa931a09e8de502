"""The table of rewards: which weights count, means over seeds, its file and picture."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from alpamayo_jax.config import ConfigError
from alpamayo_jax.rl import ablation
from alpamayo_jax.types import InputError

METRICS = [column.metric for column in ablation.COLUMNS]


def measured(value):
    return {metric: value + i for i, metric in enumerate(METRICS)}


def results(*seeds):
    rows = (ablation.SFT, *ablation.ROWS)
    return {row: [measured(seed + 10.0 * i) for seed in seeds] for i, row in enumerate(rows)}


@pytest.mark.parametrize(
    "row, left",
    [
        ("reasoning", {"reasoning", "format"}),
        ("reasoning_consistency", {"reasoning", "consistency", "format"}),
        ("all", {"reasoning", "consistency", "imitation", "collision", "jerk", "format"}),
    ],
)
def test_weights_of_a_row(row, left):
    names = ("reasoning", "consistency", "imitation", "collision", "jerk", "comfort", "format")
    weights = dict.fromkeys(names, 0.5) | {"comfort": 0.0}
    found = ablation.row_weights(weights, row)
    assert {name for name, weight in found.items() if weight} == left
    assert set(found) == set(names)


def test_an_unknown_row_is_refused():
    with pytest.raises(ConfigError, match="row 'more' is unknown; known: reasoning"):
        ablation.row_weights({}, "more")


def test_table_has_means_deviations_and_changes():
    sft, first, *_ = ablation.table(results(1.0, 2.0, 6.0))
    assert sft["row"] == ablation.SFT and sft["seeds"] == 3
    entry = sft["ade_most_likely"]
    assert entry["mean"] == 3.0 and entry["change"] == 0.0
    assert entry["std"] == pytest.approx(np.sqrt((4 + 1 + 9) / 2))
    assert first["ade_most_likely"]["values"] == [11.0, 12.0, 16.0]
    assert first["ade_most_likely"]["change"] == pytest.approx(13 / 3 - 1)
    collisions = first["collision"]
    assert collisions["mean"] == pytest.approx(100 * (13 + METRICS.index("collision")))


def test_one_seed_has_no_deviation():
    for row in ablation.table(results(1.0)):
        assert all(row[metric]["std"] == 0.0 for metric in METRICS)


def test_a_base_of_zero_has_no_change():
    none = results(1.0)
    none[ablation.SFT] = [dict.fromkeys(METRICS, 0.0)]
    rows = ablation.table(none)
    assert rows[1]["collision"]["change"] is None
    assert "%)" not in ablation.markdown(rows).splitlines()[3]


def test_what_could_not_be_measured_is_no_number(tmp_path):
    unknown = results(1.0, 2.0)
    path = ablation.result_path(tmp_path, 0, "all")
    ablation.write_result(path, measured(1.0) | {"ade": float("nan")}, 1.0)
    unknown["all"][0] = ablation.read_result(path)["measured"]
    entry = ablation.table(unknown)[-1]
    assert np.isnan(entry["ade"]["mean"]) and np.isnan(entry["ade"]["values"][0])
    assert np.isfinite(entry["ade_most_likely"]["mean"])
    assert ablation.picture(ablation.table(unknown)).startswith(b"\x89PNG")


def test_rows_must_have_the_same_seeds():
    uneven = results(1.0, 2.0)
    uneven["all"] = uneven["all"][:1]
    with pytest.raises(InputError, match="row 'all' has 1 seeds, not 2"):
        ablation.table(uneven)
    with pytest.raises(InputError, match="supervised policy is missing"):
        ablation.table({"all": [measured(1.0)]})


def test_markdown_names_rows_columns_and_changes():
    lines = ablation.markdown(ablation.table(results(1.0, 3.0))).splitlines()
    assert len(lines) == 6
    assert "Collisions (%)" in lines[0]
    assert lines[2].startswith("| SFT | 2.00 ± 1.41 |")
    assert lines[5].startswith("| + all three | 32.00 ± 1.41 (+1500%) |")


def test_results_are_kept_and_read(tmp_path):
    path = ablation.result_path(tmp_path, 4, "all")
    assert path == tmp_path / "seed_4" / "all.json"
    assert ablation.read_result(path) is None
    ablation.write_result(path, {"ade": 1.5}, 3.0)
    assert ablation.read_result(path) == {"measured": {"ade": 1.5}, "seconds": 3.0}


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"seconds": 1})])
def test_damaged_results_are_named(tmp_path, content):
    path = tmp_path / "all.json"
    path.write_text(content)
    with pytest.raises(InputError, match="all.json.*delete it to measure anew"):
        ablation.read_result(path)


def test_picture_is_written_and_shows_every_row(tmp_path):
    rows = ablation.table(results(1.0, 2.0, 3.0))
    data = ablation.picture(rows, tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes() == data
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert image.shape[1] > image.shape[0] > 300
    assert (image < 250).any(-1).mean() > 0.05
    assert data != ablation.picture(rows[:2])

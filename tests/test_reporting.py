"""Pictures and pages of evaluations: what they show, and that they open."""

import base64
import io
import re
import types

import numpy as np
import pytest
from PIL import Image

from alpamayo_jax import evaluate as evaluate_lib
from alpamayo_jax import reporting
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.clips import small_clip
from alpamayo_jax.testing.predictions import shifted_prediction
from alpamayo_jax.train.loop import History
from alpamayo_jax.viz import drive
from alpamayo_jax.viz.report import Report

POLICY = types.SimpleNamespace(config=preset("tiny"))
NAMES = ("camera_cross_left_120fov", "camera_front_wide_120fov")


class Source:
    """Clips with two cameras, road users and a map."""

    name = "clips"

    def clip(self, index):
        return small_clip(
            12.0, NAMES, num_agents=2, with_map=True, seed=index, clip_id=f"drive{index}"
        )


def result(number: int, t0: float) -> evaluate_lib.WindowResult:
    clip = Source().clip(number)
    observation, future = observe(clip, t0, 1), target(clip, t0)
    prediction = shifted_prediction(future, (2.0, 1.0), ("keep the lane", "give way to a <van>"))
    measured = evaluate_lib.measure(POLICY, observation, future, prediction)
    return evaluate_lib.WindowResult(
        clip.clip_id, (number, t0), observation, future, prediction, *measured
    )


@pytest.fixture(scope="module")
def evaluation():
    results = [result(number, t0) for number, t0 in ((0, 2.0), (0, 3.0), (1, 2.0), (1, 3.0))]
    return evaluate_lib.Evaluation(results, 1.0)


def opened(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([^\"]+)", page)
    return [opened(base64.b64decode(data)) for data in found]


def test_a_window_is_one_picture(evaluation, tmp_path):
    one = evaluation.results[0]
    clip = Source().clip(0)
    path = tmp_path / "a" / "drive.png"
    png = reporting.window_picture(
        path, clip, one.observation, one.prediction, one.target.ego_future_xyz
    )
    assert path.read_bytes() == png
    image = opened(png)
    assert image.width == 1600 and image.height > 500
    # The recorded future and the samples are drawn: without them the picture is another one.
    bare = reporting.window_picture(None, clip, one.observation, one.prediction, None)
    assert bare != png


def test_the_front_camera_is_shown(evaluation, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        drive,
        "drive_picture",
        lambda path, frame, camera, *_, **named: shown.update(
            frame=frame, camera=camera, **named
        ),
    )
    one, clip = evaluation.results[0], Source().clip(0)
    reporting.window_picture(None, clip, one.observation, one.prediction, None)
    assert shown["camera"].name == "camera_front_wide_120fov"
    np.testing.assert_array_equal(shown["frame"], one.observation.cameras[1].images[-1])
    assert shown["title"] == "drive0, t0 = 2.0 s"
    assert shown["reasoning"] == one.prediction.reasoning
    assert len(shown["scene"].boxes) == 2 and shown["ground_z"] == clip.ground_z
    # A camera that the policy did not use is not shown.
    left = observe(clip, 2.0, 1, cameras=[0])
    reporting.window_picture(None, clip, left, one.prediction, None)
    assert shown["camera"].name == "camera_cross_left_120fov"
    blind = observe(clip, 2.0, 1, cameras=())
    reporting.window_picture(None, clip, blind, one.prediction, None, title="poses only")
    assert shown["camera"] is None and shown["frame"] is None and shown["title"] == "poses only"


@pytest.mark.parametrize(
    "length, count, chosen",
    [(10, 3, [1, 5, 8]), (4, 4, [0, 1, 2, 3]), (2, 6, [0, 1]), (5, 1, [2]), (5, 0, []), (0, 3, [])],
)
def test_windows_are_spread_evenly(length, count, chosen):
    assert reporting.spread(list(range(length)), count) == chosen


def test_the_table_has_a_row_per_clip(evaluation):
    rows = reporting.shown_rows(evaluation)
    assert [row["clip"] for row in rows] == ["drive0", "drive1", "all"]
    assert rows[-1]["windows"] == 4
    assert rows[-1]["minADE"] == pytest.approx(1.0, abs=1e-4)
    assert rows[-1]["most likely"] == pytest.approx(2.0, abs=1e-4)


def test_the_page_of_an_evaluation(evaluation, tmp_path):
    path = reporting.write_evaluation_page(
        tmp_path / "report.html", evaluation, Source(), "some/checkpoint"
    )
    page = path.read_text(encoding="utf-8")
    assert "some/checkpoint" in page and "minADE_2, m" in page and "4 windows;" in page
    assert "drive0 at t0 = 2.0 s: minADE 1.00 m" in page
    assert "trained" not in page  # it is not known what a checkpoint was trained on
    assert len(pictures(page)) == 1 + 4
    assert "<script" not in page


def test_held_out_windows_are_called_so(evaluation):
    report = Report("a")
    reporting.add_evaluation(report, evaluation, Source(), 1, held_out=True)
    page = report.html()
    assert "Held-out windows" in page and "that the policy was not trained on" in page
    assert len(pictures(page)) == 2


def test_training_is_a_curve_per_stage():
    histories = {
        "tokens": History([10, 20], {"loss": [3.0, 2.0], "loss_others": [0.0, 0.0]}, 4.0, 1.0),
        "expert": History([10], {"loss": [1.0], "loss_flow": [1.0]}, 2.0, 0.0),
    }
    report = Report("a")
    reporting.add_training(report, histories)
    page = report.html()
    assert "20 steps in 4 s, 25.0 % of it waiting for data." in page
    assert "10 steps in 2 s, 0.0 % of it waiting for data." in page
    assert len(pictures(page)) == 2

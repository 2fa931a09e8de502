"""Questions in the form of LingoQA: rows, images, what is refused."""

import json

import numpy as np
import pytest

from alpamayo_jax.data.question_answering import MAX_LINE_BYTES, QuestionSource
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.questions import write_questions
from alpamayo_jax.testing.videos import frame_number
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_with_their_images(tmp_path, suffix):
    source = QuestionSource(write_questions(tmp_path, 3, suffix))
    assert len(source) == 3 and source.windows == ((0, 0.0), (1, 0.0), (2, 0.0))
    observation, target = source.example((1, 0.0))
    assert observation.clip_id == source.clip_name(1) == "segment1/q1"
    assert observation.question == "What is ahead of the car, number 1?"
    assert target.answer == "A pedestrian who crosses."
    (camera,) = observation.cameras
    assert camera.camera_index == 1
    assert [frame_number(image) for image in camera.images] == [5, 6, 7, 8, 9]
    np.testing.assert_array_equal(camera.times, [-4, -3, -2, -1, 0])
    assert not observation.ego_history_xyz.any() and not target.ego_future_xyz.any()


def test_fewer_images(tmp_path):
    source = QuestionSource(write_questions(tmp_path, 1), num_frames=2)
    (camera,) = source.example((0, 0.0))[0].cameras
    assert [frame_number(image) for image in camera.images] == [3, 4]
    np.testing.assert_array_equal(camera.times, [-1, 0])


def test_outlines_have_the_same_length_as_rows(tmp_path):
    config = preset("tiny")
    processor = Processor(config, tiny_tokenizer(config))
    source = QuestionSource(write_questions(tmp_path, 2))
    for window in source.windows:
        seen, wanted = source.example(window)
        batch = processor.train_batch([seen], [wanted])
        assert processor.row_length(*source.outline(window)) == batch.inputs.input_ids.shape[1]
        assert batch.labels_mask.any()


def test_long_texts_are_left_out(tmp_path):
    table = write_questions(tmp_path, 3)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[1]["answer"] = "x" * 2049
    table.write_text("\n".join(json.dumps(row) for row in rows))
    source = QuestionSource(table)
    assert len(source) == 2 and source.left_out == ["segment1/q1"]
    with pytest.raises(InputError, match="no row with texts of at most 3 characters"):
        QuestionSource(table, max_text=3)


def _changed(tmp_path, **fields):
    table = write_questions(tmp_path, 2)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for name, value in fields.items():
        rows[1][name] = value
        if value is None:
            del rows[1][name]
    table.write_text("\n".join(json.dumps(row) for row in rows))
    return table


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"answer": None}, "line 2: answer must be a str, got None"),
        ({"question": ""}, "line 2: question must be a str"),
        ({"images": []}, r"line 2: images must be a list"),
        ({"images": ["../../secret.png"]}, r"images\[0\] is '../../secret.png', not a file below"),
        ({"images": ["/etc/passwd"]}, r"images\[0\] is '/etc/passwd'"),
        ({"images": [3]}, r"images\[0\] is 3"),
    ],
)
def test_defective_rows(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        QuestionSource(_changed(tmp_path, **fields))


def test_defective_images_are_named_when_read(tmp_path):
    source = QuestionSource(_changed(tmp_path, images=["images/nothing.png"]))
    assert source.example((0, 0.0))
    for call in (source.example, source.outline):
        with pytest.raises(InputError, match="question 'segment1/q1'.*nothing.png"):
            call((1, 0.0))
    path = tmp_path / "images" / "segment0" / "2.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="segment0/2.png: the image is unreadable"):
        source.example((0, 0.0))


def test_files_that_are_no_tables(tmp_path):
    line = tmp_path / "line.jsonl"
    line.write_bytes(b"[" * (MAX_LINE_BYTES + 10))
    with pytest.raises(InputError, match=f"line 1: is longer than {MAX_LINE_BYTES} bytes"):
        QuestionSource(line)
    line.write_text("[1]\n")
    with pytest.raises(InputError, match="line 1: must be an object"):
        QuestionSource(line)
    line.write_text("{\n")
    with pytest.raises(InputError, match="line 1: is not valid JSON"):
        QuestionSource(line)
    with pytest.raises(InputError, match="No such file"):
        QuestionSource(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="must be a .parquet or a .jsonl"):
        QuestionSource(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        QuestionSource(tmp_path / "a.parquet")

"""Questions about drives and their answers, in the form of LingoQA.

    ROOT/<name>.parquet or ROOT/<name>.jsonl    question_id, segment_id, images, question, answer

`images` lists the files of one camera, oldest first and one second apart, relative to the table's
folder (LingoQA: five of the front camera). They train text only: there are no poses, so histories
and futures are zeros, and the action expert must not be trained on them.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from PIL import Image

from alpamayo_jax.clip import FRONT_WIDE
from alpamayo_jax.data.clip_frames import decode_image
from alpamayo_jax.data.sources import Window
from alpamayo_jax.data.tables import read_parquet
from alpamayo_jax.data.windows import NUM_FUTURE, NUM_HISTORY
from alpamayo_jax.types import CameraFrames, InputError, Observation, Target

MAX_TEXT = 2048  # characters of a question or an answer (released training)
MAX_LINE_BYTES = 2**20  # of a JSON line
FRAME_DT_S = 1.0
_FIELDS = ("question_id", "segment_id", "images", "question", "answer")


@dataclasses.dataclass(frozen=True)
class Question:
    """One row; `images` are files below the table's folder."""

    name: str
    images: tuple[Path, ...]
    question: str
    answer: str


class QuestionSource:
    """The rows of a table (`mixture.ExampleSource`)."""

    def __init__(self, table: str | Path, num_frames: int = 5, max_text: int = MAX_TEXT):
        """Reads the table; images are read when asked for.

        Args:
          table: a .parquet or .jsonl file.
          num_frames: the last so many images of a row are used; a row may have fewer.
          max_text: longer questions or answers are left out (see `left_out`).

        Raises:
          InputError: no such table, or a defective row; names row and field.
        """
        table = Path(table)
        self.name = f"questions in {table}"
        self._num_frames = num_frames
        self.left_out: list[str] = []
        self.questions: list[Question] = []
        for where, row in _rows(table):
            question = _question(where, row, table.parent.resolve())
            if max(len(question.question), len(question.answer)) > max_text:
                self.left_out.append(question.name)
            else:
                self.questions.append(question)
        if not self.questions:
            raise InputError(f"{self.name}: no row with texts of at most {max_text} characters")

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def windows(self) -> tuple[Window, ...]:
        """All rows, as a part of a mixture takes them."""
        return tuple((number, 0.0) for number in range(len(self)))

    def clip_name(self, index: int) -> str:
        """The id of question number `index`."""
        return self.questions[index].name

    def example(self, window: Window) -> tuple[Observation, Target]:
        """Question number window[0] with its images; raises `InputError` where one is damaged."""
        question = self.questions[window[0]]
        files = question.images[-self._num_frames :]
        images = [_read(f"{self.name}: question {question.name!r}", file) for file in files]
        if len({image.shape for image in images}) > 1:
            raise InputError(
                f"{self.name}: question {question.name!r}: images of different sizes: "
                f"{[image.shape[1::-1] for image in images]}"
            )
        return self._row(question, np.stack(images))

    def outline(self, window: Window) -> tuple[Observation, Target]:
        """As `example`, with images of their sizes but not their content."""
        question = self.questions[window[0]]
        files = question.images[-self._num_frames :]
        try:
            with Image.open(files[-1]) as image:
                width, height = image.size
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.name}: question {question.name!r}: {files[-1]}: {error}"
            ) from None
        return self._row(question, np.broadcast_to(np.uint8(0), (len(files), height, width, 3)))

    def _row(self, question: Question, images: np.ndarray) -> tuple[Observation, Target]:
        times = FRAME_DT_S * np.arange(1 - len(images), 1, dtype=np.float64)
        eye = np.eye(3, dtype=np.float32)
        observation = Observation(
            cameras=(CameraFrames(FRONT_WIDE, images, times),),
            ego_history_xyz=np.zeros((NUM_HISTORY, 3), np.float32),
            ego_history_rot=np.tile(eye, (NUM_HISTORY, 1, 1)),
            question=question.question,
            clip_id=question.name,
        )
        target = Target(
            ego_future_xyz=np.zeros((NUM_FUTURE, 3), np.float32),
            ego_future_rot=np.tile(eye, (NUM_FUTURE, 1, 1)),
            answer=question.answer,
        )
        return observation, target


def _rows(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if table.suffix == ".parquet":
        read = read_parquet(f"questions: {table}", table)
        columns = {name: read.column(name) for name in _FIELDS}
        for number in range(len(read)):
            row = {name: values[number] for name, values in columns.items()}
            yield f"questions: {table}: row {number}", row
        return
    if table.suffix != ".jsonl":
        raise InputError(f"questions: {table} must be a .parquet or a .jsonl file")
    try:
        with open(table, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                where = f"questions: {table}: line {number}"
                if len(line) > MAX_LINE_BYTES:
                    raise InputError(f"{where}: is longer than {MAX_LINE_BYTES} bytes")
                if line.strip():
                    yield where, _parse(where, line)
    except OSError as error:
        raise InputError(f"questions: {table}: {error.strerror}") from error


def _parse(where: str, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be an object, got {row!r:.60}")
    return row


def _question(where: str, row: dict[str, Any], root: Path) -> Question:
    for name in _FIELDS:
        kind = list if name == "images" else str
        if not isinstance(row.get(name), kind) or not row[name]:
            found = f"{row.get(name)!r:.60}"
            raise InputError(f"{where}: {name} must be a {kind.__name__}, got {found}")
    files = []
    for i, name in enumerate(row["images"]):
        path = (root / name).resolve() if isinstance(name, str) else root
        if not path.is_relative_to(root) or path == root:
            raise InputError(f"{where}: images[{i}] is {name!r}, not a file below {root}")
        files.append(path)
    name = f"{row['segment_id']}/{row['question_id']}"
    return Question(name, tuple(files), row["question"].strip(), row["answer"].strip())


def _read(where: str, path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: {path}: {error.strerror}") from error
    return decode_image(f"{where}: {path}", data)

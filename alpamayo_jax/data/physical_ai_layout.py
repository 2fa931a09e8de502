"""Where NVIDIA's Physical AI AV data set keeps what: its features, its clips, its chunks.

    features.csv           feature, directory, chunk_path with {chunk_id}, and for zip archives
                           clip_files_in_zip, a JSON object of member names with {clip_id}
    clip_index.parquet     clip_id -> chunk, split, clip_is_valid
    reasoning/ood_reasoning.parquet    clip_id -> events, each event_start_timestamp (microseconds
                           on the clip's clock) and cot; optional

Public facts of the data set's card and of the MIT-licensed package `physical_ai_av`.
"""

import csv
import dataclasses
import io
import json
from typing import Any

import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.archives import Files, MemberFile
from alpamayo_jax.data.tables import Table, read_parquet
from alpamayo_jax.types import InputError

REASONING = "reasoning/ood_reasoning.parquet"
_WHERE = "Physical AI AV"


@dataclasses.dataclass(frozen=True)
class Feature:
    """One row of features.csv; `members` is None for a chunk that is one Parquet table."""

    name: str
    directory: str
    chunk_path: str
    members: dict[str, str] | None

    def chunk_file(self, chunk: int) -> str:
        """Name of the file of a chunk."""
        try:
            return self.chunk_path.format(chunk_id=chunk)
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"{_WHERE}: features.csv: chunk_path {self.chunk_path!r} of {self.name}: {error}"
            ) from None

    def member(
        self, where: str, files: Files, chunk: int, clip: str, kind: str, others: tuple[str, ...]
    ) -> MemberFile:
        """The member of a clip in its chunk's archive; `kind` is a key of clip_files_in_zip."""
        template = (self.members or {}).get(kind)
        if template is None:
            known = ", ".join(self.members or {}) or "none"
            raise InputError(
                f"{where}: features.csv: clip_files_in_zip of {self.name} has no {kind!r}; {known}"
            )
        name = template.replace("{clip_id}", clip)
        return MemberFile(where, files, self.chunk_file(chunk), name, clip, others)


def read_features(files: Files) -> dict[str, Feature]:
    """Reads features.csv; raises `InputError` naming row and column."""
    where = f"{_WHERE}: features.csv"
    with files.open(_WHERE, "features.csv") as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            rows = list(csv.DictReader(text, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{where}: cannot be read as a CSV table: {error}") from error
    found = {}
    for number, row in enumerate(rows, start=2):
        for column in ("feature", "directory", "chunk_path"):
            if not row.get(column):
                raise InputError(f"{where}: line {number}: {column} is missing or empty")
        members = row.get("clip_files_in_zip") or None
        try:
            members = members and json.loads(members)
        except ValueError as error:
            raise InputError(f"{where}: line {number}: clip_files_in_zip: {error}") from None
        if members is not None and not isinstance(members, dict):
            raise InputError(f"{where}: line {number}: clip_files_in_zip is no object")
        found[row["feature"]] = Feature(
            row["feature"], row["directory"], row["chunk_path"], members
        )
    return found


def read_clip_index(files: Files) -> dict[str, int]:
    """Reads clip_index.parquet: the valid clips and the chunk of each, in order of the file."""
    where = f"{_WHERE}: clip_index.parquet"
    with files.open(_WHERE, "clip_index.parquet") as file:
        table = read_parquet(where, file.read())
    names = table.names(0, "clip_id")
    chunks = table.numbers("chunk")[:, 0].astype(int)
    valid = np.ones(len(names), bool)
    if "clip_is_valid" in table.columns:
        valid = np.asarray(table.column("clip_is_valid"), bool)
    return {str(n): int(c) for n, c, good in zip(names, chunks, valid) if good}


def read_reasoning(files: Files) -> dict[str, Any]:
    """Reads the optional table of reasoning: clip -> its `events` as they are; {} without it."""
    if not files.has(REASONING):
        return {}
    try:
        with files.open(_WHERE, REASONING) as file:
            table = read_parquet(f"{_WHERE}: {REASONING}", file.read())
    except InputError:
        if Files(files.root).has(REASONING):
            raise
        return {}  # the hub has none
    return dict(zip(table.names(0, "clip_id").tolist(), list(table.column("events"))))


def parse_chunks(text: str | None) -> set[int] | None:
    """Chunks by number: "0-9,12" is 0 to 9, both included, and 12; None is all.

    Raises:
      ConfigError: anything else.
    """
    if text is None:
        return None
    chosen: set[int] = set()
    for part in str(text).split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ConfigError(f"chunks {text!r}: {part.strip()!r} is no number and no range a-b")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            raise ConfigError(f"chunks {text!r}: {part.strip()!r} is empty")
        chosen.update(numbers)
    return chosen


def clip_rows(table: Table, clip: str) -> Table:
    """The rows of one clip of a chunk's table; raises `InputError` where there is none."""
    mask = table.names(0, "clip_id") == clip
    if not mask.any():
        raise InputError(f"{table.where}: has no row of clip {clip!r}")
    return table.rows(mask)

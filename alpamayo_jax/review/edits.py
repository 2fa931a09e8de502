"""What people did to labels, in a file that only grows.

One JSON object per line, on disk before the person is told that it is kept:

    schema_version   1
    time             UTC, ISO 8601
    author           who
    role             "annotator", "second" or "audit"
    action           "save", "accept" or "reject"
    base             how many edits of this label the author had seen
    late_components  whether components were changed after the future was shown
    note             why, "" where there is nothing to say
    label            the whole label as the author left it (`coc.schema`)
"""

import contextlib
import dataclasses
import enum
import fcntl
import json
import os
import pathlib
from typing import Any, Callable, Iterator

from alpamayo_jax import files
from alpamayo_jax.coc import fields
from alpamayo_jax.coc.schema import MAX_LINE_BYTES, CocLabel
from alpamayo_jax.types import InputError

SCHEMA_VERSION = 1
_MOST_BYTES = 2 * MAX_LINE_BYTES
_MOST_AUTHOR = 80  # characters


class Role(enum.StrEnum):
    """In which of the three passes over a label somebody works."""

    ANNOTATOR = "annotator"
    SECOND = "second"
    AUDIT = "audit"


class Action(enum.StrEnum):
    """What somebody did."""

    SAVE = "save"
    ACCEPT = "accept"
    REJECT = "reject"


@dataclasses.dataclass(frozen=True)
class Edit:
    """One line of the file; see the head of this module."""

    time: str
    author: str
    role: Role
    action: Action
    label: CocLabel
    base: int = 0
    note: str = ""
    late_components: bool = False

    def to_json(self) -> dict[str, Any]:
        """The object that `from_json` reads."""
        return {
            "schema_version": SCHEMA_VERSION,
            "time": self.time,
            "author": self.author,
            "role": self.role.value,
            "action": self.action.value,
            "base": self.base,
            "late_components": self.late_components,
            "note": self.note,
            "label": self.label.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any, where: str = "edit") -> "Edit":
        """Reads and checks an edit; raises `InputError` naming the field."""
        if not isinstance(value, dict):
            raise InputError(f"{where}: must be an object, got {fields.short(value)}")
        names = {
            "schema_version", "time", "author", "role", "action", "base", "late_components", "note",
            "label",
        }  # fmt: skip
        fields.check_names(where, value, names, names)
        if value["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema_version is {fields.short(value['schema_version'])}; this version "
                f"reads {SCHEMA_VERSION}"
            )
        base, late = value["base"], value["late_components"]
        if isinstance(base, bool) or not isinstance(base, int) or base < 0:
            raise InputError(f"{where}: base must be a number of edits, got {fields.short(base)}")
        if not isinstance(late, bool):
            raise InputError(f"{where}: late_components must be true or false")
        return cls(
            time=fields.text(where, "time", value["time"]),
            author=checked_author(value["author"], where),
            role=fields.choice(where, "role", value["role"], Role),
            action=fields.choice(where, "action", value["action"], Action),
            base=base,
            note=fields.text(where, "note", value["note"], empty=True),
            late_components=late,
            label=CocLabel.from_json(value["label"], where),
        )


def checked_author(name: Any, where: str = "author") -> str:
    """A name as it is kept, without outer spaces; raises `InputError` for none."""
    name = fields.text(where, "author", name).strip()
    if len(name) > _MOST_AUTHOR or not name.isprintable():
        raise InputError(f"{where}: author must be a short name, got {fields.short(name)}")
    return name


def read_edits(path: str | os.PathLike) -> list[Edit]:
    """The edits of a file in order; of no file, none. Raises as `EditLog.read_new`."""
    return EditLog(path).read_new()


class EditLog:
    """A file of edits, which other processes may write to as well."""

    def __init__(self, path: str | os.PathLike):
        """Reads nothing yet; the file is made with the first edit."""
        self._path = pathlib.Path(path)
        self._end, self._lines = 0, 0  # bytes and lines that were read

    def read_new(self) -> list[Edit]:
        """The edits that were not read before, in order.

        A last line without an end was never confirmed to anybody, and is left out.

        Raises:
          InputError: a line is no edit; names the file and the line.
        """
        if not self._path.exists():
            return []
        edits = []
        try:
            file = open(self._path, "rb")
        except OSError as error:
            raise InputError(f"edits: {self._path} cannot be read: {error.strerror}") from error
        with file:
            file.seek(self._end)
            while line := file.readline(_MOST_BYTES):
                where = f"{self._path}:{self._lines + 1}"
                if not line.endswith(b"\n"):
                    if len(line) == _MOST_BYTES:
                        raise InputError(f"{where}: the line is longer than {_MOST_BYTES} bytes")
                    break
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{where}: is not valid JSON: {error}") from error
                edits.append(Edit.from_json(value, where))
                self._end += len(line)
                self._lines += 1
        return edits

    @contextlib.contextmanager
    def locked(self) -> Iterator[Callable[[Edit], None]]:
        """Keeps other writers out; yields what appends an edit and waits until it is on the disk.

        What a writer that died left of a line is cut off first. The appended edit counts as read,
        so read what is new before.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            files.cut_torn_line(file)

            def append(edit: Edit) -> None:
                data = _line(edit)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                self._end += len(data)
                self._lines += 1

            yield append


def _line(edit: Edit) -> bytes:
    Edit.from_json(edit.to_json())
    data = (json.dumps(edit.to_json(), sort_keys=True) + "\n").encode()
    if len(data) > _MOST_BYTES:
        raise InputError(f"an edit of {len(data)} bytes is longer than {_MOST_BYTES}")
    return data

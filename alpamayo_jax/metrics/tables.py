"""Results as text, Markdown and HTML tables, and as `summary.json`.

A table is a list of rows, each a dict from column name to value; columns appear in the order in
which the rows first name them, and a value that is missing or None prints as "-".
"""

import html
import json
import math
import os
from typing import Any, Mapping, Sequence

import numpy as np

from alpamayo_jax.files import write_bytes

Row = Mapping[str, Any]

_ABSENT = "-"


def format_value(value: Any, digits: int = 3) -> str:
    """A cell: integers with thousands separators, other numbers with `digits` decimals.

    Numbers that the decimals would hide, and very large ones, are written with an exponent.
    """
    if value is None:
        return _ABSENT
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if value and not 10.0**-digits <= abs(value) < 1e6:
        return f"{value:.{max(digits - 1, 0)}e}"
    return f"{value:.{digits}f}"


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Column names in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _cells(
    rows: Sequence[Row], columns: Sequence[str] | None, digits: int
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Header, formatted cells, and which columns hold numbers only."""
    header = list(columns_of(rows) if columns is None else columns)
    cells = [[format_value(row.get(name), digits) for name in header] for row in rows]
    numeric = []
    for name in header:
        values = [row[name] for row in rows if row.get(name) is not None]
        numeric.append(bool(values) and not any(isinstance(v, (str, bool)) for v in values))
    return header, cells, numeric


def text_table(rows: Sequence[Row], columns: Sequence[str] | None = None, digits: int = 3) -> str:
    """Aligned plain text; numbers to the right. No newline at the end."""
    header, cells, numeric = _cells(rows, columns, digits)
    widths = [max(map(len, column)) for column in zip(header, *cells)]

    def line(parts: Sequence[str]) -> str:
        aligned = (
            part.rjust(width) if right else part.ljust(width)
            for part, width, right in zip(parts, widths, numeric)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *map(line, cells)])


def markdown_table(
    rows: Sequence[Row], columns: Sequence[str] | None = None, digits: int = 3
) -> str:
    """GitHub-flavoured Markdown; vertical bars in cells are escaped. No newline at the end."""
    header, cells, numeric = _cells(rows, columns, digits)

    def line(parts: Sequence[str]) -> str:
        safe = (part.replace("|", "\\|").replace("\n", " ") for part in parts)
        return "| " + " | ".join(safe) + " |"

    rule = "| " + " | ".join("---:" if right else "---" for right in numeric) + " |"
    return "\n".join([line(header), rule, *map(line, cells)])


def html_table(rows: Sequence[Row], columns: Sequence[str] | None = None, digits: int = 3) -> str:
    """An HTML `<table>`; every cell is escaped, number cells have class "number"."""
    header, cells, numeric = _cells(rows, columns, digits)

    def line(tag: str, parts: Sequence[str]) -> str:
        inner = "".join(
            f'<{tag}{" class=" + chr(34) + "number" + chr(34) if right else ""}>'
            f"{html.escape(part)}</{tag}>"
            for part, right in zip(parts, numeric)
        )
        return f"<tr>{inner}</tr>"

    body = "\n".join(line("td", row) for row in cells)
    return f"<table>\n<thead>{line('th', header)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON types: arrays become lists, numbers that are not finite become null."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"summary key {where}{key!r} must be a string")
        return {key: _plain(item, f"{where}{key}.") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist(), where)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"summary entry {where.rstrip('.')} has type {type(value).__name__}")


def write_summary(path: str | os.PathLike, summary: Mapping[str, Any]) -> None:
    """Writes `summary` as JSON so that `path` always holds a whole file, the old or the new.

    NumPy and JAX values become plain numbers and lists; NaN and infinity become null. Missing
    parent folders are made.

    Raises:
      TypeError: a key is not a string or a value has no JSON form; the old file is kept.
    """
    text = json.dumps(_plain(summary, ""), indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode())

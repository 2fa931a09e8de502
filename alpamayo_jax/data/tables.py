"""Tables of others: Parquet read column by column, with the rows' names."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from alpamayo_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one length, and the names of the rows.

    Attributes:
      where: names the file in messages.
      columns: name -> array [R] or list of R.
      index: the columns that name a row, in order; empty where the file names none.
    """

    where: str
    columns: dict[str, Any]
    index: tuple[str, ...]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> np.ndarray:
        """A column; raises `InputError` where there is none."""
        if name not in self.columns:
            raise InputError(
                f"{self.where}: no column {name!r}; found {', '.join(self.columns) or 'none'}"
            )
        return self.columns[name]

    def numbers(self, *names: str) -> np.ndarray:
        """float64 [R, len(names)]; raises `InputError` for what is no finite number."""
        columns = []
        for name in names:
            try:
                values = np.asarray(self.column(name), np.float64)
            except (TypeError, ValueError):
                raise InputError(f"{self.where}: column {name!r} is not numbers") from None
            bad = ~np.isfinite(values)
            if bad.any():
                raise InputError(
                    f"{self.where}: column {name!r} has no finite number in row "
                    f"{int(np.argmax(bad))} of {len(values)}"
                )
            columns.append(values)
        return np.stack(columns, -1)

    def names(self, level: int, column: str) -> np.ndarray:
        """Texts that name the rows: level `level` of the index, or the column called so."""
        if column in self.columns:
            return np.asarray([str(value) for value in self.columns[column]])
        if level >= len(self.index):
            raise InputError(f"{self.where}: rows have no {column}; index: {self.index}")
        return np.asarray([str(value) for value in self.columns[self.index[level]]])

    def rows(self, mask: np.ndarray) -> "Table":
        """The rows of a bool [R] mask, or in the order of an int array."""
        chosen = {
            name: values[mask] if isinstance(values, np.ndarray) else _take(values, mask)
            for name, values in self.columns.items()
        }
        return dataclasses.replace(self, columns=chosen)


def _take(values: list, mask: np.ndarray) -> list:
    places = np.flatnonzero(mask) if mask.dtype == bool else mask
    return [values[place] for place in places]


def read_parquet(where: str, file: str | Path | bytes | BinaryIO) -> Table:
    """Reads a Parquet table whole.

    Args:
      where: names the file in messages.
      file: its path, content or handle.

    Raises:
      InputError: it is missing or damaged.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError("Parquet needs pyarrow: pip install 'alpamayo_jax[data]'") from None
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        table = parquet.ParquetFile(source).read()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as Parquet: {error}") from error
    return Table(
        where,
        {name: _values(table.column(name)) for name in table.column_names},
        _index(table.schema.metadata, table.column_names),
    )


def _values(column) -> Any:
    """NumPy where rows are scalars, a list where they are lists or objects."""
    import pyarrow

    if pyarrow.types.is_nested(column.type):
        return column.to_pylist()
    return column.to_numpy()


def _index(metadata: dict[bytes, bytes] | None, names: list[str]) -> tuple[str, ...]:
    """What pandas wrote about which columns name a row."""
    try:
        described = json.loads((metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, ValueError, TypeError):
        return ()
    return tuple(name for name in described if isinstance(name, str) and name in names)

"""What a parity check is: recorded values of the reference, ours beside them, an error, a verdict."""

import dataclasses
import functools
import pathlib
import zipfile
from typing import Mapping

import numpy as np

from alpamayo_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Check:
    """One compared quantity.

    Attributes:
      module: the part of the library, e.g. "action_space".
      quantity: what was compared.
      error: largest deviation, in the unit of the tolerance.
      tolerance: largest allowed deviation.
      relative_error: largest deviation over the largest recorded magnitude.
    """

    module: str
    quantity: str
    error: float
    tolerance: float
    relative_error: float

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.tolerance)  # NaN compares false, so it fails


class Reference:
    """A directory of recorded values; every file is read once."""

    def __init__(self, directory: str | pathlib.Path):
        self.directory = pathlib.Path(directory)
        if not self.directory.is_dir():
            raise InputError(f"reference directory {self.directory} does not exist")

    def has(self, name: str) -> bool:
        """Whether file or folder `name` is present."""
        return (self.directory / name).exists()

    def path(self, name: str) -> pathlib.Path:
        return self.directory / name

    @functools.cache
    def arrays(self, name: str) -> Mapping[str, np.ndarray]:
        """All arrays of an npz file.

        Raises:
          InputError: the file is not a readable npz without pickled objects.
        """
        try:
            with np.load(self.path(name), allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"cannot read recorded values {self.path(name)}: {error}") from error


def compare(
    module: str,
    quantity: str,
    got: np.ndarray,
    want: np.ndarray,
    tolerance: float,
    *,
    relative: bool = False,
) -> Check:
    """Largest absolute deviation of `got` from `want`; relative to max |want| if `relative`.

    A shape that differs is an infinite error, never a broadcast.
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return Check(f"{module}", f"{quantity} (shape {got.shape}, recorded {want.shape})",
                     float("inf"), tolerance, float("inf"))
    if not want.size:
        return Check(module, quantity, 0.0, tolerance, 0.0)
    deviation = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64))))
    scale = float(np.max(np.abs(want.astype(np.float64))))
    relative_error = deviation / scale if scale else deviation
    return Check(module, quantity, relative_error if relative else deviation, tolerance,
                 relative_error)

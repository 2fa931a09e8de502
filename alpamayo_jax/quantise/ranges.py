"""What the inputs of linear layers were while a policy drove: largest magnitudes and histograms."""

import dataclasses
import json
import os
import pathlib
from typing import Mapping

import numpy as np

from alpamayo_jax.files import write_bytes
from alpamayo_jax.types import InputError

# Magnitudes are counted in bins that are equally wide as logarithms: 16 to a factor of two.
BINS_PER_OCTAVE = 16
LOWEST_OCTAVE, HIGHEST_OCTAVE = -24, 16
NUM_BINS = (HIGHEST_OCTAVE - LOWEST_OCTAVE) * BINS_PER_OCTAVE

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Per layer path, with a leading axis for layers that are stacked.

    Attributes:
      largest: path -> float64 [] or [L], the largest magnitude.
      counts: path -> int64 [NUM_BINS] or [L, NUM_BINS]; the first bin takes everything below
        2^-24, zero too, and the last everything above 2^16.
      windows: moments of drives that were run.
    """

    largest: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray]
    windows: int

    def at(self, path: str, percentile: float = 100.0) -> np.ndarray:
        """The magnitude that covers a percentile of a layer's inputs, float32 [] or [L].

        Below 100 it is the upper edge of a bin, at most 4.5 % too large, and never above the
        largest.

        Raises:
          InputError: the layer was not calibrated, or never ran.
        """
        if path not in self.largest:
            raise InputError(f"ranges: no input of layer {path} was recorded; calibrate this policy")
        counts = self.counts[path]
        if not (counts.sum(-1) > 0).all():
            raise InputError(f"ranges: layer {path} never ran while calibrating; give it more clips")
        if percentile >= 100.0:
            return self.largest[path].astype(np.float32)
        share = counts.cumsum(-1) / counts.sum(-1, keepdims=True)
        bins = (share >= percentile / 100.0).argmax(-1)
        edge = 2.0 ** (LOWEST_OCTAVE + (bins + 1) / BINS_PER_OCTAVE)
        return np.minimum(edge, self.largest[path]).astype(np.float32)

    def save(self, path: str | os.PathLike) -> None:
        """Writes JSON that `load` reads."""
        document = {
            "version": _VERSION,
            "windows": self.windows,
            "largest": {name: value.tolist() for name, value in self.largest.items()},
            "counts": {name: value.tolist() for name, value in self.counts.items()},
        }
        write_bytes(path, json.dumps(document).encode())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Ranges":
        """Reads what `save` wrote.

        Raises:
          InputError: the file is missing or something else; names it.
        """
        try:
            document = json.loads(pathlib.Path(path).read_bytes())
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']}, this library reads {_VERSION}")
            largest = {n: np.asarray(v, np.float64) for n, v in document["largest"].items()}
            counts = {n: np.asarray(v, np.int64) for n, v in document["counts"].items()}
            if largest.keys() != counts.keys() or any(
                counts[n].shape != (*largest[n].shape, NUM_BINS) for n in largest
            ):
                raise ValueError("histograms and largest values do not belong together")
            return cls(largest, counts, int(document["windows"]))
        except OSError as error:
            raise InputError(f"ranges {path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"ranges {path} is not what calibration writes: {error}") from error

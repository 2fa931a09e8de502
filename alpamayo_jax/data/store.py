"""The store: drives of any source in one format that is fast to read in any order.

    ROOT/driving_clips/1.0.0/    the TFDS dataset `driving_clips`: a record per clip (`records`)
    ROOT/media/                  an ArrayRecord file of frames per clip (`media`)

The dataset is an ordinary one of TensorFlow Datasets, written and read without TensorFlow:
`tfds.builder_from_directory("ROOT/driving_clips/1.0.0").as_data_source("train")` gives its records,
and `open_store("ROOT")` its clips.
"""

import contextlib
import io
import logging
from pathlib import Path
from typing import Any, Callable, Iterable

import numpy as np
import tensorflow_datasets as tfds

from alpamayo_jax.clip import Clip
from alpamayo_jax.data import records
from alpamayo_jax.types import InputError

VERSION = "1.0.0"
NAME = "driving_clips"
SPLIT = "train"
_F = tfds.features


def _array(dtype: type, *last: int) -> _F.Tensor:
    # Without an encoding TFDS stores every float as float32; poses are float64.
    return _F.Tensor(shape=(None, *last), dtype=dtype, encoding=_F.Encoding.ZLIB)


def _texts() -> _F.Tensor:
    return _F.Tensor(shape=(None,), dtype=np.str_)


def features() -> _F.FeaturesDict:
    """The schema of a record; `records.to_record` says what each field holds."""
    boxes = {"xyz": _array(np.float64, 3), "lwh": _array(np.float64, 3)}
    return _F.FeaturesDict(
        {
            "clip_id": _F.Text(),
            "windows": _F.Scalar(np.int64),
            "meta": _F.Text(),
            "media": _F.Text(),
            **{flag: _F.Scalar(np.bool_) for flag in records.FLAGS},
            "ego": {
                "t": _array(np.float64),
                "xyz": _array(np.float64, 3),
                "quat_wxyz": _array(np.float64, 4),
            },
            "agents": boxes
            | {
                "t": _array(np.float64),
                "track": _array(np.int32),
                "yaw": _array(np.float64),
                "category": _texts(),
            },
            "map": {
                "points": _array(np.float64, 3),
                "offsets": _array(np.int64),
                "kind": _texts(),
                "ids": _texts(),
            },
            "frames": {
                "camera": _array(np.int32),
                "t": _array(np.float64),
                "record": _array(np.int32),
                "kind": _array(np.int32),
            },
        }
    )


class DrivingClips(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder of a store; `ingest` says what it writes."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, examples: Callable[[], Any] | None = None, **kwargs):
        """As any builder.

        Args:
          examples: gives the (number, record) of every clip in order, or an Apache Beam transform
            that does; not needed to read.
          **kwargs: of TFDS.
        """
        self._examples = examples
        super().__init__(**{"file_format": "array_record"} | kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Drives for end-to-end policies: poses, boxes, map, reasoning, frames.",
            features=features(),
            # Readers shuffle windows; clips keep the order of their source.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        if self._examples is None:
            raise InputError(f"{NAME} has no public source to load from; write it with an ingest")
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self):
        return self._examples()


def dataset_dir(root: str | Path) -> Path:
    """Where in a store its TFDS dataset lies."""
    return Path(root) / NAME / VERSION


def is_complete(root: str | Path) -> bool:
    """Whether the dataset of a store is there; TFDS moves it to its place when it is whole."""
    return (dataset_dir(root) / "dataset_info.json").is_file()


def write_dataset(
    root: str | Path,
    examples: Callable[[], Iterable[tuple[int, dict[str, Any]]]],
    scratch: str | Path,
    beam_options: Any = None,
) -> None:
    """Writes the dataset of a store, whole or not at all.

    Args:
      root: of the store; its media files are there.
      examples: as in `DrivingClips`.
      scratch: a folder for what TFDS keeps aside.
      beam_options: `PipelineOptions` where `examples` gives a Beam transform.
    """
    builder = DrivingClips(examples=examples, data_dir=str(root))
    config = tfds.download.DownloadConfig(beam_options=beam_options)
    # TFDS tells a person on stdout what is going on, with bars of its own.
    with contextlib.redirect_stdout(io.StringIO()), _quiet():
        builder.download_and_prepare(download_dir=str(scratch), download_config=config)


@contextlib.contextmanager
def _quiet():
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.WARNING)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.enable_progress_bar()
        logger.setLevel(level)


class StoreSource:
    """The clips of a store (`sources.ClipSource`); a copy elsewhere opens its own files."""

    def __init__(self, root: str | Path):
        """Opens the dataset; `open_store` checks first."""
        self.root = Path(root)
        self.name = f"store {root}"
        self._data = None

    def __len__(self) -> int:
        return len(self._records())

    def record(self, index: int) -> dict[str, Any]:
        """Record number `index`, as TFDS gives it; raises `IndexError` outside of the store."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} is not in a store of {len(self)} clips")
        try:
            return self._records()[int(index)]
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{self.name}: record {index} is unreadable: {error}") from error

    def clip(self, index: int) -> Clip:
        """Clip number `index`; raises `InputError` where its record is damaged."""
        return records.to_clip(self.record(index), self.root)

    def clip_name(self, index: int) -> str:
        """The id of clip number `index`."""
        return records.text(self.record(index)["clip_id"])

    def _records(self):
        if self._data is None:
            with _quiet():
                builder = tfds.builder_from_directory(str(dataset_dir(self.root)))
                self._data = builder.as_data_source(SPLIT)
        return self._data

    def __getstate__(self):
        return self.__dict__ | {"_data": None}


def open_store(path: str | Path) -> StoreSource:
    """The clips of the store that an ingest wrote into a folder.

    Raises:
      InputError: there is no store, or its ingest did not finish.
    """
    if not is_complete(path):
        begun = (Path(path) / "ingest.json").is_file()
        what = "its ingest has not finished; start it again" if begun else "no store is there"
        raise InputError(f"store {path}: {what}")
    return StoreSource(path)

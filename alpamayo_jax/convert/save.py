"""Parameter tree -> checkpoint directory that the release's names and shapes accept."""

import os
import pathlib
import shutil
import uuid
from typing import Any, Iterable, Mapping

import jax
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert import buffers
from alpamayo_jax.convert.backbone import CONFIG, folder_of
from alpamayo_jax.convert.checkpoint_files import INDEX, read_json
from alpamayo_jax.convert.config_json import write_config
from alpamayo_jax.convert.document import Document
from alpamayo_jax.convert.table import Parameter, flatten, parameters
from alpamayo_jax.convert.tensor_file import DTYPE_NAMES
from alpamayo_jax.convert.weights import write_weights
from alpamayo_jax.errors import InputError

_COMPANIONS = (
    "tokenizer*.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "chat_template.*", "*preprocessor_config.json", "processor_config.json",
    "generation_config.json",
)  # fmt: skip


def save_checkpoint(
    directory: str | pathlib.Path,
    config: ModelConfig,
    params: Mapping,
    *,
    raw: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, pathlib.Path | bytes] | None = None,
    max_shard_bytes: int = 5_000_000_000,
    buffer_names: Iterable[str] | None = None,
) -> None:
    """Writes config.json, the weights as safetensors, and further files.

    The directory appears whole or not at all: everything is written beside it and moved into place,
    and a checkpoint that stood there is replaced only then. Host memory holds one leaf at a time.

    Args:
      directory: where to; it must not exist, be empty, or hold a checkpoint.
      config: the model.
      params: nested dict of arrays, float32, bfloat16 or float16; types are kept.
      raw: config.json as `read_config` returned it; its unknown fields are written back.
      extra_files: relative name -> file to copy, or content (tokenizer files, see
        `companion_files`).
      max_shard_bytes: above this the weights are split, with model.safetensors.index.json.
      buffer_names: which constants to write beside the parameters; None is what the release has:
        all of them in Alpamayo 1, none in 1.5.

    Raises:
      InputError: `params` is not a tree of `config` (every difference is listed) or has NaN or
        infinite values; `directory` holds something else; an extra file's name is not inside it.
    """
    leaves = _checked_leaves(config, params)
    if buffer_names is None:
        buffer_names = buffers.buffer_values(config) if config.release == "alpamayo_r1" else ()
    target = pathlib.Path(directory).resolve()
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        for name, content in (extra_files or {}).items():
            _write_extra(temporary, name, content)
        write_config(temporary, config, raw)
        write_weights(temporary, config, leaves, sorted(buffer_names), max_shard_bytes)
        _move_into_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def companion_files(directory: str | pathlib.Path) -> dict[str, pathlib.Path]:
    """Tokenizer, processor and backbone files of a checkpoint directory, for `extra_files`.

    Raises:
      InputError: the directory has no readable config.json.
    """
    directory = pathlib.Path(directory)
    document = Document(directory / CONFIG, read_json(directory / CONFIG))
    patterns = list(_COMPANIONS)
    folder = folder_of(document)
    if folder is not None:
        patterns += [f"{folder}/{pattern}" for pattern in (*_COMPANIONS, CONFIG)]
    files = (path for pattern in patterns for path in sorted(directory.glob(pattern)))
    return {path.relative_to(directory).as_posix(): path for path in files}


def _checked_leaves(config: ModelConfig, params: Mapping) -> dict[Parameter, Any]:
    flat = flatten(params)
    rows = {row.path: row for row in parameters(config)}
    types = {path[0]: leaf.dtype for path, leaf in flat.items()}
    problems = [f"parameter {'/'.join(p)} is missing" for p in rows if p not in flat]
    for path, leaf in flat.items():
        name, row = "/".join(path), rows.get(path)
        if row is None:
            problems.append(f"parameter {name} is unexpected")
        elif tuple(np.shape(leaf)) != row.full_shape:
            problems.append(
                f"parameter {name} is {list(np.shape(leaf))}, expected {list(row.full_shape)}"
            )
        elif np.dtype(leaf.dtype) not in DTYPE_NAMES:
            problems.append(
                f"parameter {name} is {leaf.dtype}, expected float32, bfloat16 or float16"
            )
        elif leaf.dtype != types[path[0]]:
            problems.append(
                f"parameter {name} is {leaf.dtype}, others of {path[0]} are {types[path[0]]}; "
                "one module has one type"
            )
        elif isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            problems.append(f"parameter {name} is spread over processes; gather it first")
    if problems:
        raise InputError("cannot save these parameters:" + "".join(f"\n  {p}" for p in problems))
    return {row: flat[path] for path, row in rows.items()}


def check_target(directory: str | pathlib.Path) -> None:
    """Raises `InputError` where `save_checkpoint` would write over something else."""
    target = pathlib.Path(directory)
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file; a checkpoint is a directory")
    if any(target.iterdir()) and not (target / CONFIG).is_file():
        raise InputError(f"{target} has files but no {CONFIG}: not a checkpoint, so not replaced")


def _write_extra(directory: pathlib.Path, name: str, content: pathlib.Path | bytes) -> None:
    path = pathlib.PurePosixPath(name)
    own = path.suffix == ".safetensors" or name in (CONFIG, INDEX)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts or own:
        raise InputError(f"extra file {name!r} is not a name that can be added to a checkpoint")
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    else:
        shutil.copyfile(content, target)


def _move_into_place(new: pathlib.Path, target: pathlib.Path) -> None:
    if not target.exists():
        os.replace(new, target)
        return
    old = new.with_name(f"{new.name}.old")
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old)

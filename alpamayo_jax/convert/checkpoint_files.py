"""Which files a checkpoint directory is made of, and which tensors are where."""

import json
import pathlib
from typing import Any

from alpamayo_jax.convert.tensor_file import TensorEntry, read_header
from alpamayo_jax.errors import InputError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
      InputError: unreadable, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON (cut off?): {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def tensor_entries(directory: str | pathlib.Path) -> dict[str, TensorEntry]:
    """Name -> place of every tensor of a checkpoint directory, one file or shards with an index.

    Raises:
      InputError: no safetensors weights, a damaged file, or an index that does not say where every
        tensor is; index errors are listed together.
    """
    directory = pathlib.Path(directory)
    single, index = directory / SINGLE, directory / INDEX
    if not directory.is_dir():
        raise InputError(f"checkpoint directory {directory} does not exist")
    if single.exists() and index.exists():
        raise InputError(f"{directory} has both {SINGLE} and {INDEX}; remove the one that is stale")
    if single.exists():
        return read_header(single)
    if index.exists():
        return _sharded(index)
    pickles = sorted(f.name for pattern in _PICKLES for f in directory.glob(pattern))
    shards = sorted(f.name for f in directory.glob("*.safetensors"))
    found = pickles or shards or ["no weight file"]
    hint = "pickled weights are never read: save them as safetensors" if pickles else ""
    raise InputError(
        f"{directory} has neither {SINGLE} nor {INDEX}, found {', '.join(found)}; {hint}".rstrip(
            "; "
        )
    )


def _sharded(index: pathlib.Path) -> dict[str, TensorEntry]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: field weight_map must map tensor names to file names")
    for name, file in weight_map.items():
        # A plain name only: an index must not reach outside its directory.
        plain = (
            isinstance(file, str)
            and not set(file) & set("/\\:\0")
            and file.endswith(".safetensors")
        )
        if not plain:
            raise InputError(
                f"{index}: weight_map[{name!r}] is {file!r}, expected the name of a safetensors "
                "file beside the index"
            )
    files = sorted(set(weight_map.values()))
    absent = [file for file in files if not (index.parent / file).is_file()]
    if absent:
        raise InputError(f"{index} names file(s) that are not there: {', '.join(absent)}")
    entries: dict[str, TensorEntry] = {}
    problems = []
    for file in files:
        for name, entry in read_header(index.parent / file).items():
            if name in entries:
                problems.append(f"tensor {name} is in both {entries[name].path.name} and {file}")
            elif weight_map.get(name) != file:
                said = f"says {weight_map[name]}" if name in weight_map else "does not list it"
                problems.append(f"tensor {name} is in {file}, but the index {said}")
            entries[name] = entry
    problems += [
        f"tensor {name} should be in {file}, but is in none of the shards"
        for name, file in weight_map.items()
        if name not in entries
    ]
    if problems:
        raise InputError(
            f"{index} disagrees with its shards:" + "".join(f"\n  {p}" for p in problems)
        )
    return entries

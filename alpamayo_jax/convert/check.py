"""Whether the tensors of a checkpoint are those of a configuration."""

import collections
import pathlib
from typing import Iterable, Mapping

import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert import buffers
from alpamayo_jax.convert.table import hf_shapes
from alpamayo_jax.convert.tensor_file import FLOAT_DTYPES, TensorEntry
from alpamayo_jax.errors import InputError


def check_tensors(
    directory: str | pathlib.Path, config: ModelConfig, entries: Mapping[str, TensorEntry]
) -> None:
    """Compares names, shapes, types and buffer values with the configuration.

    Parameters of one module (vlm, expert, action_in_proj, action_out_proj) must share one type.

    Raises:
      InputError: one error that lists every missing, unexpected, misshaped and mistyped tensor, and
        every buffer of another value.
    """
    wanted, constants = hf_shapes(config), buffers.buffer_values(config)
    problems = [
        f"tensor {name} is missing, expected {list(shape)}"
        for name, shape in wanted.items()
        if name not in entries
    ]
    usual = _usual_types(entries[name] for name in wanted if name in entries)
    for name, entry in entries.items():
        what = f"tensor {name} in {entry.path.name} is"
        if name in wanted:
            shape, dtype = wanted[name], usual[_module(name)]
        elif name in constants:
            shape, dtype = constants[name].shape, entry.dtype
        else:
            problems.append(f"{what} unexpected: {entry.dtype} {list(entry.shape)}")
            continue
        if entry.shape != shape:
            problems.append(f"{what} {list(entry.shape)}, expected {list(shape)}")
        if entry.dtype not in FLOAT_DTYPES:
            problems.append(f"{what} {entry.dtype}, expected one of {', '.join(FLOAT_DTYPES)}")
        elif entry.dtype != dtype:
            problems.append(
                f"{what} {entry.dtype}, expected {dtype} as the rest of {_module(name)}"
            )
        elif name in constants and entry.shape == shape:
            stored = np.array(entry.map())
            if not buffers.agrees(config, name, stored):
                problems.append(
                    f"{what} {_text(stored)}, expected {_text(constants[name])} as configured"
                )
    raise_problems(directory, problems)


def raise_problems(directory: str | pathlib.Path, problems: list[str]) -> None:
    """Raises one `InputError` that lists `problems`, if there are any."""
    if problems:
        raise InputError(
            f"checkpoint {directory} does not fit its configuration in {len(problems)} place(s):"
            + "".join(f"\n  {problem}" for problem in problems)
        )


def _module(name: str) -> str:
    return name.split(".", 1)[0]


def _usual_types(entries: Iterable[TensorEntry]) -> dict[str, str]:
    """Module -> the float type that most of its tensors have."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for entry in entries:
        counts[_module(entry.name)][entry.dtype] += entry.dtype in FLOAT_DTYPES
    return {module: counter.most_common(1)[0][0] for module, counter in counts.items()}


def _text(values: np.ndarray) -> str:
    return np.array2string(values.astype(np.float32), precision=7, separator=", ", threshold=8)

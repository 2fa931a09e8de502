"""Names and shapes of the 10B release, and a checkpoint that survives loading and saving."""

import json
import math
import pathlib
import tempfile
from typing import Mapping

from alpamayo_jax.convert import (
    companion_files,
    hf_shapes,
    load_params,
    parameter_count,
    read_config,
    save_checkpoint,
)
from alpamayo_jax.convert.buffers import buffer_values
from alpamayo_jax.convert.checkpoint_files import tensor_entries
from alpamayo_jax.convert.tensor_file import TensorEntry
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.parity.base import Check, Reference

MODULE = "parameters"
REQUIRES = ("alpamayo_r1_10b_params.json",)
CHECKPOINT = "tiny_checkpoint"


def checks(reference: Reference) -> list[Check]:
    """Counts of differences, all with tolerance 0."""
    recorded = json.loads(reference.path(REQUIRES[0]).read_text(encoding="utf-8"))
    config = preset("r1_10b")
    shapes: dict[str, Mapping] = {"param": {}, "buffer": {}}
    for name, tensor in recorded["params"].items():
        shapes[tensor["kind"]][name] = tuple(tensor["shape"])
    buffers = {name: value.shape for name, value in buffer_values(config).items()}
    found = [
        _count("10B names and shapes", _differences(hf_shapes(config), shapes["param"])),
        _count("10B buffers", _differences(buffers, shapes["buffer"])),
        _count(
            "10B count",
            abs(parameter_count(config) - sum(map(math.prod, shapes["param"].values()))),
        ),
    ]
    if reference.has(CHECKPOINT):
        found += _round_trip(reference.path(CHECKPOINT))
    return found


def _round_trip(directory: pathlib.Path) -> list[Check]:
    config, raw = read_config(directory)
    before = tensor_entries(directory)
    params = load_params(directory, config)
    kept = [name for name in buffer_values(config) if name in before]
    with tempfile.TemporaryDirectory() as scratch:
        saved = pathlib.Path(scratch) / "checkpoint"
        save_checkpoint(
            saved, config, params, raw=raw, extra_files=companion_files(directory),
            buffer_names=kept,
        )  # fmt: skip
        again, raw_again = read_config(saved)
        load_params(saved, again)
        after = tensor_entries(saved)
        bytes_differ = sum(not _same(before[n], after[n]) for n in before.keys() & after.keys())
    named = len(before.keys() ^ after.keys())
    return [
        _count("tiny checkpoint names after load and save", named),
        _count("tiny checkpoint bytes after load and save", bytes_differ),
        _count("tiny checkpoint configuration after load and save",
               int(again != config) + int(raw_again != raw)),
    ]  # fmt: skip


def _same(a: TensorEntry, b: TensorEntry) -> bool:
    return (a.dtype, a.shape) == (b.dtype, b.shape) and a.map().tobytes() == b.map().tobytes()


def _differences(ours: Mapping, recorded: Mapping) -> int:
    return sum(ours.get(name) != recorded.get(name) for name in ours.keys() | recorded.keys())


def _count(quantity: str, differences: int) -> Check:
    return Check(MODULE, quantity, float(differences), 0.0, float(differences))

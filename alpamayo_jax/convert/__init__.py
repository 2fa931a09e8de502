"""Hugging Face checkpoint directories <-> parameters, both ways, strict."""

from alpamayo_jax.convert.config_json import read_config, write_config
from alpamayo_jax.convert.load import load_params
from alpamayo_jax.convert.save import check_target, companion_files, save_checkpoint
from alpamayo_jax.convert.table import hf_shapes, logical_axes, param_shapes, parameter_count

__all__ = [
    "check_target",
    "companion_files",
    "hf_shapes",
    "load_params",
    "logical_axes",
    "param_shapes",
    "parameter_count",
    "read_config",
    "save_checkpoint",
    "write_config",
]

"""Engines: built here with TensorRT for RTX, which needs no GPU to build, or on the target by a
script for the TensorRT of data centres and Thor."""

from alpamayo_jax.export.tensorrt.build import EngineReport, build_engine
from alpamayo_jax.export.tensorrt.runner import Engine, EngineUnavailable
from alpamayo_jax.export.tensorrt.script import write_build_script
from alpamayo_jax.export.tensorrt.targets import BUILT_HERE, BUILT_THERE, check_target

__all__ = [
    "BUILT_HERE", "BUILT_THERE", "Engine", "EngineReport", "EngineUnavailable", "build_engine",
    "check_target", "write_build_script",
]  # fmt: skip

"""Alpamayo driving policies in JAX: load or train one, show it a drive, look at what it does.

    import alpamayo_jax as aj

    policy = aj.load_policy("checkpoint")
    clip = aj.read_clip("clip")
    prediction = aj.sample(policy, aj.observe(clip, t0=12.0), num_samples=6)
    prediction.reasoning, prediction.xyz  # 6 texts, [6, 64, 3] metres

The names below are loaded when they are first used, so importing the package alone takes no time.
"""

import importlib
from typing import Any

_EXPORTS = {
    "CameraFrames": "types",
    "Clip": "clip",
    "ConfigError": "config",
    "InputError": "types",
    "ModelConfig": "config",
    "Observation": "types",
    "Policy": "decode.policy",
    "Prediction": "types",
    "SampleSettings": "decode.settings",
    "Target": "types",
    "answer": "decode.sample",
    "find_clips": "data.clip_folder",
    "load_policy": "decode.policy",
    "new_policy": "decode.policy",
    "observe": "data.windows",
    "preset": "presets",
    "procedural_clip": "sim.source",
    "read_clip": "data.clip_folder",
    "sample": "decode.sample",
    "target": "data.windows",
    "window_picture": "reporting",
    "window_times": "data.windows",
    "write_clip": "data.clip_folder",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version(__name__)
    elif name in _EXPORTS:
        module = importlib.import_module(f"{__name__}.{_EXPORTS[name]}")
        value = getattr(module, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""For which GPUs engines are built, where, and in which number formats."""

from typing import Any

from alpamayo_jax.config import ConfigError

# Compute capability -> GPUs. TensorRT for RTX compiles for these on any machine.
BUILT_HERE = {
    "sm75": "Turing: RTX 20, T4",
    "sm80": "A100",
    "sm86": "Ampere: RTX 30, A10",
    "sm89": "Ada: RTX 40, L4, L40S",
    "sm120": "Blackwell: RTX 50, RTX PRO 6000",
    "sm121": "Blackwell: DGX Spark",
}
# TensorRT for RTX has no code for these: TensorRT itself builds there, on the GPU.
BUILT_THERE = {
    "sm90": "H100, H200",
    "sm100": "B200",
    "sm103": "B300",
    "sm110": "Thor",
}

# Formats that a target has no arithmetic for.
_MISSING = {
    "sm75": ("bf16", "fp8", "nvfp4"),
    "sm80": ("fp8", "nvfp4"),
    "sm86": ("fp8", "nvfp4"),
    "sm89": ("nvfp4",),
    "sm90": ("nvfp4",),
}


def check_target(target: str, precision: str = "fp32") -> bool:
    """Whether engines for a target are built on this machine; otherwise a script builds them there.

    Raises:
      ConfigError: an unknown target, or one that has no arithmetic for `precision`.
    """
    known = {**BUILT_HERE, **BUILT_THERE}
    if target not in known:
        here, there = ", ".join(BUILT_HERE), ", ".join(BUILT_THERE)
        raise ConfigError(
            f"target {target!r} is unknown; engines are built here for {here}, and on the machine "
            f"itself, by a script, for {there}"
        )
    if precision in _MISSING.get(target, ()):
        able = [name for name in known if precision not in _MISSING.get(name, ())]
        raise ConfigError(
            f"{target} ({known[target]}) does not compute in {precision}; targets that do: "
            f"{', '.join(able)}"
        )
    return target in BUILT_HERE


def require_built_here(target: str) -> None:
    """Raises `ConfigError` for a target that TensorRT for RTX has no code for."""
    if not check_target(target):
        raise ConfigError(
            f"TensorRT for RTX does not build for {target} ({BUILT_THERE[target]}), only for "
            f"{', '.join(BUILT_HERE)}; run the build script of the export on that machine"
        )


def load_tensorrt() -> Any:
    """The module of TensorRT for RTX.

    Raises:
      ConfigError: it is not installed, or its libraries do not load.
    """
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"engines need TensorRT for RTX ({error}); pip install 'alpamayo_jax[tensorrt]' "
            f"(NVIDIA's licence), or use --format=onnx"
        ) from error
    return tensorrt_rtx

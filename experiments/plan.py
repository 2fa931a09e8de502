"""Says on a laptop whether a training job fits its machines.

    python experiments/plan.py --preset=r1_10b --mesh=8xH100 --batch=8 --workdir=OUT
    python experiments/plan.py --preset=r1_10b --mesh=data:1,fsdp:8,tensor:1 --batch=8 \\
        --workdir=OUT
    python experiments/plan.py --config=configs/full_8gpu.py --preset=r1_10b --mesh=8xH100 \\
        --workdir=OUT

Compiles the whole train step for virtual devices, without making a single parameter, and writes

    OUT/summary.json  bytes_per_device: parameters, optimiser, average, batch, gradients,
                      activations (kept for the backward pass), temporaries (gradients,
                      activations and scratch as compiled) and total; memory_bytes, usable_bytes
                      and fits; collectives: kind -> count and bytes that each device sends per
                      step at most; replicated_against_rules: arrays of which a device holds more
                      than the rules say (must be empty); whole_by_rule: parameters on every
                      device, in bytes; flops of a step and seconds_at_peak; trace_seconds,
                      compile_seconds and seconds

Programs compiled for CPUs hold and send bfloat16 as float32: temporaries, total and bytes of
collectives are upper bounds. --compiler=cuda looks at the program of an H100 or H200 itself; it
needs `pip install jax-cuda13-plugin jax-cuda13-pjrt`, but no GPU.
"""

import time

from absl import flags
from ml_collections import config_flags

from alpamayo_jax import cli, hardware
from alpamayo_jax.config import COMPRESSORS, ConfigError, build
from alpamayo_jax.layers.stack import REMAT_POLICIES
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.plan.job import Job
from alpamayo_jax.plan.machine import Machine, parse_machine
from alpamayo_jax.plan.report import make_plan
from alpamayo_jax.plan.virtual import COMPILERS, start_cpus
from alpamayo_jax.presets import PRESETS
from alpamayo_jax.settings import PrecisionSettings, StageSettings, VisionSettings
from alpamayo_jax.train.objectives import OBJECTIVES

_CONFIG = config_flags.DEFINE_config_file("config", None, "Training configuration to begin with.")
_PRESET = flags.DEFINE_enum("preset", None, sorted(PRESETS), "Model; needed without a config.")
_MESH = flags.DEFINE_string("mesh", None, "Axes and sizes, or 8xH100, v5e-256, ...", required=True)
_DEVICE = flags.DEFINE_enum(
    "device", "", ["", *hardware.CHIPS], "Kind of device; default: the mesh's, or H100."
)
_BATCH = flags.DEFINE_integer("batch", None, "Rows per step over all devices.", lower_bound=1)
_STAGE = flags.DEFINE_enum("stage", None, list(OBJECTIVES), "What is trained; default: tokens.")
_LENGTH = flags.DEFINE_integer("length", None, "Tokens of a conversation; 0: as images need.")
_CAMERAS = flags.DEFINE_integer("cameras", 4, "Per row.")
_FRAMES = flags.DEFINE_integer("frames", None, "Per camera; default: 4.")
_COMPRESSOR = flags.DEFINE_enum(
    "compressor", None, COMPRESSORS, "Of image tokens; default: the preset's."
)
_REMAT = flags.DEFINE_enum(
    "remat", None, list(REMAT_POLICIES), "What is computed again backwards; default: full."
)
_ACCUMULATE = flags.DEFINE_integer("accumulate", None, "Micro-batches per step.", lower_bound=1)
_LORA_RANK = flags.DEFINE_integer("lora_rank", None, "Train adapters of this rank only.")
_EMA_DECAY = flags.DEFINE_float("ema_decay", None, "Keep a moving average of the parameters.")
_PARAMS = flags.DEFINE_string("params", None, "Number format of parameters; default: float32.")
_COMPUTE = flags.DEFINE_string("compute", None, "Number format of layers; default: the preset's.")
_COMPILER = flags.DEFINE_enum("compiler", "cpu", COMPILERS, "Whose program to look at.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
flags.DEFINE_alias("seq", "length")

_GB = 1e9


def main(argv) -> int:
    del argv
    begin = time.perf_counter()
    workdir, config = cli.make_workdir(_WORKDIR.value), _CONFIG.value
    # A configuration that has a mesh splits named machines by it; axes that are spelled out win.
    split = config.mesh.to_dict() if config is not None and "mesh" in config else {}
    split = None if set(split.values()) <= {1} else split
    machine = parse_machine(_MESH.value, _DEVICE.value, split)
    start_cpus(machine.num_devices)
    summary = make_plan(_job(), machine, _COMPILER.value)
    summary["seconds"] = time.perf_counter() - begin
    write_summary(workdir / "summary.json", summary)
    _show(summary, machine)
    return 1 if summary["replicated_against_rules"] else 0


def _job() -> Job:
    """The configuration's job, if one is given, with what the flags say."""
    config = _CONFIG.value
    if config is not None and "stage" not in config:
        raise ConfigError("the configuration has no section 'stage'; give one of train.py")
    if config is None and (_PRESET.value is None or _BATCH.value is None):
        raise ConfigError("give --preset and --batch, or --config")
    if not (_PRESET.value or config.preset):
        raise ConfigError("the configuration names no preset: give --preset")
    stage = {"remat": "full"} if config is None else config.stage.to_dict()
    stage |= _given(
        objective=_STAGE, batch_size=_BATCH, remat=_REMAT, accumulate=_ACCUMULATE,
        lora_rank=_LORA_RANK, ema_decay=_EMA_DECAY,
    )  # fmt: skip
    precision = {} if config is None else config.precision.to_dict()
    precision |= _given(params=_PARAMS, compute=_COMPUTE)
    vision = config.vision.to_dict() if config is not None and "vision" in config else {}
    if _COMPRESSOR.value is not None:
        vision = {"compressor": _COMPRESSOR.value}
    shape = {} if config is None else {
        "length": config.data.max_length, "frames": config.data.num_frames
    }  # fmt: skip
    return Job(
        preset=_PRESET.value or config.preset,
        stage=build(StageSettings, stage, "stage."),
        precision=build(PrecisionSettings, precision, "precision."),
        vision=build(VisionSettings, vision, "vision."),
        cameras=_CAMERAS.value,
        **shape | _given(length=_LENGTH, frames=_FRAMES),
    )


def _given(**holders) -> dict:
    return {name: holder.value for name, holder in holders.items() if holder.value is not None}


def _show(summary: dict, machine: Machine) -> None:
    axes = ", ".join(f"{axis} {size}" for axis, size in machine.sizes.items())
    print(
        f"{summary['preset']}, {summary['stage']['objective']}: {summary['parameters']:,} "
        f"parameters, {summary['trained_parameters']:,} trained\n"
        f"{summary['devices']} x {summary['device']}: {axes}; {summary['batch']} rows of "
        f"{summary['length']} tokens\n"
    )
    rows = [
        {"on each device": name, "GB": size / _GB}
        for name, size in summary["bytes_per_device"].items()
    ]
    print(text_table([*rows, {"on each device": "usable", "GB": summary["usable_bytes"] / _GB}]))
    print(f"\nfits: {'yes' if summary['fits'] else 'NO'}\n")
    rows = [
        {"collective": kind, "per step": row["count"], "GB sent by each device": row["bytes"] / _GB}
        for kind, row in summary["collectives"].items()
    ]
    print(text_table(rows) if rows else "no collectives")
    whole = summary["whole_by_rule"]
    print(
        f"\n{len(whole)} parameters are whole on every device by rule "
        f"({sum(whole.values()) / 1e6:.1f} MB)\n"
        f"{summary['flops'] / 1e12:.1f} TFLOP/step, {summary['seconds_at_peak']:.3f} s at peak\n"
        f"compiled in {summary['compile_seconds']:.1f} s"
    )
    for name in summary["replicated_against_rules"]:
        print(f"REPLICATED: {name} should be sharded")


if __name__ == "__main__":
    cli.run(main)

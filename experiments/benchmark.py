"""Measures this machine, next to what it could do at best and next to PyTorch.

    python experiments/benchmark.py --suite=policy --preset=moderate --compare=transformers \\
        --num_samples=1,6,16 --workdir=OUT
    python experiments/benchmark.py --suite=kernels --workdir=OUT
    python experiments/benchmark.py --suite=train --workdir=OUT
    python experiments/benchmark.py --suite=data --workdir=OUT
    python experiments/benchmark.py --suite=rl --workdir=OUT
    python experiments/benchmark.py --suite=sim --workdir=OUT
    python experiments/benchmark.py --suite=vision --workdir=OUT
    python experiments/benchmark.py --suite=streaming --checkpoint=DIR --rounds=4 --workdir=OUT

Suites:

    policy  vision, prefill, a decoded token, a flow step, the trajectory, and all of it, for K
            samples, of --preset (or --checkpoint): beside the floor of this device, beside Qwen3-VL of
            transformers and an expert in PyTorch with the same weights, in turns; memory, seconds of
            compilation, and from the start of a process to its first trajectory. A model too large
            for this CPU is compiled for an H100 from its shapes instead, and its programs counted
    first   only that: seconds from the start of this process to its first trajectory
    kernels every operation that has kernels, at the shapes of the 10B policy: XLA and each kernel in
            turns, the floor, and how far they are apart. Without a GPU or TPU, XLA at small shapes,
            and for which chips the kernels lower and compile
    train   a train step of stage 1: seconds, tokens per second, share of the peak (MFU); the tiny
            policy, and the 0.5B policy of the paper (on CPUs of its widths but with two layers),
            beside Qwen3-VL of transformers with the same weights, batch and threads, in turns
    data    clips and windows per second with 0, 1 and 2 workers, read from a store of simulated
            drives, and the share of a tiny train step spent waiting for them
    rl      rollouts per second of groups of 12 on one shared prefill, and of 12 independent samples;
            the tiny policy, and the 0.5B policy of the paper (on CPUs as above)
    sim     simulated seconds per second of the closed loop in 1, 16 and 256 scenes, of its metrics,
            and with a camera; how much longer 16 times as many scenes take
    vision  seconds and memory of vision and prefill behind each vision compressor, at 4 and 7
            cameras; the tiny policy, and on accelerators the 0.5B policy of the paper
    streaming  steps of simulated drives at 10 Hz from nothing, and with what the step before has
            seen and said: seconds, tokens, acceptance, minADE, and metres from plain sampling

Writes OUT/summary.json: suite, phases (name -> median, spread from the 10th to the 90th percentile
and more, see `alpamayo_jax/benchmark`), device and versions; and adds a line to --history.
docs/benchmark.md says how to read it.
"""

import dataclasses
import json
import time

import jax
from absl import flags

from alpamayo_jax import cli, files
from alpamayo_jax.benchmark import (
    ahead, data, first, kernels, policy, rollouts, sim, streaming, timing, train, vision,
)  # fmt: skip
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import load_policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.models.init import init_params
from alpamayo_jax.presets import PRESETS, preset

_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Repetitions that count.", lower_bound=1)
_HISTORY = flags.DEFINE_string(
    "history", None, "A file that keeps a line of every run; default WORKDIR/history.jsonl."
)
_COMPARE = flags.DEFINE_enum(
    "compare", "auto", timing.COMPARISONS, "policy, train: what to compare with."
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "policy, first, streaming: a checkpoint directory.")
_LOOPS = flags.DEFINE_bool(
    "loops", False, "policy, compiled only: loop over stacked layers, in smaller programs."
)
_SAMPLES = flags.DEFINE_list(
    "num_samples", ["1", "6", "16"], "policy: numbers of samples; first: the first of them."
)
_PRESET = flags.DEFINE_enum(
    "preset", None, sorted(PRESETS), "policy, first: the model (moderate); train: only this one ..."
)
_LAYERS = flags.DEFINE_integer("layers", None, "... with so many layers, 0: all ...")
_ROWS = flags.DEFINE_integer("rows", None, "... so many rows per step ...", lower_bound=1)
_IMAGES = flags.DEFINE_integer("images", None, "... so many images per row ...", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", None, "... so many tokens per row ...", lower_bound=1)
_COMPUTE = flags.DEFINE_string("compute", None, "... this number format of its layers ...")
_REMAT = flags.DEFINE_string("remat", None, "... and this much computed again backwards.")


def _model() -> tuple[policy.Case, dict | None]:
    """The case, and the parameters of a checkpoint."""
    if _CHECKPOINT.value is not None:
        if _PRESET.value is not None:
            raise ConfigError("a checkpoint says its own sizes: give no --preset beside it")
        loaded = load_policy(_CHECKPOINT.value)
        return policy.case(loaded.config), loaded.params
    return policy.case(preset(_PRESET.value or "moderate")), None


def _samples() -> tuple[int, ...]:
    try:
        counts = tuple(int(count) for count in _SAMPLES.value)
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1 or len(set(counts)) < len(counts):
        raise ConfigError(
            f"num_samples {','.join(_SAMPLES.value)} must be different numbers from 1 on"
        )
    return counts


def _policy() -> dict:
    counts = _samples()
    if _CHECKPOINT.value is None:
        # Shapes say enough, and this process must not use an accelerator before its children.
        one = policy.case(preset(_PRESET.value or "moderate"))
        if ahead.too_large(one):
            return ahead.run(one, samples=counts, apart=not _LOOPS.value)
    chosen = {"preset": _PRESET.value, "checkpoint": _CHECKPOINT.value}
    arguments = [f"--{name}={value}" for name, value in chosen.items() if value is not None]
    started = first.in_new_processes([*arguments, f"--num_samples={counts[0]}"])
    one, params = _model()
    jax.config.update("jax_enable_compilation_cache", False)  # seconds of compilation are shown
    found = policy.run(
        one, samples=counts, rounds=_ROUNDS.value, compare=_COMPARE.value, params=params
    )
    return found | {"phases": found["phases"] | started}


def _first() -> dict:
    def make():
        one, params = _model()
        return one, init_params(one.config, jax.random.key(0)) if params is None else params

    return first.run(make, _samples()[0])


def _train() -> dict:
    cases = train.cases(jax.default_backend())
    changed = {
        name: holder.value
        for name, holder in {
            "layers": _LAYERS, "rows": _ROWS, "images": _IMAGES, "length": _LENGTH,
            "compute": _COMPUTE, "remat": _REMAT,
        }.items() if holder.value is not None
    }  # fmt: skip
    if _PRESET.value is not None:
        known = [case for case in cases if case.preset == _PRESET.value]
        cases = (dataclasses.replace((known or [train.Case(_PRESET.value)])[0], **changed),)
    elif changed:
        raise ConfigError(f"{', '.join(changed)} change one model: give its --preset")
    return train.run(cases, rounds=_ROUNDS.value, compare=_COMPARE.value)


def _data() -> dict:
    return data.run(rounds=_ROUNDS.value)


def _rl() -> dict:
    return rollouts.run(rollouts.cases(jax.default_backend()), rounds=_ROUNDS.value)


def _sim() -> dict:
    return sim.run(rounds=_ROUNDS.value)


def _vision() -> dict:
    return vision.run(vision.cases(jax.default_backend()), rounds=_ROUNDS.value)


def _streaming() -> dict:
    if _CHECKPOINT.value is None:
        raise ConfigError("suite streaming drives with a trained policy: give its --checkpoint")
    source, clips = streaming.held_out(_ROUNDS.value)
    # As many samples and tokens as the demo draws.
    settings = SampleSettings(max_new_tokens=48)
    return streaming.run(load_policy(_CHECKPOINT.value), source, clips, settings=settings)


def _kernels() -> dict:
    return kernels.run(rounds=_ROUNDS.value)


SUITES = {
    "policy": _policy, "first": _first, "train": _train, "data": _data, "rl": _rl, "sim": _sim,
    "vision": _vision, "streaming": _streaming, "kernels": _kernels,
}  # fmt: skip
# What the table shows of a suite whose rows say more than fits.
COLUMNS = {
    "policy": ("median", "spread", "floor", "ratio_to_floor", "transformers", "ratio_to_comparison",
               "ratio_to_comparison_shared", "ratio_of_flops", "ratio_of_bytes", "compile",
               "memory_mib", "status"),
    "kernels": ("median", "spread", "floor", "ratio_to_floor", "speedup", "error", "status"),
}  # fmt: skip
_SUITE = flags.DEFINE_enum("suite", None, list(SUITES), "What is measured.", required=True)


def _table(summary: dict) -> str:
    rows = []
    for name, full in summary["phases"].items():
        row = {key: value for key, value in full.items() if not isinstance(value, dict)}
        if full["spread"] is not None:
            row["spread"] = "{:.3g}..{:.3g}".format(*full["spread"])
        if "comparison" in full:
            row["transformers"] = full["comparison"]["median"]
        columns = COLUMNS.get(summary["suite"], tuple(row))
        rows.append(
            {"phase": name} | {key: row[key] for key in columns if row.get(key) is not None}
        )
    named = dict.fromkeys(key for row in rows for key in row)
    return text_table([{key: row.get(key, "") for key in named} for row in rows], digits=4)


def main(argv) -> None:
    del argv
    workdir, begin = cli.make_workdir(_WORKDIR.value), time.perf_counter()
    found = SUITES[_SUITE.value]()
    summary = {
        "suite": _SUITE.value,
        "device": timing.describe_device(),
        "versions": timing.versions(),
        **found,
        "seconds": time.perf_counter() - begin,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_summary(workdir / "summary.json", summary)
    line = json.dumps(json.loads((workdir / "summary.json").read_text()))
    files.append_line(_HISTORY.value or workdir / "history.jsonl", line)
    print(_table(summary))
    device = summary["device"]
    print(f"on {device['kind']}, {device['cores']} cores, load {device['load']:.1f}")
    for line in summary.get("notes", ()):
        print(line)


if __name__ == "__main__":
    cli.run(main, failures=(first.ChildFailed,))

"""Measures this machine, next to what it could do at best and next to PyTorch.

    python experiments/benchmark.py --suite=train --workdir=OUT
    python experiments/benchmark.py --suite=data --workdir=OUT
    python experiments/benchmark.py --suite=rl --workdir=OUT
    python experiments/benchmark.py --suite=sim --workdir=OUT
    python experiments/benchmark.py --suite=vision --workdir=OUT

Suites:

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

Writes OUT/summary.json: suite, phases (name -> median, spread from the 10th to the 90th percentile
and more, see `alpamayo_jax/benchmark`), device and versions.
"""

import dataclasses
import time

import jax
from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.benchmark import data, rollouts, sim, timing, train, vision
from alpamayo_jax.config import ConfigError
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.presets import PRESETS

_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Repetitions that count.", lower_bound=1)
_COMPARE = flags.DEFINE_enum("compare", "auto", train.COMPARISONS, "train: what to compare with.")
_PRESET = flags.DEFINE_enum("preset", None, sorted(PRESETS), "train: only this model ...")
_LAYERS = flags.DEFINE_integer("layers", None, "... with so many layers, 0: all ...")
_ROWS = flags.DEFINE_integer("rows", None, "... so many rows per step ...", lower_bound=1)
_IMAGES = flags.DEFINE_integer("images", None, "... so many images per row ...", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", None, "... so many tokens per row ...", lower_bound=1)
_COMPUTE = flags.DEFINE_string("compute", None, "... this number format of its layers ...")
_REMAT = flags.DEFINE_string("remat", None, "... and this much computed again backwards.")


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


SUITES = {"train": _train, "data": _data, "rl": _rl, "sim": _sim, "vision": _vision}
_SUITE = flags.DEFINE_enum("suite", None, list(SUITES), "What is measured.", required=True)


def main(argv) -> None:
    del argv
    workdir, begin = cli.make_workdir(_WORKDIR.value), time.perf_counter()
    summary = {
        "suite": _SUITE.value,
        "device": timing.describe_device(),
        "versions": timing.versions(),
        **SUITES[_SUITE.value](),
    }
    summary["seconds"] = time.perf_counter() - begin
    write_summary(workdir / "summary.json", summary)
    shown = [
        {"phase": name} | {key: value for key, value in row.items() if not isinstance(value, dict)}
        for name, row in summary["phases"].items()
    ]
    for row, full in zip(shown, summary["phases"].values()):
        low, high = row.pop("spread")
        row["spread"] = f"{low:.3g}..{high:.3g}"
        if "comparison" in full:
            row["transformers"] = full["comparison"]["median"]
    print(text_table(shown, digits=4))
    print(f"on {summary['device']['kind']}, {summary['device']['cores']} cores")


if __name__ == "__main__":
    cli.run(main)

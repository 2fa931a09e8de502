"""What narrow number formats cost a policy: one table, in metres and in what it says.

    python experiments/quantise.py --config=configs/tiny.py --checkpoint=demo/checkpoint --workdir=OUT
    python experiments/quantise.py --config=configs/tiny.py --config.data.source=clips \\
        --config.data.root=DIR --checkpoint=CHECKPOINT --workdir=OUT

The configuration names the clips, as for experiments/pipeline.py: activations are calibrated on
windows that train, and the policy is compared on held-out ones, sampled as `config.eval` says. All
arithmetic is JAX, rounded as the target would round it; no TensorRT, no GPU. Writes:

    OUT/summary.json  rows: precision, weights_mib, min_ade_K, ade, moved_m, tokens_same,
                      reasoning_same, decisions_same, causes_same; windows, calibration_windows
    OUT/table.md      the same as a table
    OUT/ranges.json   calibrated ranges, for --ranges
"""

from absl import flags, logging
from ml_collections import config_flags

from alpamayo_jax import cli, recipe
from alpamayo_jax.benchmark.quantisation import PRECISIONS, compare, needs_ranges
from alpamayo_jax.data.sources import spread
from alpamayo_jax.data.windows import observe
from alpamayo_jax.decode.policy import load_policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import markdown_table, text_table, write_summary
from alpamayo_jax.quantise import Ranges, calibrate

_CONFIG = config_flags.DEFINE_config_file("config", None, "Names the clips.", lock_config=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint directory.", required=True)
_PRECISIONS = flags.DEFINE_list("precisions", list(PRECISIONS), "What is compared.")
_CALIBRATION = flags.DEFINE_integer(
    "calibration_windows", 64, "Windows of training drives to calibrate on.", lower_bound=1
)
_PERCENTILE = flags.DEFINE_float(
    "percentile", 100.0, "Of a layer's inputs that its scale covers; 100: the largest."
)
_RANGES = flags.DEFINE_string("ranges", "", "Ranges of an earlier run, instead of calibrating.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
flags.mark_flag_as_required("config")


def main(argv) -> None:
    del argv
    config, workdir = _CONFIG.value, cli.make_workdir(_WORKDIR.value)
    calibrated = needs_ranges(_PRECISIONS.value)
    policy = load_policy(_CHECKPOINT.value, progress=cli.LoadingBar())
    data = recipe.make_data(config)
    windows = recipe.test_windows(config, data)
    settings = recipe.sample_settings(config)
    ranges = _ranges(config, policy, data, workdir, settings) if calibrated else None
    rows = compare(
        policy,
        data.source,
        windows,
        _PRECISIONS.value,
        settings=settings,
        ranges=ranges,
        percentile=_PERCENTILE.value,
        seed=config.seed,
        batch_size=config.eval.batch_size,
        num_frames=config.data.num_frames,
        progress=lambda name: logging.info("%s", name),
    )
    write_bytes(workdir / "table.md", (markdown_table(rows) + "\n").encode())
    write_summary(
        workdir / "summary.json",
        {
            "rows": rows,
            "windows": len(windows),
            "calibration_windows": ranges.windows if ranges is not None else 0,
            "percentile": _PERCENTILE.value,
        },
    )
    print(text_table(rows))
    print(f"table: {workdir / 'table.md'}")


def _ranges(config, policy, data, workdir, settings: SampleSettings) -> Ranges:
    if _RANGES.value:
        return Ranges.load(_RANGES.value)
    windows = spread(data.split.train, _CALIBRATION.value)
    logging.info("calibrating on %d windows", len(windows))
    frames = config.data.num_frames
    observations = (observe(data.source.clip(clip), t0, frames) for clip, t0 in windows)
    one = SampleSettings(
        num_samples=1, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature
    )
    ranges = calibrate(policy, observations, settings=one, seed=config.seed)
    ranges.save(workdir / "ranges.json")
    return ranges


if __name__ == "__main__":
    cli.run(main)

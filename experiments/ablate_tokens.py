"""Vision compressors under one budget: the paper's ablation, per image, triplane and Flex.

    python experiments/ablate_tokens.py --config=configs/ablate_tokens_tiny.py --seeds=3 --workdir=OUT

Every variant is trained and evaluated with every seed; the same command on the same folder goes on
where it stopped. Writes:

    OUT/table.json   rows: cameras, variant, added_parameters, tokens_per_image, compression, min_ade
                     and ade_most_likely (metres), relative_percent of min_ade to the baseline, with
                     their standard deviations over seeds, paper_percent, same_direction,
                     clips_per_second in training, and of one observation vision_ms, prefill_ms,
                     prompt_tokens and memory_mib
    OUT/table.md     the same as a table
    OUT/summary.json min_ade and relative_percent of every variant, by number of cameras
    OUT/start/       the policy that all start from
    OUT/runs/        the result of each run
"""

import pathlib

from absl import flags, logging
from ml_collections import config_flags

from alpamayo_jax import cli, recipe
from alpamayo_jax.benchmark import tokens
from alpamayo_jax.metrics.tables import markdown_table, write_summary
from alpamayo_jax.train.loop import TrainingDiverged

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs per variant.", lower_bound=1)
flags.mark_flag_as_required("config")


def main(argv) -> None:
    del argv
    config, workdir = _CONFIG.value, cli.make_workdir(_WORKDIR.value)
    rows = tokens.variants(config)
    start = tokens.make_start(config, workdir / "start")
    lines: list[dict] = []
    for cameras in config.ablation.cameras:
        lines += _rig(config, workdir, rows, start, cameras, lines)
    write_summary(workdir / "summary.json", tokens.summary(lines))
    print(markdown_table(lines))
    print(f"table: {workdir / 'table.md'}")


def _rig(config, workdir: pathlib.Path, rows, start, cameras: int, before: list[dict]) -> list[dict]:
    """Rows of one rig; the files are written again after every run."""
    for variant in rows:
        recipe.check(tokens.configured(config, variant, cameras, config.seed))
    data = recipe.make_data(tokens.configured(config, rows[0], cameras, config.seed))
    (workdir / "runs").mkdir(exist_ok=True)
    counts, saved = {}, {}
    for variant in rows:
        run = tokens.configured(config, variant, cameras, config.seed)
        model = recipe.describe_start(run).config
        number, images = tokens.scene_tokens(model, data, run.data.num_frames)
        counts[variant.name] = number / images
        saved[variant.name] = round((counts[tokens.BASELINE] - counts[variant.name]) * images)
    measured = tokens.timings(config, data, rows, cameras, config.ablation.timing_rounds)
    results: dict[str, list] = {variant.name: [] for variant in rows}
    own: list[dict] = []
    for seed in range(_SEEDS.value):
        for variant in rows:
            path = workdir / "runs" / f"{cameras}-{variant.name}-{seed}.json"
            run = tokens.configured(
                config, variant, cameras, config.seed + seed, saved[variant.name]
            )
            result = tokens.one_run(run, data, start, path)
            logging.info("%d cameras, %s, seed %d: %s", cameras, variant.name, seed, result)
            results[variant.name].append(result)
            own = tokens.table(config, rows, cameras, results, measured, counts)
            tokens.write_table(workdir, [*before, *own], markdown_table([*before, *own]))
    return own


if __name__ == "__main__":
    cli.run(main, failures=(TrainingDiverged, tokens.Interrupted))

"""Evaluates a policy on a folder of clips, beside constant velocity and constant turn rate.

    python experiments/evaluate.py --checkpoint=DIR --clips=DIR --num_samples=6 --workdir=OUT

Every window with 1.6 s of past and 6.4 s of future is sampled, stride_s apart. Writes:

    OUT/report.html   tables and pictures
    OUT/windows.csv   every metric of every window
    OUT/summary.json  means over all windows, in metres over 6.4 s: min_ade (best of the samples),
                      min_ade/by_t=S (the same sample, first S seconds), ade (first sample),
                      ade_most_likely, mean_ade, fde, min_fde, corner_distance (as released),
                      corner_distance_best_sample, miss_rate, ade_ and fde_ of constant_velocity and
                      constant_turn_rate; num_samples, windows, clips, seconds; and per_clip: the
                      same by clip
"""

import csv
import io

from absl import flags

from alpamayo_jax import cli, policy_flags, reporting
from alpamayo_jax.data.sources import make_source, list_windows
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.evaluate import Evaluation, evaluate
from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import text_table, write_summary

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint directory.", required=True)
_CLIPS = flags.DEFINE_string("clips", None, "Folder of clips, or one clip.", required=True)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 6, "Samples per window.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of reasoning and noise.", lower_bound=0, upper_bound=cli.MAX_SEED
)
_STRIDE = flags.DEFINE_float("stride_s", 0.5, "Seconds between windows, a multiple of 0.1.")
_START = flags.DEFINE_float("start_s", None, "Windows begin at or after this time of the clip.")
_END = flags.DEFINE_float("end_s", None, "Windows end at or before this time of the clip.")
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames", 4, "Frames per camera, 0.1 s apart.", lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Windows per program call.", lower_bound=1)
_MAX_NEW_TOKENS = flags.DEFINE_integer(
    "max_new_tokens", 256, "Longest reasoning in tokens; 1 skips reasoning.", lower_bound=1
)
_POLICY = policy_flags.define()
_SCORE = flags.DEFINE_boolean(
    "score_trajectories", True, "Choose the most likely sample by its trajectory tokens too."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)


def main(argv) -> None:
    del argv
    workdir = cli.make_workdir(_WORKDIR.value)
    source = make_source("clips", root=_CLIPS.value)
    windows = list_windows(
        source,
        stride_s=_STRIDE.value,
        start_s=_START.value,
        end_s=_END.value,
        num_frames=_NUM_FRAMES.value,
    )
    policy = _POLICY.load(_CHECKPOINT.value, cli.LoadingBar())
    evaluation = evaluate(
        policy,
        source,
        windows,
        settings=SampleSettings(
            num_samples=_NUM_SAMPLES.value,
            max_new_tokens=_MAX_NEW_TOKENS.value,
            **_POLICY.sampling(),
        ),
        seed=_SEED.value,
        batch_size=_BATCH_SIZE.value,
        num_frames=_NUM_FRAMES.value,
        score_trajectories=_SCORE.value,
    )
    rows = evaluation.rows()
    reporting.write_evaluation_page(workdir / "report.html", evaluation, source, _CHECKPOINT.value)
    write_bytes(workdir / "windows.csv", _csv(evaluation))
    write_summary(
        workdir / "summary.json",
        {
            **evaluation.mean(),
            "num_samples": _NUM_SAMPLES.value,
            "windows": len(windows),
            "clips": len(rows) - 1,
            "seconds": evaluation.seconds,
            "per_clip": {row["clip"]: row for row in rows[:-1]},
        },
    )
    print(text_table(reporting.shown_rows(evaluation)))
    print(f"report: {workdir / 'report.html'}")


def _csv(evaluation: Evaluation) -> bytes:
    text = io.StringIO()
    names = list(evaluation.results[0].metrics)
    writer = csv.writer(text)
    writer.writerow(["clip", "t0", *names])
    for result in evaluation.results:
        values = [result.metrics[name] for name in names]
        writer.writerow([result.clip_id, f"{result.window[1]:.3f}", *values])
    return text.getvalue().encode()


if __name__ == "__main__":
    cli.run(main)

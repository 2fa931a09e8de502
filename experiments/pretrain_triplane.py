"""Self-supervised pretraining of the triplane on one simulated scene, and a view that no camera had.

    python experiments/pretrain_triplane.py --workdir=OUT

The same loss pretrains on drives: `experiments/train.py` with --config.vision.compressor=triplane and
--config.stage.objective=render, or beside another objective by --config.stage.render_weight. Writes:

    OUT/novel_view.png   the held-out camera's image, what was rendered, and its depth
    OUT/summary.json     loss_first, loss_last, fall (share by which the loss fell), psnr (dB, of the
                         held-out view), psnr_inputs, psnr_mean_colour, steps, seconds
"""

import time

from absl import flags
import numpy as np
import tqdm

from alpamayo_jax import cli
from alpamayo_jax.benchmark import novel_view
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.presets import PRESETS, preset, with_compressor

_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_PRESET = flags.DEFINE_enum("preset", "tiny", sorted(PRESETS), "Model.")
_CELLS = flags.DEFINE_integer(
    "cells", 1, "How many times the cells of the model's grid, along each axis.", lower_bound=1
)
_STEPS = flags.DEFINE_integer("steps", 300, "Steps of Adam.", lower_bound=10)
_RAYS = flags.DEFINE_integer("rays", 512, "Rays per step.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the drive, the parameters and the rays.", lower_bound=0)


def main(argv) -> None:
    del argv
    workdir, begin = cli.make_workdir(_WORKDIR.value), time.perf_counter()
    config = with_compressor(preset(_PRESET.value), "triplane")
    config = novel_view.finer(config, _CELLS.value)
    with tqdm.tqdm(total=_STEPS.value, desc="render", unit="step") as bar:

        def progress(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        found = novel_view.learn_scene(
            config, steps=_STEPS.value, rays=_RAYS.value, seed=_SEED.value, progress=progress
        )
    novel_view.picture(found, workdir / "novel_view.png")
    summary = {
        "loss_first": found.losses[0],
        "loss_last": float(np.mean(found.losses[-10:])),
        "fall": found.fall,
        "psnr": found.psnr,
        "psnr_inputs": found.psnr_inputs,
        "psnr_mean_colour": found.psnr_mean_colour,
        "steps": _STEPS.value,
        "seconds": time.perf_counter() - begin,
    }
    write_summary(workdir / "summary.json", summary)
    print(text_table([{"metric": name, "value": value} for name, value in summary.items()]))
    print(f"picture: {workdir / 'novel_view.png'}")


if __name__ == "__main__":
    cli.run(main)

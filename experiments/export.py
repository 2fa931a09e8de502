"""Exports a policy for other runtimes, and compares what leaves with what trained.

    python experiments/export.py --checkpoint=DIR --format=stablehlo --workdir=OUT
    python experiments/export.py --checkpoint=DIR --format=onnx --precision=fp8 --workdir=OUT
    python experiments/export.py --checkpoint=DIR --format=tensorrt --target=sm120 \\
        --precision=bf16 --workdir=OUT

The policy becomes seven programs: vision, prefill, decode_step, flow_step, flow_loop, trajectory,
and policy, which is all of them in one with a greedy reasoning loop. How many cameras, frames and
pixels they take, and how long prompts are, is taken from windows of drives (--clips, or simulated
ones); on the same windows every program is run and compared with JAX. Writes:

    OUT/manifest.json        every artefact with its inputs, outputs, files and their checksums,
                             sizes, versions, parity errors, and whether it is valid
    OUT/summary.json         valid; error_STAGE, the largest of every stage; windows compared
    OUT/STAGE.stablehlo      programs for cpu, cuda and tpu, any batch, with weights.safetensors
    OUT/STAGE.onnx           programs for one batch size; weights of large models in
                             weights.safetensors
    OUT/STAGE.engine         TensorRT engines, built from OUT/STAGE.onnx; OUT/STAGE.layers.json

`alpamayo_jax.export.load(OUT)` runs them. The exit code is 1 where a program differs too much.
"""

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.data.sources import list_windows, make_source, spread
from alpamayo_jax.data.windows import observe
from alpamayo_jax.decode.policy import load_policy
from alpamayo_jax.export.run import FORMATS, PRECISIONS, ExportSettings, export
from alpamayo_jax.export.stages import STAGES
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.quantise import calibrate, make_recipe

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint directory.", required=True)
_FORMAT = flags.DEFINE_enum("format", None, list(FORMATS), "What is written.", required=True)
_TARGET = flags.DEFINE_string("target", "", "tensorrt: compute capability, such as sm120.")
_PRECISION = flags.DEFINE_enum("precision", "fp32", PRECISIONS, "Number format.")
_STAGES = flags.DEFINE_list("stages", list(STAGES), "Which programs.")
_CLIPS = flags.DEFINE_string(
    "clips", "", "Folder of clips, or one clip, for sizes and comparison; empty: simulated drives."
)
_CAMERAS = flags.DEFINE_list("cameras", None, "Indices of the cameras to use; all by default.")
_NUM_FRAMES = flags.DEFINE_integer("num_frames", 4, "Frames per camera.", lower_bound=1)
_WINDOWS = flags.DEFINE_integer("windows", 20, "Windows to compare on.", lower_bound=1)
_CALIBRATION = flags.DEFINE_integer(
    "calibration_windows", 16, "fp8 and int8: windows to calibrate on.", lower_bound=1
)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1, "Trajectories per call.", lower_bound=1)
_MAX_NEW_TOKENS = flags.DEFINE_integer(
    "max_new_tokens", 64, "Longest reasoning in tokens.", lower_bound=1
)
_SKIP_PARITY = flags.DEFINE_boolean(
    "skip_parity", False, "Do not compare; the manifest then says that nothing is valid."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of simulated drives.", lower_bound=0, upper_bound=cli.MAX_SEED
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)

_SIMULATED_CLIPS = 4


def main(argv) -> int:
    del argv
    settings = ExportSettings(
        format=_FORMAT.value,
        precision=_PRECISION.value,
        target=_TARGET.value,
        stages=tuple(_STAGES.value),
        samples=_NUM_SAMPLES.value,
        new_tokens=_MAX_NEW_TOKENS.value,
        skip_parity=_SKIP_PARITY.value,
    )
    workdir = cli.make_workdir(_WORKDIR.value)
    policy = load_policy(_CHECKPOINT.value, progress=cli.LoadingBar())
    narrow = settings.precision not in ("fp32", "bf16")
    calibrated = narrow and make_recipe(settings.precision).activations
    count = _CALIBRATION.value if calibrated else 0
    count = max(count, 1 if settings.skip_parity else _WINDOWS.value)
    observations = _observations(count)
    ranges = None
    if calibrated:
        ranges = calibrate(policy, observations[: _CALIBRATION.value])
    windows = observations[: 1 if settings.skip_parity else _WINDOWS.value]
    manifest = export(policy, windows, workdir, settings, ranges)
    print(text_table([_row(artefact) for artefact in manifest.artefacts]))
    parities = {a.stage: a.parity for a in manifest.artefacts if a.parity}
    write_summary(
        workdir / "summary.json",
        {
            "valid": manifest.valid,
            "windows": min((p.windows for p in parities.values()), default=0),
            **{f"error_{name}": max(p.errors.values()) for name, p in parities.items()},
        },
    )
    print(f"manifest: {workdir / 'manifest.json'}")
    return 0 if manifest.valid or settings.skip_parity else cli.FAILED


def _observations(count: int) -> list:
    if _CLIPS.value:
        source = make_source("clips", root=_CLIPS.value)
    else:
        source = make_source("procedural", num_clips=_SIMULATED_CLIPS, seed=_SEED.value)
    cameras = None if _CAMERAS.value is None else [int(c) for c in _CAMERAS.value]
    windows = list_windows(
        source, stride_s=0.5, num_frames=_NUM_FRAMES.value, need_images=True, cameras=cameras
    )
    return [
        observe(source.clip(clip), t0, _NUM_FRAMES.value, cameras)
        for clip, t0 in spread(windows, count)
    ]


def _row(artefact) -> dict:
    parity = artefact.parity
    return {
        "stage": artefact.stage,
        "file": artefact.file,
        "largest error": f"{max(parity.errors.values()):.1e}" if parity else "-",
        "valid": "yes" if artefact.valid else artefact.note,
    }


if __name__ == "__main__":
    cli.run(main)

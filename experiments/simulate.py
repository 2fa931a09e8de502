"""Drives a policy in closed loop and measures it as AlpaSim does.

    python experiments/simulate.py --policy=CHECKPOINT --scenes=procedural --workdir=OUT
    python experiments/simulate.py --policy=route_follower --scenes=DIR --rollouts=4 --workdir=OUT

The policy is recorded, constant_velocity, route_follower, a checkpoint directory, or MODULE:NAME, a
function or object of yours (see docs/closed_loop.md). Scenes are made of a folder of clips with
agents and a map, or simulated: procedural (every family in turn) or procedural:FAMILY. Cameras of
recorded clips cannot be moved; there a checkpoint drives by ego motion alone (--blind). Writes:

    OUT/report.html   tables per scenario class, every rollout, pictures of the shown scenes
    OUT/NAME-0.mp4    video of a shown scene: camera, view from above, reasoning (extra `viz`)
    OUT/NAME-0.rrd    the same for the Rerun viewer, with --rerun (extra `viz`)
    OUT/summary.json  every metric under AlpaSim's name, mean over scenes and rollouts, and
                      NAME_std over rollouts; alpasim_score and alpasim_score_at_fault (km per
                      incident; null: no incident) with _std, scene_score, incidents,
                      simulated_seconds_per_second; streaming: what its steps computed in all,
                      with --streaming; and per_scenario: the table
"""

import importlib
import os
import pathlib
import sys
import time

from absl import flags
import tqdm

from alpamayo_jax import cli, policy_flags
from alpamayo_jax.closed_loop import page, summary
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.checkpoint import CheckpointPolicy
from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.closed_loop.runner import run
from alpamayo_jax.closed_loop.scene_list import list_scenes
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.sim.closed_loop import LoopSettings

_POLICY = flags.DEFINE_string(
    "policy", None, "recorded, constant_velocity, route_follower, a checkpoint directory, or "
    "MODULE:NAME.", required=True,
)  # fmt: skip
_SCENES = flags.DEFINE_string(
    "scenes", None, "Folder of clips, procedural, or procedural:FAMILY.", required=True
)
_ROLLOUTS = flags.DEFINE_integer("rollouts", 1, "Of each scene.", lower_bound=1)
_NUM_SCENES = flags.DEFINE_integer(
    "num_scenes", 0, "Procedural: how many; 0: one of each family. Clips: at most so many; 0: all.",
    lower_bound=0,
)  # fmt: skip
_SECONDS = flags.DEFINE_float("seconds", 20.0, "Procedural: length of a scene.", lower_bound=4.0)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of scenes and policies.", lower_bound=0, upper_bound=cli.MAX_SEED
)
_WARMUP = flags.DEFINE_integer("warmup", 17, "Ticks of 0.1 s that follow the recording.")
_PLAN_EVERY = flags.DEFINE_integer(
    "plan_every", 1, "Checkpoints: ticks between two plans; in between the last one goes on.",
    lower_bound=1,
)  # fmt: skip
_REACTIVE = flags.DEFINE_bool("reactive", False, "Vehicles react (IDM) instead of replaying.")
_STRICT = flags.DEFINE_bool("strict", False, "Scores with AlpaSim's quirks (docs/closed_loop.md).")
_SHOW = flags.DEFINE_integer("show", 3, "Scenes with the lowest score to show.", lower_bound=0)
_VIDEO = flags.DEFINE_bool("video", True, "Videos of the shown scenes.")
_RERUN = flags.DEFINE_bool("rerun", False, "Rerun recordings of the shown scenes.")
_BLIND = flags.DEFINE_bool("blind", False, "Checkpoints: drive by ego motion, without cameras.")
_NAVIGATION = flags.DEFINE_bool("navigation", False, "Checkpoints: the route as text (1.5).")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 6, "Checkpoints: samples.", lower_bound=1)
_NUM_FRAMES = flags.DEFINE_integer("num_frames", 4, "Checkpoints: per camera.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Checkpoints: at once.", lower_bound=1)
_MAX_NEW_TOKENS = flags.DEFINE_integer(
    "max_new_tokens", 256, "Checkpoints: longest reasoning in tokens.", lower_bound=1
)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.6, "Checkpoints: of the reasoning.")
_POLICY_FLAGS = policy_flags.define()
_STREAMING = policy_flags.define_streaming()
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)


def main(argv) -> None:
    del argv
    begin = time.perf_counter()
    workdir = cli.make_workdir(_WORKDIR.value)
    cameras = SceneCameras(num_frames=_NUM_FRAMES.value)
    policy = _policy(cameras)
    scenes = list_scenes(
        _SCENES.value, count=_NUM_SCENES.value, seed=_SEED.value, seconds=_SECONDS.value
    )
    if isinstance(policy, CheckpointPolicy) and not _BLIND.value:
        cameras.check(scenes)
    made = run(
        scenes,
        policy,
        rollouts=_ROLLOUTS.value,
        seed=_SEED.value,
        settings=LoopSettings(
            warmup=_WARMUP.value, reactive=_REACTIVE.value, plan_every=_PLAN_EVERY.value
        ),
        progress=lambda steps: tqdm.tqdm(steps, desc="simulate"),
    )
    chosen = summary.worst(made, _SHOW.value, strict=_STRICT.value)
    links = {
        number: page.write_files(
            workdir, made, number, 0, cameras, video=_VIDEO.value, rerun=_RERUN.value
        )
        for number in chosen
    }
    page.write_page(
        workdir / "report.html", made, _POLICY.value, chosen, cameras,
        strict=_STRICT.value, links=links,
    )  # fmt: skip
    rows = summary.class_rows(made, strict=_STRICT.value)
    values = summary.numbers(made, strict=_STRICT.value)
    write_summary(
        workdir / "summary.json",
        {
            "policy": _POLICY.value,
            **values,
            "seed": _SEED.value,
            "strict": _STRICT.value,
            "reactive": _REACTIVE.value,
            "seconds": time.perf_counter() - begin,
            "streaming": policy.streamed() if isinstance(policy, CheckpointPolicy) else {},
            "per_scenario": {row["scenario"]: row for row in rows},
        },
    )
    print(text_table(rows))
    print(
        f"{values['simulated_seconds']:.0f} s simulated in {values['seconds_simulating']:.1f} s, "
        f"{values['simulated_seconds_per_second']:.1f} times real time"
    )
    print(f"report: {workdir / 'report.html'}")


def _policy(cameras: SceneCameras):
    """What `--policy` names."""
    name = _POLICY.value
    if name in POLICIES:
        return POLICIES[name]
    if pathlib.Path(name).is_dir():
        settings = SampleSettings(
            num_samples=_NUM_SAMPLES.value,
            max_new_tokens=_MAX_NEW_TOKENS.value,
            temperature=_TEMPERATURE.value,
            **_POLICY_FLAGS.sampling(),
            **_STREAMING.sampling(),
        )
        return CheckpointPolicy(
            _POLICY_FLAGS.load(name, cli.LoadingBar()),
            settings,
            None if _BLIND.value else cameras,
            navigation=_NAVIGATION.value,
            batch_size=_BATCH_SIZE.value,
            streaming=_STREAMING.value,
        )
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(
            f"--policy={name} is no directory, and none of {', '.join(POLICIES)}; a policy of your "
            "own is MODULE:NAME"
        )
    sys.path.append(os.getcwd())  # as `python -m` does
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--policy={name} cannot be loaded: {error}") from error


if __name__ == "__main__":
    cli.run(main)

"""The closed-loop end of a pipeline."""

import functools

import ml_collections
import tqdm

from alpamayo_jax.closed_loop import runner
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.checkpoint import CheckpointPolicy
from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.closed_loop.scene_list import PROCEDURAL, list_scenes
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.recipe.sections import sample_settings
from alpamayo_jax.sim.closed_loop import LoopSettings


def drive_closed_loop(
    config: ml_collections.ConfigDict, policy: Policy, *, progress: bool = True
) -> dict[str, runner.Run]:
    """Drives simulated streets as `config.closed_loop` says: "policy", and every baseline.

    The streets follow those that trained and tested, so they are new to the policy. Empty where
    `closed_loop.scenes` is 0 or there is no such section.
    """
    loop = config.get("closed_loop", {})
    if not loop.get("scenes", 0):
        return {}
    scenes = list_scenes(
        PROCEDURAL,
        count=loop.scenes,
        seed=config.seed,
        seconds=loop.seconds,
        first=config.data.num_clips + config.data.num_test_clips,
    )
    cameras = SceneCameras(num_frames=config.data.num_frames)
    how = LoopSettings(plan_every=loop.plan_every)
    drivers = {
        "policy": CheckpointPolicy(
            policy, sample_settings(config), cameras, batch_size=config.eval.batch_size
        ),
        **POLICIES,
    }
    return {
        name: runner.run(
            scenes,
            driver,
            seed=config.seed,
            settings=how,
            progress=functools.partial(
                tqdm.tqdm, desc=f"closed loop, {name}", unit="tick", disable=not progress
            ),
        )
        for name, driver in drivers.items()
    }

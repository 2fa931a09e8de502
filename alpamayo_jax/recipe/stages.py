"""Stages of training by imitation: their parts, and running them in memory or in a folder."""

import pathlib

import ml_collections

from alpamayo_jax import settings
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.question_answering import QuestionSource
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.recipe.data import Data
from alpamayo_jax.recipe.sections import section, stage_settings
from alpamayo_jax.train import assemble
from alpamayo_jax.train.checkpoint import hash_of
from alpamayo_jax.train.loop import History
from alpamayo_jax.train.run import Folder, Training, run_in_memory


def make_training(
    name: str,
    config: ml_collections.ConfigDict,
    policy: Policy,
    data: Data,
    *,
    count_flops: bool = False,
) -> Training:
    """The parts of the stage that section `name` of `config` describes.

    Args:
      name: "stage", or a stage of the pipeline: "tokens", "sft" or "expert".
      config: all knobs.
      policy: what to start from; its parameters may be shapes, see `describe_start`.
      data: clips and windows.
      count_flops: trace the step, for MFU.

    Raises:
      ConfigError: an unknown stage, or knobs that do not fit each other or the devices.
    """
    stage = stage_settings(name, config)
    if stage.objective != "tokens" and any(
        isinstance(part.source, QuestionSource)
        for part in getattr(data.training_source, "parts", ())
    ):
        raise ConfigError(
            f"{name}.objective {stage.objective!r} learns trajectories, but data.mixture has "
            f"questions, which have none"
        )
    run = section(settings.RunSettings, config, "run")
    return assemble.make_training(
        name,
        stage,
        assemble.Start(policy, config.get("init_from") or None, config.seed),
        assemble.Windows(data.training_source, data.training_windows),
        section(settings.DataSettings, config, "data"),
        mesh=section(settings.MeshSettings, config, "mesh"),
        precision=section(settings.PrecisionSettings, config, "precision"),
        held_out=assemble.Windows(data.source, data.split.test),
        validation_batches=run.validation_batches,
        count_flops=count_flops,
    )


def train_stage(
    name: str,
    config: ml_collections.ConfigDict,
    policy: Policy,
    data: Data,
    *,
    progress: bool = True,
) -> tuple[Policy, History]:
    """Trains the stage that section `name` of `config` describes, in memory.

    Returns:
      The policy with new parameters, and what was logged.

    Raises:
      ConfigError: as `make_training`.
      TrainingDiverged: the loss is no longer finite.
    """
    training = make_training(name, config, policy, data)
    state, history = run_in_memory(training, progress=progress)
    return assemble.trained_policy(policy, state), history


def make_folder(config: ml_collections.ConfigDict, data: Data, path: pathlib.Path) -> Folder:
    """How `config.run` keeps a run in a folder.

    What a run is made of must be the same when it goes on: all knobs but those of `run` and `mesh`,
    and the windows it trains on, wherever the clips are by then.
    """
    same = {k: v for k, v in config.to_dict().items() if k not in ("run", "mesh")}
    clips = sorted({number for number, _ in data.split.train})
    names = [data.source.clip(number).clip_id for number in clips]
    windows = hash_of([names, list(data.training_windows)])
    same["data"] = {k: v for k, v in same["data"].items() if k != "root"} | {"windows": windows}
    run = section(settings.RunSettings, config, "run")
    return Folder(
        path=path,
        config=same,
        save_every=run.save_every,
        keep_last=run.keep_last,
        keep_best=run.keep_best,
        tensorboard=run.tensorboard,
        wandb_project=run.wandb_project,
    )

"""Stages of reinforcement learning: their parts, and running them in memory."""

import dataclasses
import pathlib

import jax
import ml_collections

from alpamayo_jax import settings
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.mixture import Mixture
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.recipe.data import Data
from alpamayo_jax.recipe.sections import section, stage_settings
from alpamayo_jax.rl import assemble as rl_assemble
from alpamayo_jax.rl.pictures import Gallery
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.train import assemble
from alpamayo_jax.train.loop import History
from alpamayo_jax.train.run import run_in_memory


def learns_from_rewards(name: str, config: ml_collections.ConfigDict) -> bool:
    """Whether section `name` of `config` describes reinforcement learning."""
    return stage_settings(name, config).objective in rl_assemble.ACTORS


def make_learning(
    name: str,
    config: ml_collections.ConfigDict,
    policy: Policy,
    data: Data,
    workdir: pathlib.Path | None = None,
    *,
    progress: bool = True,
) -> rl_assemble.Learning:
    """As `make_training`, for a stage of reinforcement learning.

    Args:
      name: "stage", or "grpo" of the pipeline.
      config: all knobs; sections `rl` and `reward` say how it learns, and what for.
      policy: what to start from; its parameters may be shapes.
      data: clips and windows.
      workdir: where answers of a critic and pictures of rollouts are kept; None: nowhere.
      progress: show bars.

    Raises:
      ConfigError: knobs that do not fit each other or the devices.
    """
    if isinstance(data.training_source, Mixture):
        raise ConfigError(f"{name}: data.mixture is not for reinforcement learning")
    rl = section(settings.RLSettings, config, "rl")
    reward = section(settings.RewardSettings, config, "reward")
    gallery = None
    if workdir is not None and rl.picture_every and jax.process_index() == 0:
        folder = workdir / "rollouts"
        gallery = Gallery(folder, data.training_source, rl)
    return rl_assemble.make_learning(
        name,
        stage_settings(name, config),
        rl,
        TotalReward.from_config(reward, workdir),
        assemble.Start(policy, config.get("init_from") or None, config.seed),
        assemble.Windows(data.training_source, data.training_windows),
        section(settings.DataSettings, config, "data"),
        held_out=assemble.Windows(data.source, data.split.test),
        mesh=section(settings.MeshSettings, config, "mesh"),
        precision=section(settings.PrecisionSettings, config, "precision"),
        watch=gallery,
        progress=progress,
    )


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a stage of reinforcement learning came to.

    Attributes:
      policy: with new parameters.
      history: what was logged.
      before: means of rewards on held-out windows when it began.
      after: the same when it ended.
    """

    policy: Policy
    history: History
    before: dict[str, float]
    after: dict[str, float]


def learn_stage(
    name: str,
    config: ml_collections.ConfigDict,
    policy: Policy,
    data: Data,
    workdir: pathlib.Path | None = None,
    *,
    progress: bool = True,
) -> Learned:
    """As `train_stage`, for a stage of reinforcement learning; `workdir` as in `make_learning`.

    Raises:
      ConfigError: as `make_learning`.
      TrainingDiverged: the loss is no longer finite.
      PolicyCollapsed: the reward fell, or samples grew, beyond what section `rl` allows.
    """
    learning = make_learning(name, config, policy, data, workdir, progress=progress)
    before = learning.measure(learning.params())
    state, history = run_in_memory(learning.training, log_every=1, progress=progress)
    after = learning.measure(assemble.final_params(state))
    return Learned(assemble.trained_policy(policy, state), history, before, after)

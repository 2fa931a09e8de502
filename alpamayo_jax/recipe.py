"""One `ConfigDict` -> data, policy and training: the only place where it becomes parts.

A configuration is what a file in `configs/` returns; its comments say what each knob means.
"""

import dataclasses
import functools
import math
import pathlib
from typing import Any

import jax
import ml_collections
import tqdm

from alpamayo_jax import settings
from alpamayo_jax.closed_loop import runner
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.checkpoint import CheckpointPolicy
from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.closed_loop.scene_list import PROCEDURAL, list_scenes
from alpamayo_jax.config import ConfigError, ModelConfig, build
from alpamayo_jax.data.mirror import WithMirrored
from alpamayo_jax.data.mixture import Mixture, Part
from alpamayo_jax.data.question_answering import QuestionSource
from alpamayo_jax.data.sources import (
    SOURCES,
    ClipSource,
    Split,
    Window,
    list_windows,
    make_source,
    split_by_clip,
    split_by_time,
    spread,
)
from alpamayo_jax.decode.policy import Policy, describe_policy, load_policy, new_policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.labelling.source import WithLabels
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.presets import preset
from alpamayo_jax.rl.assemble import ACTORS, Learning, check_learning
from alpamayo_jax.rl.assemble import make_learning as assemble_learning
from alpamayo_jax.rl.pictures import Gallery
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.sim.closed_loop import LoopSettings
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.train import assemble
from alpamayo_jax.train.checkpoint import hash_of
from alpamayo_jax.train.loop import History
from alpamayo_jax.train.run import Folder, Training, run_in_memory
from alpamayo_jax.train.stages import check_stage

_FRAME_CACHE_MB = 512

# Sections that describe a stage, and what they minimise unless they say so. `train.py` has one; the
# pipeline has stage 1 (trajectory tokens), stage 2 (reasoning, then the trajectory), stage 3
# (reinforcement learning) and the expert.
_STAGES = {
    "stage": "tokens",
    "tokens": "tokens",
    "sft": "tokens",
    "grpo": "grpo",
    "expert": "expert",
}

# Sections whose stages `train.py` runs before section `stage`, where there is no policy to start from.
EARLIER = ("sft", "expert")

_LEAST = {
    "seed": 0,
    "data.num_frames": 1,
    "data.max_length": 1,
    "data.num_workers": 0,
    "data.cache_mb": 0,
    "run.log_every": 1,
    "run.save_every": 1,
    "run.keep_last": 1,
    "run.keep_best": 0,
    "run.validation_batches": 0,
    "data.max_train_windows": 0,
    "eval.batch_size": 1,
    "eval.max_windows": 0,
    "eval.pictures": 0,
    "closed_loop.scenes": 0,
    "closed_loop.seconds": 4.0,
    "closed_loop.plan_every": 1,
}


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses knobs that make no sense, before time is spent on the others.

    Raises:
      ConfigError: names the knob, or the setting made of it.
    """
    for knob, least in _LEAST.items():
        *sections, name = knob.split(".")
        section = functools.reduce(lambda c, key: c.get(key, {}), sections, config)
        if name in section and section[name] < least:
            raise ConfigError(f"{knob} is {section[name]}, not {least} or more")
    if config.seed >= 2**32:
        raise ConfigError(f"seed is {config.seed}, not below 2**32")
    model = describe_start(config).config
    for name in [name for name in _STAGES if name in config]:
        stage = stage_settings(name, config)
        if stage.objective in ACTORS:
            rl = _section(settings.RLSettings, config, "rl")
            check_learning(name, stage, rl, model)
            reward = _section(settings.RewardSettings, config, "reward")
            if reward.critic == "local":  # its checkpoint is read when it is needed
                reward = dataclasses.replace(reward, critic="structured")
            TotalReward.from_config(reward)
        else:
            check_stage(name, stage, model)
    _section(settings.DataSettings, config, "data")
    assemble.training_config(model, _section(settings.PrecisionSettings, config, "precision"))
    if "eval" in config:
        sample_settings(config)


def stage_settings(name: str, config: ml_collections.ConfigDict) -> settings.StageSettings:
    """Section `name`; knobs that it leaves out have their defaults.

    Raises:
      ConfigError: there is no such section, or a knob of it is unknown or of another type.
    """
    if name not in _STAGES or name not in config:
        known = [stage for stage in _STAGES if stage in config]
        raise ConfigError(f"stage {name!r} is unknown; known: {', '.join(known)}")
    values = {"objective": _STAGES[name]} | config[name].to_dict()
    return build(settings.StageSettings, values, f"{name}.")


def _section(kind: type, config: ml_collections.ConfigDict, name: str) -> Any:
    return build(kind, config[name].to_dict() if name in config else {}, f"{name}.")


@dataclasses.dataclass(frozen=True)
class Data:
    """Clips, and which of their windows train and test.

    Attributes:
      source: the clips.
      split: windows by clip number of `source`.
      training_source: what to train on; with mirrored clips if asked for.
      training_windows: windows by clip number of `training_source`.
    """

    source: ClipSource
    split: Split
    training_source: ClipSource
    training_windows: tuple[Window, ...]


def make_data(config: ml_collections.ConfigDict) -> Data:
    """The clips that `config.data` names, and their windows.

    Raises:
      ConfigError: a knob that makes no sense.
      InputError: clips that are not there, are defective or have no window in range.
    """
    data = _section(settings.DataSettings, config, "data")
    source = _source(data, config.seed)
    if data.labels:
        source = WithLabels(source, data.labels)
    strides = dict(train_stride_s=data.train_stride_s, test_stride_s=data.test_stride_s)
    if data.source == "clips":
        split = split_by_time(
            source,
            _seconds("data.train_seconds", data.train_seconds),
            _seconds("data.test_seconds", data.test_seconds),
            num_frames=data.num_frames,
            **strides,
        )
    else:
        split = split_by_clip(source, data.num_test_clips, num_frames=data.num_frames, **strides)
    labelled = source.labelled(split.train) if data.labels else split.train
    training = spread(labelled, data.max_train_windows)
    training_source: ClipSource = source
    if data.mirror:
        training += tuple((number + len(source), t0) for number, t0 in training)
        training_source = WithMirrored(source)
    if data.mixture:
        parts = [Part(training_source, training)]
        parts += [_part(text, data) for text in data.mixture]
        training_source = Mixture(parts)
        training = training_source.windows
    return Data(source, split, training_source, training)


def _source(data: settings.DataSettings, seed: int) -> ClipSource:
    if data.source == "procedural":
        total = data.num_clips + data.num_test_clips
        return make_source("procedural", num_clips=total, seed=seed)
    if data.source == "controlled":
        return make_source(
            "controlled",
            num_clips=data.num_clips,
            num_clean=data.num_test_clips,
            seed=seed,
            wrong_reasoning=data.wrong_reasoning,
            wrong_trajectory=data.wrong_trajectory,
        )
    if data.source in SOURCES and not data.root:
        raise ConfigError(f"data.source={data.source} needs data.root, the folder of the clips")
    return _folder_source(data.source, data.root)


def _folder_source(kind: str, path: str) -> ClipSource:
    place = "path" if kind == "store" else "root"
    return make_source(kind, cache_mb=_FRAME_CACHE_MB, **{place: path})


def _part(text: str, data: settings.DataSettings) -> Part:
    weight, _, rest = text.partition(" ")
    kind, _, path = rest.partition(" ")
    try:
        share = float(weight)
    except ValueError:
        share = math.nan
    simulated = kind in ("procedural", "controlled")
    if not (math.isfinite(share) and share > 0 and kind and path) or simulated:
        raise ConfigError(
            f"data.mixture {text!r} must be a weight above 0, clips, store, physical_ai or "
            f"questions, and a path"
        )
    if kind == "questions":
        questions = QuestionSource(path)
        return Part(questions, questions.windows, share)
    source = _folder_source(kind, path)
    windows = list_windows(source, stride_s=data.train_stride_s, num_frames=data.num_frames)
    return Part(source, windows, share)


def _seconds(knob: str, value: Any) -> tuple[float | None, float | None]:
    numbers = [v for v in value if isinstance(v, (int, float)) and not math.isnan(v)]
    if len(value) != 2 or len(numbers) + sum(v is None for v in value) != 2:
        raise ConfigError(f"{knob} must be (first, last) in seconds, None for an end, got {value}")
    return tuple(value)


def make_policy(config: ml_collections.ConfigDict) -> Policy:
    """The policy to start from: `config.init_from` if that is given, else a random `config.preset`.

    Raises:
      InputError: the checkpoint is missing, damaged, or of another model.
    """
    if config.get("init_from"):
        return load_policy(config.init_from)
    return new_policy(_preset(config), jax.random.key(config.seed))


def describe_start(config: ml_collections.ConfigDict) -> Policy:
    """As `make_policy`, with the shapes of the parameters in place of the parameters."""
    if config.get("init_from"):
        return describe_policy(config.init_from)
    model = _preset(config)
    return Policy(config=model, params=param_shapes(model), tokenizer=tiny_tokenizer(model))


def _preset(config: ml_collections.ConfigDict) -> ModelConfig:
    if not config.preset:
        raise ConfigError(
            "there is nothing to start from: give init_from, a checkpoint directory, or preset"
        )
    return preset(config.preset)


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
    run = _section(settings.RunSettings, config, "run")
    return assemble.make_training(
        name,
        stage,
        assemble.Start(policy, config.get("init_from") or None, config.seed),
        assemble.Windows(data.training_source, data.training_windows),
        _section(settings.DataSettings, config, "data"),
        mesh=_section(settings.MeshSettings, config, "mesh"),
        precision=_section(settings.PrecisionSettings, config, "precision"),
        held_out=assemble.Windows(data.source, data.split.test),
        validation_batches=run.validation_batches,
        count_flops=count_flops,
    )


def learns_from_rewards(name: str, config: ml_collections.ConfigDict) -> bool:
    """Whether section `name` of `config` describes reinforcement learning."""
    return stage_settings(name, config).objective in ACTORS


def make_learning(
    name: str,
    config: ml_collections.ConfigDict,
    policy: Policy,
    data: Data,
    workdir: pathlib.Path | None = None,
    *,
    progress: bool = True,
) -> Learning:
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
    rl = _section(settings.RLSettings, config, "rl")
    reward = _section(settings.RewardSettings, config, "reward")
    gallery = None
    if workdir is not None and rl.picture_every and jax.process_index() == 0:
        folder = workdir / "rollouts"
        gallery = Gallery(folder, data.training_source, rl)
    return assemble_learning(
        name,
        stage_settings(name, config),
        rl,
        TotalReward.from_config(reward, workdir),
        assemble.Start(policy, config.get("init_from") or None, config.seed),
        assemble.Windows(data.training_source, data.training_windows),
        _section(settings.DataSettings, config, "data"),
        held_out=assemble.Windows(data.source, data.split.test),
        mesh=_section(settings.MeshSettings, config, "mesh"),
        precision=_section(settings.PrecisionSettings, config, "precision"),
        watch=gallery,
        progress=progress,
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
    run = _section(settings.RunSettings, config, "run")
    return Folder(
        path=path,
        config=same,
        save_every=run.save_every,
        keep_last=run.keep_last,
        keep_best=run.keep_best,
        tensorboard=run.tensorboard,
        wandb_project=run.wandb_project,
    )


def sample_settings(config: ml_collections.ConfigDict) -> SampleSettings:
    """How `config.eval` samples."""
    return SampleSettings(
        num_samples=config.eval.num_samples,
        max_new_tokens=config.eval.max_new_tokens,
        temperature=config.eval.temperature,
    )


def test_windows(config: ml_collections.ConfigDict, data: Data) -> tuple[Window, ...]:
    """The windows to evaluate on: all, or `eval.max_windows` of them evenly spread."""
    return spread(data.split.test, config.eval.max_windows)


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

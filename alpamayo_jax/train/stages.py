"""What a stage minimises and which parameters it trains, from its settings."""

import dataclasses
import math
from typing import Any

import jax

from alpamayo_jax.config import ConfigError, ModelConfig, PrecisionConfig
from alpamayo_jax.layers.stack import REMAT_POLICIES
from alpamayo_jax.settings import PrecisionSettings, StageSettings
from alpamayo_jax.tokens.prompt import request_sentence
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train import lora, partition
from alpamayo_jax.train.objective import Objective
from alpamayo_jax.train.objectives import make_objective
from alpamayo_jax.train.optimiser import OptimiserConfig

_LANGUAGE, _VISION, _SCENE, _ALL = r"vlm/.*", r"vlm/visual/.*", r"vlm/scene/.*", r".*"


def check_stage(name: str, stage: StageSettings, model: ModelConfig) -> None:
    """Refuses settings of a stage that make no sense, before time is spent.

    Raises:
      ConfigError: names the stage and the setting.
    """
    for knob, least in {"batch_size": 1, "accumulate": 1, "noises_per_row": 1}.items():
        if getattr(stage, knob) < least:
            raise ConfigError(f"{name}.{knob} is {getattr(stage, knob)}, not {least} or more")
    for knob in ("ema_decay", "vision_factor", "flow_weight", "render_weight", "beta2"):
        if not 0 <= getattr(stage, knob) < (1 if knob in ("ema_decay", "beta2") else math.inf):
            raise ConfigError(f"{name}.{knob} is {getattr(stage, knob)}, which makes no sense")
    if stage.batch_size % stage.accumulate:
        raise ConfigError(
            f"{name}.batch_size {stage.batch_size} does not split into {stage.accumulate} "
            f"micro-batches"
        )
    if stage.lora_rank < 0:
        raise ConfigError(f"{name}.lora_rank is {stage.lora_rank}, not 0 or more")
    if stage.remat not in REMAT_POLICIES:
        known = ", ".join(REMAT_POLICIES)
        raise ConfigError(f"{name}.remat {stage.remat!r} is unknown; known: {known}")
    if stage.components:
        request_sentence(stage.components)
    silent = stage.components and "traj_future" not in stage.components
    if silent and stage.objective in ("expert", "joint"):
        raise ConfigError(
            f"{name}.components {stage.components} have no 'traj_future', so that objective "
            f"{stage.objective!r} has no trajectory to learn"
        )
    stage_objective(stage, model, remat=stage.remat)
    optimiser_config(name, stage)
    lora_config(stage)


def interleaves(stage: StageSettings, model: ModelConfig) -> bool:
    """Whether every prefix of the time steps is supervised: tokens, behind a Flex made for it."""
    prefix = model.vision.compressor == "flex" and model.scene.flex.prefix
    return prefix and stage.objective in ("tokens", "joint")


def stage_objective(stage: StageSettings, model: ModelConfig, **stack: Any) -> Objective:
    """The objective of a stage; `stack` are fields of the network."""
    options = {"mean": stage.mean, "noises_per_row": stage.noises_per_row}
    if stage.objective == "joint":
        options["flow_weight"] = stage.flow_weight
    if stage.objective in ("tokens", "joint"):
        options |= {"render_weight": stage.render_weight}
    unused = {
        "tokens": ("noises_per_row",), "expert": ("mean",), "render": ("noises_per_row", "mean"),
    }  # fmt: skip
    for name in unused.get(stage.objective, ()):
        del options[name]
    return make_objective(stage.objective, model, **options, **stack)


def optimiser_config(name: str, stage: StageSettings) -> OptimiserConfig:
    """Optimiser and learning-rate groups of a stage; what it does not train is frozen to the bit.

    Raises:
      ConfigError: names the stage.
    """
    groups = [(pattern, 0.0) for pattern in stage.frozen]
    if stage.lora_rank:
        groups += [(lora.TRAINED, 1.0), (_ALL, 0.0)]
    elif stage.objective == "expert":
        groups += [(_LANGUAGE, 0.0), (_ALL, 1.0)]
    elif stage.objective == "render":
        groups += [(_VISION, stage.vision_factor), (_SCENE, 1.0), (_ALL, 0.0)]
    else:
        if stage.vision_factor != 1:
            groups.append((_VISION, stage.vision_factor))
        groups += [(_LANGUAGE, 1.0), (_ALL, 1.0 if stage.objective == "joint" else 0.0)]
    try:
        return OptimiserConfig(
            learning_rate=stage.learning_rate,
            num_steps=stage.steps,
            warmup_steps=int(stage.warmup_fraction * stage.steps),
            final_fraction=stage.final_fraction,
            schedule=stage.schedule,
            weight_decay=stage.weight_decay,
            clip_norm=stage.clip_norm,
            beta2=stage.beta2,
            groups=tuple(groups),
        )
    except ConfigError as error:
        raise ConfigError(f"stage {name!r}: {error}") from error


def last_token(stage: StageSettings, model: ModelConfig) -> int | None:
    """Where a stage's conversations may be cut: the expert reads nothing of the future's tokens."""
    return special_token_id(model, "traj_future_start") if stage.objective == "expert" else None


def lora_config(stage: StageSettings) -> lora.LoraConfig | None:
    """The adapters of a stage, or None.

    Raises:
      ConfigError: no layers for them.
    """
    if not stage.lora_rank:
        return None
    return lora.LoraConfig(stage.lora_rank, stage.lora_alpha, stage.lora_layers)


def check_reached(name: str, stage: StageSettings, factors: dict) -> None:
    """Refuses a stage in which nothing that trains is reached by the loss.

    Args:
      name: of the stage.
      stage: its settings.
      factors: learning-rate factor of every parameter.

    Raises:
      ConfigError: the loss of tokens reaches the language model only, that of the flow the rest.
    """
    trained = [key == "vlm" for key, tree in factors.items() if any(jax.tree.leaves(tree))]
    if (stage.objective == "tokens" and True not in trained) or (
        stage.objective == "expert" and False not in trained
    ):
        raise ConfigError(
            f"stage {name!r}: objective {stage.objective!r} reaches nothing that trains; look at "
            f"frozen, vision_factor and lora_layers"
        )


def stage_params(
    name: str, stage: StageSettings, precision: PrecisionSettings, params: dict, rng: jax.Array
) -> dict:
    """What a stage begins with: `params`, its adapters beside them, what is frozen in its format.

    Args:
      name: of the stage.
      stage: its settings.
      precision: number formats.
      params: of the policy; shapes under `jax.eval_shape`.
      rng: key of the adapters.

    Raises:
      ConfigError: adapters or frozen parts that match no layer.
    """
    adapters = lora_config(stage)
    if adapters is not None:
        params = lora.add_adapters(params, adapters, rng)
    if precision.frozen:
        factors = partition.parameter_factors(params, optimiser_config(name, stage).groups)
        params = partition.cast_frozen(params, factors, precision.frozen)
    return params


def training_config(model: ModelConfig, precision: PrecisionSettings) -> ModelConfig:
    """`model` with the number formats of training.

    Raises:
      ConfigError: an unknown format.
    """
    PrecisionConfig(params=precision.frozen or "float32")
    formats = {k: v for k, v in dataclasses.asdict(precision).items() if v and k != "frozen"}
    return dataclasses.replace(model, precision=dataclasses.replace(model.precision, **formats))

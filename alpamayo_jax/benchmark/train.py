"""Suite "train": a step of stage 1, side by side with PyTorch on the same weights and batch."""

import dataclasses
import logging
from typing import Any, Callable

import jax
import numpy as np

from alpamayo_jax import hardware
from alpamayo_jax.benchmark.timing import alternate, compares
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.models.init import init_params, param_shapes
from alpamayo_jax.presets import preset
from alpamayo_jax.settings import StageSettings
from alpamayo_jax.testing.tiny import random_train_batch
from alpamayo_jax.train.flops import train_flops
from alpamayo_jax.train.optimiser import make_optimiser
from alpamayo_jax.train.stages import optimiser_config, stage_objective
from alpamayo_jax.train.state import create_state
from alpamayo_jax.train.step import make_train_step
from alpamayo_jax.train.targets import fused_ids, future_actions
from alpamayo_jax.types import TrainBatch


@dataclasses.dataclass(frozen=True)
class Case:
    """One model and batch.

    Attributes:
      preset: see `presets`.
      layers: of language model and vision tower; 0: all of them.
      text_ids: text vocabulary to cut the embedding to; 0: all of it.
      rows: conversations per step.
      images: per row.
      grid: patches of an image, (height, width).
      length: tokens per row.
      compute: number format of the layers; "" as the preset.
      remat: what the backward pass computes again.
    """

    preset: str
    layers: int = 0
    text_ids: int = 0
    rows: int = 8
    images: int = 8
    grid: tuple[int, int] = (4, 8)
    length: int = 320
    compute: str = ""
    remat: str = "none"

    @property
    def name(self) -> str:
        return self.preset + (f"_{self.layers}_layers" if self.layers else "")

    def config(self) -> ModelConfig:
        """The model."""
        config = preset(self.preset)
        if self.layers:
            taps = tuple(t for t in config.vision.deepstack_visual_indexes if t < self.layers)
            vision = dict(depth=self.layers, deepstack_visual_indexes=taps or (0,))
            config = dataclasses.replace(
                config,
                vision=dataclasses.replace(config.vision, **vision),
                language=dataclasses.replace(config.language, num_layers=self.layers),
            )
        if self.text_ids:
            config = _fewer_ids(config, self.text_ids)
        compute = self.compute or config.precision.compute
        precision = dataclasses.replace(config.precision, params="float32", compute=compute)
        return dataclasses.replace(config, precision=precision)


def cases(backend: str) -> tuple[Case, ...]:
    """What the suite measures by default: on a CPU, a model of the 0.5B width with few layers."""
    tiny = Case("tiny")
    if backend == "cpu":
        few = dict(layers=2, text_ids=16_384, compute="float32")
        return tiny, Case("paper_0p5b", rows=1, images=2, grid=(20, 36), length=640, **few)
    full = dict(images=16, grid=(20, 36), length=3328)
    return tiny, Case("paper_0p5b", rows=8, remat="dots", **full)


def run(
    chosen: tuple[Case, ...], *, rounds: int = 5, compare: str = "auto", seed: int = 0
) -> dict[str, Any]:
    """Measures cases one after the other.

    Args:
      chosen: what to measure.
      rounds: steps of each that count.
      compare: "transformers" also times PyTorch, "auto" does so where it is installed.
      seed: of weights and batches.

    Returns:
      phases: "CASE/step" -> what `Times.row` says, `floor` (seconds of its operations at the
      device's peak), `ratio_to_floor`, `mfu`, `tokens_per_second`, `parameters`, `flops`, `loss`;
      with PyTorch `comparison` (its times), `ratio_to_comparison` (our median over its: below 1 we
      are faster) and `loss_difference` of the first step.

    Raises:
      ConfigError: an unknown comparison, or one that is not installed.
    """
    rows = {case.name: _measure(case, rounds, compare, seed) for case in chosen}
    return {"phases": {f"{name}/step": row for name, row in rows.items()}}


def _measure(case: Case, rounds: int, compare: str, seed: int) -> dict[str, Any]:
    config = case.config()
    logging.getLogger(__name__).info("%s: building", case.name)
    batch = make_batch(case, config, seed)
    params = init_params(config, jax.random.key(seed))
    stage = StageSettings(
        steps=1000, warmup_fraction=0.0, schedule="constant", mean="one_mean", remat=case.remat
    )
    calls, losses = {"jax": _jax_step(config, params, batch, stage)}, {}
    if compares(compare):
        calls["transformers"] = _torch_step(config, params, batch, stage)
    del params
    recording = {name: _recording(call, losses, name) for name, call in calls.items()}
    times = alternate(recording, rounds)

    shapes = param_shapes(config)
    factors = make_optimiser(optimiser_config("stage", stage), shapes).factors
    flops = train_flops(stage_objective(stage, config), factors, shapes, batch)
    ours, floor = times["jax"], flops / hardware.peak_flops()
    row = {
        **ours.row(),
        "floor": floor,
        "ratio_to_floor": ours.median / floor,
        "mfu": floor / ours.median,
        "tokens_per_second": case.rows * case.length / ours.median,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(shapes["vlm"])),
        "flops": flops,
        "loss": losses["jax"][0],
        "case": dataclasses.asdict(case),
    }
    if "transformers" in times:
        theirs = times["transformers"]
        row["comparison"] = theirs.row()
        row["ratio_to_comparison"] = ours.median / theirs.median
        row["loss_difference"] = abs(losses["transformers"][0] - losses["jax"][0])
    return row


def make_batch(case: Case, config: ModelConfig, seed: int) -> TrainBatch:
    """Random conversations of exactly `case.length` tokens, without padding.

    Raises:
      ConfigError: images and trajectories alone are longer.
    """
    grids = ((case.grid,) * case.images,) * case.rows
    shortest = random_train_batch(config, grids[:1], num_text=0, num_reasoning=0, seed=seed)
    text = case.length - shortest.labels_mask.shape[1]
    if text < 2:
        raise ConfigError(f"length {case.length} of case {case.name} is {2 - text} too short")
    reasoning = min(text // 2, 48)
    options = dict(num_text=text - reasoning, num_reasoning=reasoning, seed=seed)
    return random_train_batch(config, grids, **options)


def _jax_step(
    config: ModelConfig, params: dict, batch: TrainBatch, stage: StageSettings
) -> Callable[[], float]:
    optimiser = make_optimiser(optimiser_config("stage", stage), params)
    step = make_train_step(
        stage_objective(stage, config, remat=stage.remat),
        optimiser,
        compute_dtype=config.precision.compute,
    )
    state, rng = create_state(params, optimiser), jax.random.key(0)
    batch = jax.device_put(batch)

    def call() -> float:
        nonlocal state
        state, metrics = step(state, batch, rng)
        return float(jax.block_until_ready(metrics["loss"]))

    return call


def _torch_step(
    config: ModelConfig, params: dict, batch: TrainBatch, stage: StageSettings
) -> Callable[[], float]:
    import torch

    from alpamayo_jax.testing.torch_twin import torch_train_step

    ids = np.asarray(fused_ids(batch, future_actions(batch, config), config))
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return torch_train_step(
        config,
        params,
        batch,
        ids,
        learning_rate=stage.learning_rate,
        device="cuda" if on_gpu else "cpu",
        checkpointing=stage.remat != "none",
    )


def _recording(call: Callable[[], float], losses: dict, name: str) -> Callable[[], None]:
    return lambda: losses.setdefault(name, []).append(call())


def _fewer_ids(config: ModelConfig, text_ids: int) -> ModelConfig:
    """The same policy with another text vocabulary: the ids after it move down together."""
    ids, tokens = config.text_tokens, config.trajectory_tokens
    shift = tokens.traj_token_start_idx - text_ids
    moved = {name: value - shift for name, value in dataclasses.asdict(ids).items()}
    return dataclasses.replace(
        config,
        language=dataclasses.replace(
            config.language, vocab_size=config.language.vocab_size - shift
        ),
        text_tokens=dataclasses.replace(ids, **moved),
        trajectory_tokens=dataclasses.replace(tokens, traj_token_start_idx=text_ids),
    )

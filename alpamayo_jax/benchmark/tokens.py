"""Vision compressors beside each other: error after one budget of training, tokens, time, memory.

A run is one variant, one number of cameras and one seed; each is kept in a file as soon as it is
done, so that an interrupted comparison goes on where it stopped.
"""

import dataclasses
import json
import math
import pathlib
import statistics
from typing import Any, Mapping, Sequence

import ml_collections

from alpamayo_jax import recipe
from alpamayo_jax.benchmark import vision
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.data.windows import observe
from alpamayo_jax.evaluate import evaluate
from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import write_summary
from alpamayo_jax.models import scene
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer

_FRONT_ONLY = 4  # up to so many cameras look ahead, and the triplane keeps the half in front
BASELINE = "per_image"
START = ("tokens", "expert")  # stages of the policy that all variants start from


class Interrupted(Exception):
    """The process was told to stop; what was done before is kept."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
      name: of the row.
      compressor: its vision compressor.
      patch: triplane: cells of a token.
      tokens_per_image: flex.
      paper: the paper's relative minADE_6, percent; None where it has none.
    """

    name: str
    compressor: str
    patch: tuple[int, ...] = ()
    tokens_per_image: float = 0.0
    paper: float | None = None

    def knobs(self, cameras: int) -> dict[str, Any]:
        """Section `vision` of a training configuration, for a rig of so many cameras."""
        knobs: dict[str, Any] = {"compressor": self.compressor}
        if self.compressor == "triplane":
            knobs["size"] = (*self.patch, int(cameras <= _FRONT_ONLY))
        if self.compressor == "flex":
            knobs["size"] = (max(1, round(self.tokens_per_image * cameras)),)
        return knobs


def variants(config: ml_collections.ConfigDict) -> list[Variant]:
    """The rows that `config.ablation.variants` names: the baseline, triplanes, Flex, each from the
    finest to the coarsest (a `ConfigDict` does not keep the order of a file).

    Raises:
      ConfigError: a variant has other fields than `Variant`, or there is no baseline.
    """
    rows = []
    for name, values in config.ablation.variants.items():
        try:
            rows.append(Variant(name=name, **values.to_dict()))
        except TypeError as error:
            raise ConfigError(f"ablation.variants.{name}: {error}") from None
    kinds = tuple(scene.COMPRESSORS)
    if any(row.compressor not in kinds for row in rows):
        raise ConfigError(f"ablation.variants: compressors are {', '.join(kinds)}")
    rows.sort(
        key=lambda row: (
            kinds.index(row.compressor), math.prod(row.patch), -row.tokens_per_image, row.name
        )  # fmt: skip
    )
    if not rows or rows[0].name != BASELINE:
        raise ConfigError(f"ablation.variants has no {BASELINE!r}, to which all others are compared")
    return rows


def configured(
    config: ml_collections.ConfigDict, variant: Variant, cameras: int, seed: int, saved: int = 0
) -> ml_collections.ConfigDict:
    """The training configuration of one run; the drives are those of `config.seed`.

    Args:
      config: of all runs.
      variant: row of the table.
      cameras: of the rig; 0: those that clips have.
      seed: of the run.
      saved: scene tokens that an observation has less than image by image.
    """
    run = ml_collections.ConfigDict(config.to_dict())
    run.data.cameras = cameras or run.data.cameras
    run.data.max_length -= saved
    run.vision.update(variant.knobs(_count(config, cameras)))
    # Only the policy, its batches and its noise differ between seeds.
    run.seed = seed
    return run


def _count(config: ml_collections.ConfigDict, cameras: int) -> int:
    return cameras or len(recipe.make_data(config).source.clip(0).cameras)


def make_start(config: ml_collections.ConfigDict, folder: pathlib.Path) -> pathlib.Path | None:
    """The policy that all variants start from, trained once: sections `tokens`, then `expert`.

    It sees image by image what section `start_data` says.

    Args:
      config: of all runs.
      folder: where its checkpoint is kept.

    Returns:
      Its checkpoint; None without these sections: all start from nothing.

    Raises:
      Interrupted: SIGTERM came while it trained.
    """
    stages = [name for name in START if name in config]
    if not stages:
        return None
    run = ml_collections.ConfigDict(config.to_dict())
    run.data.update(config.get("start_data", {}))
    signature = _signature({"config": run.to_dict()})
    if _kept(folder / "trained.json", signature) is None:
        data, policy, losses = recipe.make_data(run), recipe.make_policy(run), {}
        for name in stages:
            policy, history = _whole(name, run, policy, data, "the start")
            losses[name] = float(history.metrics["loss"][-1])
        policy.save(folder / "checkpoint")
        _keep(folder / "trained.json", signature, losses)
    return folder / "checkpoint"


def one_run(
    run: ml_collections.ConfigDict,
    data: recipe.Data,
    start: pathlib.Path | None,
    path: pathlib.Path,
) -> dict[str, float]:
    """Trains and evaluates one variant; what `path` holds of an earlier time is taken as it is.

    Args:
      run: see `configured`.
      data: clips and windows.
      start: checkpoint it starts from; None: from nothing.
      path: file of its result.

    Returns:
      min_ade and ade_most_likely in metres, loss, clips_per_second while training (without
      compilation), windows.

    Raises:
      Interrupted: SIGTERM came while it trained.
    """
    signature = _signature({"config": run.to_dict()})
    kept = _kept(path, signature)
    if kept is not None:
        return kept
    if start is not None:
        run = ml_collections.ConfigDict(run.to_dict())
        run.init_from = str(start)
    policy, history = _whole("stage", run, recipe.make_policy(run), data, path.stem)
    windows = recipe.test_windows(run, data)
    evaluation = evaluate(
        policy,
        data.source,
        windows,
        settings=recipe.sample_settings(run),
        seed=run.seed,
        batch_size=run.eval.batch_size,
        num_frames=run.data.num_frames,
        score_trajectories=False,
        progress=False,
    )
    # The first entry of the log has the compilation in it.
    seconds = history.metrics["step_seconds"][1:] or history.metrics["step_seconds"]
    means = evaluation.mean()
    result = {
        "min_ade": means["min_ade"],
        "ade_most_likely": means["ade_most_likely"],
        "loss": float(history.metrics["loss"][-1]),
        "clips_per_second": run.stage.batch_size / statistics.median(seconds),
        "windows": len(windows),
    }
    _keep(path, signature, result)
    return result


def _whole(name, run, policy, data, what: str):
    """Trains a stage; half a run must not pass for a whole one."""
    policy, history = recipe.train_stage(name, run, policy, data, progress=False)
    if history.steps[-1] < run[name].steps:
        raise Interrupted(f"stopped in {what} after step {history.steps[-1]}; start again")
    return policy, history


def _signature(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True, default=str)


def _kept(path: pathlib.Path, signature: str) -> dict[str, float] | None:
    """The result in `path` if it is of this configuration."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    return kept["result"] if kept.get("signature") == signature else None


def _keep(path: pathlib.Path, signature: str, result: Mapping[str, float]) -> None:
    text = json.dumps({"signature": signature, "result": result}, indent=2)
    write_bytes(path, text.encode())


def timings(
    config: ml_collections.ConfigDict,
    data: recipe.Data,
    rows: Sequence[Variant],
    cameras: int,
    rounds: int,
) -> dict[str, dict[str, float]]:
    """Milliseconds and MiB of vision and prefill of one observation, in turns within one process.

    What they are says `benchmark.vision`.
    """
    number, t0 = data.split.test[0]
    policies = {}
    for variant in rows:
        run = configured(config, variant, cameras, config.seed)
        seen = observe(data.source.clip(number), t0, run.data.num_frames)
        policies[variant.name] = recipe.make_policy(run), seen
    return {
        name: {
            "vision_ms": 1e3 * one.vision.median,
            "prefill_ms": 1e3 * one.prefill.median,
            "prompt_tokens": one.prompt_tokens,
            "memory_mib": one.memory / 2**20,
        }
        for name, one in vision.measure(policies, rounds).items()
    }


def scene_tokens(model: ModelConfig, data: recipe.Data, frames: int) -> tuple[int, int]:
    """How many scene tokens and how many images one observation has."""
    number, t0 = data.split.test[0]
    seen = observe(data.source.clip(number), t0, frames)
    inputs = Processor(model, tiny_tokenizer(model)).inputs([seen])
    return int((inputs.image_index >= 0).sum()), sum(len(c.images) for c in seen.cameras)


def table(
    config: ml_collections.ConfigDict,
    rows: Sequence[Variant],
    cameras: int,
    results: Mapping[str, Sequence[Mapping[str, float]]],
    measured: Mapping[str, Mapping[str, float]],
    tokens: Mapping[str, float],
) -> list[dict[str, Any]]:
    """The paper's table: one row per variant that has a result.

    The relative error is that of each seed over the baseline of the same seed, in percent: their
    mean and standard deviation. `same_direction`: whether its sign is the paper's, "unclear" where
    the standard deviation is larger than the mean or there is one seed.
    """
    lines = []
    for variant in rows:
        own = results.get(variant.name, ())
        if not own:
            continue
        run = configured(config, variant, cameras, config.seed)
        model = recipe.describe_start(run).config
        errors = [one["min_ade"] for one in own]
        pairs = zip(own, results[BASELINE])
        relative = [100 * (one["min_ade"] / base["min_ade"] - 1) for one, base in pairs]
        mean, deviation = statistics.mean(relative), _deviation(relative)
        lines.append({
            "cameras": cameras,
            "variant": variant.name,
            "seeds": len(own),
            "added_parameters": scene.added_parameters(model),
            "tokens_per_image": tokens[variant.name],
            "compression": tokens[BASELINE] / tokens[variant.name],
            "min_ade": statistics.mean(errors),
            "min_ade_std": _deviation(errors),
            "ade_most_likely": statistics.mean(one["ade_most_likely"] for one in own),
            "ade_most_likely_std": _deviation([one["ade_most_likely"] for one in own]),
            "relative_percent": mean,
            "relative_std": deviation,
            "paper_percent": variant.paper,
            "same_direction": _direction(variant, mean, deviation, len(own)),
            "clips_per_second": statistics.median(one["clips_per_second"] for one in own),
            **measured.get(variant.name, {}),
        })
    return lines


def _direction(variant: Variant, mean: float, deviation: float, seeds: int) -> str:
    if not variant.paper:
        return "-"
    if seeds < 2 or abs(mean) <= deviation:
        return "unclear"
    return "yes" if (mean > 0) == (variant.paper > 0) else "no"


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of cameras -> variant -> its means over seeds."""
    found: dict[str, Any] = {}
    for line in lines:
        means = {name: line[name] for name in ("min_ade", "relative_percent")}
        found.setdefault(f"{line['cameras']}_cameras", {})[line["variant"]] = means
    return found


def write_table(workdir: pathlib.Path, lines: Sequence[Mapping[str, Any]], text: str) -> None:
    """Writes `table.json` and `table.md`."""
    write_summary(workdir / "table.json", {"rows": list(lines)})
    write_bytes(workdir / "table.md", (text + "\n").encode())

"""One layer of every tower as a program of its own, at full width.

Whether a target takes a model, how large its engines become and how its number formats fare shows on
one layer of each kind, long before 10B parameters are exported. Weights have the names of layer 0.
"""

import dataclasses
from typing import Any, Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert.table import nest
from alpamayo_jax.export.stages import Sizes, Stage
from alpamayo_jax.export.weights import named
from alpamayo_jax.layers.block import TextBlock, VisionBlock
from alpamayo_jax.layers.linear import Linear
from alpamayo_jax.models.action_proj import ActionInProj
from alpamayo_jax.models.alpamayo import expert_tower_config
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.models.vision import PatchMerger
from alpamayo_jax.ops.attention import Segment
from alpamayo_jax.types import Array

# 16 images of 720 patches and their text, six samples: what the release drives with.
RELEASE_SIZES = Sizes(length=3072, images=16, patches=720, samples=6, new_tokens=64)
LAYERS = (
    "vision_block", "merger", "language_prefill", "language_decode", "expert_layer",
    "action_in_proj", "action_out_proj",
)  # fmt: skip

_Inputs = Mapping[str, Array]


def layer_stages(config: ModelConfig, sizes: Sizes = RELEASE_SIZES) -> dict[str, Stage]:
    """The layers as stages whose weights are shapes; `random_weights` makes arrays for them.

    Args:
      config: model; `precision` says in which types they compute.
      sizes: B, S, I, P, K and N as for whole stages.
    """
    shapes = named(param_shapes(_one_layer(config)), by_layer=True)
    made = _Layers(config, sizes)
    stages = {}
    for name, prefixes, function, inputs in made.all():
        weights = {n: leaf for n, leaf in shapes.items() if n.startswith(prefixes)}
        stages[name] = Stage(name, _without(prefixes, function), weights, inputs, sizes)
    return stages


def random_weights(stage: Stage, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of the stage's shapes and types: kernels normal (0.02), scales one, biases zero."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, leaf in stage.weights.items():
        last = name.rsplit(".", 1)[-1]
        if last in ("scale", "bias"):
            array = np.full(leaf.shape, float(last == "scale"), np.float32)
        else:
            array = rng.standard_normal(leaf.shape, np.float32) * np.float32(0.02)
        made[name] = array.astype(leaf.dtype)
    return made


def _one_layer(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, depth=1, deepstack_visual_indexes=()),
        language=dataclasses.replace(config.language, num_layers=1),
    )


def _without(prefix: str, function: Callable) -> Callable:
    """A function of (weights by whole name, inputs), for one of the parameter subtree."""

    def run(weights: Mapping[str, Array], inputs: _Inputs) -> dict[str, Array]:
        short = {tuple(n[len(prefix) :].split(".")): leaf for n, leaf in weights.items()}
        return function({"params": nest(short)}, inputs)

    return run


class _Layers:
    """Functions and inputs for one configuration."""

    def __init__(self, config: ModelConfig, sizes: Sizes):
        self._config, self._sizes = config, sizes
        self._dtype = jnp.dtype(config.precision.compute)
        self._kinds = dict(dtype=self._dtype, param_dtype=jnp.dtype(config.precision.params))

    def all(self) -> Iterator[tuple[str, str, Callable, dict[str, Any]]]:
        """Name, beginning of the weights' names, function and inputs of every layer."""
        c, s = self._config, self._sizes
        vision, language, expert = c.vision, c.language, expert_tower_config(c)
        patches = s.images * s.batch, s.patches
        yield "vision_block", "vlm.visual.blocks.0.", self._vision, {
            "x": self._of(*patches, vision.hidden_size),
            "cos": self._of(*patches, vision.head_dim, dtype=jnp.float32),
            "sin": self._of(*patches, vision.head_dim, dtype=jnp.float32),
            "mask": self._of(*patches, dtype=jnp.bool_),
        }
        yield "merger", "vlm.visual.merger.", self._merger, {
            "x": self._of(*patches, vision.hidden_size)
        }
        layer = "vlm.language_model.layers.0."
        tokens = s.batch, s.length
        yield "language_prefill", layer, self._text(language), {
            **self._tokens(tokens, language), "mask": self._of(s.batch, s.length, s.length, dtype=bool)
        }
        samples = s.batch, s.samples
        yield "language_decode", layer, self._text(language), {
            **self._tokens((*samples, 1), language), **self._context(1)
        }
        waypoints = c.action.n_waypoints
        yield "expert_layer", "expert.layers.0.", self._text(expert), {
            **self._tokens((*samples, waypoints), expert, residual=jnp.float32),
            **self._context(waypoints),
        }
        yield "action_in_proj", "action_in_proj.", self._action_in, {
            "x": self._of(*samples, waypoints, 2, dtype=jnp.float32),
            "t": self._of(*samples, dtype=jnp.float32),
        }
        yield "action_out_proj", "action_out_proj.", self._action_out, {
            "x": self._of(*samples, waypoints, c.expert.hidden_size, dtype=jnp.float32)
        }

    def _of(self, *shape: int, dtype: Any = None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype or self._dtype)

    def _tokens(self, shape, tower, residual: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
        table = self._of(*shape, tower.head_dim, dtype=jnp.float32)
        return {"x": self._of(*shape, tower.hidden_size, dtype=residual), "cos": table, "sin": table}

    def _context(self, new: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Caches of prompt and reasoning, and who may look at what."""
        s, language = self._sizes, self._config.language
        heads, size = language.num_kv_heads, language.head_dim
        prefix = self._of(s.batch, heads, s.length, size)
        cache = self._of(s.batch, s.samples, heads, s.new_tokens, size)
        return {
            "mask": self._of(1, 1, new, new, dtype=bool),
            "prefix_k": prefix, "prefix_v": prefix,
            "prefix_mask": self._of(s.batch, s.length, dtype=bool),
            "cache_k": cache, "cache_v": cache,
            "cache_mask": self._of(s.batch, s.samples, s.new_tokens, dtype=bool),
        }  # fmt: skip

    def _vision(self, variables: dict, x: _Inputs) -> dict[str, Array]:
        block = VisionBlock(self._config.vision, **self._kinds)
        return {"y": block.apply(variables, x["x"], (x["cos"], x["sin"]), x["mask"])}

    def _merger(self, variables: dict, x: _Inputs) -> dict[str, Array]:
        merger = PatchMerger(self._config.vision, norm_grouped=False, **self._kinds)
        return {"y": merger.apply(variables, x["x"])}

    def _text(self, tower) -> Callable:
        block = TextBlock(tower, **self._kinds)

        def run(variables: dict, x: _Inputs) -> dict[str, Array]:
            context = []
            if "prefix_k" in x:
                prompt = x["prefix_mask"][:, None, None, :]
                earlier = x["cache_mask"][:, :, None, :]
                context = [
                    Segment(k=x["prefix_k"], v=x["prefix_v"], mask=prompt),
                    Segment(k=x["cache_k"], v=x["cache_v"], mask=earlier),
                ]
            rope = x["cos"], x["sin"]
            y, (k, v) = block.apply(variables, x["x"], rope, x["mask"], context)
            return {"y": y, "k": k, "v": v}

        return run

    def _action_in(self, variables: dict, x: _Inputs) -> dict[str, Array]:
        c = self._config
        project = ActionInProj(
            c.action_proj, c.expert.hidden_size, c.precision.bf16_buffers, **self._kinds
        )
        return {"y": project.apply(variables, x["x"], x["t"])}

    def _action_out(self, variables: dict, x: _Inputs) -> dict[str, Array]:
        return {"y": Linear(2, use_bias=True, **self._kinds).apply(variables, x["x"])}

"""What a policy must compute and move at least, and how long that takes a device at its best.

Operations are those of matrix products and attention, a multiply-add counts as two; of causal
attention only what may be looked at. Bytes are weights and caches, each once per phase, and what a
phase hands on. Activations inside a phase are not counted: they need not leave the chip.

Letters: B batch (1 here), K samples, T prompt tokens, P patches of an image, L layers.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from alpamayo_jax import hardware
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.init import param_shapes


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What a device does at best.

    Attributes:
      flops: operations per second.
      bandwidth: bytes per second.
      measured: here and now, and not from a data sheet.
    """

    flops: float
    bandwidth: float
    measured: bool = True


@dataclasses.dataclass(frozen=True)
class Work:
    """What must be done.

    Attributes:
      flops: operations.
      bytes: to be moved.
    """

    flops: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Work":
        return Work(self.flops * times, self.bytes * times)

    def seconds(self, peaks: Peaks) -> float:
        """The floor: computing and moving overlap, so it is the longer of the two."""
        return max(self.flops / peaks.flops, self.bytes / peaks.bandwidth)


def measure_peaks(config: ModelConfig, device: jax.Device | None = None) -> Peaks:
    """The peaks of a device in the number format of the policy's products."""
    device = jax.devices()[0] if device is None else device
    size = 1024 if device.platform == "cpu" else 8192
    dtype = "float32" if device.platform == "cpu" else config.precision.compute
    flops = hardware.measured_flops(device, dtype, size)
    return Peaks(flops, hardware.measured_bandwidth(device))


@dataclasses.dataclass(frozen=True)
class Shapes:
    """One observation.

    Attributes:
      images: how many.
      patches: of each, before merging.
      prompt: tokens of the prompt, T.
      tokens: reasoning tokens, N.
      steps: of the flow.
    """

    images: int
    patches: int
    prompt: int
    tokens: int
    steps: int


def phases(config: ModelConfig, shapes: Shapes, samples: int) -> dict[str, Work]:
    """Phase -> work: "vision", "prefill" (without images), "prefill_with_vision", "decode_token",
    "flow_step", "trajectory" and "end_to_end", for K `samples` on one prefix.

    A decoded token and a flow step are the mean of theirs. What a decoder keeps in memory between
    tokens (weights, say) is read again for every token.
    """
    count = _Count(config)
    vision, prefill = count.vision(shapes), count.prefill(shapes)
    decode, flow = count.decode_token(shapes, samples), count.flow_step(shapes, samples)
    trajectory = count.trajectory(samples)
    both = vision + prefill
    return {
        "vision": vision,
        "prefill": prefill,
        "prefill_with_vision": both,
        "decode_token": decode,
        "flow_step": flow,
        "trajectory": trajectory,
        "end_to_end": both + decode * shapes.tokens + flow * shapes.steps + trajectory,
    }


def end_to_end_seconds(work: dict[str, Work], shapes: Shapes, peaks: Peaks) -> float:
    """The floor of all phases one after the other; they do not overlap."""
    times = {"vision": 1, "prefill": 1, "trajectory": 1}
    times |= {"decode_token": shapes.tokens, "flow_step": shapes.steps}
    return sum(count * work[name].seconds(peaks) for name, count in times.items())


class _Count:
    def __init__(self, config: ModelConfig):
        self.config, self.shapes = config, param_shapes(config)
        self.width = jnp.dtype(config.precision.compute).itemsize
        language = config.language
        self.cached = (  # bytes of a token's keys and values
            2 * language.num_layers * language.num_kv_heads * language.head_dim * self.width
        )

    def vision(self, shapes: Shapes) -> Work:
        c, tree = self.config.vision, self.shapes["vlm"]["visual"]
        patches = shapes.images * shapes.patches
        tokens = patches // c.merge_unit
        pairs = patches * shapes.patches
        merged = [tree["merger"]]
        if c.deepstack_visual_indexes:
            merged.append(tree["deepstack_merger_list"])
        flops = 2 * patches * (_kernels(tree["patch_embed"]) + _kernels(tree["blocks"]))
        flops += 2 * tokens * _kernels(merged)
        flops += 4 * pairs * c.hidden_size * c.depth
        out = tokens * c.out_hidden_size * (1 + len(c.deepstack_visual_indexes)) * self.width
        return Work(flops, _bytes(tree) + patches * c.patch_dim * 4 + out)

    def prefill(self, shapes: Shapes) -> Work:
        tree, tokens = self.shapes["vlm"]["language_model"], shapes.prompt
        pairs = tokens * (tokens + 1) // 2
        flops = self._tower(tree["layers"], self.config.language.num_heads, tokens, pairs)
        moved = _bytes(tree["layers"]) + tokens * self.cached
        seen = shapes.images * shapes.patches // self.config.vision.merge_unit
        taps = 1 + len(self.config.vision.deepstack_visual_indexes)
        return Work(flops, moved + seen * taps * self.config.language.hidden_size * self.width)

    def decode_token(self, shapes: Shapes, samples: int) -> Work:
        vlm, language = self.shapes["vlm"], self.config.language
        tree = vlm["language_model"]
        head = vlm["lm_head"] if "lm_head" in vlm else tree["embed_tokens"]
        own = (shapes.tokens + 1) / 2  # of its own tokens a token sees these, on average
        flops = self._tower(
            tree["layers"], language.num_heads, samples, samples * (shapes.prompt + own)
        )
        flops += 2 * samples * language.hidden_size * language.vocab_size
        caches = (shapes.prompt + samples * own) * self.cached
        return Work(flops, _bytes([tree["layers"], head]) + caches)

    def flow_step(self, shapes: Shapes, samples: int) -> Work:
        expert, waypoints = self.config.expert, self.config.action.n_waypoints
        seen = shapes.prompt + shapes.tokens
        rows = samples * waypoints
        flops = self._tower(
            self.shapes["expert"]["layers"], expert.num_heads, rows, rows * (seen + waypoints)
        )
        ends = [self.shapes["action_in_proj"], self.shapes["action_out_proj"]]
        flops += 2 * rows * _kernels(ends)
        caches = (shapes.prompt + samples * shapes.tokens) * self.cached
        return Work(flops, _bytes([self.shapes["expert"], *ends]) + caches + 16 * rows)

    def trajectory(self, samples: int) -> Work:
        waypoints, history = self.config.action.n_waypoints, 16
        return Work(0.0, 4.0 * samples * (waypoints * (2 + 3 + 9) + history * (3 + 9)))

    def _tower(self, layers: Any, heads: int, rows: float, pairs: float) -> float:
        c = self.config.language
        return 2 * rows * _kernels(layers) + 4 * pairs * heads * c.head_dim * c.num_layers


def _kernels(tree: Any) -> int:
    """Values of the matrices of a tree, layers included."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return sum(leaf.size for path, leaf in paths if path[-1].key == "kernel")


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

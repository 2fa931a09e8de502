"""The policy cut into programs that other runtimes take: static shapes, no hidden state.

Letters: B batch, K samples, S prompt slots, N most new tokens, I images, P patches, V vocabulary,
L layers, G key-value heads, H head size, D width, J deepstack taps, W waypoints, M history poses.

    vision       pixel_values [B,I,P,.], image_grid [B,I,2] (compressors: their cameras too)
                 -> scene_tokens [B,.,D], scene_deepstack [J,B,.,D] (none where J = 0)
    prefill      prompt, history, scene_* -> logits [B,V], prefix_k, prefix_v [L,B,G,S,H]
    decode_step  token_ids [B,K], step [], position_ids [3,B,K,1], attention_mask [B,S], prefix_*,
                 cache_k, cache_v [L,B,K,G,N,H] -> logits [B,K,V], next_cache_k, next_cache_v
    flow_step    x [B,K,W,2], t [B,K], position_ids [3,B,K,W], attention_mask, prefix_*,
                 cache_mask [B,K,N], cache_* -> velocity [B,K,W,2]
    flow_loop    noise [B,K,W,2] and the rest of flow_step -> actions [B,K,W,2]
    trajectory   actions, ego_history_xyz [B,M,3], ego_history_rot -> xyz [B,K,W,3], rot
    policy       everything above as one program with a greedy reasoning loop of at most N tokens:
                 images, prompt, history, rope_delta [B], noise [B,K,W,2]
                 -> token_ids [B,N], end_index [B], actions, xyz, rot

`decode_step` writes slot `step` of the cache and leaves sampling to the host; `host_facts` has the
ids that it needs. Randomness is an input everywhere.
"""

import dataclasses
from typing import Any, Callable, Mapping, Sequence

import jax

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.types import Array, ModelInputs

STAGES = (
    "vision", "prefill", "decode_step", "flow_step", "flow_loop", "trajectory", "policy",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes that are static in a program: one bucket.

    Attributes:
      length: S, slots of the padded prompt.
      images: I.
      patches: P, of the largest image.
      samples: K.
      new_tokens: N.
      steps: F, time steps of a vision compressor; 0 without.
      step_images: C, most images of a time step; 0 without.
      batch: B, or a symbolic size.
    """

    length: int
    images: int
    patches: int
    samples: int = 1
    new_tokens: int = 64
    steps: int = 0
    step_images: int = 0
    batch: Any = 1


@dataclasses.dataclass(frozen=True)
class Stage:
    """One program before it is written.

    Attributes:
      name: one of `STAGES`.
      function: (weights, inputs) -> outputs, dicts of arrays by name; pure.
      weights: name -> array (or shape) of every parameter that it reads. Names are the dotted paths
        of the parameter tree; with `unroll` those of stacked layers have the layer's number, e.g.
        `vlm.language_model.layers.3.self_attn.q_proj.kernel` [in, out].
      inputs: name -> shape and type, in the order of the program.
      outputs: name -> shape and type, in the order of the program.
      sizes: the bucket.
    """

    name: str
    function: Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, Array]]
    weights: Mapping[str, Any]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    outputs: Mapping[str, jax.ShapeDtypeStruct]
    sizes: Sizes


def make_stages(
    config: ModelConfig,
    params: Mapping[str, Any],
    sizes: Sizes,
    *,
    unroll: bool,
    names: Sequence[str] = STAGES,
) -> dict[str, Stage]:
    """The stages of a policy for one bucket.

    Args:
      config: model; `precision` says in which types the stages compute and keep caches.
      params: of the whole policy, arrays or shapes.
      sizes: the bucket.
      unroll: no scan over layers, rows or flow steps, and no scatter: what ONNX and TensorRT take.
        False: scans, small programs for XLA. Both compute the same.
      names: which stages.

    Raises:
      ConfigError: an unknown stage.
    """
    raise NotImplementedError


def sizes_of(inputs: ModelInputs, *, samples: int, new_tokens: int) -> Sizes:
    """The bucket that a processed batch needs."""
    raise NotImplementedError


def host_facts(config: ModelConfig) -> dict[str, Any]:
    """What a host program must know to drive the stages: ids, ranges, steps."""
    raise NotImplementedError

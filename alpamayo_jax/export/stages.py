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
import functools
from typing import Any, Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.export.programs import Programs
from alpamayo_jax.export.weights import named, nested, read_by
from alpamayo_jax.ops.lens import LENS_SIZE
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, InputError, ModelInputs

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
      sizes: the bucket.
    """

    name: str
    function: Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, Array]]
    weights: Mapping[str, Any]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    sizes: Sizes

    @property
    def weight_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of the weights alone."""
        kinds = jax.ShapeDtypeStruct
        return {name: kinds(leaf.shape, leaf.dtype) for name, leaf in self.weights.items()}

    @functools.cached_property
    def outputs(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Name -> shape and type, in the order of the program."""
        return jax.eval_shape(self.function, self.weight_shapes, dict(self.inputs))


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
      ConfigError: an unknown stage, or a compressor that cannot be unrolled.
    """
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise ConfigError(f"stage {unknown[0]!r} is unknown; known: {', '.join(STAGES)}")
    if unroll and config.vision.compressor == "triplane":
        raise ConfigError(
            "the triplane compressor fills its grid in a loop that ONNX targets reject; export it as "
            "stablehlo"
        )
    programs = Programs(config, sizes.new_tokens, unroll)
    weights = named(params, by_layer=unroll)
    ports = _Ports(config, sizes, nested(weights), programs)
    stages = {}
    for name in names:
        function = _of_weights(getattr(programs, name))
        own = read_by(name, weights)
        stages[name] = Stage(name, function, own, ports.of(name), sizes)
    return stages


def _of_weights(program: Callable[[dict, Mapping[str, Array]], dict[str, Array]]) -> Callable:
    return lambda weights, inputs: program(nested(weights), inputs)


class _Ports:
    """Shapes and types of every stage's inputs."""

    def __init__(self, config: ModelConfig, sizes: Sizes, params: dict, programs: Programs):
        self._config = config
        self._params = params
        self._programs = programs
        s, c, language = sizes, config, config.language
        b, k, waypoints = s.batch, s.samples, config.action.n_waypoints
        history = c.trajectory_tokens.num_history_steps
        cache = jnp.dtype(c.precision.compute)
        heads = language.num_layers, b, language.num_kv_heads, s.length, language.head_dim
        slots = language.num_layers, b, k, language.num_kv_heads, s.new_tokens, language.head_dim
        f32, i32 = jnp.float32, jnp.int32
        self._kinds = {
            "pixel_values": ((b, s.images, s.patches, c.vision.patch_dim), f32),
            "image_grid": ((b, s.images, 2), i32),
            "camera_index": ((b, s.images), i32),
            "frame_time": ((b, s.images), f32),
            "step_images": ((b, s.steps, s.step_images), i32),
            "lenses": ((b, s.images, LENS_SIZE), f32),
            "ego_from_camera": ((b, s.images, 4, 4), f32),
            "input_ids": ((b, s.length), i32),
            "attention_mask": ((b, s.length), jnp.bool_),
            "image_index": ((b, s.length), i32),
            "rope_delta": ((b,), i32),
            "ego_history_xyz": ((b, history, 3), f32),
            "ego_history_rot": ((b, history, 3, 3), f32),
            "prefix_k": (heads, cache),
            "prefix_v": (heads, cache),
            "cache_k": (slots, cache),
            "cache_v": (slots, cache),
            "cache_mask": ((b, k, s.new_tokens), jnp.bool_),
            "token_ids": ((b, k), i32),
            "step": ((), i32),
            "x": ((b, k, waypoints, 2), f32),
            "noise": ((b, k, waypoints, 2), f32),
            "actions": ((b, k, waypoints, 2), f32),
            "t": ((b, k), f32),
        }
        self._positions = {
            "prefill": (3, b, s.length),
            "policy": (3, b, s.length),
            "decode_step": (3, b, k, 1),
            "flow_step": (3, b, k, waypoints),
            "flow_loop": (3, b, k, waypoints),
        }

    def of(self, stage: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Inputs of a stage, in order."""
        cameras = {
            "per_image": (),
            "flex": ("camera_index", "frame_time", "step_images"),
            "triplane": ("camera_index", "step_images", "lenses", "ego_from_camera"),
        }[self._config.vision.compressor]
        images = ("pixel_values", "image_grid", *cameras)
        prompt = ("input_ids", "attention_mask", "position_ids", "image_index", "ego_history_xyz")
        turns = ("ego_history_rot",) if self._config.trajectory_tokens.history_predict_yaw else ()
        earlier = ("attention_mask", "prefix_k", "prefix_v")
        flow = ("position_ids", *earlier, "cache_mask", "cache_k", "cache_v")
        names = {
            "vision": images,
            "prefill": (*prompt, *turns),
            "decode_step": ("token_ids", "step", "position_ids", *earlier, "cache_k", "cache_v"),
            "flow_step": ("x", "t", *flow),
            "flow_loop": ("noise", *flow),
            "trajectory": ("actions", "ego_history_xyz", "ego_history_rot"),
            "policy": (*images, *prompt, "ego_history_rot", "rope_delta", "noise"),
        }[stage]
        found = {name: self._spec(stage, name) for name in names}
        if stage == "prefill":
            scene = jax.eval_shape(self._programs.vision, self._params, self.of("vision"))
            found |= scene
        return found

    def _spec(self, stage: str, name: str) -> jax.ShapeDtypeStruct:
        if name == "position_ids":
            return jax.ShapeDtypeStruct(self._positions[stage], jnp.int32)
        return jax.ShapeDtypeStruct(*self._kinds[name])


def sizes_of(inputs: ModelInputs, *, samples: int, new_tokens: int) -> Sizes:
    """The bucket that a processed batch of one row needs."""
    _, images, patches, _ = np.shape(inputs.pixel_values)
    steps = (0, 0) if inputs.step_images is None else np.shape(inputs.step_images)[1:]
    return Sizes(
        length=np.shape(inputs.input_ids)[1],
        images=images,
        patches=patches,
        samples=samples,
        new_tokens=new_tokens,
        steps=steps[0],
        step_images=steps[1],
    )


def policy_inputs(stage: Stage, inputs: ModelInputs, noise: Array) -> dict[str, Array]:
    """The inputs of stage "policy" for a processed batch.

    Raises:
      InputError: the batch has another size than the stage's bucket.
    """
    values = {name: noise if name == "noise" else getattr(inputs, name) for name in stage.inputs}
    for name, spec in stage.inputs.items():
        found = np.shape(values[name])
        if found[:1] + tuple(spec.shape[1:]) != tuple(found) or len(found) != len(spec.shape):
            raise InputError(
                f"{name} is {list(found)}, the program takes {list(spec.shape)}: another number of "
                f"cameras or frames, another image size, or a longer prompt; export for it"
            )
    return {name: np.asarray(value) for name, value in values.items()}


def host_facts(config: ModelConfig) -> dict[str, Any]:
    """What a host program must know to drive the stages: ids, ranges, steps.

    `logits` of ids in `no_reasoning_ids` are not to be drawn while reasoning; `end_id` ends it (and
    is written when the bucket is full or after `eos_id`), waypoints follow it directly.
    """
    tokens, text = config.trajectory_tokens, config.text_tokens
    return {
        "no_reasoning_ids": [tokens.traj_token_start_idx, tokens.traj_token_end_idx],
        "end_id": special_token_id(config, "traj_future_start"),
        "eos_id": text.eos_token_id,
        "pad_id": text.pad_token_id,
        "flow_steps": config.flow.num_inference_steps,
        "flow_temperature": config.flow.temperature,
        "waypoints": config.action.n_waypoints,
        "seconds_per_waypoint": config.action.dt,
    }

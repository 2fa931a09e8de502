"""The network against recorded activations: vision, language, cache, decoding, expert, paths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax import convert
from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode import act
from alpamayo_jax.decode.generate import Generation, generate
from alpamayo_jax.decode.prefix import Prefix, fuse_history, prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.layers.block import TextBlock
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.vision import interpolate_positions, patch_positions
from alpamayo_jax.ops import filters
from alpamayo_jax.ops.masks import causal_mask
from alpamayo_jax.ops.rope import mrope_table, vision_rope_angles
from alpamayo_jax.testing.parity.base import Check, Reference, compare
from alpamayo_jax.tokens.positions import mrope_positions
from alpamayo_jax.types import ModelInputs

REQUIRES = ("model.npz", "tiny_checkpoint")
MODULE = "model"
CHECKPOINT = "tiny_checkpoint"
CASES = "ABCD"


@functools.cache
def load(directory) -> tuple[ModelConfig, dict]:
    """Configuration and parameters of the recorded checkpoint."""
    config, _ = convert.read_config(directory)
    return config, convert.load_params(directory, config)


def batch_inputs(config: ModelConfig, ids, mask, pixels, grid, xyz, rot) -> ModelInputs:
    """Recorded flat patches and grids as `ModelInputs`: every row has the same images."""
    ids, mask = np.asarray(ids), np.asarray(mask) > 0
    rows = ids.shape[0]
    grid = np.asarray(grid)[:, 1:]
    images = len(grid) // rows
    sizes = grid.prod(-1)
    padded = np.zeros((len(grid), sizes.max(), pixels.shape[-1]), np.float32)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for i, size in enumerate(sizes):
        padded[i, :size] = pixels[starts[i] : starts[i + 1]]
    unit = config.vision.merge_unit
    slots = np.arange(sizes.max() // unit)
    index = np.full(ids.shape, -1, np.int32)
    for row in range(rows):
        own = range(row * images, (row + 1) * images)
        tokens = [i % images * len(slots) + slots[: sizes[i] // unit] for i in own]
        index[row, ids[row] == config.text_tokens.image_token_id] = np.concatenate(tokens)
    grid = grid.reshape(rows, images, 2).astype(np.int32)
    position_ids, rope_delta = mrope_positions(ids, mask, grid, config)
    return ModelInputs(
        input_ids=jnp.asarray(ids, jnp.int32),
        attention_mask=jnp.asarray(mask),
        position_ids=jnp.asarray(position_ids),
        rope_delta=jnp.asarray(rope_delta),
        image_index=jnp.asarray(index),
        pixel_values=jnp.asarray(padded.reshape(rows, images, *padded.shape[1:])),
        image_grid=jnp.asarray(grid),
        camera_index=jnp.ones((rows, images), jnp.int32),
        frame_time=jnp.zeros((rows, images), jnp.float32),
        ego_history_xyz=jnp.asarray(xyz.reshape(rows, *xyz.shape[-2:])),
        ego_history_rot=jnp.asarray(rot.reshape(rows, *rot.shape[-3:])),
    )


def checks(reference: Reference) -> list[Check]:
    """Compares every recorded quantity of model.npz and model_kv.npz."""
    arrays = reference.arrays("model.npz")
    config, params = load(reference.path(CHECKPOINT))
    inputs = batch_inputs(
        config,
        arrays["input_ids_raw"],
        arrays["attention_mask"],
        arrays["pixel_values"],
        arrays["image_grid_thw"],
        arrays["ego_history_xyz"],
        arrays["ego_history_rot"],
    )
    prefix = jax.jit(prefill, static_argnums=2)(params, inputs, config)
    found = [*_vision(arrays, config, params, inputs), *_language(arrays, config, params, inputs)]
    if reference.has("model_kv.npz"):
        kv = reference.arrays("model_kv.npz")
        found += [
            compare(MODULE, "prefill keys", prefix.cache.k, kv["prefill_k"], 1e-4),
            compare(MODULE, "prefill values", prefix.cache.v, kv["prefill_v"], 1e-4),
        ]
    for case in CASES:
        if f"{case}:sequences" not in arrays:
            continue
        case_inputs, case_prefix = inputs, prefix
        if f"{case}:input_ids" in arrays:
            names = ("input_ids", "attention_mask", "pixel_values", "image_grid_thw")
            names += ("ego_history_xyz", "ego_history_rot")
            case_inputs = batch_inputs(config, *(arrays[f"{case}:{n}"] for n in names))
            case_prefix = jax.jit(prefill, static_argnums=2)(params, case_inputs, config)
        found += _case(case, reference, config, params, case_inputs, case_prefix)
        found += _generated_logits(case, arrays, config, params, case_inputs)
    return found + _action_projection(arrays, config, params) + _warp(arrays, config)


def _vision(arrays, config, params, inputs) -> list[Check]:
    vision, visual = config.vision, params["vlm"]["visual"]
    patches = inputs.pixel_values.shape[2]

    @jax.jit
    def inside(visual):
        row, col, real = patch_positions(inputs.image_grid[0], patches, vision.spatial_merge_size)
        table = visual["pos_embed"]["embedding"]
        positions = interpolate_positions(table, row, col, inputs.image_grid[0])
        return positions, vision_rope_angles(row, col, vision.head_dim, vision.rope_theta), real

    positions, angles, real = inside(visual)
    scene = _scene_tokens(config, params, inputs)
    unit = vision.merge_unit
    merged = np.asarray(real[:, ::unit]).reshape(-1)
    embedded = inputs.pixel_values[0] @ visual["patch_embed"]["kernel"]
    embedded = (embedded + visual["patch_embed"]["bias"])[real]
    return [
        compare(MODULE, "patch embedding", embedded, arrays["vis_patch_embed"], 1e-4),
        compare(MODULE, "learned positions", positions[real], arrays["vis_pos_embed"], 1e-4),
        compare(MODULE, "vision rotary angles", angles[real], arrays["vis_rot_pos"], 1e-4),
        compare(MODULE, "vision tokens", scene.tokens[0][merged], arrays["vis_features"], 1e-4),
        compare(
            MODULE, "deepstack", scene.deepstack[:, 0][:, merged], arrays["vis_deepstack"], 1e-4
        ),
        *_vision_blocks(arrays, config, params, inputs, real),
    ]


@functools.partial(jax.jit, static_argnums=0)
def _scene_tokens(config, params, inputs):
    return Alpamayo(config).apply({"params": params}, inputs, method="scene_tokens")


def _vision_blocks(arrays, config, params, inputs, real) -> list[Check]:
    """Outputs of single blocks, by running towers cut short after each."""
    from alpamayo_jax.layers.block import VisionBlock
    from alpamayo_jax.ops.rope import vision_rope_table

    vision, visual = config.vision, params["vlm"]["visual"]
    grid = inputs.image_grid[0]
    row, col, _ = patch_positions(grid, inputs.pixel_values.shape[2], vision.spatial_merge_size)
    rope = vision_rope_table(row, col, vision.head_dim, vision.rope_theta)

    @jax.jit
    def embed(visual):
        x = inputs.pixel_values[0] @ visual["patch_embed"]["kernel"] + visual["patch_embed"]["bias"]
        return x + interpolate_positions(visual["pos_embed"]["embedding"], row, col, grid)

    x = embed(visual)
    block = jax.jit(lambda p, x: VisionBlock(vision).apply({"params": p}, x, rope, real))
    found = []
    for index in range(vision.depth):
        x = block(jax.tree.map(lambda a: a[index], visual["blocks"]), x)
        if f"vis_block{index}" in arrays:
            want = arrays[f"vis_block{index}"]
            found.append(compare(MODULE, f"vision block {index}", x[real], want, 1e-4))
    return found


def _language(arrays, config, params, inputs) -> list[Check]:
    language, model = config.language, Alpamayo(config)
    ids = jax.jit(fuse_history, static_argnums=1)(inputs, config)
    hidden, _ = jax.jit(
        lambda p: model.apply({"params": p}, inputs, ids, method="prefill")
    )(params)
    logits = jax.jit(lambda p, h: model.apply({"params": p}, h, method="logits"))(params, hidden)
    rope = mrope_table(
        inputs.position_ids, language.head_dim, language.mrope_section, language.rope_theta
    )
    return [
        compare(MODULE, "fused ids", ids, arrays["input_ids"], 0),
        compare(MODULE, "rotary positions", inputs.position_ids, arrays["mrope_position_ids"], 0),
        compare(MODULE, "rotary delta", inputs.rope_delta, arrays["mrope_deltas"][:, 0], 0),
        compare(MODULE, "rotary cosines", rope[0], arrays["mrope_cos"], 1e-4),
        compare(MODULE, "rotary sines", rope[1], arrays["mrope_sin"], 1e-4),
        *_language_layers(arrays, config, params, inputs, ids, rope),
        compare(MODULE, "final hidden", hidden, arrays["text_final_hidden"], 1e-4),
        compare(MODULE, "logits, last 4", logits[:, -4:], arrays["vlm_logits_last4"], 1e-4),
        compare(MODULE, "logits argmax", logits.argmax(-1), arrays["vlm_logits_argmax"], 0),
        compare(
            MODULE,
            "logits, sum of magnitudes",
            jnp.abs(logits).sum(-1),
            arrays["vlm_logits_sum_abs"],
            1e-4,
            relative=True,
        ),
    ]


def _language_layers(arrays, config, params, inputs, ids, rope) -> list[Check]:
    """Every layer's output before the deepstack addition, one layer at a time."""
    scene = _scene_tokens(config, params, inputs)
    tower = params["vlm"]["language_model"]
    at_image = (inputs.image_index >= 0)[..., None]
    index = jnp.maximum(inputs.image_index, 0)
    rows = jnp.arange(ids.shape[0])[:, None]
    x = jnp.where(
        at_image, scene.tokens[rows, index], tower["embed_tokens"]["embedding"][ids]
    )
    block = TextBlock(config.language)
    mask = causal_mask(inputs.attention_mask)
    run = jax.jit(lambda p, x: block.apply({"params": p}, x, rope, mask)[0])
    outputs = []
    for layer in range(config.language.num_layers):
        x = run(jax.tree.map(lambda a: a[layer], tower["layers"]), x)
        outputs.append(x)
        if layer < scene.deepstack.shape[0]:
            x = x + jnp.where(at_image, scene.deepstack[layer][rows, index], 0)
    want = arrays["text_layer_out_before_deepstack"]
    return [
        compare(MODULE, f"language layer {layer}", outputs[layer], want[layer], 1e-4)
        for layer in range(len(want))
    ]


def _case(case, reference, config, params, inputs, prefix: Prefix) -> list[Check]:
    """One recorded sampling run: greedy ids, then the flow from recorded noise."""
    arrays = reference.arrays("model.npz")
    get = lambda name: arrays[f"{case}:{name}"]  # noqa: E731
    rows = inputs.input_ids.shape[0]
    samples = get("all_actions").shape[0] // rows
    new = get("sequences").shape[1] - inputs.input_ids.shape[1]
    states = np.moveaxis(get("all_actions"), 1, 0)  # [steps + 1, B K, W, 2]
    steps, shape = len(states) - 1, (rows, samples, *states.shape[2:])
    recorded_new = get("sequences")[:, -new:].reshape(rows, samples, new)
    end = int(arrays["eos_id"])
    settings = SampleSettings(
        num_samples=samples,
        max_new_tokens=new,
        greedy=True,
        force_end=False,
        flow_steps=steps,
    )
    generation = jax.jit(generate, static_argnums=(2, 3))(
        params, prefix, config, settings, jax.random.key(0)
    )
    got = np.asarray(generation.token_ids)
    real = np.cumsum(recorded_new == end, -1) - (recorded_new == end) == 0  # up to the end token
    found = [
        compare(MODULE, f"{case}: greedy ids", np.where(real, got, 0),
                np.where(real, recorded_new, 0), 0),
        compare(MODULE, f"{case}: rotary delta", np.repeat(prefix.rope_delta, samples),
                get("rope_deltas")[:, 0], 0),
    ]  # fmt: skip
    found += _expert_layout(case, get, config, prefix, generation)
    velocity = jax.jit(act.velocity_field(params, prefix, generation, config))
    times = get("time_steps")
    deviation = [
        compare(
            MODULE,
            f"{case}: velocity, step {k}",
            velocity(states[k].reshape(shape), jnp.full((rows, samples, 1, 1), times[k])),
            ((states[k + 1] - states[k]) * steps).reshape(shape),
            1e-4,
        )
        for k in range(steps)
    ]
    found.append(max(deviation, key=lambda check: check.error))
    integrated = jax.jit(
        lambda noise: act.sample_actions(
            params, prefix, generation, config, settings, noise, return_all=True
        )
    )(jnp.asarray(states[0].reshape(shape)))
    found.append(
        compare(MODULE, f"{case}: Euler states", integrated, states.reshape(-1, *shape), 2e-3)
    )
    history = [
        jnp.repeat(h[:, None], samples, 1) for h in (inputs.ego_history_xyz, inputs.ego_history_rot)
    ]
    trajectory = jax.jit(unicycle.action_to_trajectory, static_argnums=3)(
        integrated[-1], *history, config.action
    )
    for name, value in (("pred_xyz", trajectory.xyz), ("pred_rot", trajectory.rot)):
        want = get(name).reshape(value.shape)
        found.append(compare(MODULE, f"{case}: {name}", value, want, 2e-3))
    if case == "A":
        found += _probes(reference, velocity, generation, prefix, config, recorded_new)
    return found


def _expert_layout(case, get, config, prefix: Prefix, generation: Generation) -> list[Check]:
    """Where the waypoints stand, and which cache slots they may read."""
    context, first = act.expert_context(prefix, generation)
    rows, samples = first.shape
    waypoints = jnp.arange(config.action.n_waypoints)
    positions = (first + prefix.rope_delta[:, None])[..., None] + waypoints
    want = get("expert_position_ids")
    visible = jnp.concatenate(
        [
            jnp.broadcast_to(context[0][1], (rows, samples, 1, prefix.length)),
            context[1][1],
            jnp.ones((rows, samples, 1, len(waypoints)), bool),
        ],
        axis=-1,
    ).reshape(rows * samples, 1, -1)
    recorded = get("expert_attention_mask_is_zero")[:, 0, :1]
    # The release's cache lacks the slot of the last token, or has one for a filler token.
    slots = recorded.shape[-1] - len(waypoints)
    ours = np.zeros((rows * samples, 1, slots), bool)
    shared = min(slots, visible.shape[-1] - len(waypoints))
    ours[..., :shared] = visible[..., :shared]
    return [
        compare(MODULE, f"{case}: waypoint positions",
                np.broadcast_to(positions.reshape(rows * samples, -1), want.shape), want, 0),
        compare(MODULE, f"{case}: visible cache", ours, recorded[..., :slots], 0),
    ]  # fmt: skip


def _probes(reference, velocity, generation, prefix, config, recorded_new) -> list[Check]:
    arrays = reference.arrays("model.npz")
    found = []
    if "A:probe_v" in arrays:
        x = arrays["probe_x"][:, None]
        for i, t in enumerate(arrays["probe_t"]):
            v = velocity(x, jnp.full((1, 1, 1, 1), t))
            want = arrays["A:probe_v"][i][:, None]
            found.append(compare(MODULE, f"A: velocity at t = {t:.2f}", v, want, 1e-4))
    if reference.has("model_kv.npz"):
        kv = reference.arrays("model_kv.npz")
        for name, prompt_part, new_part in (
            ("keys", prefix.cache.k, generation.cache.k),
            ("values", prefix.cache.v, generation.cache.v),
        ):
            want = kv[f"A:cache_{name[0]}"]
            got = jnp.concatenate([prompt_part, new_part[:, :, 0]], axis=-2)
            got = got[..., : want.shape[-2], :]
            found.append(compare(MODULE, f"A: cached {name}", got, want, 1e-4))
    return found


def _generated_logits(case, arrays, config, params, inputs: ModelInputs) -> list[Check]:
    """Logits behind every generated token, in one pass over the prompt and what was generated."""
    key, sequences = f"{case}:gen_logits_text_ids", arrays[f"{case}:sequences"]
    if key not in arrays or len(sequences) != len(inputs.input_ids):
        return []
    want = arrays[key]
    model, new = Alpamayo(config), want.shape[1]
    at = inputs.input_ids.shape[1] + inputs.rope_delta[:, None] + jnp.arange(new)
    grown = inputs.replace(
        attention_mask=jnp.pad(inputs.attention_mask, ((0, 0), (0, new)), constant_values=True),
        position_ids=jnp.concatenate(
            [inputs.position_ids, jnp.broadcast_to(at, (3, *at.shape))], axis=-1
        ),
        image_index=jnp.pad(inputs.image_index, ((0, 0), (0, new)), constant_values=-1),
    )

    @jax.jit
    def run(params, ids):
        hidden, _ = model.apply({"params": params}, grown, ids, method="prefill")
        last = hidden[:, -new - 1 : -1]
        return model.apply({"params": params}, last, method="logits")

    logits = np.asarray(run(params, jnp.asarray(sequences, jnp.int32)))
    tokens = config.trajectory_tokens
    bins = slice(tokens.traj_token_start_idx, tokens.traj_token_end_idx)
    text = np.delete(logits, bins, axis=-1)
    return [compare(MODULE, f"{case}: logits of generated tokens", text, want, 1e-4)]


def _action_projection(arrays, config, params) -> list[Check]:
    from alpamayo_jax.models.action_proj import ActionInProj

    if "action_in_proj_probe" not in arrays:
        return []
    module = ActionInProj(config.action_proj, config.expert.hidden_size)
    project = jax.jit(module.apply)
    x = jnp.asarray(arrays["probe_x"])
    got = [
        project({"params": params["action_in_proj"]}, x, jnp.full((len(x),), t))
        for t in arrays["probe_t"]
    ]
    return [
        compare(MODULE, "action input projection", jnp.stack(got), arrays["action_in_proj_probe"],
                1e-4)
    ]  # fmt: skip


def _warp(arrays, config) -> list[Check]:
    if "warp_logits" not in arrays:
        return []
    tokens = config.trajectory_tokens
    logits = filters.mask_range(
        jnp.asarray(arrays["warp_logits"]), tokens.traj_token_start_idx, tokens.traj_token_end_idx
    )
    probs = jax.nn.softmax(filters.warp(logits, temperature=0.6, p=0.98), axis=-1)
    return [compare(MODULE, "sampling filters", probs, arrays["warp_probs"], 1e-4)]

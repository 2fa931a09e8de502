"""What each stage computes: functions of parameters and named inputs, see `stages` for shapes."""

import dataclasses
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode import act
from alpamayo_jax.decode.prefix import fuse_history
from alpamayo_jax.flow import samplers
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.language import Context
from alpamayo_jax.ops import filters
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array, KVCache, ModelInputs, SceneTokens

_FIELDS = tuple(field.name for field in dataclasses.fields(ModelInputs))
Inputs = Mapping[str, Array]
Outputs = dict[str, Array]


def _model_inputs(x: Inputs) -> ModelInputs:
    return ModelInputs(**{name: x.get(name) for name in _FIELDS})


def _cache(x: Inputs, name: str) -> KVCache:
    return KVCache(k=x[f"{name}_k"], v=x[f"{name}_v"])


@dataclasses.dataclass(frozen=True)
class Programs:
    """The stages' functions (params, inputs) -> outputs for one configuration.

    Attributes:
      config: model.
      new_tokens: N, the longest reasoning.
      unroll: no loops over layers, rows and flow steps, and no scatter.
    """

    config: ModelConfig
    new_tokens: int
    unroll: bool

    def _apply(self, params: dict, *args: Any, method: str, **kwargs: Any) -> Any:
        model = Alpamayo(self.config, unroll=self.unroll)
        return model.apply({"params": params}, *args, method=method, **kwargs)

    def vision(self, params: dict, x: Inputs) -> Outputs:
        """Images to scene tokens."""
        scene = self._apply(params, _model_inputs(x), method="scene_tokens")
        outputs = {"scene_tokens": scene.tokens}
        if scene.deepstack.shape[0]:
            outputs["scene_deepstack"] = scene.deepstack
        return outputs

    def prefill(self, params: dict, x: Inputs) -> Outputs:
        """The prompt's keys and values, and the logits of the first new token."""
        inputs, tokens = _model_inputs(x), x["scene_tokens"]
        none = jnp.zeros((0, *tokens.shape), tokens.dtype)
        scene = SceneTokens(tokens=tokens, deepstack=x.get("scene_deepstack", none))
        ids = fuse_history(inputs, self.config)
        hidden, cache = self._apply(params, inputs, ids, scene, method="prefill")
        logits = self._apply(params, hidden[:, -1], method="logits")
        return {"logits": logits, "prefix_k": cache.k, "prefix_v": cache.v}

    def decode_step(self, params: dict, x: Inputs) -> Outputs:
        """The keys and values of one more token per sample, and the logits of the next."""
        step, cache = x["step"], _cache(x, "cache")
        before = jnp.arange(self.new_tokens) < step
        context = self._context(x, before[None, None, None, :])
        hidden, new = self._apply(
            params, x["token_ids"][..., None], x["position_ids"],
            jnp.ones((1, 1, 1, 1), bool), context, method="extend",
        )  # fmt: skip
        logits = self._apply(params, hidden[..., 0, :], method="logits")
        cache = jax.tree.map(lambda old, kv: self._written(old, kv, step), cache, new)
        return {"logits": logits, "next_cache_k": cache.k, "next_cache_v": cache.v}

    def flow_step(self, params: dict, x: Inputs) -> Outputs:
        """The velocity at one time of the flow."""
        context = self._context(x, x["cache_mask"][..., None, :])
        return {"velocity": self._velocity(params, x, context)}

    def _velocity(self, params: dict, x: Inputs, context: Context) -> Array:
        return self._apply(params, x["x"], x["t"], x["position_ids"], context, method="velocity")

    def flow_loop(self, params: dict, x: Inputs) -> Outputs:
        """All Euler steps from noise to normalised actions."""
        context = self._context(x, x["cache_mask"][..., None, :])
        context = act.laid_out(context, params, self.config)

        def velocity(state: Array, t: Array) -> Array:
            return self._velocity(params, {**x, "x": state, "t": t[..., 0, 0]}, context)

        steps = self.config.flow.num_inference_steps
        return {"actions": samplers.euler(velocity, x["noise"], steps)}

    def trajectory(self, params: dict, x: Inputs) -> Outputs:
        """Actions driven from the end of the history."""
        del params
        actions, config = x["actions"], self.config
        xyz, rot = x["ego_history_xyz"], x["ego_history_rot"]
        v0 = unicycle.estimate_v0(xyz, rot, config.action, unroll=self.unroll)

        def per_sample(array: Array) -> Array:
            return jnp.broadcast_to(array[:, None], (*actions.shape[:2], *array.shape[1:]))

        driven = unicycle.action_to_trajectory(
            actions, per_sample(xyz), per_sample(rot), config.action, per_sample(v0),
            bf16_constants=config.precision.bf16_buffers,
        )  # fmt: skip
        return {"xyz": driven.xyz, "rot": driven.rot}

    def policy(self, params: dict, x: Inputs) -> Outputs:
        """From pixels to trajectories. All samples share one greedy reasoning and differ in noise."""
        prefix = self.prefill(params, {**x, **self.vision(params, x)})
        logits = prefix.pop("logits")
        ids, end_index, cache = self._reason(params, {**x, **prefix}, logits)
        samples, waypoints = x["noise"].shape[1:3]
        first = x["input_ids"].shape[-1] + end_index + 1 + x["rope_delta"]
        positions = first[:, None, None] + jnp.arange(waypoints)
        shape = (3, positions.shape[0], samples, waypoints)
        seen = jnp.arange(self.new_tokens) <= end_index[:, None]
        shared = {
            f"cache_{name}": jnp.broadcast_to(a, (*a.shape[:2], samples, *a.shape[3:]))
            for name, a in (("k", cache.k), ("v", cache.v))
        }
        flow = {
            **x, **prefix, **shared,
            "position_ids": jnp.broadcast_to(positions, shape),
            "cache_mask": jnp.broadcast_to(seen[:, None], (seen.shape[0], samples, seen.shape[1])),
        }  # fmt: skip
        actions = self.flow_loop(params, flow)
        driven = self.trajectory(params, {**x, **actions})
        return {"token_ids": ids, "end_index": end_index, **actions, **driven}

    def _reason(self, params: dict, x: Inputs, logits: Array) -> tuple[Array, Array, KVCache]:
        """Greedy reasoning of at most N tokens, its end token forced; as `decode.generate`.

        Returns:
          ids int32 [B, N], index of the end token [B], and the cache [L, B, 1, G, N, H].
        """
        config, limit = self.config, self.new_tokens
        trajectory, text = config.trajectory_tokens, config.text_tokens
        span = trajectory.traj_token_start_idx, trajectory.traj_token_end_idx
        end = special_token_id(config, "traj_future_start")
        batch, slots = x["input_ids"].shape[0], jnp.arange(limit)
        layers, _, heads, _, size = x["prefix_k"].shape
        empty = jnp.zeros((layers, batch, 1, heads, limit, size), x["prefix_k"].dtype)

        def choose(logits: Array, index: Array, end_index: Array, stopped: Array):
            token = jnp.argmax(filters.mask_range(logits, *span), axis=-1).astype(jnp.int32)
            over = end_index >= 0
            token = jnp.where((index >= limit - 1) | stopped, end, token)
            token = jnp.where(over, text.pad_token_id, token)
            end_index = jnp.where((token == end) & ~over, index, end_index)
            return token, end_index, (token == text.eos_token_id) & ~over

        def running(state):
            step, _, _, end_index, _, _ = state
            done = (end_index >= 0) & (end_index < step)
            return (step < limit) & ~done.all()

        def body(state):
            step, ids, token, end_index, stopped, cache = state
            ids = jnp.where(slots == step, token[:, None], ids)
            position = x["input_ids"].shape[-1] + step + x["rope_delta"]
            out = self.decode_step(
                params,
                {
                    **x, "token_ids": token[:, None], "step": step,
                    "position_ids": jnp.broadcast_to(position[:, None, None], (3, batch, 1, 1)),
                    "cache_k": cache.k, "cache_v": cache.v,
                },
            )  # fmt: skip
            drawn = choose(out["logits"][:, 0], step + 1, end_index, stopped)
            cache = KVCache(k=out["next_cache_k"], v=out["next_cache_v"])
            return step + 1, ids, *drawn, cache

        none = jnp.full((batch,), -1, jnp.int32)
        drawn = choose(logits, jnp.int32(0), none, none >= 0)
        ids = jnp.full((batch, limit), text.pad_token_id, jnp.int32)
        start = (jnp.int32(0), ids, *drawn, KVCache(k=empty, v=empty))
        _, ids, _, end_index, _, cache = jax.lax.while_loop(running, body, start)
        return ids, end_index, cache

    def _context(self, x: Inputs, cache_mask: Array) -> Context:
        prompt = x["attention_mask"][:, None, None, :]
        return [(_cache(x, "prefix"), prompt), (_cache(x, "cache"), cache_mask)]

    def _written(self, old: Array, new: Array, step: Array) -> Array:
        """Cache `old` [..., N, H] with `new` [..., 1, H] in slot `step`."""
        if not self.unroll:
            return jax.lax.dynamic_update_slice_in_dim(old, new, step, axis=-2)
        return jnp.where((jnp.arange(self.new_tokens) == step)[:, None], new, old)

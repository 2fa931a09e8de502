"""The same policy in PyTorch: Qwen3-VL of transformers, and an expert of our own.

For comparison only; torch and transformers are imported when they are used. It does what a careful
user of PyTorch does, and no less: inference mode, the attention of
`scaled_dot_product_attention`, logits of the last token alone, rotary tables made once for all flow
steps, and keys and values of the prefix written once into buffers that every flow step reads.
Several samples are had in either of two ways, see `TorchPolicy.prefill`.
"""

import dataclasses
from typing import Any

import numpy as np

from alpamayo_jax.action.unicycle import constants
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert.buffers import fourier_frequencies
from alpamayo_jax.convert.table import flatten, parameters
from alpamayo_jax.testing.torch_twin import backbone
from alpamayo_jax.types import ModelInputs


@dataclasses.dataclass
class TorchPrefix:
    """A prompt read K times or once.

    Attributes:
      cache: `transformers.DynamicCache` of R rows, one per reading.
      last_hidden: [R, D].
    """

    cache: Any
    last_hidden: Any


class TorchPolicy:
    """One observation, from pixels to trajectories. Float32, or bfloat16 weights on a GPU.

    Args:
      config: model; its compressor is "per_image".
      params: our parameters.
      inputs: one row without padding, images of one size.
      ids: int [1, T], with history ids in place of placeholders.
      device: of torch.
      dtype: of weights and products, "float32" or "bfloat16".
    """

    def __init__(
        self,
        config: ModelConfig,
        params: dict,
        inputs: ModelInputs,
        ids: np.ndarray,
        *,
        device: str = "cpu",
        dtype: str = "float32",
    ):
        import torch

        self.torch, self.config, self.device = torch, config, device
        self.dtype = getattr(torch, dtype)
        self.backbone = backbone(config, params).eval().to(device, self.dtype)
        leaves, self.weights = flatten(params), {}
        for row in parameters(config):
            if row.path[0] == "vlm":
                continue
            value = np.asarray(leaves[row.path], np.float32)
            for name, index in row.tensors():
                part = row.to_hf(value if index is None else value[index])
                self.weights[name] = self._tensor(np.array(part)).to(self.dtype)
        grid = np.asarray(inputs.image_grid).reshape(-1, 2)
        pixels = np.asarray(inputs.pixel_values).reshape(len(grid), -1, config.vision.patch_dim)
        flat = np.concatenate([p[: h * w] for p, (h, w) in zip(pixels, grid)])
        self.pixels = self._tensor(flat).to(self.dtype)
        self.grid = self._tensor(np.insert(grid[grid.prod(-1) > 0], 0, 1, axis=1)).long()
        self.ids = self._tensor(np.asarray(ids)).long()
        self.positions = self._tensor(np.asarray(inputs.position_ids)).long()
        self.rope_delta = int(np.asarray(inputs.rope_delta)[0])
        self.history_xyz = self._tensor(np.asarray(inputs.ego_history_xyz))
        self.history_rot = self._tensor(np.asarray(inputs.ego_history_rot))

    def _tensor(self, array: np.ndarray) -> Any:
        return self.torch.tensor(array).to(self.device)

    def wait(self) -> None:
        """Returns when the device has done everything asked for."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def vision(self, rows: int = 1) -> Any:
        """Image tokens and deepstack features of the images, `rows` times over."""
        with self.torch.inference_mode():
            return self.backbone.model.get_image_features(
                self.pixels.repeat(rows, 1), self.grid.repeat(rows, 1), return_dict=True
            )

    def prefill(self, features: Any = None, rows: int = 1) -> TorchPrefix:
        """Reads the prompt.

        Args:
          features: of `vision` with as many rows; None encodes the images too.
          rows: how often. The release repeats its inputs before it reads them
            (`num_return_sequences`), so images and prompt are read once per sample; with 1 and
            `decode(samples=K)` they are read once.
        """
        with self.torch.inference_mode():
            seen = self.vision(rows) if features is None else features
            out = self.backbone.model(
                input_ids=self.ids.expand(rows, -1),
                position_ids=self.positions.expand(-1, rows, -1),
                mm_encoder_outputs={"image": seen},
                use_cache=True,
            )
            return TorchPrefix(out.past_key_values, out.last_hidden_state[:, -1])

    def decode(
        self,
        prefix: TorchPrefix,
        samples: int,
        given: np.ndarray,
        *,
        temperature: float = 0.6,
        top_p: float = 0.98,
    ) -> tuple[Any, Any]:
        """Draws token after token of every sample; then goes on with given ones instead.

        So both sides of a comparison say the same. `prefix` is used up: its cache grows.

        Args:
          prefix: of one row, which all samples share from here on, or of one row per sample.
          samples: K.
          given: int [K, N].
          temperature: of the draws; 0 takes the most likely token.
          top_p: nucleus.

        Returns:
          What was drawn, int [K, N], and the cache of prompt and given tokens.
        """
        torch, language = self.torch, self.backbone.model.language_model
        cache, hidden = prefix.cache, prefix.last_hidden
        given = self._tensor(np.asarray(given)).long()
        drawn = []
        with torch.inference_mode():
            if hidden.shape[0] != samples:
                cache.batch_repeat_interleave(samples)
                hidden = hidden.expand(samples, -1)
            start = cache.get_seq_length()
            for index in range(given.shape[1]):
                drawn.append(self._draw(hidden, temperature, top_p))
                position = torch.full((3, samples, 1), start + index + self.rope_delta)
                out = language(
                    input_ids=given[:, index : index + 1],
                    position_ids=position.to(self.device),
                    past_key_values=cache,
                    use_cache=True,
                )
                hidden = out.last_hidden_state[:, -1]
        return torch.stack(drawn, 1), cache

    def _draw(self, hidden: Any, temperature: float, top_p: float) -> Any:
        torch, ids = self.torch, self.config.trajectory_tokens
        logits = self.backbone.lm_head(hidden).float()
        logits[:, ids.traj_token_start_idx : ids.traj_token_end_idx] = -torch.inf
        if temperature == 0:
            return logits.argmax(-1)
        ascending, order = torch.sort(logits / temperature)
        gone = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
        gone[:, -1] = False
        probabilities = ascending.masked_fill(gone, -torch.inf).softmax(-1)
        return order.gather(-1, torch.multinomial(probabilities, 1))[:, 0]

    def flow(self, cache: Any, end_index: np.ndarray, noise: np.ndarray, steps: int) -> Any:
        """Integrates the flow in Euler steps.

        Args:
          cache: of `decode`.
          end_index: int [K], which of the given tokens is the last that the expert sees; -1 where
            it sees all of them.
          noise: float32 [K, W, 2].
          steps: how many.

        Returns:
          Normalised actions, float32 [K, W, 2].
        """
        torch, c = self.torch, self.config
        end_index = np.asarray(end_index)
        with torch.inference_mode():
            x = self._tensor(np.asarray(noise, np.float32))
            samples, waypoints, _ = x.shape
            length, prompt = cache.get_seq_length(), self.ids.shape[1]
            seen = np.where(end_index >= 0, prompt + end_index + 1, length)
            slots = np.arange(length + waypoints)
            hidden_from = (slots >= seen[:, None]) & (slots < length)
            mask = None
            if hidden_from.any():
                bias = np.where(hidden_from, np.finfo(np.float32).min, 0).astype(np.float32)
                mask = self._tensor(bias).to(self.dtype)[:, None, None]
                mask = mask.expand(-1, 1, waypoints, -1)
            positions = seen[:, None] + self.rope_delta + np.arange(waypoints)
            rope = self._rope(positions)
            buffers = [self._buffers(layer, length, waypoints) for layer in cache.layers]
            grid = np.linspace(0.0, 1.0, steps + 1, dtype=np.float32)
            for t, dt in zip(grid[:-1], np.diff(grid)):
                y = self._project(x, float(t))
                for index in range(c.language.num_layers):
                    y = self._layer(f"expert.layers.{index}.", y, rope, buffers[index], mask)
                y = self._rms(y, "expert.norm", c.language.rms_norm_eps)
                x = x + float(dt) * self._linear(y, "action_out_proj").float()
            return x

    def trajectory(self, actions: Any) -> tuple[Any, Any]:
        """Poses of normalised actions [K, W, 2]: positions [K, W, 3], rotations [K, W, 3, 3]."""
        torch, c = self.torch, self.config.action
        with torch.inference_mode():
            mean, std = (
                self._tensor(a) for a in constants(c, self.config.precision.bf16_buffers)
            )
            accel, kappa = (actions * std + mean).unbind(-1)
            v0 = self._speed().expand(actions.shape[0], 1)
            v = torch.cat([v0, v0 + (accel * c.dt).cumsum(-1)], -1)
            turn = kappa * (v[:, :-1] * c.dt + accel * (c.dt**2 / 2))
            theta = torch.cat([torch.zeros_like(v0), turn.cumsum(-1)], -1)
            velocity = v[..., None] * torch.stack([theta.cos(), theta.sin()], -1)
            xy = ((velocity[:, :-1] + velocity[:, 1:]) * (c.dt / 2)).cumsum(1)
            z = self.history_xyz[:, -1:, 2:].expand(*xy.shape[:2], 1)
            cos, sin = theta[:, 1:].cos(), theta[:, 1:].sin()
            zero, one = torch.zeros_like(cos), torch.ones_like(cos)
            rot = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1)
            return torch.cat([xy, z], -1), rot.unflatten(-1, (3, 3))

    def _speed(self) -> Any:
        """Smoothed speed at t0 by one dense least-squares solve, float32 [1, 1]."""
        torch, c = self.torch, self.config.action
        yaw = torch.atan2(self.history_rot[0, :, 1, 0], self.history_rot[0, :, 0, 0])
        turns = yaw.diff()
        turns = torch.atan2(turns.sin(), turns.cos())
        yaw = torch.cat([yaw[:1], yaw[0] + turns.cumsum(0)])
        heading = torch.stack([yaw.cos(), yaw.sin()], -1).double()
        steps = self.history_xyz[0, :, :2].double().diff(dim=0) * (2 / c.dt)
        n = len(yaw)
        rows = torch.zeros(n - 1, 2, n, dtype=torch.float64, device=self.device)
        at = torch.arange(n - 1, device=self.device)
        rows[at, :, at], rows[at, :, at + 1] = heading[:-1], heading[1:]
        rows = rows.flatten(0, 1)
        third = np.diff(np.eye(n), 3, axis=0) / c.dt**3
        smooth = torch.tensor(c.v_lambda * third.T @ third).to(self.device)
        normal = rows.T @ rows + smooth + c.v_ridge * torch.eye(n, device=self.device)
        speeds = torch.linalg.solve(normal, rows.T @ steps.flatten())
        return speeds[-1:, None].float()

    def _linear(self, x: Any, name: str) -> Any:
        w = self.weights
        return self.torch.nn.functional.linear(
            x.to(self.dtype), w[f"{name}.weight"], w.get(f"{name}.bias")
        )

    def _rms(self, x: Any, name: str, eps: float) -> Any:
        weight = self.weights[f"{name}.weight"]
        return self.torch.nn.functional.rms_norm(x, weight.shape, weight.to(x.dtype), eps)

    def _rope(self, positions: np.ndarray) -> tuple[Any, Any]:
        """Tables [K, 1, W, H]; waypoints have the same position on all three axes."""
        c = self.config.language
        exponents = np.arange(0, c.head_dim, 2, dtype=np.float32) / c.head_dim
        angle = positions[..., None].astype(np.float32) / np.float32(c.rope_theta) ** exponents
        angle = self._tensor(np.concatenate([angle, angle], -1).astype(np.float32))[:, None]
        return angle.cos().to(self.dtype), angle.sin().to(self.dtype)

    def _buffers(self, layer: Any, length: int, waypoints: int) -> tuple[Any, Any]:
        """Keys and values of a layer with room for the waypoints after them."""
        made = []
        for cached in (layer.keys, layer.values):
            buffer = cached.new_empty(*cached.shape[:2], length + waypoints, cached.shape[-1])
            buffer[:, :, :length] = cached
            made.append(buffer)
        return tuple(made)

    def _project(self, x: Any, t: float) -> Any:
        torch, c = self.torch, self.config.action_proj
        freqs = fourier_frequencies(c.max_freq, c.num_fourier_feats // 2)
        freqs = self._tensor(freqs)
        if self.config.precision.bf16_buffers:
            freqs = freqs.bfloat16().float()
        time = torch.full_like(x[..., :1], t)
        angle = torch.cat([x, time], -1)[..., None] * freqs * (2 * np.pi)
        y = torch.cat([angle.sin(), angle.cos()], -1).flatten(-2) * 2**0.5
        for index in range(c.num_enc_layers):
            y = self._linear(y, f"action_in_proj.encoder.trunk.{3 * index}")
            y = torch.nn.functional.silu(y)
            y = self._rms(y, f"action_in_proj.encoder.trunk.{3 * index + 2}", c.norm_eps)
        y = self._linear(y, f"action_in_proj.encoder.trunk.{3 * c.num_enc_layers}")
        scale, bias = (self.weights[f"action_in_proj.norm.{n}"] for n in ("weight", "bias"))
        return torch.nn.functional.layer_norm(
            y.float(), scale.shape, scale.float(), bias.float(), c.norm_eps
        )

    def _layer(self, name: str, x: Any, rope: tuple, buffers: tuple, mask: Any) -> Any:
        torch, c = self.torch, self.config.language
        attend = torch.nn.functional.scaled_dot_product_attention
        eps, size, (keys, values) = c.rms_norm_eps, x.shape[1], buffers
        normed = self._rms(x, f"{name}input_layernorm", eps)

        def heads(part):
            y = self._linear(normed, f"{name}self_attn.{part}_proj")
            return y.unflatten(-1, (-1, c.head_dim))

        q = self._rms(heads("q"), f"{name}self_attn.q_norm", eps).transpose(1, 2)
        k = self._rms(heads("k"), f"{name}self_attn.k_norm", eps).transpose(1, 2)
        keys[:, :, -size:] = _rotate(torch, k, *rope)
        values[:, :, -size:] = heads("v").transpose(1, 2)
        q = _rotate(torch, q, *rope)
        out = attend(q, keys, values, attn_mask=mask, scale=c.head_dim**-0.5, enable_gqa=True)
        x = x + self._linear(out.transpose(1, 2).flatten(-2), f"{name}self_attn.o_proj")
        normed = self._rms(x, f"{name}post_attention_layernorm", eps)
        gate = torch.nn.functional.silu(self._linear(normed, f"{name}mlp.gate_proj"))
        up = self._linear(normed, f"{name}mlp.up_proj")
        return x + self._linear(gate * up, f"{name}mlp.down_proj")


def _rotate(torch: Any, x: Any, cos: Any, sin: Any) -> Any:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin

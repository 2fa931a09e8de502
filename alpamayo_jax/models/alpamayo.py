"""The policy network: the only place where vision, language and action meet.

Every method is a pure function through `Alpamayo(config).apply({"params": params}, ...,
method=...)`. B batch, K samples, T tokens, W waypoints.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError, LanguageConfig, ModelConfig
from alpamayo_jax.kernels.attention import causal_range
from alpamayo_jax.layers.linear import Linear, matmul
from alpamayo_jax.layout import place
from alpamayo_jax.models.action_proj import ActionInProj
from alpamayo_jax.models.language import Context, LanguageModel, TextTower
from alpamayo_jax.models.scene import cameras_of, make_compressor
from alpamayo_jax.models.vision import VisionTower
from alpamayo_jax.ops.masks import causal_mask, prefix_mask_of_conversations
from alpamayo_jax.sharding import Layout
from alpamayo_jax.types import Array, KVCache, ModelInputs, SceneTokens


def expert_tower_config(config: ModelConfig) -> LanguageConfig:
    """The expert's tower: its own width, otherwise shaped to read the language model's cache."""
    return dataclasses.replace(
        config.language,
        hidden_size=config.expert.hidden_size,
        num_heads=config.expert.num_heads,
        intermediate_size=config.expert.intermediate_size,
    )


class VisionLanguageModel(nn.Module):
    """Qwen3-VL: vision tower, vision compressor, language model and output projection."""

    config: ModelConfig
    unroll: bool = False
    remat: str = "none"
    layout: Layout | None = None

    def setup(self):
        c = self.config
        kinds = dict(
            dtype=jnp.dtype(c.precision.compute), param_dtype=jnp.dtype(c.precision.params)
        )
        stack = dict(unroll=self.unroll, remat=self.remat, layout=self.layout)
        if c.kernels.wanted and self.layout is not None:
            raise ConfigError(
                f"kernels.implementation {c.kernels.implementation!r} runs on one device, but the "
                f"model is laid out over several; use 'xla'"
            )
        self.visual = VisionTower(c.vision, kernels=c.kernels, **kinds, **stack)
        self.scene = make_compressor(c, unroll=self.unroll, remat=self.remat, **kinds)
        self.language_model = LanguageModel(c.language, kernels=c.kernels, **kinds, **stack)
        if not c.language.tie_word_embeddings:
            self.lm_head = Linear(c.language.vocab_size, **kinds)

    def image_features(self, inputs: ModelInputs) -> tuple[Array, Array]:
        return self.visual(inputs.pixel_values, inputs.image_grid)

    def compress(self, features: tuple[Array, Array], inputs: ModelInputs) -> SceneTokens:
        return self._placed(self.scene(*features, cameras_of(inputs, self.config)))

    def triplane(self, features: tuple[Array, Array], inputs: ModelInputs):
        return self.scene.planes(features[0], cameras_of(inputs, self.config))

    def triplane_tokens(self, planes: tuple[Array, Array, Array], batch: int) -> SceneTokens:
        return self._placed(self.scene.tokens(planes, batch))

    def decode_points(self, planes: tuple[Array, Array, Array], points: Array):
        return self.scene.decode(planes, points)

    def _placed(self, scene: SceneTokens) -> SceneTokens:
        return SceneTokens(
            tokens=place(scene.tokens, self.layout, "batch", None, "act_embed"),
            deepstack=place(scene.deepstack, self.layout, None, "batch", None, "act_embed"),
        )

    def logits(self, hidden: Array, ids: slice | None = None) -> Array:
        if self.config.language.tie_word_embeddings:
            kernel = self.language_model.unembed_kernel()
            kernel = kernel if ids is None else kernel[:, ids]
            out = matmul(hidden, kernel, jnp.dtype(self.config.precision.compute))
        else:
            out = self.lm_head(hidden, ids)
        return out.astype(jnp.float32)


class Alpamayo(nn.Module):
    """Alpamayo 1 and 1.5: a vision-language model and a flow-matching action expert."""

    config: ModelConfig
    unroll: bool = False
    remat: str = "none"
    layout: Layout | None = None

    def setup(self):
        c = self.config
        kinds = dict(
            dtype=jnp.dtype(c.precision.compute), param_dtype=jnp.dtype(c.precision.params)
        )
        stack = dict(unroll=self.unroll, remat=self.remat, layout=self.layout)
        self.vlm = VisionLanguageModel(c, **stack)
        self.expert = TextTower(expert_tower_config(c), kernels=c.kernels, **kinds, **stack)
        self.action_in_proj = ActionInProj(
            c.action_proj,
            features=c.expert.hidden_size,
            bf16_buffers=c.precision.bf16_buffers,
            **kinds,
        )
        self.action_out_proj = Linear(2, use_bias=True, **kinds)

    def scene_tokens(self, inputs: ModelInputs) -> SceneTokens:
        """Images to the scene tokens of every row."""
        return self.vlm.compress(self.vlm.image_features(inputs), inputs)

    def image_features(self, inputs: ModelInputs) -> tuple[Array, Array]:
        """Images to image tokens [B, I, P, D] and deepstack [J, B, I, P, D]: each image alone."""
        return self.vlm.image_features(inputs)

    def compress(self, features: tuple[Array, Array], inputs: ModelInputs) -> SceneTokens:
        """`image_features` to scene tokens; the pixels of `inputs` are not read."""
        return self.vlm.compress(features, inputs)

    def triplane(
        self, features: tuple[Array, Array], inputs: ModelInputs
    ) -> tuple[Array, Array, Array]:
        """`image_features` to the planes of every time step, see `models.scene.triplane`."""
        return self.vlm.triplane(features, inputs)

    def triplane_tokens(self, planes: tuple[Array, Array, Array], batch: int) -> SceneTokens:
        """Planes of all time steps of `batch` rows to scene tokens."""
        return self.vlm.triplane_tokens(planes, batch)

    def decode_points(
        self, planes: tuple[Array, Array, Array], points: Array
    ) -> tuple[Array, Array]:
        """Density [R, N] and colour [R, N, 3] of points [R, N, 3] of the ego frame."""
        return self.vlm.decode_points(planes, points)

    def prefill(
        self,
        inputs: ModelInputs,
        input_ids: Array,
        scene: SceneTokens | None = None,
        context: Context = (),
    ) -> tuple[Array, KVCache]:
        """Runs the vision tower and the language model over whole prompts or conversations.

        Args:
          inputs: the batch; its own `input_ids` are not read.
          input_ids: int32 [B, T] with trajectory placeholders replaced.
          scene: scene tokens computed earlier, or None to compute them.
          context: caches of what stands before or between these tokens, with masks.

        Returns:
          Hidden states [B, T, D] and the cache [L, B, G, T, H].
        """
        scene = self.scene_tokens(inputs) if scene is None else scene
        x = self.vlm.language_model.embed(input_ids)
        at_image = (inputs.image_index >= 0)[..., None]
        index = jnp.maximum(inputs.image_index, 0)
        x = jnp.where(at_image, _gather(scene.tokens, index).astype(x.dtype), x)
        deepstack = None
        if scene.deepstack.shape[0]:
            none = jnp.zeros((), scene.deepstack.dtype)  # ONNX has no mix of bfloat16 and int
            deepstack = jnp.where(at_image, _gather(scene.deepstack, index), none)
        mask = causal_mask(inputs.attention_mask)
        if inputs.prefix is not None:
            mask = prefix_mask_of_conversations(inputs.prefix, inputs.attention_mask)
        elif self.config.kernels.wanted:
            mask = causal_range(inputs.attention_mask)
        return self.vlm.language_model(x, inputs.position_ids, mask, context, deepstack)

    def extend(
        self, input_ids: Array, position_ids: Array, mask: Array, context: Context
    ) -> tuple[Array, KVCache]:
        """Runs the language model over further text tokens of K samples per row.

        Args:
          input_ids: int32 [B, K, T].
          position_ids: int32 [3, B, K, T].
          mask: bool [..., T, T] among the new tokens.
          context: caches of what stands before them, with masks.

        Returns:
          Hidden states [B, K, T, D] and their cache [L, B, K, G, T, H].
        """
        x = self.vlm.language_model.embed(input_ids)
        return self.vlm.language_model(x, position_ids, mask, context)

    def logits(self, hidden: Array, ids: slice | None = None) -> Array:
        """Next-token logits, float32 [..., V], of hidden states [..., D]; or of `ids` alone."""
        return self.vlm.logits(hidden, ids)

    def velocity(self, x: Array, t: Array, position_ids: Array, context: Context) -> Array:
        """The flow's velocity field (equation 6 of the paper).

        All W waypoints see each other and everything in `context`.

        Args:
          x: float32 [..., W, 2] noisy normalised actions, "..." = (B,) or (B, K).
          t: float32 [...] flow time in [0, 1].
          position_ids: int32 [3, ..., W].
          context: the language model's caches, with masks.

        Returns:
          float32 [..., W, 2].
        """
        hidden, _ = self.expert(self.action_in_proj(x, t), position_ids, None, context)
        return self.action_out_proj(hidden).astype(jnp.float32)

    def __call__(self, inputs: ModelInputs, x: Array, t: Array) -> tuple[Array, Array]:
        """Touches every parameter once: logits [B, T, V] and the velocity at (x, t)."""
        hidden, cache = self.prefill(inputs, inputs.input_ids)
        batch, waypoints = x.shape[:2]
        position_ids = jnp.zeros((3, batch, waypoints), jnp.int32)
        mask = inputs.attention_mask[:, None, :]
        return self.logits(hidden), self.velocity(x, t, position_ids, [(cache, mask)])


def _gather(tokens: Array, index: Array) -> Array:
    """tokens [..., B, N, D] at index [B, T] -> [..., B, T, D]."""
    rows = jnp.arange(index.shape[0])[:, None]
    return tokens[..., rows, index, :]

"""The one place that knows the released parameter names.

Every row says: our path, the released name ("{}" stands for the layer index), our shape and logical
axes without the layer axis, and how the release lays the numbers out (PyTorch: linear weights are
[out, in], the patch embedding is a 3-D convolution, every layer has tensors of its own).
"""

import dataclasses
import functools
import math
from typing import Any, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import LanguageConfig, ModelConfig, VisionConfig
from alpamayo_jax.convert import compressors

Path = tuple[str, ...]
Axes = tuple[str | None, ...]

PLAIN = "plain"  # same numbers in the same order
TRANSPOSE = "transpose"  # kernel [in, out] <-> weight [out, in]
PATCHES = "patches"  # kernel [patch_dim, D] <-> weight [D, channels, time, height, width]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One leaf of the parameter tree and the released tensor(s) it is made of.

    Attributes:
      path: keys of the nested dict.
      hf_name: released name; "{}" is the layer index where there is one.
      shape: our shape without the layer axis.
      axes: logical axis name, or None, of every dimension of `shape`.
      hf_shape: shape of one released tensor.
      layout: PLAIN, TRANSPOSE or PATCHES.
      num_layers: length of the leading layer axis, or None.
    """

    path: Path
    hf_name: str
    shape: tuple[int, ...]
    axes: Axes
    hf_shape: tuple[int, ...]
    layout: str = PLAIN
    num_layers: int | None = None

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Our shape, layer axis included."""
        return self.shape if self.num_layers is None else (self.num_layers, *self.shape)

    @property
    def full_axes(self) -> Axes:
        """Logical axes of `full_shape`."""
        return self.axes if self.num_layers is None else ("layers", *self.axes)

    @property
    def size(self) -> int:
        return math.prod(self.full_shape)

    def tensors(self) -> list[tuple[str, int | None]]:
        """(released name, layer index or None) of every tensor of this leaf."""
        if self.num_layers is None:
            return [(self.hf_name, None)]
        return [(self.hf_name.format(i), i) for i in range(self.num_layers)]

    def from_hf(self, tensor: np.ndarray) -> np.ndarray:
        """A view of one released tensor [hf_shape] in our shape [shape]."""
        if self.layout == PLAIN:
            return tensor
        return tensor.reshape(tensor.shape[0], -1).T

    def to_hf(self, array: np.ndarray) -> np.ndarray:
        """A view of one layer [shape] in the released shape [hf_shape]."""
        return array if self.layout == PLAIN else array.T.reshape(self.hf_shape)


def _leaf(path: str, hf: str, shape, axes, **kwargs) -> Parameter:
    kwargs.setdefault("hf_shape", tuple(shape))
    return Parameter(tuple(path.split("/")), hf, tuple(shape), tuple(axes), **kwargs)


def _linear(path, hf, shape, axes, bias=False, **kwargs) -> Iterator[Parameter]:
    hf_shape = (shape[1], shape[0])
    yield _leaf(
        f"{path}/kernel", f"{hf}.weight", shape, axes, hf_shape=hf_shape, layout=TRANSPOSE, **kwargs
    )
    if bias:
        yield _leaf(f"{path}/bias", f"{hf}.bias", shape[1:], axes[1:], **kwargs)


def _norm(path, hf, size, bias=False, **kwargs) -> Iterator[Parameter]:
    yield _leaf(f"{path}/scale", f"{hf}.weight", (size,), (None,), **kwargs)
    if bias:
        yield _leaf(f"{path}/bias", f"{hf}.bias", (size,), (None,), **kwargs)


def _merger(path, hf, vision: VisionConfig, norm_size: int, **kwargs) -> Iterator[Parameter]:
    merged, out = vision.merge_unit * vision.hidden_size, vision.out_hidden_size
    yield from _norm(f"{path}/norm", f"{hf}.norm", norm_size, bias=True, **kwargs)
    yield from _linear(
        f"{path}/linear_fc1",
        f"{hf}.linear_fc1",
        (merged, merged),
        ("vision_embed", "vision_mlp"),
        bias=True,
        **kwargs,
    )
    yield from _linear(
        f"{path}/linear_fc2",
        f"{hf}.linear_fc2",
        (merged, out),
        ("vision_mlp", "embed"),
        bias=True,
        **kwargs,
    )


def _vision(v: VisionConfig) -> Iterator[Parameter]:
    path, hf, d, f = "vlm/visual", "vlm.model.visual", v.hidden_size, v.intermediate_size
    patch = (v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size)
    yield _leaf(
        f"{path}/patch_embed/kernel",
        f"{hf}.patch_embed.proj.weight",
        (v.patch_dim, d),
        (None, "vision_embed"),
        hf_shape=(d, *patch),
        layout=PATCHES,
    )
    yield _leaf(f"{path}/patch_embed/bias", f"{hf}.patch_embed.proj.bias", (d,), ("vision_embed",))
    yield _leaf(
        f"{path}/pos_embed/embedding",
        f"{hf}.pos_embed.weight",
        (v.num_position_embeddings, d),
        (None, "vision_embed"),
    )
    layers = dict(num_layers=v.depth)
    path, hf = f"{path}/blocks", f"{hf}.blocks.{{}}"
    for norm in ("norm1", "norm2"):
        yield from _norm(f"{path}/{norm}", f"{hf}.{norm}", d, bias=True, **layers)
    for name, shape, axes in (
        # The three projections share one dimension, which does not split over heads.
        ("attn/qkv", (d, 3 * d), ("vision_embed", None)),
        ("attn/proj", (d, d), ("vision_heads", "vision_embed")),
        ("mlp/linear_fc1", (d, f), ("vision_embed", "vision_mlp")),
        ("mlp/linear_fc2", (f, d), ("vision_mlp", "vision_embed")),
    ):
        yield from _linear(
            f"{path}/{name}", f"{hf}.{name.replace('/', '.')}", shape, axes, bias=True, **layers
        )
    yield from _merger("vlm/visual/merger", "vlm.model.visual.merger", v, d)
    if v.deepstack_visual_indexes:
        yield from _merger(
            "vlm/visual/deepstack_merger_list",
            "vlm.model.visual.deepstack_merger_list.{}",
            v,
            v.merge_unit * d,
            num_layers=len(v.deepstack_visual_indexes),
        )


def _tower(path: str, hf: str, c: LanguageConfig) -> Iterator[Parameter]:
    d, f = c.hidden_size, c.intermediate_size
    q, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    layers = dict(num_layers=c.num_layers)
    lp, lh = f"{path}/layers", f"{hf}.layers.{{}}"
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield from _norm(f"{lp}/{norm}", f"{lh}.{norm}", d, **layers)
    for norm in ("q_norm", "k_norm"):
        yield from _norm(f"{lp}/self_attn/{norm}", f"{lh}.self_attn.{norm}", c.head_dim, **layers)
    for name, shape, axes in (
        ("self_attn/q_proj", (d, q), ("embed", "heads")),
        ("self_attn/k_proj", (d, kv), ("embed", "kv_heads")),
        ("self_attn/v_proj", (d, kv), ("embed", "kv_heads")),
        ("self_attn/o_proj", (q, d), ("heads", "embed")),
        ("mlp/gate_proj", (d, f), ("embed", "mlp")),
        ("mlp/up_proj", (d, f), ("embed", "mlp")),
        ("mlp/down_proj", (f, d), ("mlp", "embed")),
    ):
        yield from _linear(f"{lp}/{name}", f"{lh}.{name.replace('/', '.')}", shape, axes, **layers)
    yield from _norm(f"{path}/norm", f"{hf}.norm", d)


def _action(config: ModelConfig) -> Iterator[Parameter]:
    c, d, num_actions = config.action_proj, config.expert.hidden_size, 2
    features = (num_actions + 1) * 2 * (c.num_fourier_feats // 2)
    path, hf = "action_in_proj/encoder/trunk_", "action_in_proj.encoder.trunk."
    for i in range(c.num_enc_layers):
        shape = (features if i == 0 else c.hidden_size, c.hidden_size)
        yield from _linear(f"{path}{3 * i}", f"{hf}{3 * i}", shape, (None, None), bias=True)
        yield from _norm(f"{path}{3 * i + 2}", f"{hf}{3 * i + 2}", c.hidden_size)
    last = 3 * c.num_enc_layers
    yield from _linear(
        f"{path}{last}", f"{hf}{last}", (c.hidden_size, d), (None, "embed"), bias=True
    )
    yield from _norm("action_in_proj/norm", "action_in_proj.norm", d, bias=True)
    yield from _linear(
        "action_out_proj", "action_out_proj", (d, num_actions), ("embed", None), bias=True
    )


def _compressor(config: ModelConfig) -> Iterator[Parameter]:
    """The vision compressor's, which no release has: names are the paths, layouts PyTorch's."""
    for path, shape, axes, num_layers in compressors.leaves(config):
        names = path.split("/")
        kernel = names[-1] == "kernel"
        suffix = {"kernel": "weight", "scale": "weight"}.get(names[-1], names[-1])
        first = ["vlm", "scene", *names[:-1]]
        if num_layers is not None:
            first.insert(3, "{}")
        yield _leaf(
            f"vlm/scene/{path}",
            ".".join((*first, suffix)),
            shape,
            axes,
            hf_shape=shape[::-1] if kernel else shape,
            layout=TRANSPOSE if kernel else PLAIN,
            num_layers=num_layers,
        )


@functools.lru_cache(maxsize=32)
def parameters(config: ModelConfig) -> tuple[Parameter, ...]:
    """Every leaf of the parameter tree of `config`."""
    language = config.language
    vocab, d = language.vocab_size, language.hidden_size
    expert = dataclasses.replace(
        language,
        hidden_size=config.expert.hidden_size,
        num_heads=config.expert.num_heads,
        intermediate_size=config.expert.intermediate_size,
    )
    text = "vlm/language_model", "vlm.model.language_model"
    rows = [
        *_vision(config.vision),
        _leaf(
            f"{text[0]}/embed_tokens/embedding",
            f"{text[1]}.embed_tokens.weight",
            (vocab, d),
            ("vocab", "embed"),
        ),
        *_tower(*text, language),
    ]
    rows += _compressor(config)
    if not language.tie_word_embeddings:
        rows += _linear("vlm/lm_head", "vlm.lm_head", (d, vocab), ("embed", "vocab"))
    rows += _tower("expert", "expert", expert)
    rows += _action(config)
    return tuple(rows)


def hf_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Released name -> released shape of every parameter (buffers are not parameters)."""
    return {name: row.hf_shape for row in parameters(config) for name, _ in row.tensors()}


def parameter_count(config: ModelConfig) -> int:
    """How many numbers the parameters are."""
    return sum(row.size for row in parameters(config))


def param_shapes(config: ModelConfig, dtype: Any = None) -> dict:
    """Parameter tree of `jax.ShapeDtypeStruct`; `dtype` defaults to `precision.params`."""
    dtype = jnp.dtype(config.precision.params if dtype is None else dtype)
    return nest({r.path: jax.ShapeDtypeStruct(r.full_shape, dtype) for r in parameters(config)})


def logical_axes(config: ModelConfig) -> dict:
    """Parameter tree of tuples: the logical axis name, or None, of every dimension."""
    return nest({row.path: row.full_axes for row in parameters(config)})


def nest(leaves: Mapping[Path, Any]) -> dict:
    """{("a", "b"): x} -> {"a": {"b": x}}."""
    tree: dict = {}
    for path, leaf in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree


def flatten(tree: Mapping, prefix: Path = ()) -> dict[Path, Any]:
    """Inverse of `nest`; anything that is not a mapping is a leaf."""
    flat = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping)
        flat.update(flatten(value, (*prefix, key)) if nested else {(*prefix, key): value})
    return flat

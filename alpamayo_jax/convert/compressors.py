"""Parameters of the vision compressors: path below `vlm/scene`, shape, logical axes, layers."""

from typing import Iterator

from alpamayo_jax.config import FlexConfig, ModelConfig, TriplaneConfig

Leaf = tuple[str, tuple[int, ...], tuple[str | None, ...], int | None]
_TIME_FEATURES = 256  # sinusoids of a time in Flex


def leaves(config: ModelConfig) -> Iterator[Leaf]:
    """(path, shape without the layer axis, its logical axes, number of layers or None) of each."""
    width = config.language.hidden_size
    if config.vision.compressor == "flex":
        yield from _flex(config.scene.flex, width)
    elif config.vision.compressor == "triplane":
        yield from _triplane(config.scene.triplane, width)


def _linear(path, shape, axes, layers=None) -> Iterator[Leaf]:
    yield f"{path}/kernel", shape, axes, layers
    yield f"{path}/bias", shape[1:], axes[1:], layers


def _norm(path, size, layers=None) -> Iterator[Leaf]:
    for name in ("scale", "bias"):
        yield f"{path}/{name}", (size,), (None,), layers


def _mlp(path, sizes, axes, layers=None) -> Iterator[Leaf]:
    first, inner, last = sizes
    yield from _linear(f"{path}/linear_fc1", (first, inner), (axes[0], "vision_mlp"), layers)
    yield from _linear(f"{path}/linear_fc2", (inner, last), ("vision_mlp", axes[1]), layers)


_OWN = "vision_embed", "vision_embed"


def _flex(c: FlexConfig, width: int) -> Iterator[Leaf]:
    d, layers = c.hidden_size, c.depth
    yield "scene_tokens", (c.num_tokens, d), (None, "vision_embed"), None
    yield "camera_embed", (c.max_cameras, d), (None, "vision_embed"), None
    yield from _mlp("image_mlp", (width, 2 * d, d), ("embed", "vision_embed"))
    yield from _mlp("time_mlp", (_TIME_FEATURES, d, d), (None, "vision_embed"))
    for name in ("norm1", "norm2"):
        yield from _norm(f"blocks/{name}", d, layers)
    yield from _linear("blocks/attn/qkv", (d, 3 * d), ("vision_embed", None), layers)
    yield from _linear("blocks/attn/proj", (d, d), ("vision_heads", "vision_embed"), layers)
    yield from _mlp("blocks/mlp", (d, c.intermediate_size, d), _OWN, layers)
    yield from _norm("norm", d)
    yield from _linear("out_proj", (d, width), (None, "embed"))


def _triplane(c: TriplaneConfig, width: int) -> Iterator[Leaf]:
    d, points = c.hidden_size, c.num_heads * c.num_points
    yield from _linear("feature_proj", (width, d), ("embed", None))
    yield from _norm("feature_norm", d)
    yield from _linear("query_proj", (d, d), (None, "vision_embed"))
    layers = c.image_layers
    for name in ("norm1", "norm2"):
        yield from _norm(f"image_layers/{name}", d, layers)
    for name, size in (("offset_proj", 2 * points), ("weight_proj", points)):
        yield from _linear(f"image_layers/{name}", (d, size), ("vision_embed", None), layers)
    for name in ("value_proj", "out_proj"):
        yield from _linear(f"image_layers/{name}", (d, d), (None, "vision_embed"), layers)
    yield from _mlp("image_layers/mlp", (d, c.intermediate_size, d), _OWN, layers)
    layers = c.cross_layers
    for name in ("norm1", "norm_found", "norm2"):
        yield from _norm(f"cross_layers/{name}", d, layers)
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from _linear(f"cross_layers/{name}", (d, d), ("vision_embed", "vision_heads"), layers)
    yield from _linear("cross_layers/out_proj", (d, d), ("vision_heads", "vision_embed"), layers)
    yield from _mlp("cross_layers/mlp", (d, c.intermediate_size, d), _OWN, layers)
    sides = dict(zip("xyz", c.patch))
    for plane in ("xy", "xz", "yz"):
        size = sides[plane[0]], sides[plane[1]], d
        yield f"patch_{plane}", size, (None, None, "vision_embed"), None
        yield from _norm(f"norm_{plane}", d)
        yield from _mlp(f"mlp_{plane}", (d, c.token_mlp_size, width), ("vision_embed", "embed"))
        yield from _linear(f"decoder/proj_{plane}", (d, c.render_size), ("vision_embed", None))
    yield from _mlp("decoder/mlp", (c.render_size, c.render_hidden_size, 4), (None, None))

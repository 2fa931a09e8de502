"""Which linear layers compute in a narrow format, and in which."""

import dataclasses
import re
from typing import Any, Mapping

from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert.table import flatten
from alpamayo_jax.ops.number_formats import BLOCK, Quantised, check_format

# What the release's recipe leaves in bf16: the first and last layers of each tower, whose inputs or
# outputs are numbers that mean something. Vision compressors are not in the release; they stay too.
KEPT = (
    "vlm/visual/patch_embed",
    "vlm/scene/.*",
    "vlm/lm_head",
    "action_in_proj/encoder/trunk_0",
    "action_out_proj",
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is rounded to what.

    Attributes:
      format: of the weights, one of `ops.number_formats.FORMATS`.
      activations: whether the inputs of quantised layers are rounded to the same format, with one
        calibrated scale per layer.
      per_channel: int8, fp8: one scale per output channel of a kernel, else one per kernel.
      percentile: of a layer's calibrated inputs that its scale covers; 100 covers the largest.
      keep: patterns of whole layer paths, such as "vlm/lm_head", that are not quantised.
    """

    format: str
    activations: bool = False
    per_channel: bool = True
    percentile: float = 100.0
    keep: tuple[str, ...] = KEPT

    def __post_init__(self):
        check_format(self.format)
        if self.format == "nvfp4" and self.activations:
            raise ConfigError(
                "nvfp4 is for weights alone; use fp8 or int8 to quantise activations too"
            )
        if not 50.0 < self.percentile <= 100.0:
            raise ConfigError(f"percentile {self.percentile} must be in (50, 100]")

    @property
    def axis(self) -> int | tuple[int, int]:
        """What one scale of a kernel [..., in, out] covers, as `number_formats.quantise` takes it."""
        return -2 if self.per_channel or self.format == "nvfp4" else (-2, -1)

    def takes(self, path: str, inputs: int) -> bool:
        """Whether the linear layer at `path` is quantised; `inputs` is how many it reads.

        Layers whose inputs do not come in blocks of 16 stay as they are under nvfp4.
        """
        kept = any(re.fullmatch(pattern, path) for pattern in self.keep)
        return not kept and not (self.format == "nvfp4" and inputs % BLOCK)


RECIPES: Mapping[str, Recipe] = {
    "fp8": Recipe("fp8", activations=True),
    "int8": Recipe("int8", activations=True),
    "nvfp4": Recipe("nvfp4"),
    "fp8_weights": Recipe("fp8"),
    "int8_weights": Recipe("int8"),
}


def make_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of a name of `RECIPES`, with changed fields.

    Raises:
      ConfigError: an unknown name or a bad field.
    """
    if name not in RECIPES:
        raise ConfigError(f"quantisation {name!r} is unknown; known: {', '.join(RECIPES)}")
    return dataclasses.replace(RECIPES[name], **changes)


def linear_layers(params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Path of every linear layer, such as "vlm/language_model/layers/self_attn/q_proj" -> the shape
    of its kernel, [in, out] or [L, in, out]."""
    flat = flatten(params)
    return {"/".join(path[:-1]): leaf.shape for path, leaf in flat.items() if path[-1] == "kernel"}


def chosen_layers(params: Mapping[str, Any], recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """The linear layers that a recipe quantises, as `linear_layers` gives them.

    Raises:
      ConfigError: parameters that are quantised already.
    """
    flat = flatten(params)
    already = ["/".join(path) for path, leaf in flat.items() if isinstance(leaf, Quantised)]
    if already:
        raise ConfigError(f"{already[0]} is quantised already; quantise the parameters as trained")
    layers = linear_layers(params).items()
    return {path: shape for path, shape in layers if recipe.takes(path, shape[-2])}

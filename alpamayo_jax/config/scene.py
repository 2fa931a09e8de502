"""Sizes of the vision compressors."""

import dataclasses

from alpamayo_jax.config.building import ConfigError

COMPRESSORS = ("per_image", "triplane", "flex")


@dataclasses.dataclass(frozen=True)
class TriplaneConfig:
    """Triplane tokens (paper, equation 4; arXiv 2506.12251) at the paper's size.

    Grid, patches, width, heads and points are the paper's or give its token counts. The number of
    layers, the widths of the MLPs and the metres of the grid are not published: here they are
    chosen, so that the whole adds the paper's 6.3M parameters to its 0.5B policy.

    Attributes:
      hidden_size, num_heads, intermediate_size: of the lifting layers.
      num_points: sampling points per head, image and cell.
      image_layers: deformable layers of a cell in each image, before the images meet.
      cross_layers: attention layers of a cell over the images that see it.
      token_mlp_size: inner width of the MLP that makes tokens of a plane's patches.
      grid: cells in x, y and z.
      patch: cells of a token in x, y and z.
      half_plane: keep only the cells in front of the rear axle, the upper half of x.
      range_xy, inner_xy, inner_cells_xy: metres from the ego to the rim and to the end of the finer
        inner part, and how many of the cells in x and in y are inside.
      range_z, inner_top_z, inner_cells_z: metres of floor and ceiling, the end of the finer lower
        part, and how many cells are in it.
      render_size, render_hidden_size, render_points: features, MLP width and points per ray of the
        decoder of self-supervised pretraining.
    """

    hidden_size: int = 192
    num_heads: int = 6
    intermediate_size: int = 384
    num_points: int = 4
    image_layers: int = 2
    cross_layers: int = 2
    token_mlp_size: int = 1536
    grid: tuple[int, int, int] = (96, 96, 48)
    patch: tuple[int, int, int] = (8, 8, 8)
    half_plane: bool = False
    range_xy: float = 180.0
    inner_xy: float = 60.0
    inner_cells_xy: int = 64
    range_z: tuple[float, float] = (-3.0, 45.0)
    inner_top_z: float = 15.0
    inner_cells_z: int = 36
    layer_norm_eps: float = 1e-6
    render_size: int = 32
    render_hidden_size: int = 64
    render_points: int = 96

    @property
    def size(self) -> tuple[int, int, int]:
        """Cells in x, y and z that are kept."""
        x, y, z = self.grid
        return (x // 2 if self.half_plane else x), y, z

    @property
    def plane_grids(self) -> tuple[tuple[int, int], ...]:
        """Tokens along the two axes of the planes xy, xz and yz."""
        x, y, z = (s // p for s, p in zip(self.size, self.patch))
        return (x, y), (x, z), (y, z)

    def __post_init__(self):
        uneven = [s % p for s, p in zip(self.size, self.patch)]
        if any(uneven) or self.grid[0] % 2 or min(self.patch) < 1:
            raise ConfigError(
                f"scene.triplane.patch {self.patch} does not divide the {self.size} cells"
            )
        if self.hidden_size % self.num_heads or self.hidden_size % 6:
            raise ConfigError(
                f"scene.triplane.hidden_size {self.hidden_size} must be a multiple of 6 and of "
                f"num_heads {self.num_heads}"
            )
        low, high = self.range_z
        inner = self.inner_cells_xy
        if (
            not 0 < self.inner_xy < self.range_xy
            or not low < self.inner_top_z < high
            or not 0 < self.inner_cells_z < self.grid[2]
            or any(not 0 < inner < cells or (cells - inner) % 2 for cells in self.grid[:2])
        ):
            raise ConfigError(
                f"scene.triplane: the inner part (+-{self.inner_xy} m in {inner} cells, up to "
                f"{self.inner_top_z} m in {self.inner_cells_z}) must lie inside the range "
                f"(+-{self.range_xy} m, {self.range_z}) and leave an even rest of cells"
            )


@dataclasses.dataclass(frozen=True)
class FlexConfig:
    """Flex tokens (arXiv 2512.10947) at the paper's size.

    Depth, K = tokens_per_step x num_steps = 900 (50 per image of two cameras) and the full attention
    are the paper's; the width follows from its 61.6M parameters, the rest is chosen.

    Attributes:
      depth, hidden_size, num_heads, intermediate_size: of the encoder.
      tokens_per_step: scene tokens of one time step, whatever the number of cameras.
      num_steps: most time steps of an observation.
      max_cameras: camera indices that have an embedding.
      prefix: attention over time in the encoder is causal by steps, so that every prefix of the
        steps can be supervised (interleaved prediction); otherwise it is full.
    """

    depth: int = 8
    hidden_size: int = 768
    num_heads: int = 12
    intermediate_size: int = 3072
    tokens_per_step: int = 100
    num_steps: int = 9
    max_cameras: int = 7
    prefix: bool = False
    layer_norm_eps: float = 1e-6

    @property
    def num_tokens(self) -> int:
        """K, learnable scene tokens."""
        return self.tokens_per_step * self.num_steps

    def __post_init__(self):
        if self.hidden_size % self.num_heads or self.hidden_size % 2:
            raise ConfigError(
                f"scene.flex.hidden_size {self.hidden_size} must be even and a multiple of "
                f"num_heads {self.num_heads}"
            )
        if min(self.tokens_per_step, self.num_steps, self.max_cameras, self.depth) < 1:
            raise ConfigError(f"scene.flex: sizes must be at least 1, got {self}")


@dataclasses.dataclass(frozen=True)
class SceneConfig:
    """Sizes of the vision compressors; `VisionConfig.compressor` chooses one of them.

    `num_cameras` and `image_size` (height, width) are the rig that budgets of the per-image baseline
    are stated for; nothing else depends on them.
    """

    triplane: TriplaneConfig = TriplaneConfig()
    flex: FlexConfig = FlexConfig()
    num_cameras: int = 4
    image_size: tuple[int, int] = (1080, 1920)

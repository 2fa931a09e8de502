"""The model: sizes of its towers, its tokens, its prompt, its number formats."""

import dataclasses
from typing import Any, Mapping

from alpamayo_jax.config.building import ConfigError, build
from alpamayo_jax.config.scene import COMPRESSORS, SceneConfig

IMPLEMENTATIONS = ("auto", "xla", "pallas", "triton")  # of operations, see `KernelConfig`
RELEASES = ("alpamayo_r1", "alpamayo1_5")


def _check_attention(name: str, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
    if num_heads % num_kv_heads or head_dim % 2:
        raise ConfigError(
            f"{name}: num_heads {num_heads} must be a multiple of num_kv_heads {num_kv_heads}, "
            f"and head_dim {head_dim} even"
        )


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Qwen3-VL vision tower: patch embedding, blocks, mergers and deepstack taps.

    `compressor` says what becomes of its image tokens before the language model reads them:
    "per_image" (all of them), "triplane" or "flex"; `SceneConfig` has their sizes.
    """

    compressor: str = "per_image"
    depth: int = 27
    hidden_size: int = 1152
    num_heads: int = 16
    intermediate_size: int = 4304
    out_hidden_size: int = 4096
    patch_size: int = 16
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    in_channels: int = 3
    num_position_embeddings: int = 2304
    deepstack_visual_indexes: tuple[int, ...] = (8, 16, 24)
    layer_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def patch_dim(self) -> int:
        """Length of one flattened patch: channels x time x height x width."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def merge_unit(self) -> int:
        """How many patches become one image token."""
        return self.spatial_merge_size**2

    @property
    def position_grid(self) -> int:
        """Side of the square table of learned positions."""
        return int(round(self.num_position_embeddings**0.5))

    def __post_init__(self):
        if self.compressor not in COMPRESSORS:
            raise ConfigError(
                f"vision.compressor {self.compressor!r} is unknown; known: {', '.join(COMPRESSORS)}"
            )
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"vision.hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.position_grid**2 != self.num_position_embeddings:
            raise ConfigError(
                f"vision.num_position_embeddings {self.num_position_embeddings} is not a square"
            )
        taps = self.deepstack_visual_indexes
        if list(taps) != sorted(set(taps)) or (taps and not 0 <= taps[0] <= taps[-1] < self.depth):
            raise ConfigError(
                f"vision.deepstack_visual_indexes {taps} must rise and lie in [0, {self.depth})"
            )


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """Qwen3-VL text model with interleaved multimodal rotary positions."""

    vocab_size: int = 155_697
    hidden_size: int = 4096
    num_layers: int = 36
    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128
    intermediate_size: int = 12_288
    rms_norm_eps: float = 1e-6
    rope_theta: float = 5e6
    mrope_section: tuple[int, int, int] = (24, 20, 20)
    tie_word_embeddings: bool = False

    def __post_init__(self):
        _check_attention("language", self.num_heads, self.num_kv_heads, self.head_dim)
        if sum(self.mrope_section) != self.head_dim // 2:
            raise ConfigError(
                f"language.mrope_section {self.mrope_section} must sum to head_dim / 2 = "
                f"{self.head_dim // 2}"
            )


@dataclasses.dataclass(frozen=True)
class ExpertConfig:
    """Action expert: a text tower of its own width that reads the language model's KV cache.

    Layers, key-value heads, head size, epsilon and rotary settings are the language model's.
    """

    hidden_size: int = 2048
    num_heads: int = 16
    intermediate_size: int = 8256


@dataclasses.dataclass(frozen=True)
class ActionProjConfig:
    """Fourier features and MLP that embed a noisy action and the flow time (released_model 4.1)."""

    hidden_size: int = 512
    num_enc_layers: int = 2
    max_freq: float = 100.0
    num_fourier_feats: int = 20
    norm_eps: float = 1e-5


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """Flow matching with t = 0 noise and t = 1 data (equations 6 to 8 of the paper)."""

    num_inference_steps: int = 10
    train_time: str = "beta"  # or "uniform"
    beta_a: float = 1.5
    beta_b: float = 1.0
    beta_scale: float = 0.999
    temperature: float = 1.0  # scale of the initial noise

    def __post_init__(self):
        if self.train_time not in ("beta", "uniform"):
            raise ConfigError(f"flow.train_time {self.train_time!r} must be 'beta' or 'uniform'")
        if self.num_inference_steps < 1:
            raise ConfigError(f"flow.num_inference_steps {self.num_inference_steps} must be >= 1")


@dataclasses.dataclass(frozen=True)
class ActionSpaceConfig:
    """Unicycle with acceleration (m/s^2) and curvature (1/m) controls (equation 5 of the paper)."""

    accel_mean: float = 0.02902694707164455
    accel_std: float = 0.6810426736454882
    curvature_mean: float = 0.0002692167976330542
    curvature_std: float = 0.026148280660833106
    accel_bounds: tuple[float, float] = (-9.8, 9.8)
    curvature_bounds: tuple[float, float] = (-0.33, 0.33)
    dt: float = 0.1
    n_waypoints: int = 64
    theta_lambda: float = 1e-6
    theta_ridge: float = 1e-8
    v_lambda: float = 1e-6
    v_ridge: float = 1e-4
    a_lambda: float = 1e-4
    a_ridge: float = 1e-4
    kappa_lambda: float = 1e-4
    kappa_ridge: float = 1e-4
    low_speed_guard: bool = False  # clamp curvature to its bounds, zero it below low_speed
    low_speed: float = 0.6  # m/s


@dataclasses.dataclass(frozen=True)
class TrajectoryTokenConfig:
    """Discrete bins of histories and futures, and where their ids start in the vocabulary.

    Future bins take the first `num_future_bins` of the `traj_vocab_size` ids, history bins the
    next `num_history_bins`; the special tokens follow after all `traj_vocab_size` ids.
    """

    traj_token_start_idx: int = 151_669
    traj_vocab_size: int = 4000
    num_history_steps: int = 16
    tokens_per_history_traj: int = 48
    tokens_per_future_traj: int = 128
    num_future_bins: int = 3000
    future_min: tuple[float, float] = (-10.0, -10.0)
    future_max: tuple[float, float] = (10.0, 10.0)
    num_history_bins: int = 1000
    history_min: tuple[float, float, float] = (-4.0, -4.0, -10.0)
    history_max: tuple[float, float, float] = (4.0, 4.0, 10.0)
    history_predict_yaw: bool = False

    @property
    def history_start_idx(self) -> int:
        """Id of history bin 0."""
        return self.traj_token_start_idx + self.num_future_bins

    @property
    def traj_token_end_idx(self) -> int:
        """One past the last trajectory id; the special tokens start here."""
        return self.traj_token_start_idx + self.traj_vocab_size


@dataclasses.dataclass(frozen=True)
class TextTokenConfig:
    """Ids of the base tokenizer that the model itself refers to."""

    pad_token_id: int = 151_643
    eos_token_id: int = 151_645
    vision_start_token_id: int = 151_652
    vision_end_token_id: int = 151_653
    image_token_id: int = 151_655


@dataclasses.dataclass(frozen=True)
class PromptConfig:
    """How an observation becomes a prompt and pixel values."""

    min_pixels: int = 163_840
    max_pixels: int = 196_608
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    include_camera_ids: bool = False
    include_frame_nums: bool = False
    float_resize: bool = False  # the released training path resizes floats, inference uint8

    def __post_init__(self):
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ConfigError(
                f"prompt.min_pixels {self.min_pixels} must be in (0, max_pixels={self.max_pixels}]"
            )


@dataclasses.dataclass(frozen=True)
class PrecisionConfig:
    """Number formats. Softmax, norms, rotary tables, logits, actions and the ODE stay float32."""

    params: str = "float32"
    compute: str = "float32"
    bf16_buffers: bool = False  # round frequencies and action constants as the bf16 release does

    def __post_init__(self):
        for name in (self.params, self.compute):
            if name not in ("float32", "bfloat16", "float16"):
                raise ConfigError(f"precision {name!r} must be float32, bfloat16 or float16")


@dataclasses.dataclass(frozen=True)
class KernelConfig:
    """Which implementation of attention, norms and gated units runs; all compute the same.

    "auto" is what was measured to be fastest on the platform, and "xla" until then. "pallas" and
    "triton" take those kernels where there is one for the call, and "xla" where not. Kernels run on
    one device: they do not take a layout over several.
    """

    implementation: str = "auto"
    interpret: bool = False  # run kernels as plain XLA, on any platform: for tests, slow

    def __post_init__(self):
        if self.implementation not in IMPLEMENTATIONS:
            raise ConfigError(
                f"kernels.implementation {self.implementation!r} is unknown; "
                f"known: {', '.join(IMPLEMENTATIONS)}"
            )

    @property
    def order(self) -> tuple[str, ...]:
        """Implementations to try, the first that supports a call runs."""
        return tuple(dict.fromkeys((self.implementation, "xla")))

    @property
    def wanted(self) -> bool:
        """Whether anything but "xla" may run."""
        return self.implementation not in ("auto", "xla")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build, load and run one policy."""

    release: str = "alpamayo_r1"  # model_type of the release: alpamayo_r1 or alpamayo1_5
    vision: VisionConfig = VisionConfig()
    language: LanguageConfig = LanguageConfig()
    expert: ExpertConfig = ExpertConfig()
    action_proj: ActionProjConfig = ActionProjConfig()
    flow: FlowConfig = FlowConfig()
    action: ActionSpaceConfig = ActionSpaceConfig()
    trajectory_tokens: TrajectoryTokenConfig = TrajectoryTokenConfig()
    text_tokens: TextTokenConfig = TextTokenConfig()
    prompt: PromptConfig = PromptConfig()
    scene: SceneConfig = SceneConfig()
    precision: PrecisionConfig = PrecisionConfig()
    kernels: KernelConfig = KernelConfig()

    def __post_init__(self):
        if self.release not in RELEASES:
            raise ConfigError(f"release {self.release!r} is unknown; known: {', '.join(RELEASES)}")
        if self.vision.out_hidden_size != self.language.hidden_size:
            raise ConfigError(
                f"vision.out_hidden_size {self.vision.out_hidden_size} must equal "
                f"language.hidden_size {self.language.hidden_size}"
            )
        if len(self.vision.deepstack_visual_indexes) > self.language.num_layers:
            raise ConfigError("more deepstack taps than language layers")
        _check_attention(
            "expert", self.expert.num_heads, self.language.num_kv_heads, self.language.head_dim
        )
        if self.trajectory_tokens.tokens_per_future_traj != 2 * self.action.n_waypoints:
            raise ConfigError(
                f"trajectory_tokens.tokens_per_future_traj "
                f"{self.trajectory_tokens.tokens_per_future_traj} must be 2 x action.n_waypoints "
                f"{self.action.n_waypoints}"
            )

    @property
    def step_grids(self) -> tuple[tuple[int, int], ...] | None:
        """Rows and columns of the blocks of scene tokens that stand for one time step in a prompt.

        The planes of a triplane are blocks as images are; Flex tokens have no order in space, so each
        is a block of its own. None: every image has its own tokens.
        """
        if self.vision.compressor == "triplane":
            return self.scene.triplane.plane_grids
        if self.vision.compressor == "flex":
            return ((1, 1),) * self.scene.flex.tokens_per_step
        return None

    @property
    def tokens_per_step(self) -> int | None:
        """Scene tokens of one time step; None where that depends on the images."""
        grids = self.step_grids
        return None if grids is None else sum(rows * columns for rows, columns in grids)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict of every field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Inverse of `to_dict`; an unknown key raises `ConfigError` with its full path."""
        return build(cls, values)

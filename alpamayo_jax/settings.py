"""Every knob of training, with its meaning and its default.

`train_config()`, or `rl_config()` for reinforcement learning, is the whole as a `ConfigDict`; a file
in `configs/` changes what it wants, flags (`--config.stage.steps=100`) change it again, and `recipe`
makes parts of it.
"""

import dataclasses

import ml_collections


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Clips, and which of their windows train and test.

    Attributes:
      source: "procedural" (simulated drives), "controlled" (simulated moments with one known right
        decision each), "clips" (a folder of recorded ones), "store" (what `experiments/ingest.py`
        wrote) or "physical_ai" (NVIDIA's data set in its own layout).
      root: the folder of all but the simulated.
      mixture: what else trains, each "WEIGHT KIND PATH" with a KIND of `source` or "questions" (a
        table in the form of LingoQA, for objective tokens only); `source` itself has weight 1.
      num_clips: procedural, controlled: how many drives train.
      cameras: procedural, controlled: 1 (a front camera), 4 (those of the release) or 7 (all around).
      num_test_clips: how many are held out: more of the simulated, the last of a store or of
        physical_ai.
      wrong_reasoning: controlled: share of the drives that train whose reasoning is wrong.
      wrong_trajectory: controlled: share whose trajectory contradicts their reasoning.
      train_seconds: clips: windows that train lie in (first, last) on each clip's clock; None is
        an open end.
      test_seconds: clips: windows that are held out.
      train_stride_s: between windows that train.
      max_train_windows: at most so many of them, evenly spread; 0: all.
      test_stride_s: between windows that are held out.
      num_frames: per camera, 0.1 s apart, the last at t0.
      max_length: tokens of a conversation; shorter ones are padded to it on the left.
      pack_lengths: rows of like length share a batch, padded to the first of these that holds them
        (rising; the last is the longest conversation); empty: every row is padded to `max_length`.
      labels: file of Chain-of-Causation labels, or its folder: they are the reasoning, in place of
        any that the clips came with, and only windows that have one train; "": none.
      mirror: also train on every window seen in a mirror.
      num_workers: processes that prepare batches; 0: threads of this one.
      cache_mb: memory for prepared windows, in MiB per process; 0 prepares them anew every epoch.
    """

    source: str = "procedural"
    root: str = ""
    mixture: tuple[str, ...] = ()
    num_clips: int = 32
    cameras: int = 1
    num_test_clips: int = 8
    wrong_reasoning: float = 0.0
    wrong_trajectory: float = 0.0
    train_seconds: tuple = (0.0, 50.0)
    test_seconds: tuple = (58.0, None)
    train_stride_s: float = 0.2
    max_train_windows: int = 0
    test_stride_s: float = 0.5
    num_frames: int = 4
    max_length: int = 3200
    pack_lengths: tuple[int, ...] = ()
    labels: str = ""
    mirror: bool = False
    num_workers: int = 0
    cache_mb: int = 1024


@dataclasses.dataclass(frozen=True)
class VisionSettings:
    """How image tokens are compressed before the language model reads them.

    Attributes:
      compressor: "per_image", "triplane" or "flex"; "" as the model comes. Another one than a
        checkpoint has begins with random parameters.
      size: empty: as the preset. Triplane: cells of a token in x, y and z, and 1 for the half of the
        grid in front or 0 for all of it; flex: scene tokens of a time step, of all cameras, and 1
        for interleaved prediction, in which every prefix of the time steps is supervised.
    """

    compressor: str = ""
    size: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """One stage of training: what is minimised, on which parameters, how.

    Attributes:
      objective: "tokens" (stages 1 and 2: cross-entropy on conversations), "expert" (flow matching,
        language model frozen), "joint" (both, the flow's gradient stops at the cache) or "render"
        (self-supervised pretraining of the triplane alone); with sections `rl` and `reward` "grpo"
        (stage 3, of the language model) or "grpo_expert" (of the expert, language model frozen).
      components: what the assistant is taught to say while driving, some of "cot", "meta_action",
        "traj_future"; empty: reasoning, the meta-action where there is one, the future. Windows
        with a question are answered instead.
      steps: optimiser steps.
      batch_size: rows per step, over all hosts and micro-batches.
      accumulate: micro-batches per step, one after the other.
      learning_rate: at the end of the warm-up.
      warmup_fraction: share of the steps in which the rate rises from 0.
      schedule: after the warm-up: "cosine", "linear" or "constant".
      final_fraction: last learning rate over `learning_rate`.
      vision_factor: learning rate of the vision tower over that of the rest; 0 freezes it.
      frozen: patterns of whole parameter paths that do not train, besides what the objective skips.
      weight_decay: on matrices.
      clip_norm: longer gradients are scaled down to this.
      beta2: second moment of AdamW.
      ema_decay: of a moving average of the trained parameters, which is then what is exported; 0:
        none.
      mean: "one_mean" over all labelled tokens, or "two_means": over trajectory tokens plus over
        the others, as the released stage 1.
      noises_per_row: expert and joint: noise and time draws per conversation.
      flow_weight: joint: of the flow's loss.
      render_weight: tokens and joint, with a triplane: of the loss of rendering the input images.
      remat: what the backward pass computes again: "none", "dots" or "full", from most memory to
        least.
      lora_rank: of low-rank adapters, which then are all that trains; 0: none.
      lora_alpha: adapters are scaled by this over the rank.
      lora_layers: patterns of the paths of the linear layers that get one.
    """

    objective: str = "tokens"
    components: tuple[str, ...] = ()
    steps: int = 1000
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-5
    warmup_fraction: float = 0.05
    schedule: str = "cosine"
    final_fraction: float = 0.1
    vision_factor: float = 1.0
    frozen: tuple[str, ...] = ()
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    beta2: float = 0.999
    ema_decay: float = 0.0
    mean: str = "one_mean"
    noises_per_row: int = 1
    flow_weight: float = 1.0
    render_weight: float = 0.0
    remat: str = "none"
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_layers: tuple[str, ...] = (r"vlm/language_model/layers/.*",)


@dataclasses.dataclass(frozen=True)
class RLSettings:
    """Stage 3: groups of samples per window, scored, and what is learned from the scores.

    `stage.batch_size` is how many windows one optimiser step sees, each with its group.

    Attributes:
      algorithm: "paper" (softmax-weighted log-likelihood, equation 10), "grpo" (the released one:
        advantages over their deviation, clipped ratios), "dr_grpo" (without the deviation, over a
        constant length) or "gspo" (one ratio per sample).
      num_samples: K, the size of a group.
      batches_per_rollout: batches that are rolled out together, with the same parameters.
      epochs: how often each of them is trained on before the next rollout.
      prompt_length: tokens that prompts are padded to; 0: `data.max_length`, which has room for whole
        conversations.
      temperature: of sampling; log-probabilities are those at temperature 1.
      top_p: nucleus of sampling.
      max_reasoning_tokens: longest reasoning, end token included.
      constrained: admit only whole trajectories: as many trajectory tokens as the future has, then
        its end. Otherwise they are sampled freely, as released.
      flow_steps: grpo_expert: Euler steps of the stochastic flow; 0: as the model comes.
      flow_noise: grpo_expert: sigma(t) = flow_noise (1 - t) of these steps.
      mean: of the loss: "token_mean" over all tokens, "sequence_mean" over samples of their means, or
        "" for the algorithm's own.
      beta: paper: of the softmax over a group's advantages; also of curation.
      clip_low: the ratio is clipped below 1 minus this ...
      clip_high: ... and above 1 plus this.
      dual_clip: bound of a negative advantage's loss, in advantages; 0: none.
      kl: weight of the divergence from the policy that the stage began with; 0 computes none.
      kl_estimator: of it: "k1" or "k3".
      entropy: weight of the entropy of sampled tokens, as a bonus.
      oversample: windows rolled out per window that is trained on. Above 1 those are kept whose
        rollouts say most: the model's probabilities diverge most from those the rewards imply.
      share_random: of the windows kept, how many are random instead.
      guard_steps: the run stops where the mean of the last so many rollouts is worse than the first
        ones by the next two; 0: never.
      guard_drop: a fall of the mean reward by this.
      guard_growth: samples this many times as long.
      eval_windows: held-out windows on which the policy is measured before and after; 0: all.
      eval_samples: per held-out window.
      picture_every: steps between pictures of rollouts; 0: none.
      copy_params: roll out with all parameters on every device, where the mesh splits them: they are
        then gathered once per rollout instead of once per token.
    """

    algorithm: str = "grpo"
    num_samples: int = 12
    batches_per_rollout: int = 1
    epochs: int = 1
    prompt_length: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_reasoning_tokens: int = 256
    constrained: bool = False
    flow_steps: int = 0
    flow_noise: float = 0.7
    mean: str = ""
    beta: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float = 10.0
    kl: float = 0.0
    kl_estimator: str = "k3"
    entropy: float = 0.0
    oversample: int = 1
    share_random: float = 0.5
    guard_steps: int = 20
    guard_drop: float = 1.0
    guard_growth: float = 2.0
    eval_windows: int = 64
    eval_samples: int = 6
    picture_every: int = 0
    copy_params: bool = False


@dataclasses.dataclass(frozen=True)
class RewardSettings:
    """What reinforcement learning pays for.

    Attributes:
      reasoning: weight of the critic's 0 to 5 for the reasoning. Each component is scaled to its
        range before it is weighted; one with weight 0 is logged all the same.
      consistency: weight of whether the trajectory does what the reasoning says, 0 or 1.
      imitation: weight of the mean distance to the recorded trajectory, up to `max_ade`.
      collision: weight of running into a recorded road user, 0 or 1.
      jerk: weight of the mean jerk.
      comfort: weight of the share of comfort checks passed.
      format: weight of whether the answer is complete and well formed, 0 or 1.
      max_ade: metres; a trajectory farther away than this costs no more.
      critic: of the reasoning: "structured" (compares parsed decisions and causes; no model),
        "endpoint" (an OpenAI-compatible chat endpoint) or "local" (a policy of this library that
        can answer questions).
      critic_url: endpoint: its base address.
      critic_model: endpoint: the model's name; local: a checkpoint directory.
      critic_key_env: endpoint: environment variable of the API key; "": none.
      critic_timeout_s: endpoint: of one attempt.
      critic_attempts: endpoint: per sample, before it is left out.
      critic_cache: folder that keeps answers; "": `critic_cache` in the working directory.
    """

    reasoning: float = 1.0
    consistency: float = 1.0
    imitation: float = 1.0
    collision: float = 1.0
    jerk: float = 0.1
    comfort: float = 0.0
    format: float = 0.5
    max_ade: float = 5.0
    critic: str = "structured"
    critic_url: str = ""
    critic_model: str = ""
    critic_key_env: str = "OPENAI_API_KEY"
    critic_timeout_s: float = 60.0
    critic_attempts: int = 3
    critic_cache: str = ""


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """Devices; one size may be -1: whatever is left. All 1: the first device alone.

    Attributes:
      data: copies of the parameters; each sees a part of the batch.
      fsdp: parts of the parameters; each sees a part of the batch.
      tensor: parts of heads and MLPs.
      seq: parts of a sequence.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    seq: int = 1


@dataclasses.dataclass(frozen=True)
class PrecisionSettings:
    """Number formats while training; the export has the format of the start.

    Attributes:
      params: of the parameters that are kept and updated; "" as the model comes. Adapters are
        float32 beside parameters of any format.
      frozen: of the parameters that do not train; "" as `params`. In the format of the checkpoint
        they lose nothing.
      compute: of matrix products; "" as the model comes.
    """

    params: str = "float32"
    frozen: str = ""
    compute: str = ""


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What is watched and kept.

    Attributes:
      log_every: steps between entries of the log.
      save_every: steps between checkpoints.
      keep_last: newest checkpoints that are kept.
      keep_best: checkpoints of the lowest loss that are kept besides.
      validation_batches: held-out batches whose loss decides which is best, computed whenever a
        checkpoint is written; 0: the training loss decides.
      tensorboard: write event files.
      wandb_project: Weights & Biases project to log to; "": none.
    """

    log_every: int = 10
    save_every: int = 500
    keep_last: int = 2
    keep_best: int = 1
    validation_batches: int = 0
    tensorboard: bool = True
    wandb_project: str = ""


def train_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """The knobs of `experiments/train.py` at their defaults; at most 60.

    A file in `configs/` may set those of source "controlled" too, which then have flags. Besides the
    sections there are `seed`, `preset` (the model) and `init_from`: a checkpoint directory to start
    from, which then also says what the model is.
    """
    sections = {
        "data": DataSettings(),
        "vision": VisionSettings(),
        "stage": StageSettings(),
        "mesh": MeshSettings(),
        "precision": PrecisionSettings(),
        "run": RunSettings(),
    }
    listed = {name: dataclasses.asdict(section) for name, section in sections.items()}
    for knob in ("wrong_reasoning", "wrong_trajectory"):
        del listed["data"][knob]
    return ml_collections.ConfigDict({"seed": 0, "preset": preset, "init_from": ""} | listed)


# Knobs that a configuration of reinforcement learning lists, by section: at most 60 in all. A file
# in `configs/` may set any other of these sections' knobs too, which then has a flag.
_LISTED = {
    "data": (
        "source", "root", "num_clips", "num_test_clips", "train_seconds", "test_seconds",
        "train_stride_s", "test_stride_s", "num_frames", "max_length", "labels",
    ),
    "vision": ("compressor", "size"),
    "stage": (
        "objective", "steps", "batch_size", "accumulate", "learning_rate", "remat", "lora_rank",
    ),
    "mesh": ("data", "fsdp", "tensor"),
    "precision": ("params", "frozen", "compute"),
    "run": ("log_every", "save_every", "tensorboard"),
    "rl": (
        "algorithm", "num_samples", "batches_per_rollout", "epochs", "prompt_length", "temperature",
        "top_p", "max_reasoning_tokens", "constrained", "beta", "kl", "entropy", "oversample",
        "eval_windows", "picture_every",
    ),
    "reward": (
        "reasoning", "consistency", "imitation", "collision", "jerk", "comfort", "format",
        "max_ade", "critic", "critic_url", "critic_model",
    ),
}  # fmt: skip


def rl_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """As `train_config`, with `rl` and `reward` besides, for objectives "grpo" and "grpo_expert"."""
    whole = train_config(preset)
    whole.stage.objective, whole.run.log_every = "grpo", 1
    whole.update(
        rl=dataclasses.asdict(RLSettings()), reward=dataclasses.asdict(RewardSettings())
    )
    listed = {
        name: {knob: whole[name][knob] for knob in knobs} for name, knobs in _LISTED.items()
    }
    return ml_collections.ConfigDict({"seed": 0, "preset": preset, "init_from": ""} | listed)

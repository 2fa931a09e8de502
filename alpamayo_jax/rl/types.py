"""What passes between rollouts, rewards and updates of reinforcement learning.

Letters: B prompts, K samples of one prompt, N slots of a completion, W waypoints, S flow steps. A
completion is what the policy says after the prompt: reasoning up to `<|traj_future_start|>` and,
for actor "tokens", the 2 W trajectory ids and `<|traj_future_end|>`. Completions are padded on the
right.
"""

import dataclasses

import flax.struct

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.flow.stochastic import Steps, stochastic_steps
from alpamayo_jax.types import Array, ModelInputs, Trajectory

ACTORS = ("tokens", "flow")


@dataclasses.dataclass(frozen=True)
class RolloutSettings:
    """Static choices of a rollout program.

    Attributes:
      actor: where trajectories come from: "tokens", the language model's own trajectory ids (what
        the paper and the release train), or "flow", the action expert's stochastic flow after the
        language model's reasoning.
      num_samples: K completions per prompt; the release draws 12.
      max_reasoning_tokens: most tokens of reasoning, `<|traj_future_start|>` included.
      temperature: of the draws; the release has 0.6. Log-probabilities are at temperature 1.
      top_p: nucleus of the draws; the release has 0.98. Below 1, or at another temperature, samples
        are not the policy's own and its gradient is biased.
      constrained: after `<|traj_future_start|>` only future bins can be drawn, exactly 2 W of them,
        then the end follows. False draws from the whole vocabulary, as released, and a sample may
        be malformed.
      force_end: where reasoning does not end in time its end is written, as when driving. Without,
        as released, such a sample has no trajectory. Actor "flow" always writes it.
      flow_noise: actor "flow": sigma(t) = flow_noise (1 - t) of the stochastic sampler.
      flow_steps: actor "flow": steps, at least 2; None takes the configuration's.
    """

    actor: str = "tokens"
    num_samples: int = 12
    max_reasoning_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    constrained: bool = False
    force_end: bool = False
    flow_noise: float = 0.7
    flow_steps: int | None = None

    def __post_init__(self):
        if self.actor not in ACTORS:
            known = ", ".join(ACTORS)
            raise ConfigError(f"rollout actor {self.actor!r} is unknown; known: {known}")
        if self.num_samples < 1 or self.max_reasoning_tokens < 1:
            raise ConfigError(
                f"rollouts of num_samples {self.num_samples} and max_reasoning_tokens "
                f"{self.max_reasoning_tokens} must have at least 1 of both"
            )
        if self.actor == "flow" and self.flow_noise <= 0:
            raise ConfigError(f"flow_noise {self.flow_noise} must be positive: it is what explores")

    def completion_length(self, config: ModelConfig) -> int:
        """N: the reasoning and, for actor "tokens", the trajectory with its end."""
        trajectory = config.trajectory_tokens.tokens_per_future_traj + 1
        return self.max_reasoning_tokens + (trajectory if self.actor == "tokens" else 0)

    def num_flow_steps(self, config: ModelConfig) -> int:
        """S."""
        return self.flow_steps or config.flow.num_inference_steps

    def flow_schedule(self, config: ModelConfig) -> Steps:
        """The steps of the stochastic flow.

        Raises:
          ConfigError: too few steps, or too much noise for them.
        """
        return stochastic_steps(self.num_flow_steps(config), self.flow_noise)


@flax.struct.dataclass
class FlowChain:
    """The states that the stochastic flow went through.

    Attributes:
      states: float32 [B, K, S + 1, W, 2], normalised actions from noise to the end.
      logprobs: float32 [B, K, S], log-density of each step's state given the one before it, summed
        over its 2 W numbers; 0 for the last step, which has no noise.
      ref_logprobs: the same under the reference policy, or None.
    """

    states: Array
    logprobs: Array
    ref_logprobs: Array | None = None


@flax.struct.dataclass
class Rollouts:
    """What the compiled rollout program returns for a batch of prompts.

    Attributes:
      inputs: the prompts.
      token_ids: int32 [B, K, N].
      mask: bool [B, K, N], tokens that were drawn, the end token included; False on padding and on
        an end of thought that was written.
      logprobs: float32 [B, K, N] at temperature 1 over the ids that could be drawn; 0 where `mask`
        is False.
      num_tokens: int32 [B, K], length of each completion.
      ended: bool [B, K], the policy itself ended its reasoning and, for actor "tokens", its
        trajectory.
      trajectory: poses [B, K, W, ...]; where there is no whole trajectory they are those of driving
        on with mean acceleration and curvature, finite and not to be scored.
      trajectory_valid: bool [B, K], exactly one whole trajectory: start, 2 W future bins, end.
      flow: actor "flow": the chain; else None.
    """

    inputs: ModelInputs
    token_ids: Array
    mask: Array
    logprobs: Array
    num_tokens: Array
    ended: Array
    trajectory: Trajectory
    trajectory_valid: Array
    flow: FlowChain | None = None


@flax.struct.dataclass
class RolloutBatch:
    """What an update trains on: the batch of a train step. Rows are prompts.

    Attributes:
      inputs: the prompts.
      token_ids: int32 [B, K, N].
      mask: bool [B, K, N], tokens that were drawn.
      old_logprobs: float32 [B, K, N], of the policy that made the rollouts.
      ref_logprobs: float32 [B, K, N], of the reference policy, or None where no KL is asked for.
      advantages: float32 [B, K].
      counts: float32 [B, K], how much a sample counts; 0 is masked, as when its critic failed.
      flow: the chain of actor "flow", or None.
    """

    inputs: ModelInputs
    token_ids: Array
    mask: Array
    old_logprobs: Array
    ref_logprobs: Array | None
    advantages: Array
    counts: Array
    flow: FlowChain | None = None

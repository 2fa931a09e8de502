"""How a policy is sampled."""

import dataclasses

from alpamayo_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class SampleSettings:
    """Static choices of one sampling program; the defaults are the release's.

    Attributes:
      num_samples: K reasoning traces and trajectories per observation.
      max_new_tokens: N, the longest reasoning, end token included; 1 skips reasoning.
      temperature: of the reasoning.
      top_p: nucleus of the reasoning.
      greedy: take the most likely token instead of drawing.
      force_end: at the limit (or after an end of text) write the end-of-thought token. The release
        does not: it warns and lets the expert run without the last token's keys and values.
      max_reasoning_tokens: after so many tokens close the reasoning as training does, with
        `<|cot_end|>` (unless it is closed already) and the end-of-thought token, and go on with the
        trajectory; 0 skips reasoning, None leaves it to `max_new_tokens`.
      draft_block: tokens that one pass verifies when there is a draft, see `decode.speculative`; with 1
        `decode.streaming` makes no drafts.
      flow_steps: Euler steps, or None for the configuration's.
      flow_temperature: scale of the initial noise, or None for the configuration's.
      guidance_weight: w of classifier-free guidance on navigation, (1 - w) without + w with; None
        runs the conditional branch alone.
    """

    num_samples: int = 6
    max_new_tokens: int = 256
    temperature: float = 0.6
    top_p: float = 0.98
    greedy: bool = False
    force_end: bool = True
    max_reasoning_tokens: int | None = None
    draft_block: int = 8
    flow_steps: int | None = None
    flow_temperature: float | None = None
    guidance_weight: float | None = None

    def __post_init__(self):
        if self.num_samples < 1 or self.max_new_tokens < 1:
            raise ConfigError(
                f"num_samples {self.num_samples} and max_new_tokens {self.max_new_tokens} must be "
                "at least 1"
            )
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise ConfigError(
                f"temperature {self.temperature} must be positive and top_p {self.top_p} in (0, 1]; "
                "greedy=True takes the most likely token"
            )
        if self.flow_steps is not None and self.flow_steps < 1:
            raise ConfigError(f"flow_steps {self.flow_steps} must be at least 1")
        if self.draft_block < 1:
            raise ConfigError(f"draft_block {self.draft_block} must be at least 1")
        if self.max_reasoning_tokens is not None and (
            self.max_reasoning_tokens < 0 or not self.force_end
        ):
            raise ConfigError(
                f"max_reasoning_tokens {self.max_reasoning_tokens} must be at least 0, and needs "
                "force_end: it writes the end of the reasoning"
            )

    @property
    def limit(self) -> int:
        """N, the most tokens that are generated: reasoning and what closes it."""
        if self.max_reasoning_tokens is None:
            return self.max_new_tokens
        return min(self.max_new_tokens, self.max_reasoning_tokens + 2)

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

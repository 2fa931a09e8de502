"""What samples have said so far, and the rules by which they go on and end.

Letters: B batch, K samples, N most new tokens, V vocabulary.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.draw import draw
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.ops import filters
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.types import Array


@flax.struct.dataclass
class Trace:
    """The tokens of every sample while it is being written.

    Attributes:
      token_ids: int32 [B, K, N + 1]; the last column takes a token past the limit, to be dropped.
      logprobs: float32 [B, K, N + 1].
      end_index: int32 [B, K], where the end token stands; -1 where there is none yet.
      stopped: bool [B, K], ended by an end of text without an end token.
      forced: bool [B, K], the end token was written, not drawn.
    """

    token_ids: Array
    logprobs: Array
    end_index: Array
    stopped: Array
    forced: Array


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which tokens may be drawn, which are written instead of them, and where a sample ends.

    Attributes:
      config: model.
      settings: sampling.
      answer: a text answer to the end-of-text token, instead of reasoning to
        `<|traj_future_start|>`. Nothing is forced then, and trajectory ids may be drawn.
    """

    config: ModelConfig
    settings: SampleSettings
    answer: bool = False

    @property
    def limit(self) -> int:
        """N, the most new tokens."""
        return self.settings.limit

    @property
    def forces(self) -> bool:
        """Whether a sample that does not end by itself gets its end token written."""
        return self.settings.force_end and not self.answer

    @property
    def end(self) -> int:
        """The end token."""
        eos = self.config.text_tokens.eos_token_id
        return eos if self.answer else special_token_id(self.config, "traj_future_start")

    def begin(self, batch: int, samples: int) -> Trace:
        """Nothing said yet."""
        size, no = (batch, samples, self.limit + 1), jnp.zeros((batch, samples), bool)
        return Trace(
            token_ids=jnp.full(size, self.config.text_tokens.pad_token_id, jnp.int32),
            logprobs=jnp.zeros(size, jnp.float32),
            end_index=jnp.full((batch, samples), -1, jnp.int32),
            stopped=no,
            forced=no,
        )

    def draw(self, logits: Array, rng: jax.Array, index: Array | int) -> tuple[Array, Array]:
        """Token `index` of every sample from logits [B, K, V], see `draw.draw`."""
        if not self.answer:
            tokens = self.config.trajectory_tokens
            logits = filters.mask_range(
                logits, tokens.traj_token_start_idx, tokens.traj_token_end_idx
            )
        return draw(logits, rng, index, self.settings)

    def write(
        self,
        trace: Trace,
        index: Array | int,
        token: Array,
        logprob: Array,
        where: Array | bool = True,
    ) -> tuple[Trace, Array]:
        """Writes token `index` of every sample: what was drawn, or what stands there instead.

        Args:
          trace: so far.
          index: int, or one per sample [B, K].
          token: int32 [B, K], drawn.
          logprob: float32 [B, K].
          where: bool [B, K], the samples that are written; the others stay as they are.

        Returns:
          The trace, and what was written, int32 [B, K].
        """
        eos, pad = self.config.text_tokens.eos_token_id, self.config.text_tokens.pad_token_id
        ended, stopped = trace.end_index >= 0, trace.stopped
        forced = jnp.zeros_like(ended)
        if self.forces:
            wanted, due = self._due(trace, index)
            due &= (token != wanted) & (token != self.end) & ~ended
            logprob, token = jnp.where(due, 0.0, logprob), jnp.where(due, wanted, token)
            forced = due & (token == self.end)
            stopped = jnp.zeros_like(stopped)
        over = ended | stopped
        token, logprob = jnp.where(over, pad, token), jnp.where(over, 0.0, logprob)
        at = jnp.arange(self.limit + 1) == jnp.asarray(index)[..., None]
        at &= jnp.broadcast_to(where, token.shape)[..., None]
        ends = (token == self.end) & ~ended & where
        stops = (trace.stopped | (token == eos)) & ~ends & ~ended
        return Trace(
            token_ids=jnp.where(at, token[..., None], trace.token_ids),
            logprobs=jnp.where(at, logprob[..., None], trace.logprobs),
            end_index=jnp.where(ends, index, trace.end_index),
            stopped=jnp.where(where, stops, trace.stopped),
            forced=trace.forced | (forced & where),
        ), token

    def _due(self, trace: Trace, index: Array | int) -> tuple[Array, Array]:
        """What has to stand at `index` of samples that have not ended, and whether it has to."""
        due, wanted = (index == self.limit - 1) | trace.stopped, jnp.int32(self.end)
        if self.settings.max_reasoning_tokens is not None and self.limit > 1:
            close = special_token_id(self.config, "cot_end")
            closing, closed = index == self.limit - 2, (trace.token_ids == close).any(-1)
            wanted = jnp.where(closing & ~closed & ~trace.stopped, close, wanted)
            due |= closing
        return wanted, due

    def finished(self, trace: Trace, cached: Array) -> Array:
        """bool [B, K]: the sample has ended and its end token is among its `cached` tokens."""
        over = (trace.end_index >= 0) & (trace.end_index < cached)
        return over | (trace.stopped & (not self.forces)) | (cached >= self.limit)

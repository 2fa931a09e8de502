"""Labels of keyframes by a vision-language model behind an OpenAI-compatible endpoint.

Two questions per keyframe (`vlm_prompt`), each with one chance to correct a malformed answer. A
keyframe ends as a `CocLabel` or as a `Quarantined` with the reason and the model's own words; none
is dropped. With a cache (`chat_cache`) the same keyframes give the same outcomes again at no cost,
so a run that was stopped is simply started again.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any, Callable, Iterable, Iterator, TypeVar

from alpamayo_jax.clip import Clip
from alpamayo_jax.coc import vlm_prompt
from alpamayo_jax.coc.chat import ChatClient, ChatRefused
from alpamayo_jax.coc.endpoint import ChatAnswer, ChatRequest, cost
from alpamayo_jax.coc.frames import picture_times, pictures_of
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.coc.timeline import FUTURE_S, HISTORY_S, action_lines, motion_lines, timeline
from alpamayo_jax.coc.vlm_answer import NoLabel, read_decided, read_seen
from alpamayo_jax.files import write_bytes
from alpamayo_jax.types import InputError

_KEPT_WORDS = 20_000  # characters of an answer that a quarantined keyframe keeps

Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True)
class VlmSettings:
    """How keyframes are shown.

    Attributes:
      history_s, future_s: seconds before and after the keyframe.
      rate: pictures per second.
      timeline_step_s: between lines of the motion.
      repairs: further chances after a malformed answer.
    """

    history_s: float = HISTORY_S
    future_s: float = FUTURE_S
    rate: float = 2.0
    timeline_step_s: float = 0.2
    repairs: int = 1


@dataclasses.dataclass(frozen=True)
class Moment:
    """A keyframe to label: seconds on the clip's clock, and why it was chosen, where known."""

    clip: Clip
    keyframe_s: float
    scenario: ScenarioClass | None = None


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """A keyframe without a label.

    Attributes:
      clip, keyframe_s: which.
      rule: "malformed_answer", "refused_request", "unusable_clip", "excluded" or "no_decision".
      reason: one sentence.
      answer: the model's last words, cut where they are very long.
      provenance: as of a label.
    """

    clip: str
    keyframe_s: float
    rule: str
    reason: str
    answer: str = ""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


class _Malformed(Exception):
    def __init__(self, error: InputError, answer: ChatAnswer):
        super().__init__(str(error))
        self.answer = answer


class VlmLabeller:
    """Labels keyframes with one endpoint."""

    def __init__(self, client: ChatClient, settings: VlmSettings = VlmSettings()):
        """Asks nothing yet."""
        self._client, self._settings = client, settings

    @property
    def author(self) -> str:
        """The author of the labels."""
        return f"vlm:{self._client.endpoint.model}"

    def label_each(self, moments: Iterable[Moment]) -> Iterator[CocLabel | Quarantined]:
        """`label` of each moment, in order, as many at a time as the endpoint takes."""
        return self._client.ask_each(self.label, moments)

    def label(self, moment: Moment) -> CocLabel | Quarantined:
        """The label of one keyframe, or why there is none.

        Raises:
          ChatUnavailable: the endpoint cannot be used; nothing is lost.
        """
        answers: list[ChatAnswer] = []
        try:
            outcome = self._label(moment, answers)
        except _Malformed as error:
            outcome = "malformed_answer", str(error), error.answer.text
        except ChatRefused as error:
            outcome = "refused_request", str(error), ""
        except InputError as error:
            outcome = "unusable_clip", str(error), ""
        if isinstance(outcome, CocLabel):
            return outcome
        rule, reason, words = outcome
        return Quarantined(
            clip=moment.clip.clip_id,
            keyframe_s=moment.keyframe_s,
            rule=rule,
            reason=reason,
            answer=words[:_KEPT_WORDS],
            provenance=self._provenance(answers),
        )

    def _label(
        self, moment: Moment, answers: list[ChatAnswer]
    ) -> CocLabel | tuple[str, str, str]:
        settings, clip, t0 = self._settings, moment.clip, moment.keyframe_s
        where = f"clip {clip.clip_id!r} at {t0:.3f} s"
        seen = self._ask(
            ChatRequest(self._seen(moment), vlm_prompt.seen_schema(), "seen"),
            lambda text: read_seen(text, t0, settings.history_s, where),
            answers,
        )
        messages = self._decided(moment, seen)

        def read(text: str) -> CocLabel | NoLabel:
            return read_decided(
                text, clip.clip_id, t0, seen, self.author, moment.scenario,
                self._provenance(answers), where,
            )  # fmt: skip

        outcome = self._ask(
            ChatRequest(messages, vlm_prompt.decided_schema(), "decided"), read, answers
        )
        if isinstance(outcome, NoLabel):
            return outcome.rule, outcome.reason, answers[-1].text
        return outcome

    def _seen(self, moment: Moment) -> tuple[dict[str, Any], ...]:
        settings, t0 = self._settings, moment.keyframe_s
        times = picture_times(t0, settings.history_s, 0.0, settings.rate)
        kind, pictures = pictures_of(moment.clip, times, latest=t0)
        # Smoothing must not look ahead either, so the motion is cut before it is smoothed.
        motion = timeline(moment.clip.ego, t0 - settings.history_s, t0)
        return vlm_prompt.seen_messages(
            kind, pictures, t0, motion_lines(motion, t0, settings.timeline_step_s),
            action_lines(motion, t0), settings.history_s,
        )  # fmt: skip

    def _decided(self, moment: Moment, seen: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
        settings, t0 = self._settings, moment.keyframe_s
        times = picture_times(t0, settings.history_s, settings.future_s, settings.rate)
        kind, pictures = pictures_of(moment.clip, times)
        motion = timeline(moment.clip.ego, t0 - settings.history_s, t0 + settings.future_s)
        return vlm_prompt.decided_messages(
            kind, pictures, t0, motion_lines(motion, t0, settings.timeline_step_s),
            action_lines(motion, t0), settings.history_s, settings.future_s, seen, moment.scenario,
        )  # fmt: skip

    def _ask(
        self, request: ChatRequest, read: Callable[[str], Answer], answers: list[ChatAnswer]
    ) -> Answer:
        """What `read` makes of the answer, or of the corrected one; raises `_Malformed`."""
        for _ in range(self._settings.repairs + 1):
            answer = self._client.ask(request)
            answers.append(answer)
            try:
                return read(answer.text)
            except InputError as error:
                failed = _Malformed(error, answer)
                cut = " Your answer was cut off; be shorter." * (answer.finish_reason == "length")
                request = dataclasses.replace(
                    request,
                    messages=(
                        *request.messages,
                        {"role": "assistant", "content": answer.text},
                        {
                            "role": "user",
                            "content": f"That answer cannot be used: {error}.{cut} Answer again, "
                            f"with one JSON object of the form asked for.",
                        },
                    ),
                )
        raise failed

    def _provenance(self, answers: list[ChatAnswer]) -> dict[str, Any]:
        return {
            "labeller": "vlm",
            "model": self._client.endpoint.model,
            "prompt_version": vlm_prompt.PROMPT_VERSION,
            "requests": [answer.key for answer in answers],
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
            "completion_tokens": sum(answer.completion_tokens for answer in answers),
        }


def spent(client: ChatClient, outcomes: Iterable[CocLabel | Quarantined]) -> dict[str, Any]:
    """What outcomes cost when they were first asked for, and what was paid in this run.

    Returns:
      prompt_tokens, completion_tokens, dollars (None without prices) of all outcomes; and of this
      run paid_requests, cached_requests, retries, paid_prompt_tokens, paid_completion_tokens,
      paid_dollars.
    """
    prompt = completion = 0
    for outcome in outcomes:
        prompt += int(outcome.provenance.get("prompt_tokens", 0))
        completion += int(outcome.provenance.get("completion_tokens", 0))
    usage, endpoint = client.usage, client.endpoint
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "dollars": cost(endpoint, prompt, completion),
        "paid_requests": usage.requests,
        "cached_requests": usage.cached,
        "retries": usage.retries,
        "paid_prompt_tokens": usage.prompt_tokens,
        "paid_completion_tokens": usage.completion_tokens,
        "paid_dollars": cost(endpoint, usage.prompt_tokens, usage.completion_tokens),
    }


def write_quarantine(path: str | os.PathLike, quarantined: Iterable[Quarantined]) -> pathlib.Path:
    """Writes keyframes without a label, one JSON object per line, whole or not at all."""
    lines = [json.dumps(dataclasses.asdict(entry), sort_keys=True) for entry in quarantined]
    return write_bytes(path, "".join(f"{line}\n" for line in lines).encode())

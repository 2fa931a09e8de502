"""Free-form traces: what a model says without decisions to choose from and causes to cite.

They are what structured traces are compared with. The model sees the same pictures and motion, all
at once, and simply tells what the car does and why.
"""

from typing import Iterable, Iterator

from alpamayo_jax.coc.chat import ChatClient, ChatRefused
from alpamayo_jax.coc.endpoint import ChatRequest, image_part, text_part
from alpamayo_jax.coc.frames import picture_times, pictures_of
from alpamayo_jax.coc.judge import FREE_FORM, Candidate
from alpamayo_jax.coc.timeline import motion_lines, timeline
from alpamayo_jax.coc.vlm import Moment, VlmSettings
from alpamayo_jax.types import InputError

_ASK = """\
The {kind} pictures show a drive from {history:.0f} s before to {future:.0f} s after time 0. \
Motion of the own car:
{motion}

Describe in one or two sentences what the car does from time 0 on, and why."""


def free_form_traces(
    client: ChatClient, moments: Iterable[Moment], settings: VlmSettings = VlmSettings()
) -> Iterator[Candidate | None]:
    """The free-form trace of each moment, in order; None where the model gave no text.

    Raises:
      ChatUnavailable: the endpoint cannot be used.
    """

    def trace(moment: Moment) -> Candidate | None:
        try:
            text = client.ask(_request(moment, settings)).text
        except (ChatRefused, InputError):
            return None
        text = " ".join(text.split())
        if not text:
            return None
        return Candidate(FREE_FORM, moment.clip.clip_id, moment.keyframe_s, text)

    return client.ask_each(trace, moments)


def _request(moment: Moment, settings: VlmSettings) -> ChatRequest:
    t0 = moment.keyframe_s
    times = picture_times(t0, settings.history_s, settings.future_s, settings.rate)
    kind, pictures = pictures_of(moment.clip, times)
    motion = timeline(moment.clip.ego, t0 - settings.history_s, t0 + settings.future_s)
    text = _ASK.format(
        kind=kind,
        history=settings.history_s,
        future=settings.future_s,
        motion=motion_lines(motion, t0, settings.timeline_step_s),
    )
    parts = [text_part(text)]
    for picture in pictures:
        parts += [text_part(f"t = {picture.t - t0:+.1f} s"), image_part(picture.data)]
    return ChatRequest(({"role": "user", "content": parts},))

"""The conversation as text: what the policy is told, asked for, and taught to answer.

An image stands as one `<|image_pad|>` between its start and end tokens; the processor widens it to
as many tokens as the image has. A conversation is made of components. The user's turn has the
images, the ego history, a route, and the request; the assistant's turn has what was requested, in
order. A prompt for generation ends with the start token of the first component requested.
"""

import dataclasses
import re
from typing import Mapping, Sequence

from alpamayo_jax.config import ConfigError, ModelConfig, PromptConfig
from alpamayo_jax.tokens.vocabulary import special
from alpamayo_jax.types import InputError

SYSTEM_MESSAGE = "You are a driving assistant that generates safe and accurate actions."

# Alpamayo 1.5 names each camera by its index in the release's camera map.
CAMERA_NAMES = (
    "Front left camera",
    "Front camera",
    "Front right camera",
    "Rear left camera",
    "Rear camera",
    "Rear right camera",
    "Front telephoto camera",
)

_REQUESTS = {
    "cot": "output the chain-of-thought reasoning of the driving process",
    "meta_action": "output meta actions",
    "traj_future": "output the future trajectory",
}
DRIVE_REQUEST = ("cot", "traj_future")
ASSISTANT_COMPONENTS = (*_REQUESTS, "answer")

_RESERVED = re.compile(r"<\|[^|<>]*\|>|<i\d+>")


def camera_name(index: int) -> str:
    """How Alpamayo 1.5 names the camera of `index` in the release's camera map."""
    return CAMERA_NAMES[index] if 0 <= index < len(CAMERA_NAMES) else f"Camera {index}"


def request_sentence(components: Sequence[str]) -> str:
    """The sentence that asks for `components`, in order.

    Raises:
      ConfigError: nothing is asked for, or a component cannot be.
    """
    unknown = [name for name in components if name not in _REQUESTS]
    if unknown or not components or len(set(components)) != len(components):
        raise ConfigError(
            f"request {tuple(components)} must be some of {', '.join(_REQUESTS)}, each once"
        )
    return ", then ".join(_REQUESTS[name] for name in components) + "."


def drive_prompt(
    cameras: Sequence[tuple[int, int]],
    config: ModelConfig,
    *,
    navigation: str | None = None,
    request: Sequence[str] = DRIVE_REQUEST,
) -> str:
    """The prompt that asks for driving, up to the start token of the first requested component.

    Args:
      cameras: (camera index, number of frames) in ascending order of index.
      config: whether cameras and frames are named, and how many history tokens there are.
      navigation: route text, or None.
      request: what to ask for; some of "cot", "meta_action", "traj_future".

    Raises:
      InputError: `navigation` contains the text of a special token.
      ConfigError: see `request_sentence`.
    """
    return _drive_user(cameras, config, navigation, request) + special(f"{request[0]}_start")


def drive_conversation(
    cameras: Sequence[tuple[int, int]],
    config: ModelConfig,
    texts: Mapping[str, str],
    *,
    navigation: str | None = None,
    request: Sequence[str] = DRIVE_REQUEST,
) -> str:
    """The whole conversation about driving, to train on; future tokens are placeholders.

    Args:
      cameras: as in `drive_prompt`.
      config: as in `drive_prompt`.
      texts: the text of each requested component other than "traj_future".
      navigation: as in `drive_prompt`.
      request: components of the assistant's turn.

    Raises:
      InputError: a text is missing, or contains the text of a special token.
      ConfigError: see `request_sentence`.
    """
    parts = [_drive_user(cameras, config, navigation, request)]
    for name in request:
        if name == "traj_future":
            count = config.trajectory_tokens.tokens_per_future_traj
            parts.append(_component(name, special("traj_future") * count))
        elif texts.get(name) is None:
            raise InputError(f"the conversation needs a text for its component {name!r}")
        else:
            parts.append(_component(name, _plain(texts[name], name)))
    return "".join(parts) + _turn_end()


def question_prompt(
    cameras: Sequence[tuple[int, int]], config: ModelConfig, question: str
) -> str:
    """The prompt that asks a question about the images (Alpamayo 1.5), up to the answer's start.

    Raises:
      InputError: `question` contains the text of a special token.
    """
    content = scene_text(cameras, config) + _component(
        "question", _plain(question, "question")
    )
    return _until_assistant(content) + special("answer_start")


def question_conversation(
    cameras: Sequence[tuple[int, int]], config: ModelConfig, question: str, answer: str
) -> str:
    """The whole conversation of a question and its answer, to train on.

    Raises:
      InputError: a text contains the text of a special token.
    """
    closing = _plain(answer, "answer") + special("answer_end") + _turn_end()
    return question_prompt(cameras, config, question) + closing


def scene_text(cameras: Sequence[tuple[int, int]], config: ModelConfig) -> str:
    """What stands for the images: one placeholder per image, or per time step when compressed.

    A step is what all cameras saw at one time, so it has a frame number but no camera's name.
    """
    if config.tokens_per_step is None:
        return images_text(cameras, config.prompt)
    steps = max((count for _, count in cameras), default=0)
    unnamed = dataclasses.replace(config.prompt, include_camera_ids=False)
    return images_text([(0, steps)], unnamed) if steps else ""


def images_text(cameras: Sequence[tuple[int, int]], prompt: PromptConfig) -> str:
    """One placeholder per image, camera by camera and oldest frame first.

    Args:
      cameras: (camera index, number of frames) in ascending order of index.
      prompt: Alpamayo 1.5 names the camera before its first frame, and numbers frames from 0.
    """
    image = special("vision_start") + special("image_pad") + special("vision_end")
    parts = []
    for index, num_frames in cameras:
        for frame in range(num_frames):
            if prompt.include_camera_ids and frame == 0:
                parts.append(f"{camera_name(index)}: ")
            if prompt.include_frame_nums:
                parts.append(f"frame {frame} ")
            parts.append(image)
    return "".join(parts)


def extract_text(text: str, name: str) -> str:
    """The text of component `name` in generated `text`, stripped.

    It ends at the first end token and begins after the last start token before that, or at the
    beginning where the start token was part of the prompt. Without an end token it is "".
    """
    head, end, _ = text.partition(special(f"{name}_end"))
    if not end:
        return ""
    return head.rpartition(special(f"{name}_start"))[2].strip()


def _drive_user(cameras, config: ModelConfig, navigation: str | None, request) -> str:
    count = config.trajectory_tokens.tokens_per_history_traj
    parts = [
        scene_text(cameras, config),
        _component("traj_history", special("traj_history") * count),
    ]
    if navigation is not None:
        parts.append(_component("route", _plain(navigation, "navigation")))
    return _until_assistant("".join(parts) + request_sentence(request))


def _component(name: str, content: str) -> str:
    return special(f"{name}_start") + content + special(f"{name}_end")


def _until_assistant(user: str) -> str:
    return "".join([
        _turn_start("system"), SYSTEM_MESSAGE, _turn_end(),
        _turn_start("user"), user, _turn_end(),
        _turn_start("assistant"),
    ])


def _turn_start(role: str) -> str:
    return f"{special('im_start')}{role}\n"


def _turn_end() -> str:
    return f"{special('im_end')}\n"


def _plain(text: str, field: str) -> str:
    found = _RESERVED.search(text)
    if found:
        raise InputError(
            f"{field} contains {found.group()!r}, which is a token of the vocabulary; remove it"
        )
    return text

"""Conversations as text."""

import dataclasses
import re

import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.presets import preset
from alpamayo_jax.tokens import prompt
from alpamayo_jax.types import InputError

R1 = preset("r1_10b")
R1_5 = preset("r1_5_10b")
CAMERAS = ((0, 4), (1, 4), (2, 4), (6, 4))
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
HISTORY = "<|traj_history_start|>" + "<|traj_history|>" * 48 + "<|traj_history_end|>"
HEAD = (
    "<|im_start|>system\nYou are a driving assistant that generates safe and accurate actions."
    "<|im_end|>\n<|im_start|>user\n"
)
REQUEST = (
    "output the chain-of-thought reasoning of the driving process, then output the future "
    "trajectory."
)
ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"


class PromptTest(parameterized.TestCase):
    def test_release_1(self):
        self.assertEqual(
            prompt.drive_prompt(CAMERAS, R1),
            HEAD + IMAGE * 16 + HISTORY + REQUEST + ASSISTANT + "<|cot_start|>",
        )

    def test_release_1_5(self):
        text = prompt.drive_prompt([(1, 2), (6, 1)], R1_5, navigation="Turn left in 40 m")
        self.assertEqual(
            text,
            HEAD
            + f"Front camera: frame 0 {IMAGE}frame 1 {IMAGE}Front telephoto camera: frame 0 {IMAGE}"
            + HISTORY
            + "<|route_start|>Turn left in 40 m<|route_end|>"
            + REQUEST
            + ASSISTANT
            + "<|cot_start|>",
        )

    def test_names_without_frame_numbers(self):
        settings = dataclasses.replace(R1.prompt, include_camera_ids=True)
        self.assertEqual(
            prompt.images_text([(4, 2), (9, 1)], settings),
            f"Rear camera: {IMAGE}{IMAGE}Camera 9: {IMAGE}",
        )

    @parameterized.parameters(0, 1, 3, 16)
    def test_any_number_of_images(self, count):
        text = prompt.drive_prompt([(1, count)], R1)
        self.assertEqual(text.count("<|image_pad|>"), count)

    @parameterized.parameters(
        (("traj_future",), "output the future trajectory.", "<|traj_future_start|>"),
        (
            ("cot", "meta_action", "traj_future"),
            "output the chain-of-thought reasoning of the driving process, then output meta "
            "actions, then output the future trajectory.",
            "<|cot_start|>",
        ),
    )
    def test_requests(self, request, sentence, opening):
        text = prompt.drive_prompt((), R1, request=request)
        self.assertEqual(text, HEAD + HISTORY + sentence + ASSISTANT + opening)

    @parameterized.parameters((), ("answer",), ("cot", "cot"), ("image", "cot"))
    def test_impossible_requests(self, *request):
        with pytest.raises(ConfigError, match="must be some of cot, meta_action, traj_future"):
            prompt.request_sentence(request)

    def test_conversation(self):
        text = prompt.drive_conversation(
            [(1, 1)],
            R1,
            {"cot": "Slow down.", "meta_action": "gentle deceleration"},
            request=("cot", "meta_action", "traj_future"),
        )
        self.assertTrue(text.startswith(HEAD + IMAGE + HISTORY + "output the chain-of-thought"))
        self.assertTrue(
            text.endswith(
                ASSISTANT
                + "<|cot_start|>Slow down.<|cot_end|>"
                + "<|meta_action_start|>gentle deceleration<|meta_action_end|>"
                + "<|traj_future_start|>"
                + "<|traj_future|>" * 128
                + "<|traj_future_end|><|im_end|>\n"
            )
        )

    def test_a_conversation_continues_its_prompt(self):
        whole = prompt.drive_conversation(CAMERAS, R1_5, {"cot": ""}, navigation="Go")
        start = prompt.drive_prompt(CAMERAS, R1_5, navigation="Go")
        self.assertTrue(whole.startswith(start))
        self.assertTrue(whole[len(start) :].startswith("<|cot_end|><|traj_future_start|>"))

    def test_question(self):
        start = prompt.question_prompt([(1, 1)], R1_5, "Is the light red?")
        self.assertEqual(
            start,
            HEAD
            + f"Front camera: frame 0 {IMAGE}<|question_start|>Is the light red?<|question_end|>"
            + ASSISTANT
            + "<|answer_start|>",
        )
        whole = prompt.question_conversation([(1, 1)], R1_5, "Is the light red?", "Yes.")
        self.assertEqual(whole, start + "Yes.<|answer_end|><|im_end|>\n")

    def test_missing_text(self):
        with pytest.raises(InputError, match="text for its component 'cot'"):
            prompt.drive_conversation(CAMERAS, R1, {})

    @parameterized.parameters("<|cot_end|>", "<|im_end|>", "<i17>", "a<|anything at all|>b")
    def test_texts_cannot_forge_tokens(self, bad):
        token = re.escape(bad.strip("ab"))
        with pytest.raises(InputError, match=f"navigation contains '{token}'"):
            prompt.drive_prompt(CAMERAS, R1_5, navigation=bad)
        with pytest.raises(InputError, match="cot contains"):
            prompt.drive_conversation(CAMERAS, R1, {"cot": bad})
        with pytest.raises(InputError, match="question contains"):
            prompt.question_prompt(CAMERAS, R1_5, bad)
        with pytest.raises(InputError, match="answer contains"):
            prompt.question_conversation(CAMERAS, R1_5, "?", bad)


class ExtractTest(parameterized.TestCase):
    @parameterized.parameters(
        ("<|cot_start|> Slow down. <|cot_end|><|traj_future_start|>", "Slow down."),
        ("Slow down.<|cot_end|>", "Slow down."),
        ("<|cot_start|>never ends", ""),
        ("<|cot_end|>late<|cot_start|>", ""),
        ("<|cot_start|>a<|cot_start|>b<|cot_end|>c<|cot_end|>", "b"),
        ("", ""),
    )
    def test_reasoning(self, text, want):
        self.assertEqual(prompt.extract_text(text, "cot"), want)

    def test_components_are_apart(self):
        text = prompt.drive_conversation(
            CAMERAS, R1, {"cot": "r", "meta_action": "m"}, request=("cot", "meta_action")
        )
        self.assertEqual(prompt.extract_text(text, "cot"), "r")
        self.assertEqual(prompt.extract_text(text, "meta_action"), "m")
        self.assertEqual(prompt.extract_text(text, "answer"), "")

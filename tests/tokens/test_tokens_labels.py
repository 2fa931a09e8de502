"""Which tokens are trained."""

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.presets import preset
from alpamayo_jax.tokens import labels, prompt
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError

CONFIG = preset("tiny")


def _ids(*texts):
    rows = [tiny_tokenizer(CONFIG).encode(text) for text in texts]
    length = max(map(len, rows))
    pad = CONFIG.text_tokens.pad_token_id
    return np.array([[pad] * (length - len(row)) + row for row in rows])


def _labelled(ids, mask):
    return tiny_tokenizer(CONFIG).decode(ids[mask])


class LabelsTest(parameterized.TestCase):
    def test_conversation(self):
        ids = _ids(prompt.drive_conversation([(1, 2)], CONFIG, {"cot": "Slow down."}))
        mask = labels.label_mask(ids, CONFIG)
        self.assertEqual(
            _labelled(ids[0], mask[0]),
            "<|cot_start|>Slow down.<|cot_end|><|traj_future_start|>"
            + "<|traj_future|>" * 128
            + "<|traj_future_end|><|im_end|>",
        )

    def test_one_component_only(self):
        ids = _ids(prompt.drive_conversation([], CONFIG, {"cot": "Slow down."}))
        mask = labels.label_mask(ids, CONFIG, components=("cot",))
        self.assertEqual(
            _labelled(ids[0], mask[0]), "<|cot_start|>Slow down.<|cot_end|><|im_end|>"
        )
        self.assertLen(labels.runs(mask[0]), 2)

    def test_answer(self):
        ids = _ids(prompt.question_conversation([(0, 1)], CONFIG, "Why?", "Because."))
        mask = labels.label_mask(ids, CONFIG)
        self.assertEqual(
            _labelled(ids[0], mask[0]), "<|answer_start|>Because.<|answer_end|><|im_end|>"
        )

    def test_padding_moves_labels(self):
        texts = [
            prompt.drive_conversation([], CONFIG, {"cot": cot}) for cot in ("", "Stop. " * 9)
        ]
        ids = _ids(*texts)
        mask = labels.label_mask(ids, CONFIG)
        for row, text in enumerate(texts):
            alone = _ids(text)
            want = labels.label_mask(alone, CONFIG)[0]
            np.testing.assert_array_equal(mask[row, -len(want) :], want)
            self.assertFalse(mask[row, : -len(want)].any())

    @parameterized.parameters(
        ("<|cot_start|>no end<|im_end|>", "starts at .0. and ends at .."),
        ("<|cot_end|><|cot_start|><|im_end|>", "starts at .1. and ends at .0."),
        (
            "<|cot_start|><|cot_start|><|cot_end|><|cot_end|><|im_end|>",
            "starts at .0, 1. and ends at .2, 3.",
        ),
        ("<|cot_start|><|cot_end|>", "no end of the assistant's turn"),
    )
    def test_unbalanced(self, text, message):
        with pytest.raises(InputError, match=f"row 0 of the batch.*{message}"):
            labels.label_mask(_ids(text), CONFIG)

    @parameterized.parameters(
        ([], []), ([0, 0], []), ([1], [(0, 0)]), ([0, 1, 1, 0, 1], [(1, 2), (4, 4)])
    )
    def test_runs(self, mask, want):
        self.assertEqual(labels.runs(np.array(mask, bool)), want)

"""Ids of added tokens, from the configuration alone."""

import dataclasses

import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.presets import preset
from alpamayo_jax.tokens import vocabulary

# The released vocabulary: name -> id.
RELEASE = {
    "endoftext": 151643, "im_end": 151645, "vision_start": 151652, "vision_end": 151653,
    "image_pad": 151655, "prompt_start": 155669, "prompt_end": 155670, "image_start": 155671,
    "image_pre_tkn": 155672, "image_end": 155673, "traj_history_start": 155674,
    "traj_history_pre_tkn": 155675, "traj_history_end": 155676, "cot_start": 155677,
    "cot_end": 155678, "meta_action_start": 155679, "meta_action_end": 155680,
    "traj_future_start": 155681, "traj_future_pre_tkn": 155682, "traj_future_end": 155683,
    "traj_history": 155684, "traj_future": 155685, "vectorized_wm": 155686,
    "vectorized_wm_start": 155687, "vectorized_wm_end": 155688, "vectorized_wm_pre_tkn": 155689,
    "route_start": 155690, "route_pad": 155691, "route_end": 155692, "question_start": 155693,
    "question_end": 155694, "answer_start": 155695, "answer_end": 155696,
}


class VocabularyTest(parameterized.TestCase):
    @parameterized.parameters("r1_10b", "r1_5_10b", "qwen3_vl_2b", "qwen3_vl_32b")
    def test_release_ids(self, name):
        config = preset(name)
        self.assertEqual(dict(vocabulary.special_token_ids(config)), RELEASE)
        self.assertEqual(config.language.vocab_size, max(RELEASE.values()) + 1)

    def test_release_trajectory_ids(self):
        tokens = preset("r1_10b").trajectory_tokens
        future, history = vocabulary.future_ids(tokens), vocabulary.history_ids(tokens)
        self.assertEqual((future[0], future[-1]), (151669, 154668))
        self.assertEqual((history[0], history[-1]), (154669, 155668))
        self.assertEqual(tokens.traj_token_end_idx, 155669)

    def test_tiny_fills_its_vocabulary(self):
        config = preset("tiny")
        ids = vocabulary.special_token_ids(config)
        self.assertLen(set(ids.values()), len(ids))
        self.assertEqual(max(ids.values()), config.language.vocab_size - 1)

    def test_padding_spellings_follow_ids(self):
        spelled = [n for n in vocabulary.SPECIAL_NAMES if vocabulary.padding_spelling(n)]
        self.assertEqual(
            [vocabulary.padding_spelling(n) for n in spelled],
            [f"<|_padding_{k}|>" for k in range(9)],
        )
        self.assertIsNone(vocabulary.padding_spelling("cot_start"))

    def test_unknown_name(self):
        with pytest.raises(ConfigError, match="'cot_begin'.*cot_start"):
            vocabulary.special_token_id(preset("tiny"), "cot_begin")

    def test_vocabulary_too_small(self):
        config = preset("tiny")
        language = dataclasses.replace(config.language, vocab_size=4539)
        with pytest.raises(ConfigError, match="4539.*at least 4540"):
            vocabulary.special_token_ids(dataclasses.replace(config, language=language))

    def test_bins_do_not_fit(self):
        config = preset("tiny")
        tokens = dataclasses.replace(config.trajectory_tokens, num_history_bins=1001)
        with pytest.raises(ConfigError, match="3000 future and 1001"):
            vocabulary.special_token_ids(dataclasses.replace(config, trajectory_tokens=tokens))

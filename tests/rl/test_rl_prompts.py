"""Windows as prompts: their order, what is known of them, what the policy reads."""

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.mirror import WithMirrored
from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.rl.prompts import Prompts
from alpamayo_jax.tokens.vocabulary import special_token_id
from fake_rollouts import Clips, prompts


def test_every_window_comes_once_before_any_comes_again():
    made = prompts()
    count = len(list_windows(Clips(), stride_s=0.1))
    whole = made.windows(0, count)
    assert len(set(whole)) == count == 15
    assert sorted(made.windows(1, count)) == sorted(whole) and made.windows(1, count) != whole
    assert made.windows(0, 5) + made.windows(1, 5) + made.windows(2, 5) == whole


def test_the_order_is_of_the_seed():
    assert prompts(1).windows(0, 15) == prompts(1).windows(0, 15) != prompts(2).windows(0, 15)


def test_a_situation():
    made = prompts()
    situation = made.situation((1, 1.7))
    assert situation.observation.clip_id == "drive1" and situation.observation.t0 == 1.7
    assert situation.target.ego_future_xyz.shape == (64, 3)
    assert situation.label is None
    clip = Clips().clip(1)
    assert (situation.scene is None) == (clip.agents is None)
    assert made.describe([(1, 1.7)]) == [{"clip_id": "drive1", "t0": 1.7}]


def test_prompts_end_where_generation_begins():
    made = prompts(pad_to=512)
    inputs = made.inputs([made.situation(w) for w in made.windows(0, 3)])
    assert inputs.input_ids.shape == (3, 512)
    assert (inputs.input_ids[:, -1] == special_token_id(made.processor.config, "cot_start")).all()
    assert inputs.attention_mask[:, -1].all() and not inputs.attention_mask[:, 0].any()
    meta = prompts(components=("meta_action", "traj_future"))
    inputs = meta.inputs([meta.situation(meta.windows(0, 1)[0])])
    wanted = special_token_id(made.processor.config, "meta_action_start")
    assert inputs.input_ids[0, -1] == wanted


def test_what_makes_no_prompts():
    made = prompts()
    with pytest.raises(ConfigError, match="no windows to roll out on"):
        Prompts(Clips(), [], made.processor, seed=0)
    with pytest.raises(ConfigError, match="must end with 'traj_future'"):
        prompts(components=("traj_future", "cot"))


def test_labels_of_a_source_reach_the_critic():
    source = make_source("controlled", num_clips=3, seed=0, wrong_reasoning=1.0)
    made = Prompts(source, [(0, 1.6)], prompts().processor, seed=0, num_frames=1)
    situation = made.situation((0, 1.6))
    # The label is right where what the clip says is wrong.
    assert situation.label is not None and situation.label.trace != situation.target.reasoning
    mirrored = WithMirrored(source)
    assert mirrored.label(0, 1.6) == situation.label and mirrored.label(3, 1.6) is None
    np.testing.assert_array_equal(situation.target.ego_future_xyz[:, 2], 0)

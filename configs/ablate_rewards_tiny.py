"""The paper's table of rewards in small, in about 40 minutes on two CPU cores.

    python experiments/ablate_rewards.py --config=configs/ablate_rewards_tiny.py --seeds=3 \\
        --workdir=OUT

Simulated moments with one known right decision each. Those of stage 1, which teaches the policy to
see, are right; those of stage 2 are wrong in the shares below, so that the policy begins near the
paper's supervised one; those of stage 3 and those held out are right.
"""

import ml_collections

from alpamayo_jax.settings import rl_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents all."""
    config = rl_config("micro")
    del config.stage
    config.data.update(
        source="controlled",
        num_clips=8000,
        num_test_clips=128,
        wrong_reasoning=0.5,  # share of drives that say something wrong
        wrong_trajectory=0.44,  # share of drives that do something else than they say
        num_frames=1,
        max_length=292,
    )
    config.tokens = ml_collections.ConfigDict(
        dict(
            components=("cot",),
            steps=200,
            batch_size=16,
            learning_rate=3e-3,
            beta2=0.95,
            weight_decay=0.05,
        )
    )
    config.tokens_data = ml_collections.ConfigDict(
        dict(wrong_reasoning=0.0, wrong_trajectory=0.0, max_length=160)
    )
    config.sft = ml_collections.ConfigDict(
        dict(
            components=("cot", "traj_future"),
            mean="two_means",
            steps=400,
            batch_size=16,
            learning_rate=3e-3,
            beta2=0.95,
            weight_decay=0.05,
        )
    )
    config.grpo_seed_offset = 1000  # drives of stage 3, and held-out ones, are of other seeds
    config.grpo_data = ml_collections.ConfigDict(
        dict(num_clips=1024, wrong_reasoning=0.0, wrong_trajectory=0.0, max_length=136)
    )
    config.grpo = ml_collections.ConfigDict(
        dict(steps=100, batch_size=8, learning_rate=5e-4, warmup_fraction=0.1, beta2=0.95)
    )
    config.rl.update(
        algorithm="grpo",
        num_samples=12,
        max_reasoning_tokens=24,
        temperature=1.0,
        top_p=1.0,
        constrained=True,
        eval_windows=128,
        eval_samples=6,
        picture_every=0,
    )
    config.reward.update(
        reasoning=2.0,
        consistency=1.0,
        imitation=1.0,
        collision=1.0,
        jerk=0.1,
        comfort=0.0,
        max_ade=2.5,  # beyond it a trajectory is another manoeuvre
    )
    return config

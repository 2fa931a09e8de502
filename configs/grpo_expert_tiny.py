"""Stage 3 of the action expert: the flow learns from rewards, the language model is frozen.

    python experiments/train.py --config=configs/grpo_expert_tiny.py --workdir=OUT

Every step of the stochastic flow is an action whose probability changes with its reward; afterwards
the policy is sampled as ever. Rewards of the reasoning are measured, but do not count here. Without
`--config.init_from=CHECKPOINT` stage 2 and the expert are trained first.
"""

import ml_collections

from alpamayo_jax.settings import rl_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents all."""
    config = rl_config("micro")
    config.data.update(
        source="controlled",
        num_clips=2000,
        num_test_clips=64,
        num_frames=1,
        max_length=292,
    )
    config.sft = ml_collections.ConfigDict()  # stage 2, from a random policy
    config.sft.update(
        mean="two_means", steps=300, batch_size=16, learning_rate=3e-3, beta2=0.95, weight_decay=0.05
    )
    config.expert = ml_collections.ConfigDict()  # then the flow
    config.expert.update(steps=400, batch_size=16, noises_per_row=4, learning_rate=1e-3)
    # Earlier stages see drives of which some do something else than they say; stage 3 right ones.
    config.sft_data = ml_collections.ConfigDict(dict(wrong_trajectory=0.3))
    config.expert_data = ml_collections.ConfigDict(dict(wrong_trajectory=0.3))
    config.stage.update(objective="grpo_expert", steps=40, batch_size=8, learning_rate=3e-4)
    config.run.save_every = 20
    config.rl.update(
        prompt_length=136, max_reasoning_tokens=24, eval_windows=64, picture_every=20
    )
    config.reward.update(reasoning=0.0, jerk=0.0, format=0.0)
    return config

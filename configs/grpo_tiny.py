"""Stage 3 in minutes on two CPU cores: what a small policy says and does comes to agree.

    python experiments/train.py --config=configs/grpo_tiny.py --workdir=OUT

The drives are simulated moments with one known right decision. In some of those that stage 2 learns
from, the reasoning or the trajectory is wrong; those of stage 3 are right.
With `--config.init_from=CHECKPOINT` it starts from that policy instead of training stage 2 first.
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
    config.sft_data = ml_collections.ConfigDict(
        dict(
            wrong_reasoning=0.3,  # share of drives that say something wrong
            wrong_trajectory=0.3,  # share of drives that do something else than they say
        )
    )
    config.stage.update(objective="grpo", steps=60, batch_size=8, learning_rate=5e-4, beta2=0.95)
    config.run.save_every = 20
    config.rl.update(
        prompt_length=136,
        max_reasoning_tokens=24,
        constrained=True,
        eval_windows=64,
        picture_every=20,
    )
    config.reward.update(reasoning=2.0, max_ade=2.5)  # farther off is another manoeuvre
    return config

"""The tiny policy's action expert by flow matching, its language model frozen.

Start from a policy whose language model is trained:

    python experiments/train.py --config=configs/expert_tiny.py --workdir=OUT3 \\
        --config.init_from=OUT2/checkpoint
"""

import ml_collections

from alpamayo_jax.settings import train_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents all."""
    config = train_config("tiny")
    config.data.update(num_frames=2, max_length=320, mirror=True)
    config.stage.update(
        components=("cot", "traj_future"),
        objective="expert",
        steps=400,
        batch_size=8,
        noises_per_row=4,
        learning_rate=1e-3,
        warmup_fraction=0.1,
        weight_decay=0.05,
    )
    config.run.save_every = 100
    return config

"""Stage 1 of the tiny policy: discrete trajectory tokens, in minutes on two CPU cores.

    python experiments/train.py --config=configs/tokens_tiny.py --workdir=OUT
"""

import ml_collections

from alpamayo_jax.settings import train_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents all."""
    config = train_config("tiny")
    config.data.update(num_frames=2, max_length=320, mirror=True)
    config.stage.update(
        objective="tokens",
        components=("traj_future",),
        mean="two_means",
        steps=300,
        batch_size=8,
        learning_rate=1e-3,
        warmup_fraction=0.1,
        weight_decay=0.05,
    )
    config.run.save_every = 100
    return config

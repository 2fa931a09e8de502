"""Every parameter of a released policy's language model, on 8 hosts of 8 GPUs.

The same command on each host; `configs/cluster/` has launch files that do it:

    python experiments/train.py --config=configs/full_cluster.py --workdir=SHARED_OUT \\
        --config.init_from=CHECKPOINT --config.data.root=CLIPS

Parameters are split over the GPUs of a host and copied over hosts, so that what travels between
hosts is gradients, once per step. With other numbers of hosts or GPUs change `mesh` alone.
"""

import ml_collections

from alpamayo_jax.settings import train_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents all."""
    config = train_config(preset="")
    config.data.update(source="clips", num_workers=8, cache_mb=0)
    config.stage.update(
        objective="tokens",
        mean="two_means",
        steps=10_000,
        batch_size=256,
        accumulate=4,
        learning_rate=2e-5,
        warmup_fraction=0.05,
        vision_factor=0.1,
        ema_decay=0.999,
        remat="full",
    )
    config.mesh.update(data=-1, fsdp=8)
    config.precision.update(frozen="bfloat16", compute="bfloat16")
    config.run.update(save_every=500, keep_last=3, validation_batches=8)
    return config

"""Every parameter of a released policy's language model, on 8 GPUs of 80 GB.

    python experiments/train.py --config=configs/full_8gpu.py --workdir=OUT \\
        --config.init_from=CHECKPOINT --config.data.root=CLIPS

The rates are those of the released recipe for stage 1. For the action expert on top of it add
`--config.stage.objective=expert --config.stage.learning_rate=1e-4 --config.stage.vision_factor=1`.
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
        batch_size=32,
        accumulate=4,
        learning_rate=1e-5,
        warmup_fraction=0.05,
        vision_factor=0.1,
        remat="full",
    )
    config.mesh.fsdp = -1
    config.precision.update(frozen="bfloat16", compute="bfloat16")
    config.run.update(save_every=500, validation_batches=8)
    return config

"""A released policy on your own clips with one GPU of 40 GB or more: low-rank adapters.

    python experiments/train.py --config=configs/lora_1gpu.py --workdir=OUT \\
        --config.init_from=CHECKPOINT --config.data.root=CLIPS

The export has the adapters merged. Clips are folders as `data/clip_folder.py` describes them; those
with reasoning labels teach reasoning too.
"""

import ml_collections

from alpamayo_jax.settings import train_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents all."""
    config = train_config(preset="")
    config.data.update(source="clips", num_workers=4, cache_mb=0)
    config.stage.update(
        objective="tokens",
        steps=2000,
        batch_size=8,
        accumulate=8,
        learning_rate=1e-4,
        warmup_fraction=0.03,
        remat="full",
        lora_rank=16,
        lora_alpha=32.0,
    )
    config.precision.update(params="bfloat16", compute="bfloat16")
    config.run.update(save_every=200, validation_batches=4)
    return config

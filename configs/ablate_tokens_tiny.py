"""The paper's comparison of vision compressors with the tiny policy on simulated drives.

    python experiments/ablate_tokens.py --config=configs/ablate_tokens_tiny.py --seeds=3 --workdir=OUT

An image of the tiny policy has 15 tokens where the paper's has 160; the variants have the names of
the paper's rows and compress as these do. Recorded clips, with what cameras they have:

    ... --config.data.source=clips --config.data.root=DIR --config.ablation.cameras=0,
"""

import ml_collections

from alpamayo_jax.settings import train_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents the others."""
    config = train_config("tiny")
    config.data.update(
        num_clips=12,
        num_test_clips=4,
        train_stride_s=0.5,
        test_stride_s=1.0,
        num_frames=1,
        max_length=448,
    )
    config.stage.update(
        objective="joint",
        components=("cot", "traj_future"),
        mean="two_means",
        steps=60,
        batch_size=4,
        noises_per_row=2,
        learning_rate=1e-3,
        warmup_fraction=0.1,
        weight_decay=0.05,
    )

    config.eval = evaluation = ml_collections.ConfigDict()
    evaluation.num_samples = 6
    evaluation.batch_size = 8
    evaluation.max_windows = 24
    evaluation.max_new_tokens = 24
    evaluation.temperature = 0.6

    config.ablation = ablation = ml_collections.ConfigDict()
    ablation.cameras = (4, 7)  # rigs of the simulated drives; 0: the cameras that clips have
    ablation.timing_rounds = 5

    # Each is a vision compressor; tokens_per_image is of Flex, patch and planes are the triplane's.
    # paper: relative minADE_6 in percent, and parameters, as in the paper's table.
    image = 15 / 160
    ablation.variants = variants = ml_collections.ConfigDict()
    variants.per_image = dict(compressor="per_image", paper=0.0)
    variants.triplane_4_6_6 = dict(compressor="triplane", patch=(2, 3, 2), paper=-3.0)
    variants.triplane_8_8_8 = dict(compressor="triplane", patch=(3, 4, 3), paper=4.0)
    variants.flex_50 = dict(compressor="flex", tokens_per_image=50 * image, paper=-3.0)
    variants.flex_32 = dict(compressor="flex", tokens_per_image=32 * image, paper=-3.0)
    variants.flex_16 = dict(compressor="flex", tokens_per_image=16 * image, paper=-2.0)
    variants.flex_8 = dict(compressor="flex", tokens_per_image=8 * image, paper=-2.0)
    return config

"""The paper's comparison of vision compressors in small, on two CPU cores.

    python experiments/ablate_tokens.py --config=configs/ablate_tokens_tiny.py --seeds=3 --workdir=OUT

As in the paper, all variants start from one policy that sees and drives: it learns from one camera,
image by image. Each variant then learns moments seen by four cameras, with one right decision each:
what asks for it is far ahead, large in the long lens and small in the wide one, so that a compressor
has to keep it. An image has 16 tokens where the paper's has 160; the variants have the names of the paper's rows and compress
nearly as these do: 1.4, 4, 3.2, 4.9, 10.7 and 21 times where the paper has 1.5, 3.6, 3.2, 5, 10 and
20. All seven cameras as well, procedural drives, or recorded clips with what cameras they have:

    ... --config.ablation.cameras=4,7
    ... --config.data.source=procedural --config.data.max_length=448
    ... --config.data.source=clips --config.data.root=DIR --config.ablation.cameras=0,
"""

import ml_collections

from alpamayo_jax.settings import train_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents the others."""
    config = train_config("micro")
    config.data.update(
        source="controlled",
        num_clips=4000,
        num_test_clips=64,
        num_frames=1,
        max_length=348,  # image by image; a variant with fewer scene tokens has shorter rows
        cache_mb=256,
    )
    usual = dict(
        components=("cot", "traj_future"),
        mean="two_means",
        learning_rate=3e-3,
        warmup_fraction=0.1,
        beta2=0.95,
        weight_decay=0.05,
    )
    # The policy that all start from.
    config.start_data = ml_collections.ConfigDict(dict(cameras=1, max_length=296))
    config.tokens = ml_collections.ConfigDict(dict(usual, steps=250, batch_size=16))
    config.expert = ml_collections.ConfigDict(
        dict(usual, steps=500, batch_size=8, noises_per_row=8)
    )
    config.stage.update(
        usual | dict(objective="joint", steps=350, batch_size=8, noises_per_row=1),
        learning_rate=2e-3,
    )

    config.eval = evaluation = ml_collections.ConfigDict()
    evaluation.num_samples = 6
    evaluation.batch_size = 16
    evaluation.max_windows = 64
    evaluation.max_new_tokens = 24
    evaluation.temperature = 0.6

    config.ablation = ablation = ml_collections.ConfigDict()
    ablation.cameras = (4,)  # rigs of the simulated drives; 0: the cameras that clips have
    ablation.timing_rounds = 5

    # Each is a vision compressor; tokens_per_image is of Flex, patch of the triplane.
    # paper: relative minADE_6 in percent, as in the paper's table.
    image = 16 / 160
    ablation.variants = variants = ml_collections.ConfigDict()
    variants.per_image = dict(compressor="per_image", paper=0.0)
    variants.triplane_4_6_6 = dict(compressor="triplane", patch=(2, 2, 2), paper=-3.0)
    variants.triplane_8_8_8 = dict(compressor="triplane", patch=(3, 4, 3), paper=4.0)
    variants.flex_50 = dict(compressor="flex", tokens_per_image=50 * image, paper=-3.0)
    variants.flex_32 = dict(compressor="flex", tokens_per_image=32 * image, paper=-3.0)
    variants.flex_16 = dict(compressor="flex", tokens_per_image=16 * image, paper=-2.0)
    variants.flex_8 = dict(compressor="flex", tokens_per_image=8 * image, paper=-2.0)
    return config

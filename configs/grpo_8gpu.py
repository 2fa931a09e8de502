"""Stage 3 of a released policy on 8 GPUs of 80 GB, in one process: rollouts, rewards and updates.

    python experiments/train.py --config=configs/grpo_8gpu.py --workdir=OUT \\
        --config.init_from=CHECKPOINT --config.data.root=CLIPS --config.data.labels=LABELS

Groups of 12 and the ratio's bounds are those of the released recipe; its rewards are not. The whole
language model trains; `--config.stage.lora_rank=16 --config.stage.learning_rate=2e-5` trains adapters
instead, whose reference policy needs no memory of its own. For a language model as the critic add
`--config.reward.critic=endpoint --config.reward.critic_url=URL --config.reward.critic_model=NAME`.
"""

import ml_collections

from alpamayo_jax.settings import rl_config


def get_config() -> ml_collections.ConfigDict:
    """Knobs that differ from their defaults; `alpamayo_jax/settings.py` documents all."""
    config = rl_config(preset="")
    config.data.update(source="clips", num_frames=4, max_length=3200)
    config.stage.update(
        objective="grpo",
        steps=1000,
        batch_size=32,
        accumulate=4,
        learning_rate=2e-6,
        remat="full",
        weight_decay=0.01,
        schedule="constant",
        warmup_fraction=0.0,
    )
    config.mesh.fsdp = -1
    config.precision.update(frozen="bfloat16", compute="bfloat16")
    config.run.save_every = 50
    config.rl.update(
        num_samples=12,
        temperature=0.6,
        top_p=0.98,
        max_reasoning_tokens=256,
        kl=0.01,
        oversample=2,
        copy_params=True,
        picture_every=20,
    )
    return config

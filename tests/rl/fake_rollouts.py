"""A sampler without a model, and prompts of small clips, for tests of what is around them."""

import jax
import numpy as np

from alpamayo_jax.data.sources import list_windows
from alpamayo_jax.rl.prompts import Prompts
from alpamayo_jax.rl.rewards.base import Scores
from alpamayo_jax.rl.types import RolloutSettings, Rollouts
from alpamayo_jax.testing.clips import small_clip
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import Trajectory

W = 64  # waypoints of the clips


class Clips:
    """Two drives of one camera."""

    name = "two drives"

    def __len__(self):
        return 2

    def clip(self, index):
        return small_clip(seconds=(8.4, 8.9)[index], seed=index, size=(16, 8), clip_id=f"drive{index}")


def prompts(seed: int = 0, **options) -> Prompts:
    config, source = tiny_config(), Clips()
    processor = Processor(config, tiny_tokenizer(config))
    windows = list_windows(source, stride_s=0.1)
    return Prompts(source, windows, processor, seed=seed, num_frames=1, **options)


class FakeSampler:
    """Samples that the key decides: as many tokens, as far to the left, and with a whole trajectory
    or without."""

    def __init__(self, num_samples: int = 3, limit: int = 5):
        self.settings = RolloutSettings(num_samples=num_samples, max_reasoning_tokens=limit)
        self.shard = (0, 1)
        self.calls = 0

    def ready(self, params):
        return params

    def __call__(self, params, inputs, rng) -> Rollouts:
        self.calls += 1
        batch, samples = len(inputs.input_ids), self.settings.num_samples
        limit = self.settings.max_reasoning_tokens
        random = np.random.default_rng(np.asarray(jax.random.key_data(rng)))
        length = random.integers(1, limit + 1, (batch, samples))
        mask = np.arange(limit) < length[..., None]
        xyz = np.zeros((batch, samples, W, 3), np.float32)
        xyz[..., 0] = np.arange(1, W + 1)
        xyz[..., 1] = random.normal(size=(batch, samples, 1)) * float(params)
        return Rollouts(
            inputs=inputs,
            token_ids=np.where(mask, random.integers(0, 200, mask.shape), 281).astype(np.int32),
            mask=mask,
            logprobs=np.where(mask, -random.uniform(0, 3, mask.shape), 0).astype(np.float32),
            num_tokens=length.astype(np.int32),
            ended=random.uniform(size=length.shape) < 0.5,
            trajectory=Trajectory(xyz, np.broadcast_to(np.eye(3, dtype=np.float32), (*xyz.shape, 3))),
            trajectory_valid=random.uniform(size=length.shape) < 0.7,
        )


class Leftness:
    """How far to the left a sample is; nothing is known of those without a whole trajectory."""

    name, unit, low, high, cost = "left", "m", 0.0, 1.0, False

    def __call__(self, episodes) -> Scores:
        values = episodes.xyz[..., 0, 1]
        valid = episodes.trajectory_valid
        return Scores(np.where(valid, values, 0).astype(np.float32), valid.copy(), valid.copy())

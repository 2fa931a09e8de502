"""Rollouts of windows with given parameters: prompts go to the devices, episodes come back."""

from typing import Any, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.distributed import global_batch
from alpamayo_jax.rl.rewards.base import Episodes, Situation
from alpamayo_jax.rl.rollout import make_rollout
from alpamayo_jax.rl.types import Rollouts, RolloutSettings
from alpamayo_jax.sharding import AxisRules, Layout, batch_shardings, replicated
from alpamayo_jax.tokens.prompt import extract_text
from alpamayo_jax.tokens.tokenizer import Tokenizer
from alpamayo_jax.train.assemble import global_shapes
from alpamayo_jax.train.step import narrow_kernels
from alpamayo_jax.types import ModelInputs


class Sampler:
    """A rollout program where its parameters lie, and what goes in and comes out of it."""

    def __init__(
        self,
        config: ModelConfig,
        settings: RolloutSettings,
        *,
        layout: Layout | None = None,
        shard: tuple[int, int] = (0, 1),
        copy_params: bool = False,
    ):
        """Compiles nothing yet.

        Args:
          config: model, with the number formats of training.
          settings: how to sample.
          layout: the mesh of the parameters; None: one device.
          shard: (which part of every batch this process feeds, how many parts there are).
          copy_params: gather all parameters on every device of the mesh before sampling.
        """
        self.settings, self.shard = settings, shard
        self._layout = layout
        self._program = make_rollout(config, settings, layout=layout)
        everywhere = replicated(layout.mesh) if layout and copy_params else None
        self._ready = jax.jit(
            lambda params: narrow_kernels(params, config.precision.compute),
            out_shardings=everywhere,
        )

    def place(self, batch: Any) -> Any:
        """Rows of this process as arrays of the whole batch on the devices."""
        if self._layout is None:
            return batch
        shapes = global_shapes(batch, self.shard[1])
        return global_batch(batch, batch_shardings(shapes, self._layout.mesh, AxisRules()))

    def fetch(self, tree: Any) -> Any:
        """The rows of this process of arrays with rows first, as NumPy arrays."""
        if jax.process_count() == 1:
            return jax.device_get(tree)
        index, count = self.shard

        def rows(array):
            whole = multihost_utils.process_allgather(array, tiled=True)
            size = len(whole) // count
            return np.asarray(whole[index * size : (index + 1) * size])

        return jax.tree.map(rows, tree)

    def ready(self, params: dict) -> dict:
        """Parameters as the program reads them: in the type of computation, and where they belong.

        Several rollouts with the same parameters share it.
        """
        return self._ready(params)

    def __call__(self, ready: dict, inputs: ModelInputs, rng: jax.Array) -> Rollouts:
        """Draws a group per prompt.

        Args:
          ready: parameters, from `ready`.
          inputs: host prompts of this process.
          rng: key, the same on every process.

        Returns:
          The rollouts of these prompts, on the host.
        """
        out = self._program(ready, self.place(inputs), rng)
        return self.fetch(out.replace(inputs=None)).replace(inputs=inputs)


def episodes(
    rollouts: Rollouts, situations: Sequence[Situation], tokenizer: Tokenizer, limit: int
) -> Episodes:
    """Rollouts on the host as what rewards look at.

    Args:
      rollouts: B prompts.
      situations: B.
      tokenizer: of the policy.
      limit: most tokens of reasoning.
    """
    thoughts = np.asarray(rollouts.token_ids)[..., :limit]
    return Episodes(
        situations=tuple(situations),
        reasoning=tuple(
            tuple(extract_text(tokenizer.decode(ids), "cot") for ids in group) for group in thoughts
        ),
        xyz=np.asarray(rollouts.trajectory.xyz),
        rot=np.asarray(rollouts.trajectory.rot),
        trajectory_valid=np.asarray(rollouts.trajectory_valid),
        ended=np.asarray(rollouts.ended),
        num_tokens=np.asarray(rollouts.num_tokens),
    )


def everyone(tree: Any) -> Any:
    """Rows (the first axis) of NumPy arrays of all processes, in their order."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(
        lambda array: np.concatenate(list(multihost_utils.process_allgather(array))), tree
    )

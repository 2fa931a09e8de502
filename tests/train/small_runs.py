"""Runs of a policy of two layers on two small clips, for the tests of this folder."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from alpamayo_jax.config import ActionSpaceConfig, ModelConfig
from alpamayo_jax.data.sources import list_windows, make_source
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.models.init import param_shapes
from alpamayo_jax.settings import DataSettings, StageSettings
from alpamayo_jax.testing.clips import write_small_clip
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.train.assemble import Start, Windows, make_training
from alpamayo_jax.train.run import Folder, Training

STAGE = StageSettings(steps=12, batch_size=2, learning_rate=1e-3, ema_decay=0.9)
DATA = DataSettings(num_frames=1, max_length=560)


def small_config() -> ModelConfig:
    """`testing.tiny` with the trajectory length of the clips."""
    tokens = dataclasses.replace(tiny_config().trajectory_tokens, tokens_per_future_traj=128)
    return tiny_config(action=ActionSpaceConfig(), trajectory_tokens=tokens)


def small_policy() -> Policy:
    """Its parameters are shapes: random ones are made where a run begins."""
    config = small_config()
    return Policy(config=config, params=param_shapes(config), tokenizer=tiny_tokenizer(config))


def write_clips(root: pathlib.Path) -> pathlib.Path:
    for number, seconds in enumerate((8.3, 8.6)):
        write_small_clip(root / f"clip{number}", seconds=seconds, seed=number, size=(16, 8))
    return root


def small_training(clips: pathlib.Path, stage: StageSettings = STAGE, **options: Any) -> Training:
    """A stage on the clips of `write_clips`."""
    source = make_source("clips", root=str(clips))
    windows = Windows(source, list_windows(source))
    data = options.pop("data", DATA)
    start = options.pop("start", Start(small_policy(), None, seed=3))
    return make_training("small", stage, start, windows, data, held_out=windows, **options)


def folder(path: pathlib.Path, **options: Any) -> Folder:
    return Folder(path=path, config={"name": "small"}, **({"save_every": 3} | options))


def assert_same_bits(found: Any, expected: Any) -> None:
    """Trees of equal structure, types and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        a, b = np.atleast_1d(a), np.atleast_1d(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))


class Interruption(Exception):
    pass


def failing(training, after):
    """`training` that fails in its step number `after` + 1 from here."""
    left = [after]

    def step(*args):
        left[0] -= 1
        if left[0] < 0:
            raise Interruption
        return training.step(*args)

    return dataclasses.replace(training, step=step)

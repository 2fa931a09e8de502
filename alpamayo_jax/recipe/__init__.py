"""One `ConfigDict` -> data, policy, training and driving: the only place where it becomes parts.

A configuration is what a file in `configs/` returns; its comments say what each knob means.
"""

from alpamayo_jax.recipe.checks import check
from alpamayo_jax.recipe.closed_loop import drive_closed_loop
from alpamayo_jax.recipe.data import Data, make_data, test_windows
from alpamayo_jax.recipe.learning import Learned, learn_stage, learns_from_rewards, make_learning
from alpamayo_jax.recipe.sections import EARLIER, of_stage, sample_settings, stage_settings
from alpamayo_jax.recipe.stages import make_folder, make_training, train_stage
from alpamayo_jax.recipe.start import describe_start, make_policy

__all__ = [
    "EARLIER",
    "Data",
    "Learned",
    "check",
    "describe_start",
    "drive_closed_loop",
    "learn_stage",
    "learns_from_rewards",
    "make_data",
    "make_folder",
    "make_learning",
    "make_policy",
    "make_training",
    "of_stage",
    "sample_settings",
    "stage_settings",
    "test_windows",
    "train_stage",
]

"""experiments/ablate_rewards.py: a policy that was stopped early is never a row of the table."""

import runpy

import pytest
from script_process import EXPERIMENTS

from alpamayo_jax.train.loop import History


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("absl.flags.DEFINE_string", lambda *_, **__: None)
        patch.setattr("absl.flags.DEFINE_integer", lambda *_, **__: None)
        patch.setattr("absl.flags.DEFINE_multi_enum", lambda *_, **__: None)
        patch.setattr("absl.flags.mark_flag_as_required", lambda *_, **__: None)
        patch.setattr("ml_collections.config_flags.DEFINE_config_file", lambda *_, **__: None)
        return runpy.run_path(str(EXPERIMENTS / "ablate_rewards.py"), run_name="script")


@pytest.mark.parametrize("steps, done", [([1, 2, 3], 3), ([], 0)])
def test_what_stopped_early_is_refused(script, steps, done):
    history = History(steps, {}, 1.0, 0.0)
    with pytest.raises(script["Stopped"], match=f"row all: stopped after step {done} of 4"):
        script["_require_end"](history, 4, "seed 0, row all")


def test_what_ended_is_accepted(script):
    script["_require_end"](History([2, 4], {}, 1.0, 0.0), 4, "seed 0, row all")

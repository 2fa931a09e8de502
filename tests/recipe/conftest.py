"""configs/tiny.py with little to do."""

import importlib.util
import pathlib

import pytest

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "tiny.py"


@pytest.fixture
def get_config():
    """What configs/tiny.py offers: a function without arguments."""
    spec = importlib.util.spec_from_file_location("tiny_config_file", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config


@pytest.fixture
def config(get_config):
    config = get_config()
    config.data.update(num_clips=2, num_test_clips=1, train_stride_s=2.0, num_frames=1)
    config.tokens.update(steps=2, batch_size=2)
    config.sft.update(steps=2, batch_size=2)
    config.expert.update(steps=2, batch_size=2, noises_per_row=2)
    config.eval.update(num_samples=2, batch_size=2, max_new_tokens=4)
    config.lock()
    return config

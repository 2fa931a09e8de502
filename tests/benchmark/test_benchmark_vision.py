"""Suite vision, at the smallest sizes."""

import pytest

from alpamayo_jax import presets
from alpamayo_jax.benchmark import vision
from alpamayo_jax.testing.tiny import tiny_config


def test_cases_have_four_and_seven_cameras():
    assert [(c.preset, c.cameras) for c in vision.cases("cpu")] == [("tiny", 4), ("tiny", 7)]
    assert len(vision.cases("gpu")) == 4


@pytest.mark.parametrize("cameras, tokens", [(4, 16), (7, 26)])
def test_policies_are_those_of_the_case(cameras, tokens, monkeypatch):
    monkeypatch.setattr(vision, "new_policy", lambda model, key: model)
    case = vision.Case("tiny", cameras, language_layers=1, vision_layers=1)
    model = case.policy("triplane")
    assert (model.language.num_layers, model.vision.depth) == (1, 1)
    assert model.tokens_per_step == tokens  # half of the grid for cameras that look ahead
    assert case.policy("per_image").vision.compressor == "per_image"
    assert len(case.observation().cameras) == cameras


@pytest.mark.slow
def test_it_is_measured(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "small", tiny_config)
    result = vision.run((vision.Case("small", 4),), rounds=1)
    names = [f"small/4_cameras/{c}" for c in ("per_image", "triplane", "flex")]
    assert set(result["savings"]) == set(names)
    assert set(result["phases"]) == {f"{n}/{p}" for n in names for p in ("vision", "prefill")}
    base = result["phases"][f"{names[0]}/prefill"]
    for name in names:
        row = result["phases"][f"{name}/vision"]
        assert row["median"] > 0 and row["memory_mib"] > 0
        ratio = base["prompt_tokens"] / row["prompt_tokens"]
        assert result["savings"][name]["prompt_ratio"] == ratio
    flex = result["phases"][f"{names[2]}/vision"]
    assert flex["scene_tokens"] == 12

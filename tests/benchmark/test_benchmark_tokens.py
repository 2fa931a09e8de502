"""The comparison of compressors, without the training."""

import importlib.util
import json
import pathlib

import pytest

from alpamayo_jax import recipe
from alpamayo_jax.benchmark import tokens
from alpamayo_jax.config import ConfigError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def _config():
    path = ROOT / "configs" / "ablate_tokens_tiny.py"
    spec = importlib.util.spec_from_file_location("ablate_tokens_tiny", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def test_rows_are_the_papers_in_its_order():
    rows = tokens.variants(_config())
    assert [row.name for row in rows] == [
        "per_image", "triplane_4_6_6", "triplane_8_8_8", "flex_50", "flex_32", "flex_16", "flex_8"
    ]  # fmt: skip
    assert {row.name: row.paper for row in rows}["triplane_8_8_8"] == 4.0


@pytest.mark.parametrize("cameras", [4, pytest.param(7, marks=pytest.mark.slow)])
def test_every_row_is_a_valid_training_of_its_rig(cameras):
    config = _config()
    counts = {}
    for row in tokens.variants(config):
        run = tokens.configured(config, row, cameras, seed=3)
        recipe.check(run)
        model = recipe.describe_start(run).config
        counts[row.name] = model.tokens_per_step or 16 * cameras
        assert (run.seed, run.data.cameras) == (3, cameras)
        assert model.language.hidden_size == 96
    # As nearly as whole tokens allow, the paper's ratios of 1.5, 3.6 (front half, four cameras), 3.2,
    # 5, 10 and 20.
    assert list(counts.values()) == {
        4: [64, 45, 16, 20, 13, 6, 3], 7: [112, 72, 26, 35, 22, 11, 6]
    }[cameras]  # fmt: skip


def test_bad_variants_are_refused():
    config = _config()
    with config.unlocked():
        config.ablation.variants.flex_8.colour = "red"
    with pytest.raises(ConfigError, match="flex_8.*colour"):
        tokens.variants(config)
    config = _config()
    config.ablation.variants.flex_8.compressor = "squeeze"
    with pytest.raises(ConfigError, match="compressors are per_image, triplane, flex"):
        tokens.variants(config)
    config = _config()
    del config.ablation.variants.per_image
    with pytest.raises(ConfigError, match="per_image"):
        tokens.variants(config)


def test_the_table_compares_seed_by_seed(tmp_path):
    config, rows = _config(), tokens.variants(_config())[:3]
    errors = {"per_image": (4.0, 2.0), "triplane_4_6_6": (3.6, 1.9), "triplane_8_8_8": (4.4, 1.9)}
    results = {
        name: [{"min_ade": e, "ade_most_likely": 2 * e, "clips_per_second": 2.0} for e in own]
        for name, own in errors.items()
    }
    counts = {"per_image": 15.0, "triplane_4_6_6": 8.25, "triplane_8_8_8": 4.0}
    lines = tokens.table(config, rows, 4, results, {"per_image": {"vision_ms": 1.5}}, counts)
    by_name = {line["variant"]: line for line in lines}
    finer, coarser = by_name["triplane_4_6_6"], by_name["triplane_8_8_8"]
    assert finer["relative_percent"] == pytest.approx(-7.5)
    assert finer["relative_std"] == pytest.approx(3.5355, rel=1e-3)
    assert finer["same_direction"] == "yes" and coarser["same_direction"] == "unclear"
    assert coarser["compression"] == pytest.approx(3.75) and coarser["added_parameters"] > 0
    assert by_name["per_image"]["vision_ms"] == 1.5
    assert by_name["per_image"]["ade_most_likely"] == 6.0
    means = tokens.summary(lines)["4_cameras"]["triplane_4_6_6"]
    assert means == {"min_ade": 2.75, "relative_percent": finer["relative_percent"]}
    tokens.write_table(tmp_path, lines, "text")
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["variant"] == "per_image"
    assert (tmp_path / "table.md").read_text() == "text\n"


class Trained:
    """Stages that take no time; what was trained, and from which checkpoint."""

    def __init__(self, monkeypatch):
        self.stages, self.starts, self.saved = [], [], []

        class Policy:
            def save(policy, path):
                self.saved.append(path)

        def make_policy(run):
            self.starts.append(run.get("init_from"))
            return Policy()

        def train_stage(name, run, policy, data, **options):
            self.stages.append(name)
            return policy, Result()

        monkeypatch.setattr(tokens.recipe, "make_data", lambda run: Data())
        monkeypatch.setattr(tokens.recipe, "make_policy", make_policy)
        monkeypatch.setattr(tokens.recipe, "train_stage", train_stage)
        monkeypatch.setattr(tokens.recipe, "test_windows", lambda run, data: (1, 2))
        monkeypatch.setattr(tokens, "evaluate", lambda *args, **options: Result())


class Data:
    source = None


class Result:
    """Of training and of evaluation."""

    steps = [10, 60]
    metrics = {"step_seconds": [9.0, 0.5, 0.5], "loss": [3.0, 2.0]}

    def mean(self):
        return {"min_ade": 1.25, "ade_most_likely": 2.5}


@pytest.fixture
def trained(monkeypatch):
    return Trained(monkeypatch)


def test_a_run_that_is_done_is_not_done_again(tmp_path, trained):
    config = _config()
    config.stage.update(steps=60, batch_size=4)
    run = tokens.configured(config, tokens.variants(config)[0], 4, 0)
    path, start = tmp_path / "run.json", tmp_path / "checkpoint"
    first = tokens.one_run(run, Data(), start, path)
    assert first == {
        "min_ade": 1.25, "ade_most_likely": 2.5, "loss": 2.0, "clips_per_second": 8.0, "windows": 2
    }  # fmt: skip
    assert tokens.one_run(run, Data(), start, path) == first
    assert trained.stages == ["stage"] and trained.starts == [str(start)]
    run.stage.steps += 1  # another budget is another run, and this one ended too early
    with pytest.raises(tokens.Interrupted, match="run after step 60"):
        tokens.one_run(run, Data(), start, path)
    assert trained.stages == ["stage"] * 2


def test_all_start_from_one_policy_trained_once(tmp_path, trained):
    config = _config()
    config.tokens.steps, config.expert.steps = 60, 60
    for _ in range(2):
        assert tokens.make_start(config, tmp_path) == tmp_path / "checkpoint"
    assert trained.stages == ["tokens", "expert"] and trained.saved == [tmp_path / "checkpoint"]
    config.tokens.steps = 61
    with pytest.raises(tokens.Interrupted, match="the start"):
        tokens.make_start(config, tmp_path)
    del config.tokens, config.expert
    assert tokens.make_start(config, tmp_path) is None


def test_fewer_scene_tokens_make_shorter_rows():
    config, row = _config(), tokens.variants(_config())[-1]
    before = tokens.configured(config, row, 4, 0).data.max_length
    assert tokens.configured(config, row, 4, 0, saved=61).data.max_length == before - 61

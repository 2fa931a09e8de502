"""What the objectives ask for and compute: driving and answering rows, padding, weights of terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.collate import concatenate
from alpamayo_jax.testing.tiny import random_params, random_train_batch, tiny_config
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train import objectives
from alpamayo_jax.types import CameraFrames, Observation, Target

CONFIG = tiny_config()
TERMS = ("loss_future_traj", "loss_others", "loss_tokens", "loss_flow")


def prepared(objective, batch, seed=0):
    return jax.jit(objective.prepare)(batch, jax.random.key(seed))


def on_host(batch):
    return jax.tree.map(np.asarray, batch)


@pytest.fixture(scope="module")
def drive():
    return on_host(random_train_batch(CONFIG, (((4, 4),),)))


@pytest.fixture(scope="module")
def answer():
    """One question about one picture, and its answer."""
    steps, waypoints = CONFIG.trajectory_tokens.num_history_steps, CONFIG.action.n_waypoints
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (1, 16, 16, 3), np.uint8)
    pose = lambda n: np.broadcast_to(np.eye(3, dtype=np.float32), (n, 3, 3))  # noqa: E731
    observation = Observation(
        cameras=(CameraFrames(1, image, np.zeros(1)),),
        ego_history_xyz=np.zeros((steps, 3), np.float32),
        ego_history_rot=pose(steps),
        question="Is the light red?",
    )
    target = Target(np.zeros((waypoints, 3), np.float32), pose(waypoints), answer="It is green.")
    processor = Processor(CONFIG, tiny_tokenizer(CONFIG))
    return processor.train_batch([observation], [target], mode="answer")


@pytest.fixture(scope="module")
def mixed(drive, answer):
    return concatenate([drive, answer], CONFIG)


@pytest.fixture(scope="module")
def objective():
    return objectives.joint_objective(
        CONFIG, mean="two_means", noises_per_row=3, flow_weight=0.5, token_weight=2.0
    )


def test_what_counts(mixed, objective):
    examples, weights = prepared(objective, mixed)
    assert weights.keys() == set(TERMS)
    assert weights["loss_flow"].tolist() == [[True] * 3, [False] * 3]
    future = weights["loss_future_traj"].sum(-1).tolist()
    assert future == [CONFIG.trajectory_tokens.tokens_per_future_traj + 2, 0]
    labelled = weights["loss_future_traj"] | weights["loss_others"]
    np.testing.assert_array_equal(labelled, weights["loss_tokens"])
    np.testing.assert_array_equal(labelled, mixed.labels_mask[:, 1:])
    assert weights["loss_others"][1].sum() > 5
    for name in ("traj_future", "traj_history"):
        assert not (examples.inputs.input_ids == special_token_id(CONFIG, name)).any()
    assert examples.noisy.shape == examples.velocity.shape == (2, 3, CONFIG.action.n_waypoints, 2)
    assert len(np.unique(examples.time)) == 6


def test_meta_actions_are_labelled(drive):
    """Each component of a driving conversation counts where it is present."""
    steps, waypoints = CONFIG.trajectory_tokens.num_history_steps, CONFIG.action.n_waypoints
    eye = lambda n: np.broadcast_to(np.eye(3, dtype=np.float32), (n, 3, 3))  # noqa: E731
    observation = Observation(
        cameras=(), ego_history_xyz=np.zeros((steps, 3), np.float32), ego_history_rot=eye(steps)
    )
    batch = Processor(CONFIG, tiny_tokenizer(CONFIG)).train_batch(
        [observation] * 2,
        [
            Target(np.zeros((waypoints, 3), np.float32), eye(waypoints), "Go.", meta)
            for meta in (None, "keep lane")
        ],
    )
    _, weights = prepared(objectives.token_objective(CONFIG), batch)
    reasoning, both = weights["loss_others"].sum(-1)
    assert both > reasoning + 2
    assert weights["loss_future_traj"][0].sum() == weights["loss_future_traj"][1].sum()


def test_padding_and_company_change_nothing(drive, mixed, objective):
    params = random_params(CONFIG)
    compute = jax.jit(objective.values)
    alone, alone_weights = prepared(objective, drive)
    together, weights = prepared(objective, mixed)
    # The same noise for the row that both have.
    draws = {n: getattr(together, n)[:1] for n in ("noisy", "time", "velocity")}
    alone = alone.replace(**draws)
    got = compute(params, together, weights)
    want = compute(params, alone, alone_weights)
    shift = mixed.labels_mask.shape[1] - drive.labels_mask.shape[1]
    assert shift > 0
    np.testing.assert_allclose(got["loss_flow"][:1], want["loss_flow"], rtol=2e-5)
    np.testing.assert_allclose(
        np.where(alone_weights["loss_tokens"], got["loss_tokens"][:1, shift:], 0),
        np.where(alone_weights["loss_tokens"], want["loss_tokens"], 0),
        atol=2e-5,
    )
    assert all(np.isfinite(value).all() for value in got.values())


def test_the_loss_is_the_weighted_sum_of_its_terms(objective):
    sums = {name: jnp.float32(2 * i) for i, name in enumerate(TERMS)}
    totals = {name: jnp.float32(2) for name in TERMS}
    assert float(objective.loss(sums, totals)) == 0.5 * 3 + 2.0 * (0 + 1)
    one_mean = objectives.joint_objective(CONFIG)
    assert float(one_mean.loss(sums, totals)) == 3 + 2
    assert objectives.expert_objective(CONFIG).coefficients == {"loss_flow": 1.0}
    assert objectives.token_objective(CONFIG).coefficients == {
        "loss_future_traj": 1.0, "loss_others": 1.0
    }  # fmt: skip


def test_a_time_varies_per_draw_and_a_key_repeats(drive):
    expert = objectives.expert_objective(CONFIG)
    first, again = prepared(expert, drive, 1), prepared(expert, drive, 1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other, _ = prepared(expert, drive, 2)
    assert (other.noisy != first[0].noisy).all()


@pytest.mark.parametrize("name, options, message", [
    ("policy", {}, "policy"), ("tokens", {"mean": "median"}, "median"),
    ("joint", {"mean": "median"}, "median"),
])  # fmt: skip
def test_unknown_names(name, options, message):
    with pytest.raises(ConfigError, match=message):
        objectives.make_objective(name, CONFIG, **options)

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.train.loop import TrainingDiverged, train


def _step(losses):
    """A step whose loss is given; it records what it was called with."""
    calls = []

    def step(state, batch, rng):
        calls.append((state, batch, rng))
        loss = jnp.float32(losses[len(calls) - 1])
        return state + 1, {"loss": loss, "twice": 2 * loss}

    return step, calls


def _run(losses, num_steps=None, **options):
    step, calls = _step(losses)
    batches = iter([f"batch {i}" for i in range(len(losses))])
    num_steps = len(losses) if num_steps is None else num_steps
    out = train(0, step, batches, num_steps, jax.random.key(3), progress=False, **options)
    return *out, calls, batches


def test_runs_the_steps_on_the_batches_in_order():
    state, _, calls, batches = _run([1.0] * 5, num_steps=3)
    assert state == 3
    assert [call[:2] for call in calls] == [(0, "batch 0"), (1, "batch 1"), (2, "batch 2")]
    assert next(batches) == "batch 3"  # nothing is taken that is not used
    assert len({jax.random.key_data(rng).tobytes() for _, _, rng in calls}) == 1


def test_history_has_every_nth_step_and_the_last():
    _, history, _, _ = _run([float(i) for i in range(1, 12)], log_every=4)
    assert history.steps == [4, 8, 11]
    assert history.metrics == {"loss": [4.0, 8.0, 11.0], "twice": [8.0, 16.0, 22.0]}
    assert 0 <= history.data_seconds <= history.seconds


def test_history_has_each_step_once():
    _, history, _, _ = _run([1.0] * 8, log_every=4)
    assert history.steps == [4, 8]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(bad):
    step, calls = _step([1.0, 1.0, bad, bad, bad, bad])
    batches = iter(range(6))
    with pytest.raises(TrainingDiverged, match="stage one.*step 4"):
        train(0, step, batches, 6, jax.random.key(0), name="stage one", log_every=2, progress=False)
    assert len(calls) == 4


def test_waiting_for_batches_is_counted():
    def slow():
        import time

        for i in itertools.count():
            time.sleep(0.02)
            yield i

    step, _ = _step([1.0] * 3)
    _, history = train(0, step, slow(), 3, jax.random.key(0), progress=False)
    assert 0.05 < history.data_seconds <= history.seconds


def test_progress_names_the_run(capsys):
    step, _ = _step([1.0, 0.5])
    train(0, step, iter("ab"), 2, jax.random.key(0), name="expert", log_every=1)
    shown = capsys.readouterr().err
    assert "expert" in shown and "loss=0.500" in shown


def test_values_are_plain_numbers():
    _, history, _, _ = _run([np.float32(0.25)])
    assert type(history.metrics["loss"][0]) is float

"""A run that is interrupted, and goes on, is the run that was not interrupted: bit for bit."""

import dataclasses
import multiprocessing
import pathlib
import sys
import time

import jax
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # the killed process finds it there

from alpamayo_jax.config import ConfigError  # noqa: E402
from alpamayo_jax.train.meter import RATES  # noqa: E402
from alpamayo_jax.train.run import history, run_in_folder, run_in_memory, summary  # noqa: E402
from alpamayo_jax.train.writers import read_json_lines  # noqa: E402
from killed_run import recording, run_to_the_end  # noqa: E402
from small_runs import (  # noqa: E402
    STAGE,
    Interruption,
    assert_same_bits,
    failing,
    folder,
    small_training,
    write_clips,
)

TIMINGS = {*RATES, "memory_gb", "timed_steps"}
KILLS = 10


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def training(clips):
    return small_training(clips)


@pytest.fixture(scope="module")
def undisturbed(training, tmp_path_factory):
    """(folder, state at the end) of a run without interruption."""
    path = tmp_path_factory.mktemp("undisturbed")
    state = run_in_folder(
        recording(training, path / "batches.txt"), folder(path), log_every=1, progress=False
    )
    return path, state


def numbers(path):
    """The log without what depends on the clock."""
    lines = read_json_lines(path / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


def check_batches(disturbed, undisturbed):
    """Every batch that was ever taken is the one that the undisturbed run took then."""
    taken, order = (
        (path / "batches.txt").read_text().splitlines() for path in (disturbed, undisturbed)
    )
    assert [line.split()[0] for line in order] == [str(step) for step in range(len(order))]
    assert set(taken) == set(order) and len(taken) > len(order)


def test_ten_interruptions_at_random_steps(training, undisturbed, tmp_path):
    path, expected = undisturbed
    rng = np.random.default_rng(0)
    recorded, where = recording(training, tmp_path / "batches.txt"), folder(tmp_path, save_every=2)
    for _ in range(KILLS):
        with pytest.raises(Interruption):
            broken = failing(recorded, rng.integers(0, 3))
            run_in_folder(broken, where, log_every=1, progress=False)
    state = run_in_folder(recorded, where, log_every=1, progress=False)
    assert_same_bits(state, expected)
    assert numbers(tmp_path) == numbers(path)
    check_batches(tmp_path, path)


def test_memory_and_folder_are_one_run(training, undisturbed):
    state, logged = run_in_memory(training, log_every=4, progress=False)
    assert_same_bits(state, undisturbed[1])
    assert logged.steps == [4, 8, 12]


def test_a_finished_run_stays_as_it_is(training, undisturbed):
    path, expected = undisturbed
    before = numbers(path)
    state = run_in_folder(training, folder(path), log_every=1, progress=False)
    assert_same_bits(state, expected)
    assert numbers(path) == before


def test_what_a_run_leaves(training, undisturbed):
    path, _ = undisturbed
    found = summary(path, training)
    assert found["final_step"] == STAGE.steps and np.isfinite(found["loss"])
    assert {"tokens_per_second", "step_seconds", "data_wait_fraction"} <= found.keys()
    logged = history(path)
    assert logged.steps == list(range(1, STAGE.steps + 1))
    assert logged.metrics["loss"][-1] == found["loss"]
    assert 0 < logged.data_seconds < logged.seconds
    assert any((path / "tensorboard").iterdir())


def test_the_windows_of_a_batch(training, clips):
    batches = iter(training.batches)
    for number in range(4):
        batch, rows = next(batches), training.windows(number)
        assert len(rows) == STAGE.batch_size == batch.ego_future_xyz.shape[0]
        assert all(row["clip_id"] in ("clip0", "clip1") for row in rows)


def test_another_configuration_does_not_go_on(training, undisturbed):
    other = folder(undisturbed[0])
    other = dataclasses.replace(other, config={"name": "large"})
    with pytest.raises(ConfigError, match="name was small, is large"):
        run_in_folder(training, other, progress=False)


def test_a_damaged_newest_checkpoint(training, undisturbed, tmp_path):
    with pytest.raises(Interruption):
        run_in_folder(failing(training, 8), folder(tmp_path), log_every=1, progress=False)
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda p: int(p.name))
    assert newest.name == "6"
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[:-1000])
    state = run_in_folder(training, folder(tmp_path), log_every=1, progress=False)
    assert_same_bits(state, undisturbed[1])
    assert numbers(tmp_path) == numbers(undisturbed[0])
    assert (tmp_path / "checkpoints-damaged" / "6").is_dir()


@pytest.mark.slow
def test_kill_9_at_ten_random_steps(clips, tmp_path):
    """Real processes, killed without warning: in a step, between steps, while a file is written."""
    stage = dataclasses.replace(STAGE, steps=40)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_run"])
    rng = np.random.default_rng(time.time_ns())
    killed, plain = tmp_path / "killed", tmp_path / "plain"

    def start(out):
        process = context.Process(target=run_to_the_end, args=(str(clips), str(out), stage))
        process.start()
        return process

    whole = start(plain)
    whole.join(300)
    assert whole.exitcode == 0
    for target in np.sort(rng.choice(np.arange(1, stage.steps - 3), KILLS, replace=False)):
        process, deadline = start(killed), time.monotonic() + 120
        while len(read_json_lines(killed / "metrics.jsonl")) < target:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode == -9
    last = start(killed)
    last.join(300)
    assert last.exitcode == 0

    with np.load(plain / "state.npz") as a, np.load(killed / "state.npz") as b:
        assert_same_bits({k: b[k] for k in b}, {k: a[k] for k in a})
    assert numbers(killed) == numbers(plain)
    check_batches(killed, plain)

"""Reinforcement learning that is interrupted, and goes on, is the one that was not: bit for bit."""

import dataclasses
import multiprocessing
import pathlib
import sys
import time

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # the killed process finds it there

from killed_learning import learn_to_the_end  # noqa: E402
from killed_run import recording  # noqa: E402
from small_learning import RL, STAGE, small_learning, write_clips  # noqa: E402
from small_runs import Interruption, assert_same_bits, failing, folder  # noqa: E402

from alpamayo_jax.train.meter import RATES  # noqa: E402
from alpamayo_jax.train.run import run_in_folder, run_in_memory  # noqa: E402
from alpamayo_jax.train.writers import read_json_lines  # noqa: E402

TIMINGS = {
    *RATES, "memory_gb", "timed_steps", "rollout_seconds", "reward_seconds", "rollouts_per_second"
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def training(clips):
    return small_learning(clips).training


@pytest.fixture(scope="module")
def undisturbed(training, tmp_path_factory):
    """(folder, state at the end) of a run without interruption."""
    path = tmp_path_factory.mktemp("undisturbed")
    state = run_in_folder(recording(training, path / "batches.txt"), folder(path), log_every=1, progress=False)
    return path, state


def numbers(path):
    """The log without what depends on the clock."""
    lines = read_json_lines(path / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


def batches(path):
    """step -> fingerprints of the batches that this step was ever made on."""
    found: dict[str, set[str]] = {}
    for line in (path / "batches.txt").read_text().splitlines():
        step, crc = line.split()
        found.setdefault(step, set()).add(crc)
    return found


def test_it_learns_at_all(undisturbed, training):
    path, state = undisturbed
    lines = numbers(path)
    assert len(lines) == STAGE.steps and all(line["grad_norm"] > 0 for line in lines)
    # The second pass over a rollout is not on the policy that made it, and not on the reference.
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6) and lines[3]["kl"] > 1e-6
    assert {"reward", "lottery", "num_tokens", "unscored"} <= lines[-1].keys()
    rollouts = {line["reward"] for line in lines[:4]}, {line["reward"] for line in lines[4:]}
    assert [len(r) for r in rollouts] == [1, 1] and rollouts[0] != rollouts[1]


def test_memory_and_folder_are_one_run(training, undisturbed):
    state, logged = run_in_memory(training, log_every=4, progress=False)
    assert_same_bits(state, undisturbed[1])
    assert logged.steps == [4, 8]


@pytest.mark.parametrize("every", [1, 3])
def test_interruptions_with_batches_in_the_queue(training, undisturbed, tmp_path, every):
    path, expected = undisturbed
    noted, where = recording(training, tmp_path / "batches.txt"), folder(tmp_path, save_every=every)
    for after in (0, 1, 2, every, every + 1):
        with pytest.raises(Interruption):
            run_in_folder(failing(noted, after), where, log_every=1, progress=False)
    state = run_in_folder(noted, where, log_every=1, progress=False)
    assert_same_bits(state, expected)
    assert numbers(tmp_path) == numbers(path)
    assert batches(tmp_path) == batches(path)


def test_the_windows_of_a_batch(training):
    experience = iter(training.batches)
    experience.use(training.create())
    assert training.windows(0) == []
    served = [next(experience) for _ in range(3)]
    rows = [training.windows(number) for number in range(3)]
    assert [len(r) for r in rows] == [STAGE.batch_size] * 3
    assert rows[0] != rows[1] and {r["clip_id"] for r in sum(rows, [])} <= {"clip0", "clip1"}
    assert served[0].inputs.input_ids.shape[0] == STAGE.batch_size
    experience.close()


@pytest.mark.slow
def test_kill_9_in_rollouts_and_in_updates(clips, tmp_path):
    """Real processes, killed without warning while they do what they say they are doing."""
    stage = dataclasses.replace(STAGE, steps=24)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_learning"])
    rng = np.random.default_rng(time.time_ns())
    killed, plain = tmp_path / "killed", tmp_path / "plain"

    def start(out):
        process = context.Process(target=learn_to_the_end, args=(str(clips), str(out), stage, RL))
        process.start()
        return process

    whole = start(plain)
    whole.join(300)
    assert whole.exitcode == 0
    doing = ["rollout", "update", "rollout", "reward", "update", "rollout"]
    for number, wanted in enumerate(doing):
        process, deadline, least = start(killed), time.monotonic() + 120, 3 * number
        while True:
            assert process.is_alive() and time.monotonic() < deadline
            what, step = said(killed)
            if what == wanted and step >= least:
                break
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.join()
        assert process.exitcode == -9
    last = start(killed)
    last.join(300)
    assert last.exitcode == 0

    with np.load(plain / "state.npz") as a, np.load(killed / "state.npz") as b:
        assert_same_bits({k: b[k] for k in b}, {k: a[k] for k in a})
    assert numbers(killed) == numbers(plain)
    assert batches(killed) == batches(plain)


def said(path):
    """(what the process does, at which step)."""
    try:
        what, step = (path / "doing.txt").read_text().split()
        return what, int(step)
    except (OSError, ValueError):
        return "", -1

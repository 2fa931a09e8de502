"""The loop: what is logged, when it saves, when it stops."""

import json
import os
import pathlib
import signal
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.train import meter
from alpamayo_jax.train.checkpoint import Checkpoints
from alpamayo_jax.train.loop import Saving, TrainingDiverged, Watch, train
from alpamayo_jax.train.state import TrainState

KEY = jax.random.key(0)


class Batches:
    """Batch i has the number i; with `get_state` as the data pipeline's iterators have it."""

    def __init__(self, tokens=5):
        self.count, self.tokens = 0, tokens

    def __iter__(self):
        return self

    def __next__(self):
        mask = np.zeros((2, 8), bool)
        mask[:, : self.tokens] = True
        self.count += 1
        inputs = types.SimpleNamespace(attention_mask=mask)
        return types.SimpleNamespace(inputs=inputs, number=self.count - 1)

    def get_state(self):
        return {"next_index": self.count}


class Writer:
    def __init__(self):
        self.lines = []

    def write(self, step, values):
        self.lines.append({"step": step} | dict(values))

    def close(self):
        pass


def make_state(step=0):
    return TrainState(jnp.int32(step), {"w": jnp.float32(1)}, {}, None)


def make_step(loss=lambda number: 10.0 - number, seen=None):
    @jax.jit
    def advance(state, value):
        state = state.replace(step=state.step + 1, params={"w": state.params["w"] + value})
        return state, {"loss": value, "grad_norm": value * 2}

    def step(state, batch, rng):
        if seen is not None:
            seen.append(batch.number)
        return advance(state, jnp.float32(loss(batch.number)))

    return step


def run(num_steps=7, *, start=0, loss=lambda number: 10.0 - number, writers=(), **options):
    watch = {"progress": False, "writers": writers} | options.pop("watch", {})
    return train(
        make_state(start), options.pop("step", make_step(loss)), options.pop("batches", Batches()),
        num_steps, KEY, watch=Watch(**watch), **{"log_every": 3} | options,
    )  # fmt: skip


class TestLog:
    def test_entries(self):
        writer = Writer()
        state, history = run(writers=(writer,))
        assert int(state.step) == 7
        assert history.steps == [3, 6, 7] == [line["step"] for line in writer.lines]
        assert history.metrics["loss"] == [8.0, 5.0, 4.0]
        assert [line["grad_norm"] for line in writer.lines] == [16.0, 10.0, 8.0]
        assert all(line["memory_gb"] > 0.01 for line in writer.lines)
        assert [line["timed_steps"] for line in writer.lines] == [2, 3, 1]
        assert "mfu" not in writer.lines[0]

    def test_rates(self, monkeypatch):
        """A clock that ticks whenever it is read makes every number exact."""
        monkeypatch.setattr(meter, "memory_bytes", lambda: 3e9)
        ticks = iter(range(10**6))
        monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
        writer = Writer()
        run(6, writers=(writer,), watch={"flops": 30.0, "peak": 100.0})
        # Two reads per step around the batch, one at the end of an entry, one at its begin.
        line = writer.lines[1]
        seconds = 3 * 2 + 1
        assert line["step_seconds"] == pytest.approx(seconds / 3)
        assert line["tokens_per_second"] == pytest.approx(3 * 10 / seconds)
        assert line["data_wait_fraction"] == pytest.approx(3 / seconds)
        assert line["mfu"] == pytest.approx(30 * 3 / seconds / 100)
        assert line["memory_gb"] == 3.0

    def test_the_step_that_compiles_is_not_timed(self):
        writer = Writer()
        run(1, writers=(writer,))
        assert writer.lines[0]["timed_steps"] == 0 and writer.lines[0]["step_seconds"] > 0
        run(3, log_every=1, writers=(writer,))
        assert [line["timed_steps"] for line in writer.lines[1:]] == [0, 1, 1]

    def test_a_summary_weighs_entries_by_their_length(self):
        lines = [
            {"step_seconds": 9.0, "tokens_per_second": 1.0, "data_wait_fraction": 1.0,
             "timed_steps": 0},
            {"step_seconds": 1.0, "tokens_per_second": 30.0, "data_wait_fraction": 0.0,
             "timed_steps": 3},
            {"step_seconds": 3.0, "tokens_per_second": 10.0, "data_wait_fraction": 0.5,
             "timed_steps": 1},
        ]  # fmt: skip
        found = meter.summary(lines)
        assert found == pytest.approx(
            {"step_seconds": 1.5, "tokens_per_second": 20.0, "data_wait_fraction": 0.25}
        )
        assert meter.summary(lines[:1])["step_seconds"] == 9.0

    def test_batches_in_order_and_none_that_is_not_used(self):
        seen, batches = [], Batches()
        run(3, step=make_step(seen=seen), batches=batches)
        assert seen == [0, 1, 2] and next(batches).number == 3

    def test_waiting_for_batches_is_counted(self):
        class Slow(Batches):
            def __next__(self):
                time.sleep(0.02)
                return super().__next__()

        _, history = run(3, batches=Slow())
        assert 0.05 < history.data_seconds <= history.seconds

    def test_the_bar_names_the_run_and_says_the_loss(self, capsys):
        run(2, name="expert", log_every=1, watch={"progress": True})
        shown = capsys.readouterr().err
        assert "expert" in shown and "loss 9.000" in shown and "tok/s" in shown

    def test_nothing_left_to_do(self):
        state, history = run(5, start=5)
        assert int(state.step) == 5 and history.steps == []

    def test_going_on_counts_steps_from_the_state(self):
        writer, seen = Writer(), []
        run(7, start=4, step=make_step(seen=seen), writers=(writer,))
        assert [line["step"] for line in writer.lines] == [6, 7] and len(seen) == 3


class TestDivergence:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("bad", [0, 1, 2, 4, 6])
    def test_the_batch_is_named_wherever_it_falls(self, tmp_path, bad, value):
        def windows(number):
            return [{"clip_id": f"clip{number}", "t0": 1.5}, {"clip_id": "other", "t0": 2.0}]

        watch = {"folder": tmp_path, "windows": windows}
        words = rf"at step {bad + 1} .*clip{bad}, other; .*json"
        with pytest.raises(TrainingDiverged, match=words):
            run(loss=lambda number: value if number == bad else 1.0, watch=watch)
        said = json.loads((tmp_path / "diverged.json").read_text())
        assert said["step"] == bad + 1 and said["loss"] == str(value)
        assert said["windows"] == windows(bad)

    def test_nothing_is_saved_after_it(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, config={})
        with pytest.raises(TrainingDiverged):
            run(
                loss=lambda number: float("nan") if number == 3 else 1.0,
                saving=Saving(checkpoints, every=2), log_every=100,
            )  # fmt: skip
        checkpoints.close()
        assert Checkpoints(tmp_path, config={}).steps() == [2]

    def test_without_a_folder(self):
        with pytest.raises(TrainingDiverged, match="grad_norm nan, loss nan at step 1; lower the"):
            run(loss=lambda number: float("nan"))


class TestSaving:
    def test_when_and_with_what(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, config={}, keep_last=9)
        saved = []
        save = checkpoints.save

        def record(step, state, **options):
            saved.append((step, float(state.params["w"]), options))
            save(step, state, **options)

        checkpoints.save = record
        run(5, saving=Saving(checkpoints, every=2))
        assert [(step, o["data"], o["loss"], o["wait"]) for step, _, o in saved] == [
            (2, {"next_index": 2}, 9.5, False),  # losses 10, 9
            (4, {"next_index": 4}, 7.5, False),
            (5, {"next_index": 5}, 6.0, True),
        ]
        assert checkpoints.steps() == [2, 4, 5]

    def test_a_held_out_loss_decides_which_is_best(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, config={}, keep_last=1, keep_best=1)
        asked = []

        def validate(state):
            asked.append(int(state.step))
            return abs(float(state.step) - 4)

        run(8, saving=Saving(checkpoints, 2, validate))
        checkpoints.close()
        assert asked == [2, 4, 6, 8]
        assert Checkpoints(tmp_path, config={}).steps() == [4, 8]


class TestStopping:
    def test_sigterm_finishes_the_step_and_saves(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, config={})
        before = signal.getsignal(signal.SIGTERM)

        def loss(number):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return 1.0

        state, history = run(100, loss=loss, saving=Saving(checkpoints, every=50))
        assert int(state.step) == 4 and checkpoints.steps() == [4]
        assert history.steps == [3, 4]
        assert signal.getsignal(signal.SIGTERM) is before

    def test_the_handler_is_given_back_after_an_error(self):
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(TrainingDiverged):
            run(loss=lambda number: float("nan"))
        assert signal.getsignal(signal.SIGTERM) is before


class TestProfile:
    def test_a_trace_of_the_steps_asked_for(self, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr("jax.profiler.start_trace", lambda where: calls.append(where))
        monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append(len(seen)))
        seen = []
        run(9, step=make_step(seen=seen), watch={"folder": tmp_path, "profile": (3, 2)})
        assert calls == [str(tmp_path / "profile"), 4]

    def test_a_run_that_ends_first(self, tmp_path):
        run(3, watch={"folder": tmp_path, "profile": (2, 10)})
        assert any(path.suffix == ".pb" for path in pathlib.Path(tmp_path).rglob("*"))

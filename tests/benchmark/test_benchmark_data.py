"""The data suite, on a few simulated windows."""

import pytest

from alpamayo_jax.benchmark import data


@pytest.mark.slow
def test_windows_per_second_and_waits(monkeypatch):
    monkeypatch.setattr(data, "WORKERS", (0,))
    load = data.Load(num_clips=1, windows=4, rows=2, frames=1)
    phases = data.run(load, rounds=2)["phases"]
    assert set(phases) == {"clip/0_workers", "batch/0_workers", "step/first_epoch", "step/later_epochs"}
    assert phases["clip/0_workers"]["clips_per_second"] > 0
    batch = phases["batch/0_workers"]
    assert batch["windows_per_second"] > 0 and batch["times"] == 2
    for name in ("first_epoch", "later_epochs"):
        row = phases[f"step/{name}"]
        assert 0 <= row["data_wait_fraction"] < 1 and row["median"] > 0
    assert phases["step/later_epochs"]["times"] == 2

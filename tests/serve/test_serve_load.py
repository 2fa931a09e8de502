"""Latency under load: every session is counted, refusals come through."""

import grpc
import numpy as np
import pytest
from serve_helpers import StraightPlanner, car, make_driver

from alpamayo_jax.serve.load import Load, measure
from alpamayo_jax.serve.server import Server


@pytest.mark.parametrize("sessions", (1, 8))
def test_sessions_are_driven_in_step(sessions):
    planner = StraightPlanner()
    with Server(make_driver(planner)) as server:
        load = measure(server.address, sessions, 3, car())
    assert load.latency_s.shape == (3, sessions) and (load.latency_s > 0).all()
    assert sum(map(len, planner.batches)) == 3 * sessions
    assert load.seconds > load.latency_s.max(-1).sum()


def test_what_is_told():
    load = Load(2, np.array([[0.1, 0.3], [0.2, 0.1]]), 1.0)
    row = load.row()
    assert row["sessions"] == 2 and row["drive_ms_p50"] == pytest.approx(150.0)
    assert row["drive_ms_max"] == pytest.approx(300.0)
    assert row["plans_per_second"] == pytest.approx(4 / 0.5)


@pytest.mark.parametrize("fits, sessions", [(1, 2), (3, 4), (7, 8)])
def test_a_driver_that_is_full_says_so(fits, sessions):
    """Whoever is refused, the others wait in vain and are not what is told."""
    driver = make_driver(max_sessions=fits)
    with Server(driver) as server, pytest.raises(grpc.RpcError) as error:
        measure(server.address, sessions, 1, car())
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.sim import vehicle
from alpamayo_jax.testing.parity import closed_loop
from alpamayo_jax.testing.parity.base import Reference


@pytest.fixture(scope="module")
def checks(reference_dir):
    return closed_loop.checks(Reference(reference_dir))


def test_every_check_passes(checks):
    assert not [c for c in checks if not c.passed]


def test_every_recorded_result_is_compared(checks, reference_dir):
    inputs = {"vm_x0", "vm_u", "mpc_x0", "mpc_ref", "box_ego", "box_other"}
    compared = {c.quantity.split(" ")[0] for c in checks}
    assert set(Reference(reference_dir).arrays(*closed_loop.REQUIRES)) - compared == inputs


def test_another_tyre_is_noticed(reference_dir, monkeypatch):
    own = dataclasses.replace(vehicle.VEHICLE, front_stiffness=93000.0)
    advance = vehicle.advance
    monkeypatch.setattr(closed_loop.vehicle, "advance", lambda s, u: advance(s, u, cfg=own))
    off = {c.quantity for c in closed_loop._vehicle(Reference(reference_dir).arrays(
        *closed_loop.REQUIRES)) if not c.passed}  # fmt: skip
    assert off == {"vm_x (float64)"}


def test_square_corners_are_noticed(reference_dir, monkeypatch):
    monkeypatch.setattr(closed_loop.boxes, "ROUNDNESS", 0.01)
    want = Reference(reference_dir).arrays(*closed_loop.REQUIRES)
    off = [c.quantity for c in closed_loop._boxes(want) if not c.passed]
    assert any("distance" in quantity for quantity in off)


def test_a_controller_of_other_weights_is_noticed(reference_dir, monkeypatch):
    monkeypatch.setattr(closed_loop.tracking, "_FREE", 9)
    want = Reference(reference_dir).arrays(*closed_loop.REQUIRES)
    off = {c.quantity for c in closed_loop._controller(want) if not c.passed}
    assert off and np.all(["mpc_u" in quantity for quantity in list(off)])

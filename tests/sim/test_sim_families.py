"""Scenario families: kinematic sanity, diversity, and that they are not solved by coasting."""

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.sim import driver
from alpamayo_jax.sim.scenario import FAMILIES, run, sample_scenario

PER_FAMILY = 8


@pytest.fixture(scope="module")
def runs():
    return {
        family: [run(sample_scenario(17, i, family=family)) for i in range(PER_FAMILY)]
        for family in FAMILIES
    }


def everything(runs):
    return [played for group in runs.values() for played in group]


def test_motion_is_sane(runs):
    for played in everything(runs):
        d = played.drive
        assert np.abs(d.a).max() < 3.6
        assert np.abs(d.kappa * d.v**2).max() < 3.0
        assert np.abs(np.diff(d.a)).max() / 0.1 < 6.0
        assert 0.0 <= d.v.min() and d.v.max() <= 20.5
        assert np.abs(d.kappa).max() < 0.09
        step = np.hypot(np.diff(d.x), np.diff(d.y))
        assert step.max() < 0.1 * 20.5


def test_nobody_is_hit_and_no_red_line_is_crossed(runs):
    for played in everything(runs):
        front = played.drive.s + driver.FRONT
        if played.lead is not None:
            gap = played.lead.s - played.scenario.lead.lwh[0] / 2 - front
            assert gap.min() > 1.5
        signal = played.scenario.signal
        if signal is not None:
            crossed = np.nonzero((front[:-1] < signal.s) & (front[1:] >= signal.s))[0]
            for k in crossed:
                assert signal.colour(played.drive.t[k + 1]) == "green"


def test_ego_keeps_clear_of_bystanders(runs):
    for played in everything(runs):
        lane = played.scenario.road.lane_width / 2
        for other in played.scenario.others:
            assert abs(other.d) - other.lwh[1] / 2 > lane - 0.2


def test_road_outlasts_the_drive(runs):
    for played in everything(runs):
        assert played.scenario.road.s[-1] > played.drive.s[-1] + 100.0


def test_clips_are_diverse(runs):
    drives = [played.drive for played in everything(runs)]
    assert min(d.v[0] for d in drives) == 0.0 and max(d.v.max() for d in drives) > 16.0
    assert max(np.abs(d.kappa).max() for d in drives) > 0.05
    left = sum(d.kappa.max() > 0.02 for d in drives)
    right = sum(d.kappa.min() < -0.02 for d in drives)
    assert left >= 4 and right >= 4
    assert sum((d.v < 0.01).any() for d in drives) >= 2 * PER_FAMILY


def test_constant_velocity_is_often_poor(runs):
    errors = []
    for played in everything(runs):
        p = np.stack([played.drive.x, played.drive.y], -1)
        for k in range(16, len(p) - 64, 8):
            guess = p[k] + (p[k] - p[k - 1]) * np.arange(1, 65)[:, None]
            errors.append(np.linalg.norm(guess - p[k + 1 : k + 65], axis=-1).mean())
    assert np.mean(np.array(errors) > 1.0) > 0.5
    assert np.mean(errors) > 2.0


class FamilyCauseTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_the_stated_cause_acts(self, family):
        played = run(sample_scenario(23, 1, family=family))
        seen = {driver.CAUSES[c] for c in played.drive.cause}
        cause = FAMILIES[family]
        if cause is None or family == "green_light":
            self.assertEqual(seen, {"free"})
        else:
            self.assertIn(cause, seen)
            self.assertLessEqual(seen, {cause, "free"})

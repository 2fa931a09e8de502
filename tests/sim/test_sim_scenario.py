"""Scenarios: seeding, balance, and the causes taken away."""

import dataclasses

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.scenario import (
    FAMILIES,
    family_of,
    run,
    sample_scenario,
    without_bystanders,
    without_cause,
)

WITH_CAUSE = [family for family, cause in FAMILIES.items() if cause]


def path(played):
    return np.stack([played.drive.x, played.drive.y], -1)


class ScenarioTest(parameterized.TestCase):
    @parameterized.parameters(*WITH_CAUSE)
    def test_without_its_cause_the_expert_drives_differently(self, family):
        for index in range(4):
            scenario = sample_scenario(5, index, family=family)
            change = path(run(scenario)) - path(run(without_cause(scenario)))
            moved = np.linalg.norm(change, axis=-1)
            self.assertGreater(moved.max(), 3.0)

    @parameterized.parameters(*FAMILIES)
    def test_without_bystanders_the_expert_drives_the_same(self, family):
        scenario = sample_scenario(5, 2, family=family)
        self.assertNotEmpty(scenario.others)
        alone = without_bystanders(scenario)
        np.testing.assert_array_equal(path(run(scenario)), path(run(alone)))

    def test_nothing_to_remove_from_a_clear_road(self):
        with pytest.raises(ConfigError, match="no cause"):
            without_cause(sample_scenario(0, 0, family="cruise"))

    def test_same_seed_same_scenario(self):
        first, second = (run(sample_scenario(3, 4)) for _ in range(2))
        for field in dataclasses.fields(first.drive):
            a, b = getattr(first.drive, field.name), getattr(second.drive, field.name)
            np.testing.assert_array_equal(a, b)
        self.assertEqual(first.scenario.others, second.scenario.others)

    def test_other_seed_or_index_other_scenario(self):
        speeds = {
            sample_scenario(seed, index, family="cruise").style.set_speed
            for seed in range(3)
            for index in range(3)
        }
        self.assertLen(speeds, 9)

    def test_families_come_in_equal_shares(self):
        count = len(FAMILIES)
        for block in range(3):
            drawn = {family_of(9, block * count + i) for i in range(count)}
            self.assertEqual(drawn, set(FAMILIES))
        orders = {tuple(family_of(seed, i) for i in range(count)) for seed in range(6)}
        self.assertGreater(len(orders), 3)

    @parameterized.parameters(
        dict(seed=-1), dict(index=-1), dict(seconds=1.0), dict(family="parallel_parking")
    )
    def test_bad_arguments_are_refused(self, **arguments):
        with pytest.raises(ConfigError):
            sample_scenario(**{"seed": 0, **arguments})

    def test_length_follows_seconds(self):
        played = run(sample_scenario(1, 0, seconds=5.0))
        self.assertLen(played.drive.t, 51)
        self.assertAlmostEqual(played.drive.t[-1], 5.0)

"""Other road users from the past of their tracks."""

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc.agents import agents_at, names_of


class NamesTest(parameterized.TestCase):
    @parameterized.parameters(
        ("REGULAR_VEHICLE", "vehicle", "vehicle"), ("VEHICLE", "vehicle", "vehicle"),
        ("BOX_TRUCK", "vehicle", "truck"), ("SCHOOL_BUS", "vehicle", "school bus"),
        ("PEDESTRIAN", "pedestrian", "pedestrian"), ("CYCLIST", "cyclist", "cyclist"),
        ("BICYCLIST", "cyclist", "cyclist"), ("MOTORCYCLIST", "vehicle", "motorcyclist"),
        ("TRAFFIC_CONE", "object", "traffic cone"), ("STROLLER", "vru", "stroller"),
        ("LARGE_VEHICLE", "vehicle", "vehicle"), ("UNHEARD_OF", "object", "object"),
        ("automobile car", "vehicle", "car"),
    )  # fmt: skip
    def test_names(self, category, kind, noun):
        assert names_of(category) == (kind, noun)


class AgentsAtTest(parameterized.TestCase):
    def setUp(self):
        self.t = np.arange(0.0, 8.05, 0.1)

    def test_velocity_comes_from_the_past(self):
        x = np.where(self.t < 4.0, 10.0 + 3.0 * self.t, 22.0 + 9.0 * (self.t - 4.0))
        table = scenes.agents(scenes.agent(3, self.t, x, 1.0))
        found = agents_at(table, 4.0)
        np.testing.assert_allclose(found.velocity, [[3.0, 0.0]], atol=1e-6)
        np.testing.assert_allclose(found.xy, [[22.0, 1.0]], atol=1e-6)
        later = table.t > 4.0 + 1e-6
        table.xyz[later] += 100.0  # the future changes nothing
        np.testing.assert_allclose(agents_at(table, 4.0).velocity, [[3.0, 0.0]], atol=1e-6)

    def test_speed_a_second_before(self):
        v = np.where(self.t < 4.0, 8.0, np.maximum(8.0 - 4.0 * (self.t - 4.0), 0.0))
        x = np.concatenate([[0.0], np.cumsum(v[1:] * 0.1)])
        found = agents_at(scenes.agents(scenes.agent(3, self.t, x, 0.0)), 5.5)
        assert found.speed_before[0] - found.speed[0] > 2.0

    def test_who_is_seen(self):
        table = scenes.agents(
            scenes.agent(1, self.t, 10.0, 0.0),
            scenes.person(2, self.t[:20], 5.0, 5.0),  # gone after 2 s
            scenes.person(9, self.t[50:], 5.0, 5.0, category="BICYCLE"),
        )
        assert agents_at(table, 1.0).track.tolist() == [1, 2]
        assert agents_at(table, 3.0).track.tolist() == [1]
        found = agents_at(table, 5.1)
        assert found.track.tolist() == [1, 9]
        assert found.vehicle.tolist() == [True, False]
        assert found.vulnerable.tolist() == [False, True]
        np.testing.assert_allclose(found.age, [5.1, 0.1], atol=1e-6)

    def test_nobody(self):
        assert len(agents_at(None, 1.0)) == 0
        assert len(agents_at(scenes.agents(), 1.0)) == 0
        found = agents_at(scenes.agents(scenes.agent(1, self.t, 10.0, 0.0)), -1.0)
        assert len(found) == 0 and found.velocity.shape == (0, 2) and not found.vehicle.any()

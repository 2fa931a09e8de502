"""Procedural scenes for the closed loop, and the map that they come with."""

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.clip import check_map_lines
from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.sim import camera
from alpamayo_jax.sim.mapping import map_lines
from alpamayo_jax.sim.procedural import procedural_scene
from alpamayo_jax.sim.renderer import Rig, Stage
from alpamayo_jax.sim.scenarios import FAMILIES, play, sample_scenario
from alpamayo_jax.sim.scenes import AgentKind, Light, check_arrays, stack

SOME = ("lead_stops", "red_light", "pedestrian_crosses", "roundabout", "construction", "merge")


@pytest.fixture(scope="module")
def scenes():
    return {family: procedural_scene(5, 0, family=family, cameras=()) for family in SOME}


@pytest.mark.parametrize("family", SOME)
def test_a_scene_knows_what_it_is_about(scenes, family):
    scene = scenes[family]
    assert scene.family == family and scene.scenario is FAMILIES[family].scenario
    assert scene.cause and scene.label.scenario is scene.scenario
    assert scene.label.clip == scene.name == scene.clip.clip_id
    assert scene.world.scenario.family == family
    assert check_arrays(scene.arrays) is scene.arrays


@pytest.mark.parametrize("family", SOME)
def test_agents_are_the_actors_in_their_order(scenes, family):
    scene = scenes[family]
    arrays, run = scene.arrays, scene.world
    assert len(arrays.agent_pose) == len(run.world.actors) == len(run.motions)
    for pose, there, motion in zip(arrays.agent_pose, arrays.agent_present, run.motions):
        np.testing.assert_allclose(pose[:, :2] + scene.origin, motion.xy, atol=1e-3)
        np.testing.assert_array_equal(there, motion.present)
    expert = run.drive.pose[:, :2] - scene.origin
    np.testing.assert_allclose(arrays.ego_pose[:, :2], expert, atol=1e-3)
    np.testing.assert_allclose(arrays.ego_speed[1:-1], run.drive.v[1:-1], atol=0.1)


def test_kinds_of_agents(scenes):
    assert AgentKind.PEDESTRIAN == scenes["pedestrian_crosses"].arrays.agent_kind[0]
    assert AgentKind.VEHICLE == scenes["lead_stops"].arrays.agent_kind[0]
    assert AgentKind.OBJECT == scenes["construction"].arrays.agent_kind[0]


def test_the_light_changes_as_in_the_world(scenes):
    scene = scenes["red_light"]
    signal = scene.world.world.signal
    (state,) = scene.arrays.light_state
    names = {Light.RED: "red", Light.YELLOW: "yellow", Light.GREEN: "green"}
    for k in range(0, len(state), 7):
        assert names[Light(int(state[k]))] == signal.colour(0.1 * k)
    assert scene.arrays.stop_line_valid.all() and len(scene.arrays.stop_line) == 1


def test_the_expert_is_on_the_road_and_on_its_way(scenes):
    for scene in scenes.values():
        arrays = scene.arrays
        assert arrays.lane_valid.all() and arrays.road_edge_valid.any()
        edges = arrays.road_edge.reshape(-1, 2)
        for pose in arrays.ego_pose[::20]:
            assert np.hypot(*(edges - pose[:2]).T).min() > 1.0
            assert np.hypot(*(arrays.route - pose[:2]).T).min() < 30.0


def test_scenes_stack(scenes):
    stacked = stack([scene.arrays for scene in scenes.values()])
    assert stacked.ego_pose.shape == (len(SOME), 201, 3)


def test_a_scene_can_be_drawn_from_anywhere(scenes):
    run = scenes["roundabout"].world
    view = camera.make_view(camera.FRONT, 96, 64)
    stage, pose = Stage(run.world, run.motions), run.drive.pose[60]
    seen = stage.render(Rig((view,)), 60, pose)
    aside = stage.render(Rig((view,)), 60, pose + [0.0, 0.0, 0.6])
    assert np.abs(seen.astype(int) - aside).mean() > 3.0


class MapTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_maps_are_valid_and_read_back(self, family):
        world = play(sample_scenario(3, 1, 5.0, family)).world
        lines = map_lines(world.layout)
        check_map_lines("map", lines)
        roads = roads_of(lines)
        self.assertLen(roads.lanes, len(world.layout.lanes))
        self.assertLen(roads.crosswalks, len(world.layout.crosswalks))
        self.assertLen(roads.stop_lines, len(world.layout.stop_lines))
        for lane, own in zip(roads.lanes, world.layout.lanes):
            self.assertAlmostEqual(lane.width, own.width, delta=0.25)
            self.assertEqual(lane.link, own.left == own.right == "NONE")

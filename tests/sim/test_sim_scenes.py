"""Scenes as arrays: padding, stacking and what is refused."""

import jax
import numpy as np
import pytest

from alpamayo_jax.sim import scenes
from alpamayo_jax.sim.scenes import AgentKind
from alpamayo_jax.types import InputError


def small(ticks=5, agents=0, lanes=(), **more):
    table = {}
    if agents:
        table = {
            "agent_pose": np.ones((agents, ticks, 3)),
            "agent_present": np.ones((agents, ticks), bool),
            "agent_size": np.ones((agents, 3)),
            "agent_kind": np.full(agents, AgentKind.VEHICLE),
        }
    return scenes.make_arrays(
        np.ones((ticks, 3)), np.ones(ticks), np.array([[0.0, 0.0], [9.0, 0.0]]), 8.0,
        lane_centres=lanes, lane_polygons=lanes, **(table | more),
    )  # fmt: skip


@pytest.mark.parametrize(
    "category, kind",
    [("REGULAR_VEHICLE", AgentKind.VEHICLE), ("BUS", AgentKind.VEHICLE),
     ("BICYCLIST", AgentKind.CYCLIST), ("PEDESTRIAN", AgentKind.PEDESTRIAN),
     ("STROLLER", AgentKind.PEDESTRIAN), ("CONSTRUCTION_CONE", AgentKind.OBJECT)],
)  # fmt: skip
def test_kinds(category, kind):
    assert scenes.kind_of(category) is kind


def test_lines_are_padded_with_their_last_point():
    made = small(lanes=[np.arange(4.0).reshape(2, 2), np.arange(10.0).reshape(5, 2)])
    assert made.lane_centre.shape == (2, 5, 2)
    np.testing.assert_array_equal(made.lane_centre[0, 2:], np.tile([2.0, 3.0], (3, 1)))
    assert made.lane_valid.all()


def test_an_empty_scene_has_empty_tables():
    made = small()
    assert made.agent_pose.shape == (0, 5, 3) and made.light_state.shape == (0, 5)
    assert made.num_ticks == 5 and made.ego_box.tolist() == pytest.approx(list(scenes.EGO_BOX))


def test_stacking_pads_time_with_the_last_tick_and_tables_with_what_does_not_count():
    long, short = small(7, 1, [np.zeros((6, 2))]), small(5, 3)
    both = scenes.stack([long, short])
    assert both.ego_pose.shape == (2, 7, 3) and both.agent_pose.shape == (2, 3, 7, 3)
    assert both.num_ticks.tolist() == [7, 5]
    np.testing.assert_array_equal(both.ego_pose[1, 5:], np.ones((2, 3)))
    assert both.agent_present.sum((1, 2)).tolist() == [7, 21]
    assert both.lane_valid.tolist() == [[True], [False]]
    assert both.agent_solid.sum(1).tolist() == [1, 3]


def test_stacking_alike_scenes_changes_nothing():
    one = small(5, 2, [np.arange(6.0).reshape(3, 2)])
    back = jax.tree.map(lambda x: x[0], scenes.stack([one, one]))
    jax.tree.map(np.testing.assert_array_equal, back, one)


def test_no_scenes_cannot_be_stacked():
    with pytest.raises(InputError, match="no scenes"):
        scenes.stack([])


@pytest.mark.parametrize(
    "more, words",
    [
        ({"agent_pose": np.ones((1, 4, 3))}, "agent_pose"),
        ({"agent_present": np.ones((2, 5))}, "agent_present"),
        ({"agent_size": np.full((1, 3), np.nan)}, "agent_size"),
        ({"lane_polygons": [np.zeros((3, 2))]}, "lane centres"),
        ({"stop_lines": [np.zeros((3, 2))]}, "a line has 3 points"),
    ],
)
def test_bad_tables_are_named(more, words):
    table = {
        "agent_pose": np.ones((1, 5, 3)), "agent_present": np.ones((1, 5)),
        "agent_size": np.ones((1, 3)), "agent_kind": np.ones(1),
    }  # fmt: skip
    with pytest.raises(InputError, match=words):
        scenes.make_arrays(
            np.ones((5, 3)), np.ones(5), np.zeros((2, 2)), 8.0, **(table | more)
        )


def test_one_tick_is_no_scene():
    with pytest.raises(InputError, match="1 ticks"):
        scenes.make_arrays(np.ones((1, 3)), np.ones(1), np.zeros((2, 2)), 8.0)

"""Events of simulated drives: what the traffic light shows, when, and where its line is."""

import numpy as np
import pytest

from alpamayo_jax.sim.scenarios import FAMILIES, play, sample_scenario
from alpamayo_jax.sim.source import clip_of, procedural_clip

WITH_LIGHT = {"red_light", "start_at_light", "green_light", "runs_light", "pedestrian_waits"}


def test_the_light_is_told_from_the_start_and_at_every_change():
    for index in range(6):
        run = play(sample_scenario(1, index, 20.0, "red_light"))
        clip = clip_of(run, "drive", cameras=())
        signal = run.world.signal
        assert clip.events[0].t == clip.ego.t[0]
        for t in clip.ego.t:
            shown = [event.value for event in clip.events if event.t <= t + 1e-9][-1]
            assert shown == signal.colour(t)
        changes = [event.value for event in clip.events]
        assert all(a != b for a, b in zip(changes, changes[1:]))


def test_it_stands_at_its_stop_line():
    clip = procedural_clip(3, 0, family="green_light", cameras=())
    lines = clip.map_lines
    (place,) = [i for i, kind in enumerate(lines.kind) if kind == "stop_line"]
    ends = lines.points[lines.offsets[place] : lines.offsets[place + 1]]
    for event in clip.events:
        assert event.kind == "traffic_light"
        along = ends[1] - ends[0]
        across = np.cross(along, np.array(event.xyz) - ends[0])
        assert np.linalg.norm(across) / np.linalg.norm(along) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_only_where_there_is_a_light_there_are_events(family):
    clip = procedural_clip(0, 0, family=family, cameras=())
    assert bool(clip.events) == (family in WITH_LIGHT)

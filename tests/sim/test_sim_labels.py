"""Traces and labels name only what is there, at the time it is there."""

import re

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.coc.checks import check_label
from alpamayo_jax.coc.component import Kind
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.sim.labels import explanations, label_of, reasoning_labels
from alpamayo_jax.sim.scenarios import FAMILIES, play, sample_scenario
from alpamayo_jax.sim.seen import FRONT

COUNT = 5
_RUNS: dict = {}


def runs(family):
    """(run, traces, label) of some scenarios of a family."""
    if family not in _RUNS:
        _RUNS[family] = []
        for index in range(COUNT):
            run = play(sample_scenario(29, index, family=family))
            found = explanations(run)
            _RUNS[family].append((run, reasoning_labels(found), label_of(run, "drive", found)))
    return _RUNS[family]


class LabelTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_every_scenario_has_a_good_label_of_its_class(self, family):
        for run, _, label in runs(family):
            self.assertIsNotNone(label)
            self.assertEqual(label.scenario, FAMILIES[family].scenario)
            self.assertEqual(check_label(label), [])
            self.assertEqual(CocLabel.from_json(label.to_json()).line(), label.line())
            self.assertEqual(label.provenance["family"], family)

    @parameterized.parameters(*FAMILIES)
    def test_tracks_are_those_of_actors_that_matter(self, family):
        for run, _, label in runs(family):
            for component in label.components:
                if component.track is not None:
                    self.assertLess(component.track, run.scenario.concerned)
                    self.assertEqual(component.kind, Kind.OBJECT)
                self.assertLessEqual(component.seen_at, label.keyframe_s + 1e-6)

    @parameterized.parameters(
        ("lead_slows", "car ahead"),
        ("lead_stops", "car ahead"),
        ("red_light", "Slow down to stop at the line because the traffic light is"),
        ("stop_sign", "stop sign"),
        ("start_at_light", "Start moving because the traffic light has turned green."),
        ("lane_change", "Change to the left lane because the car ahead is slower."),
        ("pedestrian_crosses", "a pedestrian is crossing"),
        ("cyclist_crosses", "a cyclist is crossing"),
        ("cut_in", "the car on the left is cutting in"),
        ("speed_bump", "speed bump"),
        ("nudge", "to pass the parked car"),
        ("pass_cyclist", "to pass the slow cyclist"),
        ("construction", "traffic cones"),
        ("runs_light", "a car is crossing"),
        ("curve", "curve ahead"),
        ("s_curve", "curve ahead"),
        ("lane_change_blocked", "a car blocks the left lane"),
        ("merge", "merge behind the car on the left"),
        ("nudge_blocked", "an oncoming car blocks the way"),
        ("green_light", "because the traffic light is green"),
        ("turn", "turn at the junction"),
        ("roundabout", "the car in the roundabout"),
        ("pedestrian_waits", "waits"),
    )
    def test_the_label_names_the_cause(self, family, words):
        self.assertTrue(all(words in label.trace for _, _, label in runs(family)))

    def test_a_clip_that_ends_before_the_moment_has_no_label(self):
        run = play(sample_scenario(29, 0, 2.0, "speed_bump"))
        self.assertIsNone(label_of(run, "drive", explanations(run)))

    @parameterized.parameters("red_light", "speed_bump", "pedestrian_crosses", "cut_in")
    def test_the_reaction_comes_half_a_second_after_the_keyframe(self, family):
        for run, _, label in runs(family):
            k = int(round(label.keyframe_s * 10))
            slows = np.flatnonzero(run.drive.a[k:] < -0.3)[0]
            self.assertLess(slows, 13)
            self.assertGreater(run.drive.v[k], run.drive.v[k + 20:k + 60].min() + 0.4)


class TraceTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_traces_are_ordered_and_short(self, family):
        for run, traces, _ in runs(family):
            times = [trace.t for trace in traces]
            self.assertEqual(times[0], 0.0)
            self.assertEqual(times, sorted(set(times)))
            self.assertLess(times[-1], run.drive.t[-1])
            for trace in traces:
                self.assertRegex(trace.text, r"^[A-Z][a-z ;-]+\.$")
                self.assertBetween(len(trace.text.split()), 4, 14)
            for before, after in zip(traces, traces[1:]):
                self.assertNotEqual(before.text, after.text)

    @parameterized.parameters(*FAMILIES)
    def test_causes_are_present(self, family):
        for run, traces, _ in runs(family):
            drive, route = run.drive, run.world.layout.route
            for trace in traces:
                k = int(round(trace.t * 10))
                if "traffic light" in trace.text:
                    (colour,) = re.findall("red|yellow|green", trace.text)
                    self.assertEqual(run.world.signal.colour(drive.t[k]), colour)
                    self.assertLess(drive.s[k] + FRONT, run.world.signal.s + 0.1)
                bend = re.search("(left|right) curve", trace.text)
                if bend:
                    near = (route.s > drive.s[k] - 1.0) & (route.s < drive.s[k] + 130.0)
                    sense = 1.0 if bend[1] == "left" else -1.0
                    self.assertGreater((sense * route.kappa[near]).max(), 0.001)
                if "bump" in trace.text:
                    self.assertTrue(run.world.bumps)
                if "pedestrian" in trace.text:
                    self.assertIn("PEDESTRIAN", [a.kind.value for a in run.world.actors])

    @parameterized.parameters(*FAMILIES)
    def test_decision_is_what_the_ego_does_next(self, family):
        for run, traces, _ in runs(family):
            v = run.drive.v
            for trace in traces:
                k = int(round(trace.t * 10))
                # The reaction begins half a second after the keyframe.
                first, later = (v[min(k + ahead, len(v) - 1)] for ahead in (5, 18))
                if trace.text.startswith("Slow down"):
                    self.assertLess(later, first + 0.05)
                elif trace.text.startswith(("Speed up", "Start moving")):
                    self.assertGreater(later, first + 0.05)
                elif trace.text.startswith("Stay stopped"):
                    self.assertLess(v[min(k + 5, len(v) - 1)], 0.15)
                elif trace.text.startswith("Keep the speed"):
                    self.assertLess(abs(later - first), 1.8)

    def test_green_is_not_announced_before_it_shows(self):
        for run, traces, _ in runs("start_at_light"):
            (green,) = [t for t, colour in run.world.signal.phases if colour == "green"]
            started = run.drive.t[np.argmax(run.drive.v > 0.0)]
            (trace,) = [trace for trace in traces if "turned green" in trace.text]
            self.assertGreaterEqual(trace.t, green - 1e-6)
            self.assertLessEqual(trace.t, started)

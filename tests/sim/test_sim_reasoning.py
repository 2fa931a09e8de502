"""Reasoning traces name only what is there, at the time it is there."""

import re

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.sim.driver import FRONT
from alpamayo_jax.sim.reasoning import reasoning_labels
from alpamayo_jax.sim.scenario import FAMILIES, run, sample_scenario


def runs(family, count=6):
    return [run(sample_scenario(29, index, family=family)) for index in range(count)]


class ReasoningTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_traces_are_ordered_and_short(self, family):
        for played in runs(family):
            labels = reasoning_labels(played)
            times = [label.t for label in labels]
            self.assertEqual(times[0], 0.0)
            self.assertEqual(times, sorted(set(times)))
            self.assertLess(times[-1], played.drive.t[-1])
            for label in labels:
                self.assertRegex(label.text, r"^[A-Z][a-z ;-]+\.$")
                self.assertBetween(len(label.text.split()), 4, 14)
            for before, after in zip(labels, labels[1:]):
                self.assertNotEqual(before.text, after.text)

    @parameterized.parameters(*FAMILIES)
    def test_causes_are_present(self, family):
        for played in runs(family):
            scenario, drive = played.scenario, played.drive
            for label in reasoning_labels(played):
                k = int(round(label.t * 10))
                if "car ahead" in label.text:
                    self.assertIsNotNone(scenario.lead)
                if "traffic light" in label.text:
                    (colour,) = re.findall("red|yellow|green", label.text)
                    self.assertEqual(scenario.signal.colour(drive.t[k]), colour)
                    self.assertLess(drive.s[k] + FRONT, scenario.signal.s + 0.1)
                bend = re.search("(left|right) curve", label.text)
                if bend:
                    road = scenario.road
                    near = (road.s > drive.s[k] - 1.0) & (road.s < drive.s[k] + 130.0)
                    sense = 1.0 if bend[1] == "left" else -1.0
                    self.assertGreater((sense * road.kappa[near]).max(), 0.001)

    @parameterized.parameters("lead_slows", "lead_stops")
    def test_braking_lead_is_braking(self, family):
        named = 0
        for played in runs(family):
            for label in reasoning_labels(played):
                k = int(round(label.t * 10))
                if "is braking" in label.text:
                    self.assertTrue(played.lead.braking[k])
                    named += 1
                if "stopped car" in label.text:
                    self.assertLess(played.lead.v[k], 0.3)
                if "speeding up" in label.text:
                    self.assertGreater(played.lead.v[k], played.drive.v[k])
        self.assertGreater(named, 3)

    @parameterized.parameters(*FAMILIES)
    def test_decision_is_what_the_ego_does_next(self, family):
        for played in runs(family):
            v = played.drive.v
            for label in reasoning_labels(played):
                k = int(round(label.t * 10))
                later = v[min(k + 18, len(v) - 1)]
                if label.text.startswith("Slow down"):
                    self.assertLess(later, v[k] + 0.05)
                elif label.text.startswith(("Speed up", "Start moving")):
                    self.assertGreater(later, v[k] + 0.05)
                elif label.text.startswith("Stay stopped"):
                    self.assertLess(v[min(k + 5, len(v) - 1)], 0.15)
                elif label.text.startswith("Keep the speed"):
                    self.assertLess(abs(later - v[k]), 1.2)

    def test_families_without_a_cause_invent_none(self):
        for played in runs("cruise"):
            text = " ".join(label.text for label in reasoning_labels(played))
            for word in ("car ahead", "light", "stop", "Slow"):
                self.assertNotIn(word, text)

    @parameterized.parameters(
        ("curve", "Slow down for the"),
        ("lead_stops", "car ahead"),
        ("red_light", "Slow down to stop at the line because the traffic light is"),
        ("start_at_light", "Start moving because the traffic light has turned green."),
        ("green_light", "because the traffic light is green."),
    )
    def test_family_is_explained_by_its_cause(self, family, words):
        for played in runs(family):
            self.assertTrue(any(words in label.text for label in reasoning_labels(played)))

    def test_green_is_not_announced_before_it_shows(self):
        for played in runs("start_at_light"):
            (green,) = [t for t, colour in played.scenario.signal.phases if colour == "green"]
            labels = reasoning_labels(played)
            started = played.drive.t[np.argmax(played.drive.v > 0.0)]
            (label,) = [label for label in labels if "turned green" in label.text]
            self.assertGreaterEqual(label.t, green - 1e-6)
            self.assertLessEqual(label.t, started)

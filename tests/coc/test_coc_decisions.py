"""Names of the released automatic labeller."""

from absl.testing import parameterized
import pytest

from alpamayo_jax.coc import decisions
from alpamayo_jax.coc.decisions import Lateral, Longitudinal


class ReleasedTest(parameterized.TestCase):
    @parameterized.parameters(*Longitudinal)
    def test_longitudinal_there_and_back(self, decision):
        name = decisions.released_longitudinal(decision)
        assert decisions.longitudinal_from_released(f" {name.upper()} ") is decision

    @parameterized.parameters(
        (Lateral.LANE_CHANGE, "left"), (Lateral.TURN, "right"), (Lateral.KEEP_LANE, ""),
        (Lateral.MERGE_SPLIT, "merge"), (Lateral.MERGE_SPLIT, "split"),
        (Lateral.OUT_OF_LANE_NUDGE, "left"), (Lateral.IN_LANE_NUDGE, "left"),
    )  # fmt: skip
    def test_lateral_there_and_back(self, decision, side):
        name = decisions.released_lateral(decision, side)
        leaves = decision is Lateral.OUT_OF_LANE_NUDGE
        known = side if decision is Lateral.MERGE_SPLIT else ""
        assert decisions.lateral_from_released(name, leaves) == (decision, known)

    @parameterized.parameters(Lateral.PULL_OVER, Lateral.ABORT)
    def test_some_it_does_not_have(self, decision):
        assert decisions.released_lateral(decision) is None

    @parameterized.parameters(
        ("Keep Distance", Longitudinal.FOLLOW_LEAD), ("Adapt Speed", Longitudinal.ADAPT_SPEED),
        ("Resume Speed", Longitudinal.SET_SPEED), ("Pass/Overtake", Longitudinal.PASS),
        ("Gap-search", Longitudinal.SEARCH_GAP), ("Yield", Longitudinal.YIELD),
        ("Stop", Longitudinal.STOP),
    )  # fmt: skip
    def test_its_words(self, name, decision):
        assert decisions.longitudinal_from_released(name) is decision

    def test_none_and_unknown(self):
        assert decisions.released_longitudinal(None) is None
        assert decisions.released_lateral(None) is None
        with pytest.raises(KeyError):
            decisions.longitudinal_from_released("Fly")
        with pytest.raises(KeyError):
            decisions.lateral_from_released("Fly")

    def test_six_lateral_names(self):
        names = {decisions.released_lateral(d, "merge") for d in Lateral} | {"Split"}
        assert names - {None} == {"Lane Change", "Nudge", "Turn", "Merge", "Split", "Keep Lane"}

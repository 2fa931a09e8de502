"""The page of scenario families."""

import io

import numpy as np
import pytest
from PIL import Image

from alpamayo_jax.config import ConfigError
from alpamayo_jax.labelling import families
from alpamayo_jax.sim import camera
from alpamayo_jax.sim.renderer import Rig


@pytest.fixture(scope="module")
def found():
    return [families.show(name, 3) for name in ("red_light", "nudge")]


def test_what_is_shown_is_proved(found):
    for one in found:
        assert one.without_bystanders == 0.0
        assert one.without_cause > 0.25
        assert one.label is not None and one.failures == ()
        assert one.label.provenance["family"] == one.family


def test_a_strip_is_a_row_of_frames(found):
    rig = Rig((camera.make_view(camera.FRONT, 96, 64),))
    with Image.open(io.BytesIO(families.strip(found[0], rig))) as image:
        assert image.size == (96 * len(families.MOMENTS_S), 64)
        pixels = np.asarray(image).astype(int)
    first, last = pixels[:, :96], pixels[:, -96:]
    assert np.abs(first - last).mean() > 1.0


def test_the_table_has_a_row_per_family(found):
    rows = families.family_rows(found)
    assert [row["family"] for row in rows] == ["red_light", "nudge"]
    assert rows[0]["scenario class"] == "stop_for_control"
    assert all(row["label"] == "good" for row in rows)


def test_a_scenario_without_its_moment_has_no_label():
    one = families.show("speed_bump", 3, seconds=2.0)
    assert one.label is None
    assert families.family_rows([one])[0]["label"] == "none"


def test_the_page_shows_every_family_once(found):
    page = families.family_page(found).html()
    assert page.count("<img ") == 2
    for one in found:
        assert one.label.trace in page and one.run.scenario.cause in page


def test_unknown_families_are_refused():
    with pytest.raises(ConfigError, match="parallel_parking"):
        families.show("parallel_parking", 0)

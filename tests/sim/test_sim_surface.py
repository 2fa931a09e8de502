"""Tables of road surfaces, and the map made of the same roads."""

import numpy as np
import pytest

from alpamayo_jax.sim import mapping, surface
from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.looks import SURFACES, make_look
from alpamayo_jax.sim.paths import build_path, curve, ring
from alpamayo_jax.sim.world import Band, Layout, Strip, World

PIECES = [(40.0, 0.0)] + curve(0.03, 1.0, 12.0) + [(60.0, 0.0)]
SITE = Site((-30.0, 12.0), 0.4)


def world(**more):
    return World(open_road(PIECES, Profile(shoulder=1.0), SITE, crosswalk=50.0), **more)


def at(window, corner, point):
    """(s, d) of a point in the first table of a window, from the four cells around it."""
    column, row = (np.asarray(point) - corner) / surface.CELL
    i, j = int(row), int(column)
    u, v = row - i, column - j
    cells = window[0, i : i + 2, j : j + 2]
    return (
        (1 - u) * (1 - v) * cells[0, 0] + (1 - u) * v * cells[0, 1]
        + u * (1 - v) * cells[1, 0] + u * v * cells[1, 1]
    )  # fmt: skip


def test_a_table_holds_path_coordinates():
    path = build_path(PIECES, origin=SITE.origin, heading=SITE.heading)
    field = surface.tabulate(path)
    near = field.values[..., 1] < surface.FAR
    row, column = np.nonzero(near)
    points = surface.CELL * (np.stack([column, row], -1) + field.origin)
    along, off = field.values[near].T
    beside = (along > path.s[0] + 1) & (along < path.s[-1] - 1) & (np.abs(off) < 12.0)
    s, d = path.locate(points[beside])
    assert beside.sum() > 1000
    np.testing.assert_allclose(field.values[near][beside], np.stack([s, d], -1), atol=0.02)


def test_a_table_knows_nothing_of_what_is_far():
    path = build_path([(50.0, 0.0)])
    field = surface.tabulate(path)
    far = field.values[..., 1] == surface.FAR
    assert far.any() and not far.all()
    assert np.abs(field.values[~far][:, 1]).max() < 26.0 * np.sqrt(2)


def test_between_cells_the_distance_is_right_to_two_centimetres():
    made = world()
    roads = surface.Surface(made, make_look(0, "clear"))
    route = made.layout.route
    window, corner = roads.window(*route.pose(30.0)[0])
    for s in np.linspace(-20.0, 110.0, 40):
        for d in (-4.0, 0.3, 3.0):
            found = at(window, corner, route.pose(s, d)[0])
            np.testing.assert_allclose(found, [s, d], atol=0.02)


def test_a_window_does_not_depend_on_where_the_ego_was():
    made, look = world(), make_look(0, "clear")
    one, two = surface.Surface(made, look), surface.Surface(made, look)
    two.window(500.0, -300.0)
    here = made.layout.route.pose(60.0)[0]
    for mine, other in zip(one.window(*here), two.window(*here)):
        np.testing.assert_array_equal(mine, other)
    assert one.window(*here)[0] is one.window(here[0] + 0.1, here[1])[0]


def test_far_from_every_road_there_is_none():
    roads = surface.Surface(world(), make_look(0, "clear"))
    window, _ = roads.window(5000.0, 5000.0)
    assert window.shape == (1, surface.WINDOW, surface.WINDOW, 2)
    assert (window[..., 1] == surface.FAR).all()


def test_bands_are_those_of_the_world_and_its_bumps():
    made = world(bumps=(70.0,))
    look = make_look(3, "clear")
    plain = surface.Surface(world(), look).bands
    bands = surface.Surface(made, look).bands
    assert bands.shape[1] == surface.BAND_COLUMNS and len(bands) == len(plain) + 2
    np.testing.assert_array_equal(bands[: len(plain)], plain)
    np.testing.assert_allclose(bands[-2:, 1:3].mean(1), 70.0)
    np.testing.assert_allclose(bands[-2, -5:-2], look.surfaces["dark"][:3])
    np.testing.assert_allclose(bands[-1, -5:-2], look.surfaces["yellow"][:3])


def test_a_pattern_runs_along_or_across():
    path = build_path([(50.0, 0.0)])
    layout = Layout(path, 3.5, (-2.0, 2.0), (Strip(path, (
        Band("white", (-1, 1), (0, 9), (0.5, 1.1)),
        Band("white", (-1, 1), (0, 9), (0.5, 1.1), across=True),
        Band("asphalt", (-2, 2)),
    )),), ())  # fmt: skip
    along, across, plain = surface.Surface(World(layout), make_look(0, "clear")).bands
    np.testing.assert_allclose(along[5:7], [0.5, 1.1], rtol=1e-6)
    np.testing.assert_allclose(across[7:9], [0.5, 1.1], rtol=1e-6)
    assert along[7] > 1e5 and across[5] > 1e5 and (plain[5:9] > 1e5).all()
    assert np.isfinite(plain).all()  # endless bands too


@pytest.mark.parametrize("weather", ["clear", "overcast", "dusk", "rain", "fog"])
def test_looks(weather):
    look, again, other = make_look(7, weather), make_look(7, weather), make_look(8, weather)
    assert set(look.surfaces) == set(SURFACES)
    np.testing.assert_array_equal(look.texture, again.texture)
    assert (look.texture != other.texture).any() and (look.grass != other.grass).any()
    assert np.linalg.norm(look.sun) == pytest.approx(1.0, abs=1e-6) and look.sun[2] > 0.4
    assert abs(look.texture.mean()) < 0.05 and look.texture.std() == pytest.approx(1.0, abs=1e-3)
    assert 0 < look.ambient < 1 and (look.skyline > 0).all()
    assert look.rain == (weather == "rain")
    for colour in (look.zenith, look.horizon, look.hill, look.air, look.grass):
        assert colour.shape == (3,) and (colour >= 0).all() and (colour <= 255).all()
    # Paint can be told from asphalt in any weather.
    assert (look.surfaces["white"][:3] - look.surfaces["asphalt"][:3]).min() > 60


def test_fog_hides_sooner_than_rain_and_rain_sooner_than_sun():
    reach = {name: [make_look(seed, name).haze for seed in range(20)]
             for name in ("clear", "rain", "fog")}  # fmt: skip
    assert max(reach["fog"]) < min(reach["rain"]) < max(reach["rain"]) < min(reach["clear"])


def area(polygon):
    x, y = polygon.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_drivable_areas_have_the_area_of_the_asphalt():
    layout = world().layout
    (polygon,) = mapping.drivable_areas(layout)
    ((low, high), (right, left)) = layout.strips[0].asphalt[0]
    # On a curve the asphalt on the outside is longer: the lever arm of the middle of the road.
    turned = layout.route.heading[-1] - layout.route.heading[0]
    want = (left - right) * ((high - low) - turned * (left + right) / 2)
    assert area(polygon) == pytest.approx(want, rel=2e-3)


def test_a_ring_is_cut_so_that_no_polygon_holds_its_middle():
    path = ring((3.0, 4.0), 15.0, 0.0)
    strip = Strip(path, (Band("asphalt", (-3.0, 3.0)),))
    layout = Layout(path, 3.5, (-3.0, 3.0), (strip,), ())
    areas = mapping.drivable_areas(layout)
    assert len(areas) == 4
    want = np.pi * (18.0**2 - 12.0**2)
    assert sum(area(polygon) for polygon in areas) == pytest.approx(want, rel=5e-3)


def test_lines_of_the_map():
    made = world()
    lines = mapping.map_lines(made.layout)
    assert lines.points.shape[1] == 3 and not lines.points[:, 2].any()
    assert lines.offsets[0] == 0 and lines.offsets[-1] == len(lines.points)
    kinds = [str(kind).partition(":")[0] for kind in lines.kind]
    count = len(made.layout.lanes)
    assert kinds.count("lane_left") == kinds.count("lane_right") == count
    assert kinds.count("ped_crossing_edge1") == kinds.count("ped_crossing_edge2") == 1
    assert kinds.count("drivable_area") == 1
    for number, lane in enumerate(made.layout.lanes):
        rows = np.flatnonzero(lines.ids == f"lane {number}")
        left, right, centre = (lines.points[lines.offsets[i] : lines.offsets[i + 1], :2]
                               for i in rows)  # fmt: skip
        np.testing.assert_allclose((left + right) / 2, centre, atol=1e-9)
        apart = np.linalg.norm(left - right, axis=-1)
        np.testing.assert_allclose(apart, lane.width, atol=1e-6)
        ahead = centre[-1] - centre[0]
        beside = (left - right)[0]
        assert ahead[0] * beside[1] - ahead[1] * beside[0] > 0  # left is left

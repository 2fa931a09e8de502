"""The renderer's arithmetic piece by piece, against NumPy written out here."""

import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.sim import draw
from alpamayo_jax.sim.parts import OUTLINES, part, table

RNG = np.random.default_rng(0)


def overlap(low, high, start, end):
    return np.maximum(np.minimum(high, end) - np.maximum(low, start), 0.0)


def test_cover_is_the_share_of_a_pixel():
    value, half = RNG.uniform(-3, 3, 200), RNG.uniform(0.01, 2.0, 200)
    found = draw._cover(value, half, 0.5 / half, -0.4, 1.1)
    want = overlap(value - half, value + half, -0.4, 1.1) / (2 * half)
    np.testing.assert_allclose(found, want, atol=1e-6)
    assert (np.asarray(found) <= 1.0 + 1e-6).all()


@pytest.mark.parametrize("length, period", [(3.0, 9.0), (0.5, 1.1), (1.0, 2.0)])
def test_dashes_begin_at_zero_and_repeat(length, period):
    place = np.linspace(-20.0, 20.0, 801)
    width = np.full_like(place, 0.02)
    found = np.asarray(draw._dashed(place, width, width / 2, 1 / width, length, period))
    phase = np.mod(place, period)
    inside = (phase > 0.05) & (phase < length - 0.05)
    outside = (phase > length + 0.05) & (phase < period - 0.05)
    np.testing.assert_allclose(found[inside], 1.0, atol=1e-3)
    np.testing.assert_allclose(found[outside], 0.0, atol=1e-3)


def test_dashes_that_are_too_small_to_see_become_their_mean():
    place, width = np.linspace(0.0, 50.0, 40), np.full(40, 8.0)
    found = draw._dashed(place, width, width / 2, 1 / width, 3.0, 9.0)
    np.testing.assert_allclose(found, 1 / 3, rtol=1e-6)


def test_no_pattern_is_everywhere():
    place, width = np.linspace(-50.0, 50.0, 40), np.full(40, 0.1)
    found = draw._dashed(place, width, width / 2, 1 / width, 1e6, 1e6)
    np.testing.assert_array_equal(found, 1.0)


def test_a_footprint_is_the_change_over_one_pixel():
    rows, columns = np.mgrid[:5, :7].astype(np.float32)
    field = jnp.asarray(0.3 * columns - 0.2 * rows)[None]
    np.testing.assert_allclose(draw._footprint(field), 0.5, atol=1e-6)
    flat = jnp.zeros((1, 4, 4))
    assert (np.asarray(draw._footprint(flat)) > 0).all()  # it is divided by


def test_one_row_has_a_footprint_too():
    field = jnp.asarray(np.arange(6.0, dtype=np.float32))[None, None]
    np.testing.assert_allclose(draw._footprint(field), 1.0, atol=1e-6)


def prepared(row, origin, sun=(0.0, 0.0, 1.0)):
    """What `_cast` is given of one solid, for a lens at `origin`."""
    row = table([row])[0]
    cos, sin = np.cos(row[3]), np.sin(row[3])
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    half = row[4:7] / 2
    return {
        "turn": jnp.array([cos, sin])[:, None], "scale": jnp.asarray(1 / half)[:, None],
        "start": jnp.asarray(turn @ (np.asarray(origin) - row[:3]) / half)[:, None],
        "sun": jnp.asarray(turn @ np.asarray(sun))[:, None],
        "shape": jnp.asarray(row[11]), "outline": jnp.asarray(row[12]),
    }  # fmt: skip


def marched(row, origin, ray, step=2e-3, far=14.0):
    """Distance along a ray to the first point inside a solid, by small steps; inf without one."""
    row = table([row])[0]
    at = np.arange(0.0, far, step)
    away = np.asarray(origin) + at[:, None] * ray - row[:3]
    cos, sin = np.cos(row[3]), np.sin(row[3])
    own = np.stack(
        [cos * away[:, 0] + sin * away[:, 1], cos * away[:, 1] - sin * away[:, 0], away[:, 2]], -1
    ) / (row[4:7] / 2)
    inside = (own**2).sum(-1) < 1 if row[11] else (np.abs(own) < 1).all(-1)
    return at[np.argmax(inside)] if inside.any() else np.inf


@pytest.mark.parametrize("ball", [False, True])
@pytest.mark.parametrize("yaw", [0.0, 0.8])
def test_rays_meet_solids_where_marching_does(ball, yaw):
    row = part((6.0, 0.5, 1.0), (3.0, 2.0, 1.6), (9, 9, 9), ball=ball)
    row[3] = yaw
    origin = np.array([0.0, 0.0, 1.5])
    rays = RNG.normal((1.0, 0.05, -0.05), (0.0, 0.25, 0.15), (60, 3))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    distance, hit, _ = draw._cast(jnp.asarray(rays.T), prepared(row, origin))
    want = np.array([marched(row, origin, ray) for ray in rays])
    grazes = np.abs(np.nan_to_num(want, posinf=-1) - np.asarray(distance)) > 0.05
    agree = np.asarray(hit) == np.isfinite(want)
    assert 10 < np.isfinite(want).sum() < 55
    assert (agree | grazes).all() and agree.mean() > 0.95
    both = np.asarray(hit) & np.isfinite(want)
    np.testing.assert_allclose(np.asarray(distance)[both], want[both], atol=0.02)


def test_what_is_behind_is_not_met():
    rays = np.array([[-1.0, 0.0, 0.0]])
    row = part((6.0, 0.0, 0.0), (2.0, 2.0, 2.0), (9, 9, 9))
    for ball in (False, True):
        row = part((6.0, 0.0, 0.0), (2.0, 2.0, 2.0), (9, 9, 9), ball=ball)
        _, hit, _ = draw._cast(jnp.asarray(rays.T), prepared(row, np.zeros(3)))
        assert not hit.any()


@pytest.mark.parametrize("ball", [False, True])
def test_the_side_towards_the_sun_is_bright(ball):
    row = part((6.0, 0.0, 0.0), (2.0, 2.0, 2.0), (9, 9, 9), ball=ball)
    ahead = jnp.asarray([[1.0], [0.0], [0.0]])
    bright, dark, level = (
        float(draw._cast(ahead, prepared(row, np.zeros(3), sun))[2][0])
        for sun in ((-1.0, 0, 0), (1.0, 0, 0), (0, 0, 1.0))
    )
    assert bright == pytest.approx(1.0, abs=1e-5) and dark == 0.0
    assert level == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    "outline, inside, outside",
    [
        ("octagon", (0.5, 0.85), (0.8, 0.8)),
        ("diamond", (0.4, 0.5), (0.6, 0.6)),
        ("disc", (0.6, 0.7), (0.8, 0.8)),
        ("down", (0.7, 0.8), (0.7, -0.5)),  # a triangle on its point
        ("up", (0.7, -0.8), (0.7, 0.5)),
    ],
)
def test_outlines_of_signs(outline, inside, outside):
    """A plate of 2 m by 2 m, seen from the front; (y, z) in units of its half size."""
    row = part((6.0, 0.0, 0.0), (0.02, 2.0, 2.0), (9, 9, 9), outline=outline)
    rays = np.array([(6.0, y, z) for y, z in (inside, outside, (0.0, 0.0))])
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    _, hit, _ = draw._cast(jnp.asarray(rays.T), prepared(row, np.zeros(3)))
    assert hit.tolist() == [True, False, True]
    assert outline in OUTLINES

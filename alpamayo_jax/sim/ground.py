"""Background of a rendered frame: sky, hills, grass, asphalt and markings, shaded by distance.

Coverage of a thin marking by a pixel is computed by integrating over the pixel's footprint in road
coordinates (the screen-space derivative), so markings neither flicker nor vanish far away.
"""

import dataclasses

import numpy as np

from alpamayo_jax.sim.camera import View
from alpamayo_jax.sim.road import LEFT_SHOULDER, Road, RoadField

LINE = 0.16  # metres, width of a painted line
STOP_LINE = 0.45  # metres along the road
DASH, DASH_PERIOD = 4.0, 9.0  # metres
CROSSING_HALF = 5.0  # metres, half the width of a crossing road
_CROSSING_REACH = 90.0  # metres that it is drawn to each side
_TILE = 256  # texels of the repeating texture
_HILLS = 1024  # entries of the skyline


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """Colours (RGB, 0 to 255) and light of a clip.

    Attributes:
      zenith, horizon, hill, air, grass, asphalt, paint, yellow: colours; things far away fade to
        the colour of the air.
      sun: unit vector towards the sun, world.
      ambient: share of the light that has no direction.
      haze: metres in which contrast falls to 1 / e.
      texture: float32 [256, 256], mean 0, deviation 1, repeats.
      skyline: float32 [1024], elevation of the hills in radians by azimuth, repeats.
    """

    zenith: np.ndarray
    horizon: np.ndarray
    hill: np.ndarray
    air: np.ndarray
    grass: np.ndarray
    asphalt: np.ndarray
    paint: np.ndarray
    yellow: np.ndarray
    sun: np.ndarray
    ambient: float
    haze: float
    texture: np.ndarray
    skyline: np.ndarray


_LIGHTS = (
    # zenith, horizon, ambient, brightness of the ground
    ((92, 142, 214), (196, 216, 236), 0.55, 1.0),
    ((158, 166, 178), (204, 207, 212), 0.8, 0.88),
    ((72, 84, 130), (236, 186, 140), 0.5, 0.72),
)


def make_look(seed: int) -> Look:
    """Draws light, colours and textures."""
    rng = np.random.default_rng([seed, 5])
    zenith, horizon, ambient, bright = _LIGHTS[rng.choice(3, p=[0.5, 0.3, 0.2])]

    def tint(colour: tuple[int, int, int], spread: float = 0.06) -> np.ndarray:
        change = rng.uniform(1 - spread, 1 + spread, 3)
        return (np.asarray(colour) * bright * change).astype(np.float32)

    noise = rng.standard_normal((_TILE, _TILE)).astype(np.float32)
    noise = noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    angles = np.arange(_HILLS) * (2 * np.pi / _HILLS)
    waves = rng.integers(2, 24, 8)
    skyline = 0.022 + sum(
        0.03 / w * np.sin(w * angles + phase) for w, phase in zip(waves, rng.uniform(0, 6.28, 8))
    )
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.0)
    flat = np.cos(elevation)
    sun = [np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation)]
    horizon = np.asarray(horizon, np.float32)
    hill = 0.55 * tint((86, 112, 92)) + 0.36 * horizon
    return Look(
        zenith=np.asarray(zenith, np.float32),
        horizon=horizon,
        hill=hill,
        air=0.6 * hill + 0.4 * horizon,
        grass=tint((98, 122, 58), 0.12),
        asphalt=tint((88, 89, 92), 0.08),
        paint=tint((232, 232, 228), 0.02),
        yellow=tint((226, 180, 48), 0.03),
        sun=np.asarray(sun),
        ambient=ambient,
        haze=float(rng.uniform(160.0, 320.0)),
        texture=noise / noise.std(),
        skyline=np.maximum(skyline, 0.004).astype(np.float32),
    )


def background(
    view: View,
    look: Look,
    road: Road,
    field: RoadField,
    pose: tuple[float, float, float],
    stop_line: float | None = None,
    crossing: tuple[float, float, float] | None = None,
) -> np.ndarray:
    """Renders everything but objects.

    Args:
      view: the camera.
      look: colours and light.
      road, field: the road and its tabulated coordinates.
      pose: x, y, heading of the ego, world.
      stop_line: s of the stop line, or None.
      crossing: x, y of the middle of a crossing and the heading of our road there, or None.

    Returns:
      float32 [3, height, width], 0 to 255.
    """
    image = np.empty((3, view.height, view.width), np.float32)
    _sky(view, look, pose[2], image)
    if view.top < view.height:
        _ground(view, look, road, field, pose, stop_line, crossing, image[:, view.top :])
    return image


def _sky(view: View, look: Look, heading: float, image: np.ndarray) -> None:
    rows = min(view.top + 2, view.height) if view.is_ground.all() else view.height
    up = np.clip(view.rays[:rows, :, 2], 0.0, 1.0)
    mix = np.sqrt(up)
    bearing = view.azimuth[:rows] + np.float32(heading)
    place = (bearing * np.float32(_HILLS / (2 * np.pi))).astype(np.int32) & (_HILLS - 1)
    below = up < look.skyline[place]
    for channel in range(3):
        sky = look.horizon[channel] + mix * (look.zenith[channel] - look.horizon[channel])
        image[channel, :rows] = np.where(below, look.hill[channel], sky)


def _ground(view, look, road, field, pose, stop_line, crossing, image) -> None:
    x, y, heading = pose
    cos, sin = np.float32(np.cos(heading)), np.float32(np.sin(heading))
    gx = cos * view.ground[0] - sin * view.ground[1] + np.float32(x)
    gy = sin * view.ground[0] + cos * view.ground[1] + np.float32(y)
    s, d = field.lookup(gx, gy)
    ds, dd = _footprint(s), _footprint(d)
    right, middle, left = road.edges

    asphalt = _cover(d, dd, right - road.shoulder, left + LEFT_SHOULDER)
    white = _cover(d, dd, right - LINE / 2, right + LINE / 2)
    white += _cover(d, dd, left - LINE / 2, left + LINE / 2)
    yellow = _cover(d, dd, middle - LINE / 2, middle + LINE / 2)
    if road.dashed:
        phase = s - DASH_PERIOD * np.floor(s / DASH_PERIOD)
        dash = np.where(ds > DASH_PERIOD / 2, DASH / DASH_PERIOD, _cover(phase, ds, 0.0, DASH))
        yellow *= dash
    if crossing is not None:
        dx, dy = gx - np.float32(crossing[0]), gy - np.float32(crossing[1])
        cos, sin = np.float32(np.cos(crossing[2])), np.float32(np.sin(crossing[2]))
        across = dx * cos + dy * sin
        inside = _cover(across, _footprint(across), -CROSSING_HALF, CROSSING_HALF)
        inside *= np.abs(dy * cos - dx * sin) < _CROSSING_REACH
        outside = 1.0 - inside
        white *= outside
        yellow *= outside
        asphalt = np.maximum(asphalt, inside)
    if stop_line is not None:
        bar = _cover(s, ds, stop_line, stop_line + STOP_LINE) * _cover(d, dd, right, middle)
        white = np.maximum(white, bar)

    shade = 1.0 + _texture(look, gx, gy, view.distance, asphalt)
    haze = np.exp(view.distance / np.float32(-look.haze))
    ground = view.is_ground
    for channel in range(3):
        colour = look.grass[channel] + asphalt * (look.asphalt[channel] - look.grass[channel])
        colour *= shade
        colour += yellow * (look.yellow[channel] - colour)
        colour += white * (look.paint[channel] - colour)
        colour -= look.air[channel]
        colour *= haze
        colour += look.air[channel]
        np.copyto(image[channel], colour, where=ground)


def _texture(look, gx, gy, distance, asphalt) -> np.ndarray:
    """Relative brightness: fine grain near the camera, patches of 2 m further out."""
    fine = _sample(look.texture, gx, gy, 0.15) * np.exp(distance / np.float32(-9.0))
    coarse = _sample(look.texture, gx, gy, 2.0) * np.exp(distance / np.float32(-70.0))
    # Asphalt is smoother than grass.
    return (0.07 * fine + 0.08 * coarse) * (1.0 - 0.65 * asphalt)


def _sample(texture: np.ndarray, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    u = np.floor(x * np.float32(1 / size)).astype(np.int32) & (_TILE - 1)
    v = np.floor(y * np.float32(1 / size)).astype(np.int32) & (_TILE - 1)
    return texture.ravel().take(v * _TILE + u)


def _footprint(value: np.ndarray) -> np.ndarray:
    """How much a road coordinate [rows, columns] changes over one pixel."""
    change = np.empty_like(value)
    np.abs(value[:, 1:] - value[:, :-1], out=change[:, 1:])
    change[:, 0] = change[:, 1]
    rows = np.abs(value[1:] - value[:-1])
    change[1:] += rows
    if len(rows):
        change[0] += rows[0]
    return np.maximum(change, np.float32(1e-3), out=change)


def _cover(value: np.ndarray, footprint: np.ndarray, low: float, high: float) -> np.ndarray:
    """Share of [value - footprint / 2, value + footprint / 2] that lies in [low, high]."""
    half = np.float32(0.5) * footprint
    top = np.minimum(value + half, np.float32(high))
    top -= np.maximum(value - half, np.float32(low))
    np.maximum(top, np.float32(0.0), out=top)
    top /= footprint
    return top

"""The renderer's arithmetic, in JAX: sky, ground with markings, solids, lamps, rain.

Letters: C cameras, H and W rows and columns, P = C * H * W pixels, R strips, B bands, E entries (a
solid that a camera may see), J lamps. Everything has a fixed shape but for how far the loops over
bands, entries and lamps run, so one compilation serves all frames of a set of cameras.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.sim.looks import HILLS, TILE
from alpamayo_jax.sim.surface import CELL, WINDOW
from alpamayo_jax.types import Array

CHUNK = 8192  # pixels of entries that are cast at once
OWNER_BITS = 11
MAX_ENTRIES = 2**OWNER_BITS
NEAR = 0.1  # metres
_EMPTY = 0xFFFFFFFF
_PATCH = 48  # pixels along a side of the patch that a lamp shines on


@flax.struct.dataclass
class Cameras:
    """What each pixel of a set of cameras looks at, in the ego frame.

    Attributes:
      rays: [3, C, H, W], length 1.
      seen: bool [C, H, W].
      azimuth: [C, H, W], radians to the left of ego x.
      origin: [C, 3], the lenses.
      ground: [2, C, G, W], x and y where rays of the last G rows meet the road.
      distance: [C, G, W], from lens to ground; is_ground: bool [C, G, W].
    """

    rays: Array
    seen: Array
    azimuth: Array
    origin: Array
    ground: Array
    distance: Array
    is_ground: Array


@flax.struct.dataclass
class Light:
    """`looks.Look` on the device: colours [3], numbers [], texture and skyline."""

    zenith: Array
    horizon: Array
    hill: Array
    air: Array
    grass: Array
    sun: Array
    ambient: Array
    haze: Array
    rain: Array
    texture: Array
    skyline: Array


@flax.struct.dataclass
class Frame:
    """What one frame shows.

    Attributes:
      pose: [3], x, y, heading of the ego, world.
      tables: [R, WINDOW, WINDOW, 2]; corner: [2], see `surface.Surface.window`.
      bands: [B, 14]; num_bands: [R + 1], where the bands of each strip begin among `order`.
      entries: [E, 13], solids in the ego frame; camera: int32 [E].
      corner_of: int32 [2, E], first row and column; width: int32 [E]; first: int32 [E + 1], pixels
        before each entry.
      lamps: [J, 8], camera, column, row, metres, radius in pixels, colour; num_lamps: [].
      step: int32 [], for what moves by itself.
    """

    pose: Array
    tables: Array
    corner: Array
    bands: Array
    num_bands: Array
    entries: Array
    camera: Array
    corner_of: Array
    width: Array
    first: Array
    lamps: Array
    num_lamps: Array
    step: Array


@jax.jit
def draw(cameras: Cameras, light: Light, frame: Frame) -> jax.Array:
    """Draws one frame of all cameras: uint8 [C, H, W, 3]."""
    image = _sky(cameras, light, frame.pose[2])
    if cameras.distance.shape[1]:
        top = image.shape[2] - cameras.distance.shape[1]
        ground = _ground(cameras, light, frame)
        lower = jnp.where(cameras.is_ground, ground, image[:, :, top:])
        image = jnp.concatenate([image[:, :, :top], lower], 2)
    image, depth = _solids(cameras, light, frame, image)
    image = _lamps(frame, image, depth)
    image = _rain(light, frame, image)
    image = jnp.where(cameras.seen, image, 0.0)
    return jnp.clip(jnp.moveaxis(image, 0, -1), 0.0, 255.0).astype(jnp.uint8)


def _sky(cameras: Cameras, light: Light, heading: jax.Array) -> jax.Array:
    """float32 [3, C, H, W]."""
    up = jnp.clip(cameras.rays[2], 0.0, 1.0)
    bearing = cameras.azimuth + heading
    place = jnp.floor(bearing * (HILLS / (2 * jnp.pi))).astype(jnp.int32) & (HILLS - 1)
    below = up < _take(light.skyline, place)
    mix = jnp.sqrt(up)
    sky = _spread(light.horizon) + mix * _spread(light.zenith - light.horizon)
    return jnp.where(below, _spread(light.hill), sky)


def _spread(colour: jax.Array) -> jax.Array:
    return colour.reshape(-1, 1, 1, 1)


def _take(values: jax.Array, index: jax.Array) -> jax.Array:
    return values.at[index].get(mode="promise_in_bounds")


def _take_last(values: jax.Array, index: jax.Array) -> jax.Array:
    return values.at[..., index].get(mode="promise_in_bounds")


def _ground(cameras: Cameras, light: Light, frame: Frame) -> jax.Array:
    """float32 [3, C, G, W]."""
    cos, sin = jnp.cos(frame.pose[2]), jnp.sin(frame.pose[2])
    gx = cos * cameras.ground[0] - sin * cameras.ground[1] + frame.pose[0]
    gy = sin * cameras.ground[0] + cos * cameras.ground[1] + frame.pose[1]
    u = jnp.clip((gx - frame.corner[0]) / CELL, 0.0, WINDOW - 1.001)
    v = jnp.clip((gy - frame.corner[1]) / CELL, 0.0, WINDOW - 1.001)
    iu, iv = u.astype(jnp.int32), v.astype(jnp.int32)
    fu, fv = u - iu, v - iv
    index = iv * WINDOW + iu

    def look_up(flat: jax.Array) -> jax.Array:
        low, high = _take(flat, index), _take(flat, index + WINDOW)
        low = low + fu * (_take(flat, index + 1) - low)
        high = high + fu * (_take(flat, index + WINDOW + 1) - high)
        return low + fv * (high - low)

    base = jnp.broadcast_to(_spread(jnp.append(light.grass, 0.0)), (4, *gx.shape))

    def strip(r: jax.Array, layers: jax.Array) -> jax.Array:
        flat = frame.tables[r].reshape(-1, 2)
        s, d = look_up(flat[:, 0]), look_up(flat[:, 1])
        ds, dd = _footprint(s), _footprint(d)
        half_s, half_d, by_s, by_d = 0.5 * ds, 0.5 * dd, 1.0 / ds, 1.0 / dd

        def band(k: jax.Array, layers: jax.Array) -> jax.Array:
            row = frame.bands[k]
            share = _cover(s, half_s, by_s, row[1], row[2])
            share *= _cover(d, half_d, by_d, row[3], row[4])
            share *= _dashed(s - row[1], ds, half_s, by_s, row[5], row[6])
            share *= _dashed(d - row[3], dd, half_d, by_d, row[7], row[8])
            return layers + share * (_spread(row[9:13]) - layers)

        return jax.lax.fori_loop(frame.num_bands[r], frame.num_bands[r + 1], band, layers)

    layers = jax.lax.fori_loop(0, frame.num_bands.shape[0] - 1, strip, base)
    distance = cameras.distance
    fine = _texture(light, gx, gy, 0.15) * jnp.exp(distance / -9.0)
    coarse = _texture(light, gx, gy, 2.0) * jnp.exp(distance / -70.0)
    shade = 1.0 + (0.07 * fine + 0.08 * coarse) * (1.0 - layers[3])
    haze = jnp.exp(-distance / light.haze)
    air = _spread(light.air)
    return air + haze * (layers[:3] * shade - air)


def _dashed(place, change, half, inverse, length, period) -> jax.Array:
    """Share of a pixel in the dashes of a pattern that begins at 0; 1 where there is none."""
    phase = place - period * jnp.floor(place / period)
    near = _cover(phase, half, inverse, 0.0, length) + _cover(phase, half, inverse, period,
                                                              period + length)  # fmt: skip
    share = jnp.where(change > 0.5 * period, length / period, jnp.minimum(near, 1.0))
    return jnp.where(period > 1e5, 1.0, share)


def _footprint(value: jax.Array) -> jax.Array:
    """How much a road coordinate [C, G, W] changes over one pixel."""
    across = jnp.abs(value[..., 1:] - value[..., :-1])
    across = jnp.concatenate([across[..., :1], across], -1)
    down = jnp.abs(value[..., 1:, :] - value[..., :-1, :])
    down = jnp.concatenate([down[..., :1, :], down], -2) if value.shape[-2] > 1 else 0.0
    return jnp.maximum(across + down, 1e-3)


def _cover(value, half, inverse, low, high) -> jax.Array:
    """Share of [value - half, value + half] that lies in [low, high]."""
    inside = jnp.minimum(value + half, high) - jnp.maximum(value - half, low)
    return jnp.maximum(inside, 0.0) * inverse


def _texture(light: Light, x: jax.Array, y: jax.Array, size: float) -> jax.Array:
    u = jnp.floor(x / size).astype(jnp.int32) & (TILE - 1)
    v = jnp.floor(y / size).astype(jnp.int32) & (TILE - 1)
    return _take(light.texture.reshape(-1), v * TILE + u)


def _prepared(cameras: Cameras, light: Light, frame: Frame) -> dict[str, jax.Array]:
    """Each entry in units of its half extents: a box is a cube, an ellipsoid a ball of radius 1."""
    rows = frame.entries
    cos, sin = jnp.cos(rows[:, 3]), jnp.sin(rows[:, 3])
    half = rows[:, 4:7] / 2
    away = cameras.origin[frame.camera] - rows[:, :3]
    start = jnp.stack(
        [cos * away[:, 0] + sin * away[:, 1], cos * away[:, 1] - sin * away[:, 0], away[:, 2]]
    ) / half.T
    heading = frame.pose[2]
    sx = jnp.cos(heading) * light.sun[0] + jnp.sin(heading) * light.sun[1]
    sy = jnp.cos(heading) * light.sun[1] - jnp.sin(heading) * light.sun[0]
    sun = jnp.stack([cos * sx + sin * sy, cos * sy - sin * sx, jnp.full_like(cos, light.sun[2])])
    return {
        "turn": jnp.stack([cos, sin]), "scale": 1.0 / half.T, "start": start, "sun": sun,
        "colour": rows[:, 7:10].T, "glow": rows[:, 10], "shape": rows[:, 11],
        "outline": rows[:, 12],
    }  # fmt: skip


def _cast(rays: jax.Array, solid: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(distance, hit, facing the sun) of rays [3, ...], each with its own solid."""
    cos, sin = solid["turn"]
    way = jnp.stack([cos * rays[0] + sin * rays[1], cos * rays[1] - sin * rays[0], rays[2]])
    way = way * solid["scale"]
    way = jnp.where(jnp.abs(way) < 1e-9, 1e-9, way)
    start, inverse = solid["start"], 1.0 / way
    sign = jnp.sign(way)
    enter, leave = (-sign - start) * inverse, (sign - start) * inverse
    first = enter.max(0)
    in_box = (first < leave.min(0)) & (first > NEAR)
    y, z = (jnp.abs(start[i] + first * way[i]) for i in (1, 2))
    signed_z = start[2] + first * way[2]
    kind = solid["outline"]
    inside = jnp.where(kind == 1.0, y + z < 1.41, True)
    inside = jnp.where(kind == 2.0, y + z < 1.0, inside)
    inside = jnp.where(kind == 3.0, y * y + z * z < 1.0, inside)
    inside = jnp.where(kind == 4.0, y < 0.5 * (1.0 + signed_z), inside)
    inside = jnp.where(kind == 5.0, y < 0.5 * (1.0 - signed_z), inside)
    facing_box = sum(
        jnp.where(enter[i] == first, jnp.maximum(-sign[i] * solid["sun"][i], 0.0), 0.0)
        for i in range(3)
    )
    a, b = (way * way).sum(0), (way * start).sum(0)
    c = (start * start).sum(0) - 1.0
    root = b * b - a * c
    nearest = (-b - jnp.sqrt(jnp.maximum(root, 0.0))) / a
    on_ball = (root > 0.0) & (nearest > NEAR)
    normal = (start + nearest * way) * solid["scale"]
    facing_ball = (normal * solid["sun"]).sum(0) / jnp.sqrt((normal * normal).sum(0) + 1e-12)
    ball = solid["shape"] > 0.5
    return (
        jnp.where(ball, nearest, first),
        jnp.where(ball, on_ball, in_box & inside),
        jnp.where(ball, jnp.maximum(facing_ball, 0.0), facing_box),
    )


def _solids(
    cameras: Cameras, light: Light, frame: Frame, image: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(image, depth [C, H, W]); the nearest entry of each pixel is found by one number.

    Its upper bits are those of the distance, its lower ones the number of the entry.
    """
    _, cams, height, width = image.shape
    pixels, entries = cams * height * width, frame.entries.shape[0]
    rays = cameras.rays.reshape(3, pixels)
    solids = _prepared(cameras, light, frame)
    mask = jnp.uint32(_EMPTY - (MAX_ENTRIES - 1))

    def chunk(c: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keys, bright = found
        index = c * CHUNK + jnp.arange(CHUNK, dtype=jnp.int32)
        owner = jnp.searchsorted(frame.first, index, side="right", method="scan") - 1
        owner = jnp.clip(owner, 0, entries - 1).astype(jnp.int32)
        place = index - _take(frame.first, owner)
        across = _take(frame.width, owner)
        row = place // across
        line = _take(frame.camera, owner) * height + _take(frame.corner_of[0], owner) + row
        pixel = line * width + _take(frame.corner_of[1], owner) + place - row * across
        pixel = jnp.where(index < frame.first[-1], pixel, 0)
        own = jax.tree.map(lambda value: _take_last(value, owner), solids)
        distance, hit, facing = _cast(_take_last(rays, pixel), own)
        hit &= index < frame.first[-1]
        bits = jax.lax.bitcast_convert_type(distance.astype(jnp.float32), jnp.uint32)
        key = jnp.where(hit, (bits & mask) | owner.astype(jnp.uint32), jnp.uint32(_EMPTY))
        keys = keys.at[pixel].min(key, mode="promise_in_bounds")
        # What is nearest so far writes its light; what comes nearer later writes over it.
        won = hit & (_take(keys, pixel) == key)
        lit = light.ambient + (1.25 - light.ambient) * facing
        lit = jnp.where(own["glow"] > 0.5, 1.0, lit)
        bright = bright.at[jnp.where(won, pixel, pixels)].set(lit, mode="drop")
        return keys, bright

    chunks = (frame.first[-1] + CHUNK - 1) // CHUNK
    nothing = jnp.full(pixels, jnp.uint32(_EMPTY)), jnp.zeros(pixels)
    keys, bright = jax.lax.fori_loop(0, chunks, chunk, nothing)
    covered = keys != jnp.uint32(_EMPTY)
    owner = jnp.where(covered, keys & jnp.uint32(MAX_ENTRIES - 1), 0).astype(jnp.int32)
    distance = jax.lax.bitcast_convert_type(keys & mask, jnp.float32)
    distance = jnp.where(covered, distance, jnp.inf)
    clear = jnp.exp(-distance / light.haze)
    colour = _take_last(solids["colour"], owner) * bright
    colour = light.air[:, None] + clear * (colour - light.air[:, None])
    image = jnp.where(covered, colour, image.reshape(3, pixels)).reshape(image.shape)
    return image, distance.reshape(cams, height, width)


def _lamps(frame: Frame, image: jax.Array, depth: jax.Array) -> jax.Array:
    """Adds the bloom of lamps that no solid hides: lit lamps stay readable far away."""
    height, width = image.shape[2:]
    tall, wide = min(_PATCH, height), min(_PATCH, width)

    def lamp(k: jax.Array, image: jax.Array) -> jax.Array:
        row = frame.lamps[k]
        camera = row[0].astype(jnp.int32)
        u, v = jnp.round(row[1]).astype(jnp.int32), jnp.round(row[2]).astype(jnp.int32)
        hidden = depth[camera, v, u] < row[3] - 0.15
        top = jnp.clip(v - tall // 2, 0, height - tall)
        left = jnp.clip(u - wide // 2, 0, width - wide)
        down = top + jnp.arange(tall) - row[2]
        across = left + jnp.arange(wide) - row[1]
        weight = 0.9 * jnp.exp(-(down[:, None] ** 2 + across**2) / (2.0 * row[4] ** 2))
        weight = jnp.where(hidden, 0.0, weight)[None, None]
        patch = jax.lax.dynamic_slice(image, (0, camera, top, left), (3, 1, tall, wide))
        patch = patch + weight * (_spread(row[5:8]) - patch)
        return jax.lax.dynamic_update_slice(image, patch, (0, camera, top, left))

    return jax.lax.fori_loop(0, frame.num_lamps, lamp, image)


def _rain(light: Light, frame: Frame, image: jax.Array) -> jax.Array:
    """Streaks, other ones in each frame."""
    height, width = image.shape[2:]
    row = jnp.arange(height)[:, None] // 9 + 37 * frame.step
    column = jnp.arange(width)[None] + jnp.arange(height)[:, None] // 5
    drops = _take(light.texture.reshape(-1), (row & (TILE - 1)) * TILE + (column & (TILE - 1)))
    weight = light.rain * 0.28 * (drops > 2.0)
    return image + weight * (215.0 - image)


@functools.cache
def host_device() -> Any:
    """The processor, on which frames are drawn: a training accelerator has other things to do."""
    return jax.local_devices(backend="cpu")[0]

"""The renderer: what a rig of cameras sees of a world, at any place of the ego and at any step.

The host chooses what can be seen and where in the images; `draw` does the rest.
"""


import jax
import numpy as np

from alpamayo_jax.clip import Pinhole
from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import draw
from alpamayo_jax.sim.bodies import body_of, posed
from alpamayo_jax.sim.camera import View
from alpamayo_jax.sim.looks import Look, make_look
from alpamayo_jax.sim.motion import Motion
from alpamayo_jax.sim.parts import COLUMNS, SIZE, YAW
from alpamayo_jax.sim.roadside import LENSES, HEAD_HEIGHT, lamps, roadside, signal_place
from alpamayo_jax.sim.surface import BAND_COLUMNS, Surface
from alpamayo_jax.sim.world import World

MAX_LAMPS, MAX_BANDS, MAX_STRIPS = 64, 64, 6
_ENTRY_STEPS = (512, draw.MAX_ENTRIES)
_REACH, _ACTOR_REACH, _LAMP_REACH = 220.0, 160.0, 200.0  # metres
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
_EDGES = np.array([(a, b) for a in range(8) for b in range(a) if bin(a ^ b).count("1") == 1])

Lamp = tuple[np.ndarray, tuple[float, float, float], float]  # centre, colour, radius in metres


class Rig:
    """Cameras of one image size that are drawn together."""

    def __init__(self, views: tuple[View, ...]):
        """Puts the tables of the cameras on the device.

        Args:
          views: of equal width and height.
        """
        self.views = views
        top = min(view.top for view in views)

        def lower(view: View, values: np.ndarray, fill: float) -> np.ndarray:
            missing = view.top - top
            shape = (*values.shape[:-2], missing, values.shape[-1])
            return np.concatenate([np.full(shape, fill, values.dtype), values], -2)

        self.cameras = jax.device_put(
            draw.Cameras(
                rays=np.stack([np.moveaxis(view.rays, -1, 0) for view in views], 1),
                seen=np.stack([view.seen for view in views]),
                azimuth=np.stack([view.azimuth for view in views]),
                origin=np.stack([view.origin for view in views]),
                ground=np.stack([lower(view, view.ground, 0.0) for view in views], 1),
                distance=np.stack([lower(view, view.distance, 600.0) for view in views]),
                is_ground=np.stack([lower(view, view.is_ground, False) for view in views]),
            ),
            draw.host_device(),
        )


class Stage:
    """A world made ready to be drawn: its surfaces, its scenery, its actors' bodies."""

    def __init__(self, world: World, motions: tuple[Motion, ...]):
        """Prepares a world.

        Args:
          world: what to draw.
          motions: of its actors.
        """
        self.world, self.motions = world, motions
        self.look: Look = make_look(world.look, world.weather)
        self._surface = Surface(world, self.look)
        self._fixed = roadside(world)
        self._bodies = [body_of(actor) for actor in world.actors]
        self._bands, self._starts = _padded_bands(self._surface)
        look = self.look
        names = ("zenith", "horizon", "hill", "air", "grass", "sun", "texture", "skyline")
        self._light = jax.device_put(
            draw.Light(
                **{name: getattr(look, name) for name in names},
                ambient=np.float32(look.ambient),
                haze=np.float32(look.haze),
                rain=np.float32(look.rain),
            ),
            draw.host_device(),
        )
        self._tables: tuple[np.ndarray, jax.Array] | None = None

    def render(
        self,
        rig: Rig,
        step: int,
        pose: np.ndarray,
        actors: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draws all cameras of a rig.

        Args:
          rig: the cameras.
          step: tick of 0.1 s; what others do, and what lights show.
          pose: [3], x, y, heading of the ego's rear axle, world.
          actors: [A, 3], poses of the actors where they are not those of their plans.

        Returns:
          uint8 [C, H, W, 3].
        """
        x, y, heading = (float(value) for value in pose)
        rows, lit = self._moving(step, x, y, actors)
        rows = np.concatenate([self._fixed, *rows])
        near = np.hypot(rows[:, 0] - x, rows[:, 1] - y) < _REACH
        entries = _entries(rig, _to_ego(rows[near], x, y, heading))
        window, corner = self._surface.window(x, y)
        if self._tables is None or self._tables[0] is not window:
            tables = np.zeros((MAX_STRIPS, *window.shape[1:]), np.float32)
            tables[: len(window)] = window
            self._tables = window, jax.device_put(tables, draw.host_device())
        shining, count = _lamp_rows(rig, lit, (x, y, heading))
        frame = draw.Frame(
            pose=np.array([x, y, heading], np.float32),
            tables=self._tables[1],
            corner=corner,
            bands=self._bands,
            num_bands=self._starts,
            lamps=shining,
            num_lamps=np.int32(count),
            step=np.int32(step),
            **entries,
        )
        with jax.default_device(draw.host_device()):
            return np.asarray(draw.draw(rig.cameras, self._light, frame))

    def _moving(
        self, step: int, x: float, y: float, actors: np.ndarray | None
    ) -> tuple[list[np.ndarray], list[Lamp]]:
        rows, lit = [], []
        for i, (motion, body) in enumerate(zip(self.motions, self._bodies)):
            k = min(step, len(motion.s) - 1)
            place = motion.pose[k] if actors is None else actors[i]
            if not motion.present[k] or np.hypot(place[0] - x, place[1] - y) > _ACTOR_REACH:
                continue
            blinks = int(motion.blinks[k]) if step % 6 < 4 else 0
            gone = abs(float(motion.s[k] - motion.s[0]))
            own, lamps_on = posed(body, tuple(place), gone, bool(motion.braking[k]), blinks)
            rows.append(own)
            lit += [(centre, colour, 0.3) for centre, colour in lamps_on]
        signal = self.world.signal
        if signal is not None:
            place, colour = signal_place(self.world), signal.colour(step * 0.1)
            own = lamps(colour)
            cos, sin = np.cos(place[2]), np.sin(place[2])
            own[:, 0], own[:, 1] = place[0] + cos * own[:, 0], place[1] + sin * own[:, 0]
            own[:, YAW] = place[2]
            rows.append(own)
            height, shine = LENSES[colour]
            centre = (place[0] - 0.4 * cos, place[1] - 0.4 * sin, HEAD_HEIGHT + height)
            lit.append((np.array(centre), shine, 0.55))
        return rows, lit


def _padded_bands(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """(bands [MAX_BANDS, 14] of one strip after the other, where each strip's begin)."""
    order = np.argsort(surface.bands[:, 0], kind="stable")
    rows = surface.bands[order]
    bands = np.zeros((MAX_BANDS, BAND_COLUMNS), np.float32)
    bands[:, 5:9] = 1e6
    bands[: len(rows)] = rows
    starts = np.searchsorted(rows[:, 0], np.arange(MAX_STRIPS + 1)).astype(np.int32)
    return bands, starts


def _to_ego(rows: np.ndarray, x: float, y: float, heading: float) -> np.ndarray:
    out = rows.copy()
    cos, sin = np.cos(heading), np.sin(heading)
    dx, dy = rows[:, 0] - x, rows[:, 1] - y
    out[:, 0], out[:, 1] = cos * dx + sin * dy, cos * dy - sin * dx
    out[:, YAW] -= heading
    return out


def _entries(rig: Rig, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What each camera may see of solids in the ego frame, padded."""
    found, boxes, numbers = [], [], []
    corners = _corners(rows)
    for number, view in enumerate(rig.views):
        u0, v0, u1, v1 = _rectangles(view, corners)
        keep = (u1 > u0) & (v1 > v0)
        found.append(rows[keep])
        boxes.append(np.stack([u0, v0, u1, v1])[:, keep])
        numbers.append(np.full(int(keep.sum()), number, np.int32))
    rows, camera, box = np.concatenate(found), np.concatenate(numbers), np.concatenate(boxes, 1)
    if len(rows) > draw.MAX_ENTRIES:
        nearest = np.argsort(np.hypot(rows[:, 0], rows[:, 1]))[: draw.MAX_ENTRIES]
        rows, camera, box = rows[nearest], camera[nearest], box[:, nearest]
    size = next(step for step in _ENTRY_STEPS if step >= len(rows))
    entries = np.zeros((size, COLUMNS), np.float32)
    entries[:, SIZE] = 1.0
    entries[: len(rows)] = rows
    padded = np.zeros((5, size), np.int32)
    padded[4] = 1
    padded[:, : len(rows)] = [camera, box[1], box[0], box[3] - box[1], box[2] - box[0]]
    first = np.concatenate([[0], np.cumsum(padded[3] * padded[4])]).astype(np.int32)
    return dict(
        entries=entries, camera=padded[0], corner_of=padded[1:3], width=padded[4], first=first
    )


def _corners(rows: np.ndarray) -> np.ndarray:
    """float64 [N, 8, 3], ego frame."""
    local = _CORNERS * rows[:, None, SIZE]
    cos, sin = np.cos(rows[:, YAW])[:, None], np.sin(rows[:, YAW])[:, None]
    turned = [cos * local[..., 0] - sin * local[..., 1], sin * local[..., 0] + cos * local[..., 1]]
    return np.stack([*turned, local[..., 2]], -1) + rows[:, None, :3]


def _rectangles(view: View, corners: np.ndarray) -> tuple[np.ndarray, ...]:
    """Pixel rectangles [u0, u1) x [v0, v1), each int [N], that hold boxes of corners [N, 8, 3]."""
    corners = camera_from_ego(corners.reshape(-1, 3), view.ego_from_camera).reshape(-1, 8, 3)
    a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    if isinstance(view.intrinsics, Pinhole):
        # Cut each edge at the near plane, behind which a pinhole cannot project.
        rise = b[..., 2] - a[..., 2]
        rise = np.where(rise == 0.0, 1.0, rise)
        cut = np.clip((draw.NEAR - a[..., 2]) / rise, 0.0, 1.0)[..., None]
        crossing = a + cut * (b - a)
        a, b = (np.where(p[..., 2:] < draw.NEAR, crossing, p) for p in (a, b))
        points = np.concatenate([a, b], 1)
        behind = points[..., 2] < draw.NEAR - 1e-6
    else:
        points = np.concatenate([a, (a + b) / 2, b], 1)
        # Beyond the rim, what counts is where on the rim the solid would enter.
        limit = 0.999 * view.intrinsics.max_angle
        radius = np.hypot(points[..., 0], points[..., 1])
        angle = np.arctan2(radius, points[..., 2])
        behind = angle > limit + 0.7
        far = (angle > limit)[..., None]
        side = points[..., :2] / np.maximum(radius, 1e-9)[..., None] * np.sin(limit)
        rim = np.concatenate([side, np.full_like(side[..., :1], np.cos(limit))], -1)
        points = np.where(far, rim, points)
    uv, valid = project(points, view.intrinsics)
    valid = (valid & ~behind)[..., None]
    low = np.where(valid, uv, np.inf).min(1)
    high = np.where(valid, uv, -np.inf).max(1)
    # Edges are curves under f-theta: leave room for what they bulge.
    room = 1.0 if isinstance(view.intrinsics, Pinhole) else 1.0 + 0.06 * np.maximum(high - low, 0.0)
    size = np.array([view.width, view.height])
    low = np.clip(np.floor(np.nan_to_num(low - room, posinf=1e6)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(np.nan_to_num(high + room + 1.0, neginf=-1e6)), 0, size).astype(np.int64)
    return low[:, 0], low[:, 1], high[:, 0], high[:, 1]


def _lamp_rows(
    rig: Rig, lit: list[Lamp], pose: tuple[float, float, float]
) -> tuple[np.ndarray, int]:
    """([MAX_LAMPS, 8], count) of the lamps in the images, the nearest where there are too many."""
    out, found = np.zeros((MAX_LAMPS, 8), np.float32), []
    if lit:
        rows = np.zeros((len(lit), COLUMNS))
        rows[:, :3] = [centre for centre, _, _ in lit]
        points = _to_ego(rows, *pose)[:, :3]
        for number, view in enumerate(rig.views):
            seen = camera_from_ego(points, view.ego_from_camera)
            uv, valid = project(seen, view.intrinsics)
            metres = np.linalg.norm(seen, axis=-1)
            size = np.array([view.width, view.height])
            inside = valid & (uv > -0.4).all(-1) & (uv < size - 0.6).all(-1)
            inside &= metres < _LAMP_REACH
            lens = view.intrinsics
            scale = lens.fx if isinstance(lens, Pinhole) else lens.forward_poly[1]
            for k in np.flatnonzero(inside):
                _, colour, radius = lit[k]
                spread = max(radius * scale / metres[k], 0.0045 * view.width)
                found.append((number, *uv[k], metres[k], min(spread, 9.0), *colour))
    found.sort(key=lambda row: row[3])
    found = found[:MAX_LAMPS]
    # The nearest last, so that it shines over the others.
    for row, values in zip(out, reversed(found)):
        row[:] = values
    return out, len(found)

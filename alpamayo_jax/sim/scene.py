"""The renderer: the road, its scenery, vehicles and the traffic light, as a camera sees them.

`make_world` prepares what all frames share, `render` draws one camera at one step of 0.1 s.
"""

import dataclasses

import numpy as np

from alpamayo_jax.clip import Pinhole
from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim.actors import Actor, Motion
from alpamayo_jax.sim.camera import View
from alpamayo_jax.sim.ground import Look, background, make_look
from alpamayo_jax.sim.road import Road, RoadField, road_field
from alpamayo_jax.sim.scenario import Run
from alpamayo_jax.sim.scenery import CROSSING_AHEAD, HEAD_HEIGHT, scenery, signal_place
from alpamayo_jax.sim.solids import Solids, draw, join, make_solids, part, to_ego

_LAMP_VIEW = 200.0  # metres beyond which lamps have no glow
_VEHICLE_VIEW = 160.0  # metres beyond which vehicles are not drawn
_LENSES = {
    "red": (0.75, (255.0, 40.0, 30.0)),
    "yellow": (0.0, (255.0, 200.0, 40.0)),
    "green": (-0.75, (60.0, 255.0, 130.0)),
}  # height above the middle of the head, metres, and colour
_BRAKE = (255.0, 36.0, 24.0)

Place = tuple[float, float, float]  # x, y, heading in the world
Lamp = tuple[tuple, tuple, float]  # centre in the world, colour, radius of its glow in metres


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """What is prepared once per clip, in the world frame.

    Attributes:
      road, field: the road and its tabulated coordinates.
      look: colours and light.
      scenery: what stands beside the road.
      vehicles: `vehicle_states` of the run.
      stop_line: s of the stop line, or None.
      crossing: x, y, heading of the middle of the crossing road, or None.
    """

    road: Road
    field: RoadField
    look: Look
    scenery: Solids
    vehicles: list
    stop_line: float | None
    crossing: tuple[float, float, float] | None


def make_world(run: Run) -> World:
    """Prepares the world of a played scenario."""
    scenario, crossing = run.scenario, None
    road, signal = scenario.road, scenario.signal
    if signal is not None:
        (x, y), heading, _ = road.pose(signal.s + CROSSING_AHEAD)
        crossing = (float(x), float(y), float(heading))
    return World(
        road=road,
        field=road_field(road),
        look=make_look(scenario.look),
        scenery=make_solids(scenery(scenario)),
        vehicles=vehicle_states(run),
        stop_line=signal.s if signal else None,
        crossing=crossing,
    )


def render(view: View, world: World, run: Run, step: int) -> np.ndarray:
    """One frame: uint8 [height, width, 3] of camera `view` at row `step` of the drive."""
    drive, scenario = run.drive, run.scenario
    pose = (drive.x[step], drive.y[step], drive.heading[step])
    look = world.look
    image = background(view, look, world.road, world.field, pose, world.stop_line, world.crossing)
    rows, lamps = [], []
    for actor, motion, xy, yaw, present in world.vehicles:
        if present[step] and np.hypot(xy[step, 0] - pose[0], xy[step, 1] - pose[1]) < _VEHICLE_VIEW:
            place, braking = (xy[step, 0], xy[step, 1], yaw[step]), bool(motion.braking[step])
            rows += _vehicle(actor, place, braking)
            lamps += _brake_lamps(actor, place) if braking else []
    if scenario.signal is not None:
        colour = scenario.signal.colour(drive.t[step])
        lenses, glow = _signal_head(world.road, scenario.signal.s, colour)
        rows, lamps = rows + lenses, lamps + glow
    solids = to_ego(join([world.scenery, make_solids(rows)]), pose)
    depth = draw(view, look, solids, pose[2], image)
    _glow(view, lamps, pose, image, depth)
    image[:, ~view.seen] = 0.0
    return np.clip(np.moveaxis(image, 0, -1), 0.0, 255.0).astype(np.uint8)


def vehicle_states(run: Run) -> list[tuple[Actor, Motion, np.ndarray, np.ndarray, np.ndarray]]:
    """Every vehicle's (actor, motion, xy [N, 2], yaw [N], present [N]) at all steps, world frame.

    A vehicle that has left the road at either end is not present.
    """
    road, states = run.scenario.road, []
    vehicles = list(zip(run.scenario.others, run.others))
    if run.scenario.lead is not None:
        vehicles.insert(0, (run.scenario.lead, run.lead))
    for actor, motion in vehicles:
        xy, heading, _ = road.pose(motion.s, actor.d)
        yaw = heading + (0.0 if actor.direction > 0 else np.pi)
        yaw = np.arctan2(np.sin(yaw), np.cos(yaw))
        present = (motion.s > road.s[0]) & (motion.s < road.s[-1])
        states.append((actor, motion, xy, yaw, present))
    return states


def _vehicle(actor: Actor, place: Place, braking: bool) -> list[tuple]:
    """A car of boxes: shadow, body, glass, roof, wheels, lamps, number plate."""
    length, width, height = actor.lwh
    paint = 255.0 * np.asarray(actor.colour)
    belt = 0.3 + 0.42 * height  # where the glass begins
    glass, back = height - 0.08 - belt, -0.08 * length
    tail = _BRAKE if braking else (120.0, 10.0, 10.0)
    parts = [
        ((0, 0, 0.02), (length + 0.5, width + 0.4, 0.02), (26, 26, 28), False),
        ((0, 0, (0.3 + belt) / 2), (length, width, belt - 0.3), paint, False),
        ((back, 0, belt + glass / 2), (0.62 * length, 0.86 * width, glass), (30, 36, 44), False),
        ((back, 0, height - 0.04), (0.56 * length, 0.84 * width, 0.08), paint, False),
        ((-length / 2, 0, 0.55), (0.04, 0.5, 0.14), (225, 225, 215), False),
    ]
    for side in (-1, 1):
        lamp = side * (width / 2 - 0.24)
        parts += [
            ((-length / 2, lamp, belt - 0.16), (0.06, 0.44, 0.26), tail, braking),
            ((length / 2, lamp, belt - 0.2), (0.06, 0.4, 0.2), (250, 248, 225), True),
        ]
        for end in (-0.31 * length, 0.31 * length):
            wheel = (end, side * (width / 2 - 0.1), 0.32)
            parts.append((wheel, (0.64, 0.24, 0.64), (18, 18, 19), False))
    return [part(place, *values) for values in parts]


def _brake_lamps(actor: Actor, place: Place) -> list[Lamp]:
    length, width, height = actor.lwh
    back, up = -length / 2 - 0.05, 0.14 + 0.42 * height
    spots = [(back, side * (width / 2 - 0.24), up) for side in (-1, 1)]
    return [(part(place, spot, (0, 0, 0), _BRAKE)[0], _BRAKE, 0.3) for spot in spots]


def _signal_head(road: Road, line: float, colour: str) -> tuple[list[tuple], list[Lamp]]:
    place, rows, lamps = signal_place(road, line), [], []
    for name, (height, shine) in _LENSES.items():
        lit = name == colour
        offset = (-0.05, 0.0, HEAD_HEIGHT + height)
        colours = shine if lit else (38, 36, 34)
        rows.append(part(place, offset, (0.3, 0.62, 0.62), colours, lit, True))
        if lit:
            lamps.append((part(place, (-0.4, 0, offset[2]), (0, 0, 0), shine)[0], shine, 0.55))
    return rows, lamps


def _glow(
    view: View, lamps: list[Lamp], pose: Place, image: np.ndarray, depth: np.ndarray
) -> None:
    """Adds the bloom of lamps that no solid hides: lit lamps stay readable far away."""
    if not lamps:
        return
    rows = [(centre, 0.0, (1, 1, 1), colour, True, False) for centre, colour, _ in lamps]
    points = camera_from_ego(to_ego(make_solids(rows), pose).centre, view.ego_from_camera)
    uv, valid = project(points, view.intrinsics)
    reach = np.linalg.norm(points, axis=-1)
    size = np.array([view.width, view.height])
    inside = valid & (uv > -0.5).all(-1) & (uv < size - 0.5).all(-1)
    lens = view.intrinsics
    scale = lens.fx if isinstance(lens, Pinhole) else lens.forward_poly[1]  # pixels per radian
    for (u, v), seen, metres, (_, colour, radius) in zip(uv, inside, reach, lamps):
        if not seen or metres > _LAMP_VIEW:
            continue
        row, column = int(round(v)), int(round(u))
        if depth[row, column] < metres - 0.15:
            continue
        spread = max(radius * scale / metres, 0.0045 * view.width)
        half = int(np.ceil(2.5 * spread))
        top, left = max(row - half, 0), max(column - half, 0)
        patch = image[:, top : row + half + 1, left : column + half + 1]
        dv = np.arange(top, top + patch.shape[1]) - v
        du = np.arange(left, left + patch.shape[2]) - u
        weight = 0.9 * np.exp(-(dv[:, None] ** 2 + du**2) / (2 * spread**2)).astype(np.float32)
        patch += weight * (np.asarray(colour, np.float32)[:, None, None] - patch)

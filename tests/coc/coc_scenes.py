"""Small drives made for tests: a road, an ego with a given speed, and other road users."""

import numpy as np

from alpamayo_jax.clip import AgentTable, Clip, EgoTrack, Event, MapLines

DT = 0.1
SECONDS = 16.0


def times(seconds: float = SECONDS) -> np.ndarray:
    return np.round(np.arange(round(seconds / DT) + 1) * DT, 6)


def speed_of(*pieces: tuple[float, float], start: float = 10.0, seconds: float = SECONDS):
    """Speed [N] from (seconds, m/s^2) pieces; the last speed goes on; never below 0."""
    accel = np.concatenate([np.full(round(s / DT), a) for s, a in pieces] or [np.zeros(0)])
    count = len(times(seconds)) - 1
    accel = np.append(accel, np.zeros(max(count - len(accel), 0)))[:count]
    return np.maximum(start + DT * np.append(0.0, np.cumsum(accel)), 0.0)


def ego_along(speed: np.ndarray, kappa=lambda s: 0.0, offset=None, noise: float = 0.0) -> EgoTrack:
    """Drives along a road of curvature kappa(s) that begins at the origin along x."""
    s = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * DT)])
    fine = np.arange(0.0, max(s[-1], 1.0) + 1.0, 0.25)
    heading = np.concatenate([[0.0], np.cumsum([kappa(a) * 0.25 for a in fine[:-1]])])
    step = 0.25 * np.stack([np.cos(heading), np.sin(heading)], -1)
    line = np.concatenate([np.zeros((1, 2)), np.cumsum(step, 0)[:-1]])
    yaw = np.interp(s, fine, heading)
    xy = np.stack([np.interp(s, fine, line[:, i]) for i in range(2)], -1)
    if offset is not None:
        xy = xy + offset[:, None] * np.stack([-np.sin(yaw), np.cos(yaw)], -1)
    xy = xy + np.random.default_rng(0).normal(0.0, noise, xy.shape) if noise else xy
    zero = np.zeros(len(s))
    quat = np.stack([np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], -1)
    return EgoTrack(np.arange(len(s)) * DT, np.column_stack([xy, zero]), quat)


def agent(track: int, t, x, y, yaw=0.0, category="VEHICLE", size=(4.5, 1.9, 1.6)) -> dict:
    """Rows of one track; x, y and yaw are numbers or arrays as long as t."""
    count = len(t)
    column = [np.broadcast_to(np.asarray(v, float), (count,)) for v in (x, y, yaw)]
    return dict(
        t=np.asarray(t, float), track=np.full(count, track, np.int32),
        xyz=np.stack([column[0], column[1], np.zeros(count)], -1), yaw=column[2],
        lwh=np.tile(size, (count, 1)).astype(float), category=np.full(count, category),
    )  # fmt: skip


def person(track: int, t, x, y, yaw=0.0, category="PEDESTRIAN") -> dict:
    return agent(track, t, x, y, yaw, category, (0.7, 0.7, 1.7))


def agents(*rows: dict) -> AgentTable:
    """A table of the rows, in order of time."""
    if not rows:
        empty = np.zeros(0)
        return AgentTable(
            empty, np.zeros(0, np.int32), np.zeros((0, 3)), empty, np.zeros((0, 3)),
            np.zeros(0, "U8"),
        )  # fmt: skip
    joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    order = np.argsort(joined["t"], kind="stable")
    return AgentTable(**{name: value[order] for name, value in joined.items()})


def lines(*entries: tuple[str, str, list]) -> MapLines:
    """A map of (id, kind, points [N, 2]) entries."""
    points = [np.pad(np.asarray(p, float), ((0, 0), (0, 1))) for _, _, p in entries]
    return MapLines(
        points=np.concatenate(points),
        offsets=np.concatenate([[0], np.cumsum([len(p) for p in points])]).astype(np.int64),
        kind=np.array([kind for _, kind, _ in entries]),
        ids=np.array([name for name, _, _ in entries]),
    )


def lane(name: str, y: float, begin=-50.0, end=250.0, width=3.5) -> list:
    """A straight lane along x as a pair of boundaries."""
    x = np.arange(begin, end, 10.0)
    return [
        (name, "lane_left:DASHED_WHITE", np.stack([x, np.full_like(x, y + width / 2)], -1)),
        (name, "lane_right:SOLID_WHITE", np.stack([x, np.full_like(x, y - width / 2)], -1)),
    ]


def junction(at: float = 60.0) -> list:
    """A lane along x that a lane along y crosses at x = `at`, as links, and a left turn."""
    arc = np.linspace(0.0, np.pi / 2, 12)
    return [
        *lane("in", 0.0, -50.0, at - 9.0),
        ("through", "LANE_SURFACE_STREET:polyline", [[at - 12, 0], [at, 0], [at + 12, 0]]),
        *lane("out", 0.0, at + 11.0, 250.0),
        ("across", "LANE_SURFACE_STREET:polyline", [[at, -12], [at, 0], [at, 12]]),
        ("left", "LANE_SURFACE_STREET:polyline",
         np.stack([at - 12 + 12 * np.sin(arc), 12 - 12 * np.cos(arc)], -1)),
    ]  # fmt: skip


def curve_map(ego: EgoTrack) -> list:
    """A lane along the ego's own path."""
    return [("lane", "lane_centre", ego.xyz[::5, :2])]


def drive(speed, others=(), map_entries=None, events=(), name="clip", **ego) -> Clip:
    """A valid clip."""
    return Clip(
        clip_id=name,
        ego=ego_along(np.asarray(speed), **ego),
        agents=agents(*others),
        map_lines=lines(*(map_entries or lane("a", 0.0))),
        events=tuple(events),
    ).validate()


def light(t: float, colour: str, x: float, y: float = 0.0) -> Event:
    return Event(t, "traffic_light", colour, (x, y, 4.0))


def braking_behind_lead(name: str = "lead") -> Clip:
    """The lead brakes from t = 5 s, the ego from 6 s, to a stop."""
    t = times()
    own = speed_of((6.0, 0.0), (4.0, -2.5))
    other = speed_of((5.0, 0.0), (4.0, -2.5))
    x = 30.0 + np.concatenate([[0.0], np.cumsum((other[1:] + other[:-1]) / 2 * DT)])
    return drive(own, [agent(7, t, x, 0.0)], name=name)

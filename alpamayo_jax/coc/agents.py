"""Other road users as they are seen at one moment, with what their past shows of their motion."""

import dataclasses

import numpy as np

from alpamayo_jax.clip import AgentTable

# The annotation may be this old, in seconds.
_FRESH = 0.15
_FIT = 0.85  # seconds of past that velocity is fitted to
_BEFORE = 1.0  # seconds back for comparing speeds

# Words of a category -> (type of a component, how a trace calls it). The first that fits counts.
_NAMES = (
    ("SCHOOL_BUS", "vehicle", "school bus"),
    ("ARTICULATED_BUS", "vehicle", "bus"),
    ("BUS", "vehicle", "bus"),
    ("BOX_TRUCK", "vehicle", "truck"),
    ("TRUCK", "vehicle", "truck"),
    ("TRAM", "vehicle", "tram"),
    ("MOTORCYCLIST", "vehicle", "motorcyclist"),
    ("MOTORCYCLE", "vehicle", "motorcycle"),
    ("BICYCLIST", "cyclist", "cyclist"),
    ("CYCLIST", "cyclist", "cyclist"),
    ("BICYCLE", "cyclist", "bicycle"),
    ("PEDESTRIAN", "pedestrian", "pedestrian"),
    ("PERSON", "pedestrian", "pedestrian"),
    ("STROLLER", "vru", "stroller"),
    ("WHEELCHAIR", "vru", "wheelchair"),
    ("WHEELED_RIDER", "vru", "rider"),
    ("WHEELED_DEVICE", "vru", "small wheeled device"),
    ("CONSTRUCTION_CONE", "object", "traffic cone"),
    ("TRAFFIC_CONE", "object", "traffic cone"),
    ("CONSTRUCTION_BARREL", "object", "traffic barrel"),
    ("BARRIER", "object", "barrier"),
    ("BOLLARD", "object", "bollard"),
    ("SIGN", "object", "sign"),
    ("VEHICLE", "vehicle", "vehicle"),
    ("TRAILER", "vehicle", "trailer"),
    ("CAR", "vehicle", "car"),
)
_VULNERABLE = ("pedestrian", "cyclist", "vru")


def names_of(category: str) -> tuple[str, str]:
    """(type of a component, noun for a trace) of an annotated category."""
    words = category.upper().replace(" ", "_")
    for word, kind, noun in _NAMES:
        if word in words:
            return kind, noun
    return "object", "object"


@dataclasses.dataclass(frozen=True)
class Agents:
    """Agents at one moment; arrays [A], or [A, 2] for xy and velocity; world frame.

    Attributes:
      track: number of the track.
      category: as annotated; kind, noun: `names_of` it.
      xy, yaw, length, width: the box.
      velocity: m/s, fitted to the last 0.85 s; 0 of a track seen once.
      speed: length of it.
      speed_before: a second earlier, or `speed` where it was not seen then.
      age: seconds for which the track has been seen.
    """

    track: np.ndarray
    category: tuple[str, ...]
    kind: np.ndarray
    noun: tuple[str, ...]
    xy: np.ndarray
    yaw: np.ndarray
    length: np.ndarray
    width: np.ndarray
    velocity: np.ndarray
    speed: np.ndarray
    speed_before: np.ndarray
    age: np.ndarray

    def __len__(self) -> int:
        return len(self.track)

    @property
    def vulnerable(self) -> np.ndarray:
        """Bool [A]: on foot, or on two small wheels."""
        return np.isin(self.kind, _VULNERABLE)

    @property
    def vehicle(self) -> np.ndarray:
        """Bool [A]."""
        return self.kind == "vehicle"


def agents_at(table: AgentTable | None, t: float) -> Agents:
    """Who is seen at time t, from rows at or before t alone; in order of track."""
    rows = _rows_by_track(table, t)
    count = len(rows)
    found = dict(
        track=np.zeros(count, int), xy=np.zeros((count, 2)), yaw=np.zeros(count),
        length=np.zeros(count), width=np.zeros(count), velocity=np.zeros((count, 2)),
        speed_before=np.zeros(count), age=np.zeros(count),
    )  # fmt: skip
    categories = []
    for i, own in enumerate(rows):
        last = own[-1]
        found["track"][i] = table.track[last]
        found["xy"][i] = table.xyz[last, :2]
        found["yaw"][i] = table.yaw[last]
        found["length"][i], found["width"][i] = table.lwh[last, :2]
        found["velocity"][i] = _velocity(table, own, table.t[last])
        earlier = own[table.t[own] <= table.t[last] - _BEFORE]
        before = _velocity(table, earlier, table.t[earlier[-1]]) if len(earlier) else None
        now = found["velocity"][i]
        found["speed_before"][i] = np.linalg.norm(now if before is None else before)
        found["age"][i] = table.t[last] - table.t[own[0]]
        categories.append(str(table.category[last]))
    names = [names_of(category) for category in categories]
    return Agents(
        category=tuple(categories),
        kind=np.array([kind for kind, _ in names], dtype="U16"),
        noun=tuple(noun for _, noun in names),
        speed=np.linalg.norm(found["velocity"], axis=-1),
        **found,
    )


def _rows_by_track(table: AgentTable | None, t: float) -> list[np.ndarray]:
    """Rows of each track that is seen at t, oldest first."""
    if table is None or not len(table.t):
        return []
    rows = np.flatnonzero(table.t <= t + 1e-6)
    rows = rows[np.lexsort((table.t[rows], table.track[rows]))]
    tracks, starts = np.unique(table.track[rows], return_index=True)
    groups = np.split(rows, starts[1:]) if len(tracks) else []
    return [own for own in groups if table.t[own[-1]] >= t - _FRESH]


def _velocity(table: AgentTable, rows: np.ndarray, end: float) -> np.ndarray:
    """Slope of a line through the positions of the last `_FIT` seconds."""
    rows = rows[table.t[rows] >= end - _FIT]
    if len(rows) < 2:
        return np.zeros(2)
    t = table.t[rows] - table.t[rows].mean()
    return (t[:, None] * table.xyz[rows, :2]).sum(0) / max((t**2).sum(), 1e-9)

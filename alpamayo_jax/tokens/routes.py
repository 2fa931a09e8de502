"""A route of waypoints as a command, and as the route text of Alpamayo 1.5."""

import numpy as np

# As AlpaSim's own driver decides: the first waypoint so far away, and so far to the side.
_AHEAD_M, _ASIDE_M = 20.0, 3.0


def clean(waypoints: np.ndarray) -> np.ndarray:
    """The rows of [N, 3] that are numbers; AlpaSim fills routes up to 20 rows with NaN."""
    return waypoints[np.isfinite(waypoints).all(-1)]


def command(waypoints: np.ndarray) -> str:
    """"LEFT", "RIGHT" or "STRAIGHT" of waypoints [N, 3] in the rig frame, x forward and y left."""
    far = waypoints[np.linalg.norm(waypoints[:, :2], axis=-1) >= _AHEAD_M]
    if not len(far) or abs(far[0, 1]) <= _ASIDE_M:
        return "STRAIGHT"
    return "LEFT" if far[0, 1] > 0 else "RIGHT"


def navigation(waypoints: np.ndarray) -> str | None:
    """The route text of waypoints [N, 3] in the rig frame; None where there is no route.

    A turn is named with the distance, in steps of 5 m, at which the route leaves the straight line.
    """
    if not len(waypoints):
        return None
    direction = command(waypoints)
    if direction == "STRAIGHT":
        return "Continue straight"
    leaving = np.abs(waypoints[:, 1]) > _ASIDE_M
    distance = float(np.linalg.norm(waypoints[np.argmax(leaving), :2]))
    return f"Turn {direction.lower()} in {5 * round(distance / 5)}m"

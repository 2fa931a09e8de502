"""The cameras of a clip folder's meta.json: size, lens, mounting and index."""

import dataclasses
import math
from typing import Any, Iterable, Mapping

import numpy as np
from scipy.spatial.transform import Rotation

from alpamayo_jax import clip as clip_lib
from alpamayo_jax.ops.camera import check_ftheta
from alpamayo_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Calibration:
    """One entry of `cameras`. `index` is None where meta.json gives none."""

    width: int
    height: int
    intrinsics: clip_lib.Pinhole | clip_lib.FTheta
    ego_from_camera: np.ndarray
    index: int | None
    has_mounting: bool


def read_calibration(where: str, entry: Any) -> Calibration:
    """Reads one camera of meta.json.

    Fields: `stored_size` [width, height] of the stored images; `cx`, `cy`, and `fx`, `fy` for a
    pinhole, all in pixels of the stored images. Optional: `model` "pinhole" (default) or "ftheta"
    with `fw_poly` (radius in pixels = sum_i fw_poly[i] * angle**i) and `max_angle` (radians;
    where it is absent, the angle of the farthest image corner, or where the radius stops rising
    before); `ego_from_camera`, a 4x4 matrix or {"quat_wxyz": [4], "xyz": [3]} (default: at the ego
    origin, looking along ego x); `index` in the release's camera map. Other fields are left.

    Raises:
      InputError: starts with `where` and names the field.
    """
    entry = _mapping(where, entry)
    size = _list(where, "stored_size", entry.get("stored_size"), 2)
    if any(value != int(value) or value < 1 for value in size):
        raise InputError(f"{where}: stored_size must be whole pixels [width, height], got {size}")
    width, height = int(size[0]), int(size[1])
    index = entry.get("index")
    if index is not None and (not isinstance(index, int) or isinstance(index, bool) or index < 0):
        raise InputError(f"{where}: index must be a whole number of 0 or above, got {index!r}")
    mounting = entry.get("ego_from_camera")
    return Calibration(
        width=width,
        height=height,
        intrinsics=_intrinsics(where, entry, width, height),
        ego_from_camera=_mounting(where, mounting),
        index=index,
        has_mounting=mounting is not None,
    )


def assign_indices(where: str, calibrations: Mapping[str, Calibration]) -> dict[str, int]:
    """Camera name -> index in the release's camera map.

    In order: the `index` of meta.json; the index of a name that the release knows
    (`clip.RELEASE_CAMERAS`); of the other cameras, the one that looks most nearly along ego x
    (the first of equals) becomes 1, front wide, unless 1 is taken; the rest take the lowest free
    indices in the order of meta.json, which can go beyond the release's seven cameras.

    Raises:
      InputError: two cameras claim one index.
    """
    indices: dict[str, int] = {}
    for name, calibration in calibrations.items():
        index = calibration.index
        if index is None and name in clip_lib.RELEASE_CAMERAS:
            index = clip_lib.RELEASE_CAMERAS.index(name)
        if index is None:
            continue
        if index in indices.values():
            other = next(n for n, i in indices.items() if i == index)
            raise InputError(f"{where}: cameras {other!r} and {name!r} both have index {index}")
        indices[name] = index
    unknown = [name for name in calibrations if name not in indices]
    if unknown and clip_lib.FRONT_WIDE not in indices.values():
        front = max(unknown, key=lambda name: calibrations[name].ego_from_camera[0, 2])
        indices[front] = clip_lib.FRONT_WIDE
    for name in unknown:
        if name not in indices:
            taken = indices.values()
            indices[name] = next(i for i in range(len(calibrations)) if i not in taken)
    return indices


def number(where: str, name: str, value: Any) -> float:
    """`value` as a float; raises `InputError` for anything but a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        found = "is missing" if value is None else f"is {value!r}"
        raise InputError(f"{where}: {name} {found}, expected a finite number")
    return float(value)


def _intrinsics(
    where: str, entry: Mapping[str, Any], width: int, height: int
) -> clip_lib.Pinhole | clip_lib.FTheta:
    model = entry.get("model", "pinhole")
    cx, cy = (number(where, name, entry.get(name)) for name in ("cx", "cy"))
    if model == "pinhole":
        fx, fy = (number(where, name, entry.get(name)) for name in ("fx", "fy"))
        if fx <= 0 or fy <= 0:
            raise InputError(f"{where}: fx and fy must be above 0, got {fx} and {fy}")
        return clip_lib.Pinhole(fx=fx, fy=fy, cx=cx, cy=cy)
    if model != "ftheta":
        raise InputError(f"{where}: model is {model!r}; known: pinhole, ftheta")
    poly = _list(where, "fw_poly", entry.get("fw_poly"), None)
    if "max_angle" in entry:
        max_angle = number(where, "max_angle", entry["max_angle"])
    else:
        corner = math.hypot(max(cx, width - 1 - cx), max(cy, height - 1 - cy))
        max_angle = _visible_angle(poly, corner)
    try:
        check_ftheta(poly, max_angle)
    except ValueError as error:
        raise InputError(f"{where}: fw_poly: {error}") from None
    return clip_lib.FTheta(cx=cx, cy=cy, forward_poly=tuple(poly), max_angle=max_angle)


def _visible_angle(poly: list[float], radius: float) -> float:
    angle = np.linspace(0.0, math.pi, 3142)
    value = np.polynomial.polynomial.polyval(angle, poly)
    slope = np.polynomial.polynomial.polyval(angle, np.polynomial.polynomial.polyder(poly))
    reached, turned = np.argmax(value > radius), np.argmax(slope <= 0)
    ends = [angle[reached]] if (value > radius).any() else []
    ends += [angle[turned - 1]] if turned else []
    return float(min(ends, default=math.pi))


def _mounting(where: str, value: Any) -> np.ndarray:
    if value is None:
        return clip_lib.EGO_FROM_FORWARD_CAMERA.copy()
    name = "ego_from_camera"
    matrix = np.eye(4)
    if isinstance(value, Mapping):
        quat = _list(where, f"{name}.quat_wxyz", value.get("quat_wxyz"), 4)
        if abs(np.linalg.norm(quat) - 1.0) > clip_lib.UNIT_TOLERANCE:
            raise InputError(f"{where}: {name}.quat_wxyz {quat} is not a unit quaternion")
        matrix[:3, :3] = Rotation.from_quat(quat, scalar_first=True).as_matrix()
        matrix[:3, 3] = _list(where, f"{name}.xyz", value.get("xyz"), 3)
    elif isinstance(value, list) and len(value) == 4:
        matrix = np.array([_list(where, f"{name}[{i}]", row, 4) for i, row in enumerate(value)])
    else:
        raise InputError(
            f"{where}: {name} must be a 4x4 matrix or an object with quat_wxyz and xyz, "
            f"got {value!r:.60}"
        )
    clip_lib.check_transform(where, name, matrix)
    return matrix


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: must be an object of named fields, got {value!r:.60}")
    return value


def _list(where: str, name: str, value: Iterable[Any] | None, length: int | None) -> list[float]:
    if not isinstance(value, list) or not value or (length and len(value) != length):
        found = "is missing" if value is None else f"is {value!r:.60}"
        raise InputError(f"{where}: {name} {found}, expected {length or 'some'} numbers")
    return [number(where, f"{name}[{i}]", item) for i, item in enumerate(value)]

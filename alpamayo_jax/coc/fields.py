"""Checks of fields of JSON from outside; every message names the place, the field and the value."""

import math
from typing import Any

from alpamayo_jax.types import InputError

MAX_TEXT = 2000  # characters


def choice(where: str, field: str, value: Any, kind: type) -> Any:
    """The member of the enumeration `kind` whose value this is; raises `InputError` otherwise."""
    names = [member.value for member in kind]
    if not isinstance(value, str) or value not in names:
        raise InputError(f"{where}: {field} is {short(value)}, not one of {', '.join(names)}")
    return kind(value)


def text(where: str, field: str, value: Any, empty: bool = False) -> str:
    """`value` if it is a text that is not too long, and has words unless it may be `empty`."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise InputError(
            f"{where}: {field} must be a text of at most {MAX_TEXT} characters, got {short(value)}"
        )
    if not empty and not value.strip():
        raise InputError(f"{where}: {field} is empty")
    return value


def number(where: str, field: str, value: Any) -> float:
    """`value` as a float; raises `InputError` unless it is a finite number."""
    if not is_finite(value):
        raise InputError(f"{where}: {field} must be a finite number, got {short(value)}")
    return float(value)


def is_finite(value: Any) -> bool:
    """Whether `value` is a number that a float holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def as_object(where: str, field: str, value: Any) -> dict[str, Any]:
    """`value` if it is a JSON object; raises `InputError` otherwise."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: {field} must be an object, got {short(value)}")
    return value


def check_names(where: str, value: dict[str, Any], known: set[str], needed: set[str]) -> None:
    """Raises `InputError` for a field that is not known, or one that is needed and missing."""
    unknown, missing = sorted(set(value) - known), sorted(needed - set(value))
    if unknown:
        raise InputError(f"{where}: has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if missing:
        raise InputError(f"{where}: field {missing[0]!r} is missing")


def short(value: Any) -> str:
    """`value` as messages show it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

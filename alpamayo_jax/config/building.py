"""Nested mappings to dataclasses, strictly."""

import dataclasses
import types
import typing
from typing import Any, Mapping


class ConfigError(ValueError):
    """A configuration value is unknown, missing or contradicts another one."""


def build(cls: type, values: Mapping[str, Any], path: str = "") -> Any:
    """Builds dataclass `cls` from a nested mapping; unknown keys and wrong types are errors."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or cls.__name__} must be a mapping, got {type(values).__name__}")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"unknown configuration key(s) {', '.join(path + k for k in unknown)}; "
            f"{cls.__name__} has {', '.join(sorted(hints))}"
        )
    return cls(**{k: _coerce(hints[k], v, path + k) for k, v in values.items()})


def _coerce(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, path + ".")
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [a for a in typing.get_args(hint) if a is not type(None)]
        return _coerce(inner, value, path)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path} must be a list, got {value!r}")
        args = typing.get_args(hint)
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) != len(value):
            raise ConfigError(f"{path} must have {len(kinds)} entries, got {value!r}")
        return tuple(_coerce(k, v, path) for k, v in zip(kinds, value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path} must be {hint.__name__}, got {value!r}")
    return value

"""One JSON file: values taken out by dotted path with their type checked, and put back."""

import math
import pathlib
from typing import Any, Mapping

from alpamayo_jax.convert.config_fields import REQUIRED, Field, Fixed, Inherit
from alpamayo_jax.errors import InputError

Values = dict[str, Any]  # dotted path in ModelConfig -> value

_KINDS = {
    "int": "an integer", "float": "a finite number", "bool": "true or false", "str": "a string",
    "ints": "integers", "floats": "finite numbers",
}  # fmt: skip


class Document:
    """A JSON object and the file it came from.

    Attributes:
      path: for messages.
      data: the object.
      prefix: where in the file it stands, e.g. "vlm_config.".
    """

    def __init__(self, path: pathlib.Path, data: Mapping[str, Any], prefix: str = ""):
        self.path, self.data, self.prefix = path, data, prefix

    def find(self, place: str) -> Any:
        """The value at a dotted path; absent and null are None.

        Raises:
          InputError: something on the way is not an object.
        """
        node: Any = self.data
        seen = []
        for key in place.split("."):
            if not isinstance(node, Mapping):
                raise self.error(".".join(seen), "an object", node)
            seen.append(key)
            node = node.get(key)
            if node is None:
                return None
        return node

    def error(self, place: str, expected: str, found: Any) -> InputError:
        text = "nothing" if found is None else repr(found)
        return InputError(f"{self.path}: field {self.prefix}{place} is {text}, expected {expected}")

    def read(self, field: Field, values: Values) -> None:
        """Puts `field` into `values`; where another field put a value before, they must agree."""
        value = None
        for place in field.places:
            value = self.find(place)
            if value is not None:
                break
        else:
            place = field.places[0]
        if value is not None:
            value = self._typed(field, place, value)
        elif field.default is REQUIRED:
            raise self.error(place, _expected(field), None)
        else:
            value = default(field, values)
        if values.setdefault(field.ours, value) != value:
            raise self.error(place, f"{values[field.ours]} as elsewhere ({field.ours})", value)

    def require(self, fixed: Fixed) -> None:
        """Checks a field of which one value is implemented."""
        found = self.find(fixed.place)
        if found is None and not fixed.required:
            return
        same = isinstance(found, type(fixed.value)) and (
            math.isclose(found, fixed.value, rel_tol=1e-6)
            if isinstance(found, float)
            else found.lower() == fixed.value
            if isinstance(found, str)
            else found == fixed.value
        )
        if not same:
            raise self.error(fixed.place, f"{fixed.value!r}, the only one implemented", found)

    def write(self, field: Field, values: Values, explicit: bool) -> None:
        """Sets `field` from `values`, unless the file says so, or says nothing and means it.

        Args:
          field: what to write.
          values: all values.
          explicit: write defaults too.
        """
        value = values[field.ours]
        present = [place for place in field.places if self.find(place) is not None]
        place = present[0] if present else field.places[0]
        if present:
            unchanged = _json(self.find(place)) == _json(value)
        else:
            means_it = field.default is not REQUIRED and default(field, values) == value
            unchanged = field.quiet or (means_it and not explicit)
        if unchanged:
            return
        self.put(place, _json(value))

    def put(self, place: str, value: Any) -> None:
        """Sets the value at a dotted path."""
        *parents, last = place.split(".")
        node: Any = self.data
        for key in parents:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
        node[last] = value

    def _typed(self, field: Field, place: str, value: Any) -> Any:
        if field.kind in ("ints", "floats"):
            right = isinstance(value, list) and field.length in (None, len(value))
            right = right and all(_is(field.kind[:-1], v) for v in value)
            convert = float if field.kind == "floats" else int
            if right:
                return tuple(convert(v) for v in value)
        elif _is(field.kind, value) and not (field.positive and value <= 0):
            return float(value) if field.kind == "float" else value
        raise self.error(place, _expected(field), value)


def default(field: Field, values: Values) -> Any:
    """What an absent `field` means."""
    return values[field.default.ours] if isinstance(field.default, Inherit) else field.default


def _is(kind: str, value: Any) -> bool:
    if kind == "float":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str}[kind])


def _expected(field: Field) -> str:
    count = f"{field.length} " if field.length else "a list of " if field.kind.endswith("s") else ""
    return count + _KINDS[field.kind] + (" above zero" if field.positive else "")


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""Bytes that a compiled program reads and writes, from its text.

A fusion reads its operands and writes its result, once; what it keeps inside costs nothing. Of an
operand of which only a slice is looked at the slice counts, and of an array that is updated in place
the update. Loops count as often as they run.
"""

import collections
import re

from alpamayo_jax.plan.collectives import CALLED, TRIPS, Instruction, parse, shape_bytes

_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota",
    "partition-id", "replica-id", "copy-done", "async-done", "opt-barrier", "call-done",
}  # fmt: skip
_SLICES = ("dynamic-slice", "slice", "gather")
_TRANSPARENT = ("bitcast", "copy", "convert", "reshape", "transpose")
_OPERAND = re.compile(r"%([\w.\-]+)")
_INDEX = re.compile(r"^(\d+)\)")
_WORKSPACE = re.compile(r"s8\[\d+\](?:\{[^}]*\})?")


def program_bytes(text: str, loop_trips: int = 1) -> dict[str, float]:
    """Bytes moved per call, by what moves them.

    Args:
      text: `compiled.as_text()`.
      loop_trips: how often a loop runs of which the program does not say it.

    Returns:
      "copies" (slices of weights that are made before a product reads them, transposes), "products"
      (what libraries compute), "fusions", "other", and "total".
    """
    programs, entry = parse(text)
    found: dict[str, float] = collections.defaultdict(float)

    def visit(name: str, times: float) -> None:
        body = programs.get(name, {})
        for instruction in body.values():
            opcode, rest = instruction.opcode, instruction.rest
            if opcode in _FREE:
                continue
            called = CALLED.findall(rest)
            if opcode == "while":
                stated = TRIPS.search(rest)
                trips = int(stated[1]) if stated else loop_trips
                inner = re.search(r"body=%([\w.\-]+)", rest)
                visit(inner[1], times * trips)
            elif opcode in ("call", "conditional", "async-start"):
                for one in called + _branches(rest):
                    visit(one, times)
            else:
                kind, size = _moved(instruction, body, programs)
                found[kind] += times * size

    visit(entry, 1)
    return {**found, "total": sum(found.values())}


def _branches(rest: str) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", rest)
    return _OPERAND.findall(listed[1]) if listed else []


def _operands(instruction: Instruction) -> list[str]:
    return _OPERAND.findall(instruction.rest.split(")", 1)[0])


def _size(name: str, body: dict[str, Instruction]) -> float:
    return shape_bytes(body[name].shape) if name in body else 0.0


def _moved(
    instruction: Instruction, body: dict[str, Instruction], programs: dict
) -> tuple[str, float]:
    names, out = _operands(instruction), shape_bytes(instruction.shape)
    opcode = instruction.opcode
    if opcode in _SLICES:
        return "copies", 2 * out
    if opcode == "dynamic-update-slice":
        return "copies", 2 * _size(names[1], body)
    read = sum(_size(name, body) for name in names)
    if opcode in ("copy", "copy-start", "transpose"):
        return "copies", read + out
    if opcode == "fusion":
        inner = programs.get(CALLED.findall(instruction.rest)[0], {})
        return _fused(names, out, body, inner)
    if opcode == "custom-call":
        workspace = sum(shape_bytes(part) for part in _WORKSPACE.findall(instruction.shape))
        return "products", read + out - workspace
    return ("products" if opcode in ("dot", "convolution") else "other"), read + out


def _fused(
    names: list[str], out: float, body: dict[str, Instruction], inner: dict[str, Instruction]
) -> tuple[str, float]:
    """What a fusion moves, and whether it is nothing but a copy of a part."""
    parameters = {
        int(_INDEX.match(one.rest)[1]): name
        for name, one in inner.items()
        if one.opcode == "parameter"
    }
    users: dict[str, list[Instruction]] = collections.defaultdict(list)
    for one in inner.values():
        for name in _operands(one):
            users[name].append(one)
    total = 0.0
    for index, name in enumerate(names):
        total += min(_size(name, body), _looked_at(parameters.get(index, ""), inner, users))
    updates = [one for one in inner.values() if one.opcode == "dynamic-update-slice"]
    if updates and out >= sum(shape_bytes(one.shape) for one in updates):
        # In place: what is not updated stays where it is.
        out -= sum(shape_bytes(one.shape) for one in updates)
        out += sum(_size(_operands(one)[1], inner) for one in updates)
    work = {one.opcode for one in inner.values()} - _FREE - set(_TRANSPARENT) - set(_SLICES)
    kind = "fusions" if work - {"dynamic-update-slice"} else "copies"
    return ("products" if "dot" in work else kind), total + out


def _looked_at(
    name: str, inner: dict[str, Instruction], users: dict[str, list[Instruction]]
) -> float:
    """Bytes that a fusion reads of its parameter: its slices, if it takes nothing but slices."""
    size = 0.0
    for one in users.get(name, ()):
        if one.opcode in _SLICES and _operands(one)[0] == name:
            size += shape_bytes(one.shape)
        elif one.opcode == "dynamic-update-slice" and _operands(one)[0] == name:
            continue
        elif one.opcode in ("bitcast", "copy", "convert"):
            inside = next(key for key, value in inner.items() if value is one)
            size += _looked_at(inside, inner, users) if users.get(inside) else float("inf")
        else:
            return float("inf")
    return size

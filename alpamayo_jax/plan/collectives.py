"""What devices say to each other in a compiled program, read from its text.

Every collective is counted as often as its loop runs. Bytes are what each device sends when the
collective goes round a ring of n devices: (n - 1) / n of the whole array for a gather, scatter or
exchange, twice that for a reduction that everybody receives.
"""

import collections
import dataclasses
import math
import re

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "token": 0, "opaque": 0, "s4": 0.5, "u4": 0.5, "s2": 0.25, "u2": 0.25}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]\w*?)\[([\d,]*)\]")
CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_SOURCE = re.compile(r'op_name="([^"]*)"')
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      times: how often it runs per call of the program.
      bytes: that each device sends each time.
      group: devices that take part together.
      counted: whether `times` is known; a loop of unknown length counts as one.
      conditional: whether it depends on the data that it runs at all.
      shape: of its result.
      source: the operation of the model that it serves, "" where the compiler forgot.
    """

    kind: str
    times: int
    bytes: float
    group: int
    counted: bool
    conditional: bool = False
    shape: str = ""
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program: the shape of its result, what it does, and everything after "("."""

    shape: str
    opcode: str
    rest: str


def shape_bytes(shape: str) -> float:
    """Bytes of a shape as programs print it, "f32[8,128]{1,0}" or a tuple of such."""
    total = 0.0
    for dtype, dims in _SHAPE.findall(shape):
        size = math.prod(int(d) for d in dims.split(",") if d)
        total += size * (_BYTES[dtype] if dtype in _BYTES else _width(dtype))
    return total


def _width(dtype: str) -> float:
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) / 8 if bits else 0


def collectives(text: str, num_devices: int) -> list[Collective]:
    """The collectives of a compiled program.

    Args:
      text: `compiled.as_text()`.
      num_devices: of the program; what a collective without groups spans.
    """
    programs, entry = parse(text)
    shapes = {name: i.shape for body in programs.values() for name, i in body.items()}
    found = []

    def visit(name: str, times: int, counted: bool, conditional: bool) -> None:
        for instruction in programs.get(name, {}).values():
            kind = instruction.opcode.removesuffix("-start")
            if kind in KINDS:
                size, group = _traffic(kind, instruction, shapes, num_devices)
                if group > 1:
                    shape, source = instruction.shape, _SOURCE.search(instruction.rest)
                    source = source[1] if source else ""
                    state = counted, conditional, shape, source
                    found.append(Collective(kind, times, size, group, *state))
            trips, known = 1, True
            if instruction.opcode == "while":
                stated = TRIPS.search(instruction.rest)
                trips, known = (int(stated[1]), True) if stated else (1, False)
            called = CALLED.findall(instruction.rest)
            for branches in _BRANCHES.findall(instruction.rest):
                called += re.findall(r"%([\w.\-]+)", branches)
            branch = conditional or instruction.opcode == "conditional"
            for inner in called:
                visit(inner, times * trips, counted and known, branch)

    visit(entry, 1, True, False)
    return found


def by_kind(found: list[Collective]) -> dict[str, dict[str, float]]:
    """Kind -> what runs per call at most.

    `count`; `bytes` that each device sends; `conditional_bytes`, of these, only if the data say so;
    `uncounted`, how many stand in loops of unknown length and count once.
    """
    names = ("count", "bytes", "conditional_bytes", "uncounted")
    table: dict[str, dict] = collections.defaultdict(lambda: dict.fromkeys(names, 0))
    for one in found:
        row, size = table[one.kind], round(one.times * one.bytes)
        row["count"] += one.times
        row["bytes"] += size
        row["conditional_bytes"] += size * one.conditional
        row["uncounted"] += not one.counted
    return {kind: table[kind] for kind in KINDS if kind in table}


def largest(found: list[Collective], count: int) -> list[dict[str, float | str]]:
    """The `count` collectives that send most per call."""
    ranked = sorted(found, key=lambda one: -one.times * one.bytes)[:count]
    return [
        {
            "kind": one.kind,
            "bytes": round(one.times * one.bytes),
            "times": one.times,
            "group": one.group,
            "conditional": one.conditional,
            "shape": re.sub(r"\{[^}]*\}", "", one.shape),
            "source": one.source,
        }
        for one in ranked
    ]


def parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    """Computations by name, each its instructions by name, and the name of the entry."""
    programs, entry, body = {}, "", {}
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            body = programs.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
            continue
        instruction = _INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line))
        if instruction:
            body[instruction[1]] = Instruction(*instruction.groups()[1:])
    return programs, entry


def _traffic(
    kind: str, instruction: Instruction, shapes: dict[str, str], num_devices: int
) -> tuple[float, int]:
    """Bytes that each device sends, and how many devices take part."""
    arguments = instruction.rest.split(")", 1)[0]
    operands = [shapes.get(name, "") for name in re.findall(r"%([\w.\-]+)", arguments)]
    size = sum(map(shape_bytes, operands))
    group = _group_size(instruction.rest, num_devices)
    if kind == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", instruction.rest)
        return size, 2 if pairs else 1
    if kind == "all-gather":
        size *= group
    share = (group - 1) / group
    return size * share * (2 if kind == "all-reduce" else 1), group


def _group_size(rest: str, num_devices: int) -> int:
    """Devices per group, in any of the three ways that programs write groups."""
    named = re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", rest)
    if named:
        sizes = {axis: int(n) for axis, n in re.findall(r"'([^']+)'=(\d+)", named[1])}
        parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part) if part else sizes[axis] for axis, part in parts)
    tiled = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest)
    if tiled:
        return int(tiled[2])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", rest)
    return len(listed[1].split(",")) if listed else num_devices

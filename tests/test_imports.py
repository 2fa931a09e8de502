"""The floors of the house: who may import whom, and what nobody may use."""

import ast
import functools
import graphlib
import importlib.util
import pathlib

from absl.testing import parameterized
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "alpamayo_jax"

# A room imports only rooms of lower floors. The modules of one room may import each other.
FLOORS = (
    {"base"},
    {"kernels"},
    {"ops"},
    {"clip", "sharding", "convert", "flow", "metrics"},
    {"layers", "action", "viz", "distributed", "layout"},
    {"models", "tokens", "coc"},
    {"decode", "sim"},
    {"quantise"},
    {"data", "export"},
    {"train", "serve", "evaluate", "labelling", "review", "closed_loop"},
    {"rl", "reporting"},
    {"recipe", "cli", "plan", "policy_flags"},
    {"testing"},
    {"benchmark"},
    {"api"},
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
BASE = {"config", "errors", "files", "hardware", "presets", "settings", "types"}  # for everybody
WITHOUT_MODEL = {"data", "tokens", "action", "flow", "coc", "sim", "metrics"}
MODEL = {"models", "layers"}

FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "torch",
                     "transformers", "configs", "experiments", "kernels"}  # fmt: skip
# What compares with PyTorch may use it, where it is installed.
COMPARING = {"alpamayo_jax.testing.torch_twin", "alpamayo_jax.testing.torch_policy",
             "alpamayo_jax.benchmark.timing", "alpamayo_jax.benchmark.train"}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


@functools.cache
def modules() -> dict[str, pathlib.Path]:
    """Name -> file of every module of the package; `kernels/` is installed inside it."""
    found = {}
    for folder, prefix in ((ROOT / PACKAGE, PACKAGE), (ROOT / "kernels", f"{PACKAGE}.kernels")):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((prefix, *parts))] = path
    return found


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


def room(name: str) -> str:
    """The room of a module of the package."""
    parts = name.split(".")
    if len(parts) == 1:
        return "api"
    return "base" if parts[1] in BASE else parts[1]


def imported(source: ast.AST, name: str) -> set[str]:
    """Full names of what `source` imports anywhere, functions included; `name` is its module."""
    found = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = modules()[name].name == "__init__.py"
            dots = "." * node.level + (node.module or "")
            parent = name if package else name.rpartition(".")[0]
            origin = importlib.util.resolve_name(dots, parent)
            submodules = {f"{origin}.{alias.name}" for alias in node.names} & set(modules())
            found |= submodules
            if len(submodules) < len(node.names):
                found.add(origin)
    return found


@functools.cache
def edges(name: str) -> frozenset[str]:
    """Modules of the package that module `name` imports."""
    return frozenset(imported(tree(name), name) & set(modules()))


def violations(name: str, targets: set[str]) -> list[str]:
    """What of `targets` module `name` may not import because of the floors."""
    own = room(name)
    return [
        f"{name} (floor {FLOOR[own]}) imports {target} (floor {FLOOR[room(target)]})"
        for target in sorted(targets)
        if room(target) != own and FLOOR[room(target)] >= FLOOR[own]
    ]


@functools.cache
def reachable(name: str) -> frozenset[str]:
    """Everything that importing from module `name` loads of the package, except the lazy root."""
    found, left = set(), [name]
    while left:
        for target in edges(left.pop()) - found - {PACKAGE}:
            found.add(target)
            left.append(target)
    return frozenset(found)


NAMES = tuple(sorted(modules()))


def test_every_room_has_a_floor():
    assert not {room(name) for name in NAMES} - set(FLOOR)
    assert len(FLOOR) == sum(map(len, FLOORS))


def test_nobody_imports_upwards_or_sideways():
    assert not [line for name in NAMES for line in violations(name, edges(name))]


def test_no_circles():
    graph = {name: edges(name) - {name} for name in NAMES}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"import circle: {' <- '.join(error.args[1])}")


def test_these_rooms_do_not_know_the_model_even_through_others():
    found = [
        f"{name} reaches {target}"
        for name in NAMES
        if room(name) in WITHOUT_MODEL
        for target in reachable(name)
        if room(target) in MODEL
    ]
    assert not found


def test_conversion_knows_only_the_configuration():
    for name in NAMES:
        if room(name) == "convert":
            assert {room(target) for target in edges(name)} <= {"base", "convert"}, name


def test_nobody_imports_the_lazy_root():
    assert not [name for name in NAMES if PACKAGE in edges(name)]


def test_nobody_imports_what_is_forbidden():
    found = [
        f"{name} imports {target}"
        for name in NAMES
        for target in imported(tree(name), name)
        if target.split(".")[0] in FORBIDDEN_MODULES
        and not (name in COMPARING and target in ("torch", "transformers"))
    ]
    assert not found


def test_nobody_runs_text_or_unpickles():
    found = []
    for name in NAMES:
        for node in ast.walk(tree(name)):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                found.append(f"{name}:{node.lineno} calls {node.func.id}")
            pickles = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            if any(getattr(value, "value", True) is not False for value in pickles):
                found.append(f"{name}:{node.lineno} allows pickles")
    assert not found


def test_only_the_upper_floors_load_modules_by_a_name_that_no_test_sees():
    found = [
        name
        for name in NAMES
        if FLOOR[room(name)] < FLOOR["testing"]
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and node.attr == "import_module"
    ]
    assert not found


def test_every_module_says_what_it_is():
    assert not [name for name in NAMES if tree(name).body and not ast.get_docstring(tree(name))]


def test_every_public_function_and_class_says_what_it_does():
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [
        f"{name}.{node.name}"
        for name in NAMES
        for node in tree(name).body
        if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not found


def test_no_module_is_too_long():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert not {name: length for name, length in lengths.items() if length > 500}


class CheckerTest(parameterized.TestCase):
    """The checks themselves notice what they are there for."""

    @parameterized.parameters(
        ("ops.rope", "layers.block", True),
        ("ops.rope", "flow.matching", True),
        ("flow.matching", "metrics.dynamics", True),  # sideways
        ("ops.rope", "ops.masks", False),
        ("ops.attention", "kernels.attention", False),
        ("train.step", "recipe", True),
        ("train.step", "decode.policy", False),
        ("config", "types", False),
        ("types", "ops.rope", True),
    )
    def test_floors(self, importer, target, wrong):
        found = violations(f"{PACKAGE}.{importer}", {f"{PACKAGE}.{target}"})
        assert bool(found) == wrong

    @parameterized.parameters(
        ("import alpamayo_jax.ops.rope", {"alpamayo_jax.ops.rope"}),
        ("from alpamayo_jax.ops import rope, masks",
         {"alpamayo_jax.ops.rope", "alpamayo_jax.ops.masks"}),
        ("from alpamayo_jax.ops.rope import rotate", {"alpamayo_jax.ops.rope"}),
        ("from alpamayo_jax import sample", {"alpamayo_jax"}),
        ("from . import filters", {"alpamayo_jax.ops.filters"}),
        ("from ..models import init", {"alpamayo_jax.models.init"}),
        ("def f():\n    from alpamayo_jax import clip", {"alpamayo_jax.clip"}),
        ("import pickle as p", {"pickle"}),
    )  # fmt: skip
    def test_imports_are_found(self, text, want):
        assert imported(ast.parse(text), "alpamayo_jax.ops.losses") == want

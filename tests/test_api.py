"""The names of `import alpamayo_jax`."""

import ast
import inspect
import pathlib
import subprocess
import sys

import pytest

import alpamayo_jax

PACKAGE = pathlib.Path(alpamayo_jax.__file__).parent
NAMES = [name for name in alpamayo_jax.__all__ if name != "__version__"]
# Top-level functions through which a newcomer reaches everything else.
USED = {"load_policy", "new_policy", "sample", "answer", "preset", "read_clip", "observe"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there_and_documented(name):
    value = getattr(alpamayo_jax, name)
    assert value.__name__ == name and value.__module__.startswith("alpamayo_jax.")
    # A dataclass without a docstring gets its signature as one.
    assert len(inspect.getdoc(value)) > 20 and not inspect.getdoc(value).startswith(f"{name}(")
    assert name in dir(alpamayo_jax)


def test_what_a_newcomer_needs_is_exported():
    assert USED <= set(NAMES)
    assert NAMES == sorted(NAMES)


def test_no_name_hides_a_module():
    modules = {path.stem for path in PACKAGE.iterdir()} | {"kernels"}
    assert not modules & set(NAMES)


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, alpamayo_jax; dir(alpamayo_jax); alpamayo_jax.__version__;"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('jax', 'numpy', 'flax', 'scipy', 'matplotlib', 'tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_installed_one():
    parts = alpamayo_jax.__version__.split(".")
    assert len(parts) >= 3 and parts[0].isdigit()


def test_unknown_names_and_modules():
    with pytest.raises(AttributeError, match="no attribute 'simple'"):
        alpamayo_jax.simple
    with pytest.raises(ImportError):
        from alpamayo_jax import nothing_like_this  # noqa: F401
    from alpamayo_jax import evaluate

    assert inspect.ismodule(evaluate)


def test_the_example_in_the_docstring_uses_real_names():
    lines = [line[4:] for line in alpamayo_jax.__doc__.splitlines() if line.startswith("    ")]
    tree = ast.parse("\n".join(lines))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "aj"
    }
    assert used and used <= set(NAMES)
    calls = {
        node.func.attr: node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    for name, call in calls.items():
        arguments = [None] * len(call.args)
        keywords = {keyword.arg: None for keyword in call.keywords}
        inspect.signature(getattr(alpamayo_jax, name)).bind(*arguments, **keywords)

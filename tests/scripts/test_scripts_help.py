"""Every script explains itself, and says what it lacks."""

import ast
import subprocess
import sys

import pytest
from script_process import EXPERIMENTS, assert_refused, run_script

SCRIPTS = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))


def syntax(name):
    return ast.parse((EXPERIMENTS / f"{name}.py").read_text(encoding="utf-8"))


def own_flags(name):
    """(flag, help, required) of every flag that the script defines."""
    for node in ast.walk(syntax(name)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr.startswith("DEFINE_") and node.func.attr != "DEFINE_alias":
            place = 3 if node.func.attr.startswith("DEFINE_enum") else 2  # after the values
            flag, text = node.args[0].value, node.args[place].value
            yield flag, text, any(keyword.arg == "required" for keyword in node.keywords)


def test_the_scripts_are_found():
    assert {"pipeline", "sample", "evaluate", "parity"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_the_docstring_and_every_flag(name):
    done = run_script(name, "--help")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert " ".join(ast.get_docstring(syntax(name)).split()) in words
    flags = list(own_flags(name))
    assert "workdir" in [flag for flag, *_ in flags]
    for flag, text, _ in flags:
        assert f"--{flag}:" in words or f"--[no]{flag}:" in words
        assert " ".join(text.split())[:40] in words
        assert text.endswith("."), f"--{flag} of {name}.py"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_docstring_shows_a_command_and_the_outputs(name):
    text = ast.get_docstring(syntax(name))
    assert f"python experiments/{name}.py" in text
    assert "--workdir=OUT" in text and "summary.json" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_required_flag_is_asked_for(name):
    done = run_script(name)
    required = [flag for flag, _, is_required in own_flags(name) if is_required]
    assert_refused(done, name, f"--{required[0]}", "--help")


def test_a_process_from_the_shell():
    """The same without a fork, from another folder."""
    done = subprocess.run(
        [sys.executable, EXPERIMENTS / "sample.py", "--help"],
        cwd="/",
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0 and "--num_samples:" in done.stdout, done.stderr

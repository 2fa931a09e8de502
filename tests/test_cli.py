import os
import subprocess
import sys

import pytest

from alpamayo_jax import cli
from alpamayo_jax.types import InputError

SCRIPT = '''"""A script that says what it does."""

from absl import flags, logging
from ml_collections import config_flags
from alpamayo_jax import cli, config, types

config_flags.DEFINE_config_file("config", None, "Knobs.")
_MODE = flags.DEFINE_string("mode", None, "What to do.", required=True)


def main(argv):
    logging.info("working")
    if _MODE.value == "input":
        raise types.InputError("clip 'a':\\n  field x is wrong")
    if _MODE.value == "config":
        raise config.ConfigError("knob y is unknown")
    if _MODE.value == "bug":
        raise KeyError("z")
    if _MODE.value == "luck":
        raise ArithmeticError("the loss\\n is nan")
    if _MODE.value == "cache":
        import jax

        print(jax.config.jax_compilation_cache_dir)
    return {"seven": 7}.get(_MODE.value)


if __name__ == "__main__":
    cli.run(main, failures=(ArithmeticError,))
'''


KNOBS = """import ml_collections


def get_config():
    return ml_collections.ConfigDict({"data": {"source": "sim"}, "steps": 3})
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    script = folder / "work.py"
    script.write_text(SCRIPT)
    (folder / "knobs.py").write_text(KNOBS)

    def call(*args, **env):
        variables = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        return subprocess.run(
            [sys.executable, script, *args],
            env=variables | env,
            cwd=folder,
            text=True,
            capture_output=True,
        )

    return call


@pytest.mark.parametrize("mode, code", [("fine", 0), ("seven", 7)])
def test_the_exit_code_is_what_main_returns(run, mode, code):
    done = run(f"--mode={mode}")
    assert done.returncode == code
    assert "working" in done.stderr  # progress is logged without a flag


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--mode=input"], "clip 'a': field x is wrong"),
        (["--mode=config"], "knob y is unknown"),
        (["--mode=fine", "--bogus=1"], "Unknown command line flag 'bogus'"),
        (["--mode=fine", "stray"], "unexpected argument 'stray'"),
        ([], "Flag --mode must have a value"),
        (["--mode=fine", "--config=nowhere.py"], "No such file or directory: 'nowhere.py'"),
        (["--config=nowhere.py", "--config.steps=1"], "No such file or directory: 'nowhere.py'"),
        (["--config=knobs.py", "--config.data.root=x"], "the configuration has no 'root'"),
        (["--config=knobs.py", "--config.steps=x"], "--config.steps=x: invalid literal"),
    ],
)
def test_bad_input_is_one_sentence(run, args, sentence):
    done = run(*args)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("work.py: ") and sentence in last, done.stderr
    assert "Traceback" not in done.stderr


def test_known_knobs_are_accepted(run):
    assert run("--mode=fine", "--config=knobs.py", "--config.data.source=clips").returncode == 0


def test_a_bug_keeps_its_traceback(run):
    done = run("--mode=bug")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_failure_without_a_bug_is_one_sentence(run):
    done = run("--mode=luck")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "work.py: the loss is nan"


class TestWorkdir:
    def test_folders_are_made(self, tmp_path):
        folder = cli.make_workdir(str(tmp_path / "a" / "b"))
        assert folder == tmp_path / "a" / "b" and folder.is_dir()
        (folder / "old").write_text("kept")
        assert (cli.make_workdir(str(folder)) / "old").read_text() == "kept"

    def test_what_is_no_folder_is_refused(self, tmp_path):
        (tmp_path / "a").write_text("mine")
        for path in (tmp_path / "a", tmp_path / "a" / "b"):
            with pytest.raises(InputError, match=f"--workdir={path} cannot be a folder"):
                cli.make_workdir(str(path))
        assert (tmp_path / "a").read_text() == "mine"

    def test_a_folder_that_cannot_be_written_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        with pytest.raises(InputError, match="nothing can be written"):
            cli.make_workdir(str(tmp_path))


def test_the_loading_bar_follows_and_ends(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_LOADING_DELAY_S", 0.0)
    bar = cli.LoadingBar()
    for done in (10, 70, 100):
        bar(done, 100)
    shown = capsys.readouterr().err
    assert "load: 100%" in shown and shown.endswith("\n")


def test_a_quick_load_shows_no_bar(capsys):
    cli.LoadingBar()(100, 100)
    assert capsys.readouterr().err == ""


def test_help_explains(run):
    done = run("--help")
    assert done.returncode == 0
    assert "A script that says what it does." in done.stdout and "--mode" in done.stdout


def test_compilation_cache(run, tmp_path):
    assert str(tmp_path) in run("--mode=cache", XDG_CACHE_HOME=str(tmp_path)).stdout
    chosen = run("--mode=cache", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert chosen.stdout.strip() == str(tmp_path / "own")

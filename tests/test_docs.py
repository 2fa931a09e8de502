"""Documents say what is there: links, scripts, configurations, modules, metrics."""

import pathlib
import re

import pytest

from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION
from alpamayo_jax.metrics.closed_loop_scores import DERIVED

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
IDS = [path.name for path in DOCUMENTS]


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_files_that_are_named_are_there(path):
    text = path.read_text(encoding="utf-8")
    folders = "experiments|configs|colab|docs|tests|alpamayo_jax"
    for name in re.findall(rf"\b((?:{folders})/[\w/]+\.(?:py|md|ipynb|sh))", text):
        assert (ROOT / name).is_file(), name
    # A module of the package, as `rl/objectives.py` or `closed_loop/hosted.py`.
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)", text):
        assert any((base / name).is_file() for base in (ROOT, ROOT / "alpamayo_jax")), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_flags_of_commands_are_flags_of_the_script(path):
    """Every `--flag` of a command line that is shown, with its continuation lines."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for script, rest in re.findall(r"python (experiments/\w+\.py)([^\n`]*)", text):
        source = (ROOT / script).read_text(encoding="utf-8")
        if "policy_flags.define" in source:
            shared = ROOT / "alpamayo_jax" / "policy_flags.py"
            source += shared.read_text(encoding="utf-8")
        flags = {"config", "help"} | set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
        for flag in re.findall(r"\s--(\w+)", rest):
            assert flag.removeprefix("no") in flags or flag in flags, f"{script} --{flag}"


def test_the_readme_lists_every_script():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `experiments/(\w+)\.py` \|", text, re.M))
    assert table == {path.stem for path in (ROOT / "experiments").glob("*.py")}


def test_the_readme_names_every_notebook_and_document():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (*(ROOT / "colab").glob("*.ipynb"), *(ROOT / "docs").glob("*.md")):
        name = path.relative_to(ROOT).as_posix()
        assert name in text, name


def test_every_closed_loop_metric_is_explained():
    text = (ROOT / "docs" / "closed_loop.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = set()
    for row in rows:
        names = re.findall(r"`([^`]+)`", row)
        stem = names[0].partition("@")[0]
        for name in names:  # "_rear" and "@1.0s" go on from the first name of their row
            named.add(name if name[0] not in "_@" else {
                "@": stem + name, "_": names[0].rpartition("_")[0] + name
            }[name[0]])  # fmt: skip
    assert {*TIME_AGGREGATION, *DERIVED} <= named

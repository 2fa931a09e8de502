"""A reader that is killed in the middle of an epoch and started again reads what one alone does."""

import json
import os
import pathlib
import signal
import subprocess
import sys

from killed_reading import main

from alpamayo_jax.data import ingest
from alpamayo_jax.testing.clips import write_small_clip

HERE = pathlib.Path(__file__).parent
TOTAL = 9


def test_killed_twice_in_the_middle_of_an_epoch(tmp_path):
    for number in range(3):
        text = "Go." if number else "Slow down because the car ahead is braking hard."
        write_small_clip(
            tmp_path / "drives" / f"clip{number}", seconds=8.5, size=(32, 32), seed=number,
            reasoning=[(0.0, text)],
        )  # fmt: skip
    out = tmp_path / "store"
    ingest.ingest("clips", {"root": str(tmp_path / "drives")}, out, progress=False)
    main(str(out), str(tmp_path / "alone"), TOTAL, die_after=-1)
    paths = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    for die_after, code in ((2, -signal.SIGKILL), (5, -signal.SIGKILL), (-1, 0)):
        command = [sys.executable, str(HERE / "killed_reading.py"), str(out)]
        ended = subprocess.run(
            [*command, str(tmp_path / "killed"), str(TOTAL), str(die_after)],
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
        )
        assert ended.returncode == code, ended.stderr[-2000:]
    alone, killed = (json.loads((tmp_path / name).read_text()) for name in ("alone", "killed"))
    assert killed == alone
    assert len(set(alone["seen"])) == TOTAL

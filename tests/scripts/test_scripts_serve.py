"""experiments/serve.py and experiments/check_driver.py: a checkpoint behind a port, examined."""

import os
import pathlib
import sys

import pytest
from script_process import (
    MAX_NEW_TOKENS,
    NUM_FRAMES,
    assert_refused,
    read_summary,
    run_script,
    started,
)

sys.path.append(os.fspath(pathlib.Path(__file__).resolve().parents[1] / "serve"))
import serve_helpers  # noqa: E402

from alpamayo_jax.serve.server import Server  # noqa: E402

SMALL = ("--image_height=96", "--image_width=160", "--steps=2")
FRONT = f"--cameras={serve_helpers.FRONT}"


def serve_flags(checkpoint, *more):
    return (
        f"--checkpoint={checkpoint}", "--port=0", "--cameras=1", "--image_size=96x160",
        "--max_batch=2", "--num_samples=2", f"--max_new_tokens={MAX_NEW_TOKENS}",
        f"--num_frames={NUM_FRAMES}", *more,
    )  # fmt: skip


def test_a_served_checkpoint_is_fit_to_drive(pipeline_run, tmp_path):
    flags = serve_flags(pipeline_run.checkpoint, f"--workdir={tmp_path / 'served'}")
    with started("serve", *flags, says="ready: ") as line:
        assert line.startswith("ready: egodriver.EgodriverService at 127.0.0.1:")
        address = line.split()[-1]
        done = run_script(
            "check_driver", f"--address={address}", f"--workdir={tmp_path}", "--sessions=1,4",
            *SMALL,
        )  # fmt: skip
        taken = run_script(
            "serve", *serve_flags(pipeline_run.checkpoint, f"--port={address.split(':')[1]}")
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "fit to drive"
    assert "BROKEN" not in done.stdout and "not checked" not in done.stdout
    summary = read_summary(tmp_path)
    assert summary["rules_broken"] == 0 and summary["drive_calls"] == 4
    assert summary["drive_ms_p50/4"] > 0 and summary["plans_per_second/1"] > 0
    assert_refused(taken, "serve", "cannot be opened", "another server")
    served = read_summary(tmp_path / "served")
    assert served["drive"] >= 4 and served["start_session"] >= 1 and served["refused"] >= 1
    assert served["shut_down"] == 0 and served["seconds"] > 0


@pytest.mark.slow
def test_exported_programs_are_fit_to_drive(pipeline_run, tmp_path):
    checkpoint = f"--checkpoint={pipeline_run.checkpoint}"
    rig = ("--cameras=1", f"--num_frames={NUM_FRAMES}")
    done = run_script(
        "export", checkpoint, *rig, "--format=stablehlo", "--stages=policy", "--windows=2",
        "--num_samples=2", f"--max_new_tokens={MAX_NEW_TOKENS}", f"--workdir={tmp_path / 'programs'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    driven = (checkpoint, *rig, f"--exported={tmp_path / 'programs'}", "--port=0")
    with started("serve", *driven, "--image_size=108x192", says="ready: ") as line:
        done = run_script(
            "check_driver", f"--address={line.split()[-1]}", f"--workdir={tmp_path}",
            "--sessions=1,2", "--image_height=108", "--image_width=192", "--steps=2",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "fit to drive"
    refused = run_script("serve", *driven, "--num_samples=3")
    assert_refused(refused, "serve", "--num_samples cannot change exported programs")


def test_a_driver_that_breaks_rules_fails():
    driver = serve_helpers.make_driver()
    drive = driver.drive

    def end(request, on_future):
        reply = drive(request, on_future)
        reply.terminate_session = True
        return reply

    driver.drive = end
    with Server(driver) as server:
        done = run_script("check_driver", f"--address={server.address}", FRONT, *SMALL)
    assert done.returncode == 1
    assert "BROKEN      terminate_session: is set" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 broken rule"


def test_nobody_at_the_address():
    done = run_script("check_driver", "--address=127.0.0.1:1", "--connect_s=0.2")
    assert done.returncode == 1 and "BROKEN      reachable" in done.stdout


@pytest.mark.parametrize(
    "change, words",
    [
        ("--cameras=front", ("--cameras", "front")),
        ("--camera_names=front", ("--camera_names", "ID=INDEX")),
        ("--image_size=96", ("--image_size", "HEIGHTxWIDTH")),
        ("--max_batch=3", ("max_batch 3", "power of two")),
        ("--navigation", ("--navigation", "no route")),
        ("--checkpoint=/no/such/folder", ("/no/such/folder",)),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(pipeline_run, change, words):
    flags = serve_flags(pipeline_run.checkpoint, change)
    assert_refused(run_script("serve", *flags), "serve", *words)


def test_a_number_of_sessions_that_is_none_is_refused():
    done = run_script("check_driver", "--address=127.0.0.1:1", "--sessions=1,x")
    assert_refused(done, "check_driver", "--sessions", "'x'")

"""The pre-flight passes a good driver, and names what is wrong with every other."""

import grpc
import numpy as np
import pytest
from serve_helpers import FRONT, SIZE, make_driver

from alpamayo_jax.serve import preflight, wire
from alpamayo_jax.serve.errors import Refused
from alpamayo_jax.serve.rehearsal import Rehearsal
from alpamayo_jax.serve.server import Server


def examine(driver, **options):
    with Server(driver) as server:
        values = {"cameras": (FRONT,), "image_size": SIZE, "steps": 3} | options
        return preflight.Preflight(server.address, **values).run()


def test_a_good_driver_breaks_nothing_and_everything_is_checked():
    verdict = examine(make_driver(cameras=(1,)), cameras=preflight.CAMERAS)
    assert verdict.broken == [] and verdict.hints == []
    assert set(verdict.checked) == set(preflight.RULES)
    assert len(verdict.latency_s) == 6 and verdict.version.startswith("alpamayo_jax-")


def test_what_is_said_of_a_good_driver():
    lines = []
    numbers = preflight.summary(examine(make_driver()), lines.append)
    assert numbers["rules_broken"] == 0 and numbers["rules_checked"] == len(preflight.RULES)
    assert numbers["drive_calls"] == 6 and 0 < numbers["drive_ms_p50"] <= numbers["drive_ms_max"]
    assert sum(line.startswith("ok ") for line in lines) == len(preflight.RULES)


def test_nothing_at_the_address():
    verdict = preflight.Preflight("127.0.0.1:1").run(connect_s=0.2)
    assert [rule for rule, _ in verdict.broken] == ["reachable"]
    lines = []
    assert preflight.summary(verdict, lines.append)["rules_broken"] == 1
    assert lines[0].startswith("BROKEN      reachable")
    assert lines[1].startswith("not checked version")


def with_plan(change):
    """A driver whose replies are changed before they leave."""
    driver = make_driver()
    drive = driver.drive

    def changed(request, on_future):
        reply = drive(request, on_future)
        change(reply)
        return reply

    driver.drive = changed
    return driver


def rotate(reply):
    for pose in reply.trajectory.poses:
        pose.pose.quat.w *= 1.01


def into_rig_frame(reply):
    first = reply.trajectory.poses[0].pose.vec
    x, y = first.x, first.y
    for pose in reply.trajectory.poses:
        pose.pose.vec.x, pose.pose.vec.y = pose.pose.vec.x - x, pose.pose.vec.y - y


def in_nanoseconds(reply):
    for pose in reply.trajectory.poses:
        pose.timestamp_us *= 1000


def shorten(reply):
    del reply.trajectory.poses[12:]


def stop_time(reply):
    reply.trajectory.poses[5].timestamp_us = reply.trajectory.poses[4].timestamp_us


def end(reply):
    reply.terminate_session = True


@pytest.mark.parametrize(
    "change, rules",
    [
        (rotate, {"plan_quaternions"}),
        (into_rig_frame, {"plan_frame"}),
        (in_nanoseconds, {"plan_start"}),
        (shorten, {"plan_horizon"}),
        (stop_time, {"plan_times"}),
        (end, {"terminate_session"}),
        (lambda reply: reply.ClearField("trajectory"), {"plan_not_empty"}),
    ],
)
def test_a_plan_that_breaks_a_rule(change, rules):
    assert {rule for rule, _ in examine(with_plan(change), steps=1).broken} == rules


def test_no_samples_is_a_hint():
    driver = with_plan(lambda reply: reply.debug_info.ClearField("sampled_trajectories"))
    verdict = examine(driver, steps=1)
    assert verdict.broken == [] and verdict.hints == [preflight.SAMPLES_HINT]


def raising(code):
    def refuse(request):
        raise Refused(code, "no")

    return refuse


@pytest.mark.parametrize(
    "name, rule",
    [
        ("get_version", "version"),
        ("start_session", "start_session"),
        ("submit_route", "observations"),
        ("close_session", "close_session"),
    ],
)
def test_a_call_that_is_not_answered(name, rule):
    driver = make_driver()
    setattr(driver, name, raising(grpc.StatusCode.UNIMPLEMENTED))
    broken = dict(examine(driver, steps=1).broken)
    assert "UNIMPLEMENTED: " in broken[rule]


def test_a_driver_that_fails_early_must_say_failed_precondition():
    driver = make_driver()
    drive = driver.drive

    def wrong(request, on_future):
        try:
            return drive(request, on_future)
        except Refused as error:
            raise Refused(grpc.StatusCode.UNKNOWN, error.sentence) from error

    driver.drive = wrong
    assert [rule for rule, _ in examine(driver, steps=1).broken] == ["short_history"]


def test_a_driver_that_knows_everybody():
    driver = make_driver()
    driver.submit_egomotion_observation = lambda request: wire.Empty()
    assert "unknown_session" in dict(examine(driver, steps=1).broken)


def test_two_answers_to_who_it_is():
    driver, count = make_driver(), iter(range(100))
    driver.get_version = lambda request: wire.VersionId(version_id=f"v{next(count)}")
    assert [rule for rule, _ in examine(driver, steps=1).broken] == ["version"]


def test_sessions_that_share_one_car():
    """A driver that plans for whoever came first: right alone, wrong beside another."""
    driver = make_driver()
    start, close, open_ids = driver.start_session, driver.close_session, []

    def started(request):
        open_ids.append(request.session_uuid)
        return start(request)

    def closed(request):
        if request.session_uuid in open_ids:
            open_ids.remove(request.session_uuid)
        return close(request)

    drive = driver.drive

    def mixed(request, on_future):
        if request.session_uuid in open_ids:
            request.session_uuid = open_ids[0]
        return drive(request, on_future)

    driver.start_session, driver.close_session, driver.drive = started, closed, mixed
    assert "interleaved" in dict(examine(driver).broken)


def test_a_slow_driver():
    verdict = examine(make_driver(), steps=1, limit_s=1e-6)
    assert "drive_in_time" in dict(verdict.broken)


def test_the_rehearsed_car_drives_an_arc():
    rehearsal = Rehearsal("car", speed=10.0, yaw_rate=0.05, heading=0.3)
    a, b = (rehearsal.pose(rehearsal.begin_us + t) for t in (1_000_000, 1_001_000))
    assert np.linalg.norm(b[0] - a[0]) / 1e-3 == pytest.approx(10.0, rel=1e-3)
    assert np.arctan2(*(b[0] - a[0])[1::-1]) == pytest.approx(a[1], abs=1e-4)
    straight = Rehearsal("car", yaw_rate=0.0).pose(Rehearsal("car").begin_us + 10**6)[0]
    assert np.linalg.norm(straight - Rehearsal("car").origin) == pytest.approx(10.0)

"""The driver behind its port: many sessions at once, garbage, vanishing clients, limits."""

from concurrent.futures import ThreadPoolExecutor
import random
import threading
import time

import grpc
import numpy as np
import pytest
from serve_helpers import FRONT, StraightPlanner, car, make_driver, now_of

from alpamayo_jax.serve import wire
from alpamayo_jax.serve.client import Client
from alpamayo_jax.serve.plan_rules import reply_faults
from alpamayo_jax.serve.rehearsal import STEP_US
from alpamayo_jax.serve.server import Server
from alpamayo_jax.types import InputError

SESSIONS = 32


@pytest.fixture
def planner():
    return StraightPlanner()


@pytest.fixture
def server(planner):
    with Server(make_driver(planner, max_batch=8)) as made:
        yield made


@pytest.fixture
def client(server):
    with Client(server.address, timeout_s=20.0) as made:
        yield made


def send(client, rehearsal, begin_us, now_us, order):
    """All observations at once, in any order."""
    calls = rehearsal.observations(begin_us, now_us)
    order.shuffle(calls)
    for reply in [client.start(name, message) for name, message in calls]:
        reply.result()


def open_car(client, rehearsal):
    """Starts a session with enough history; returns the time."""
    client.call("start_session", rehearsal.start())
    now = now_of(rehearsal)
    send(client, rehearsal, rehearsal.begin_us, now, random.Random(0))
    return now


def code_of(client, name, message, service=wire.SERVICE):
    with pytest.raises(grpc.RpcError) as error:
        client.call(name, message, service)
    return error.value.code(), error.value.details()


def test_thirty_two_sessions_interleave(server, planner):
    """Each is somewhere else, at its own speed and time; every plan begins where its car is."""

    def roll(number):
        order = random.Random(number)
        rehearsal = car(
            f"car{number}", origin=(1000.0 * number, -500.0 * number, 0.0),
            speed=2.0 + number, heading=0.1 * number, begin_us=10**15 + 777_777 * number,
        )  # fmt: skip
        faults = []
        with Client(server.address, timeout_s=30.0) as own:
            own.call("start_session", rehearsal.start(seed=number))
            for step in range(3):
                now = now_of(rehearsal, 20 + step)
                send(own, rehearsal, rehearsal.begin_us if step == 0 else now, now, order)
                reply = own.call("drive", rehearsal.drive(now))
                faults += reply_faults(reply, now, now + STEP_US, rehearsal.pose(now)[0])
                poses = reply.debug_info.sampled_trajectories[0].poses
                moved = poses[2].pose.vec.x - poses[1].pose.vec.x, (
                    poses[2].pose.vec.y - poses[1].pose.vec.y
                )
                # float32 on the wire, thousands of metres from the origin
                assert np.hypot(*moved) / 0.1 == pytest.approx(rehearsal.speed, abs=0.05)
            own.call("close_session", rehearsal.close())
        return faults

    with ThreadPoolExecutor(SESSIONS) as pool:
        assert sum(pool.map(roll, range(SESSIONS)), []) == []
    assert sum(map(len, planner.batches)) == 3 * SESSIONS
    assert max(map(len, planner.batches)) > 1  # they did share batches


def test_waiting_plans_share_a_batch(server, planner):
    with Client(server.address, timeout_s=20.0) as client:
        cars = [car(f"car{i}") for i in range(5)]
        times = [open_car(client, rehearsal) for rehearsal in cars]
        planner.gate.clear()
        waiting = [client.start("drive", cars[0].drive(times[0]))]
        time.sleep(0.1)
        waiting += [client.start("drive", c.drive(t)) for c, t in zip(cars[1:], times[1:])]
        time.sleep(0.3)
        planner.gate.set()
        assert all(reply.result().trajectory.poses for reply in waiting)
        assert [len(batch) for batch in planner.batches] == [1, 4]


def test_garbage_is_answered_with_a_sentence(client):
    for name, (request, _) in wire.CALLS.items():
        if request is not wire.Empty:  # any bytes of unknown fields are a whole empty message
            code, details = code_of(client, name, b"\xff\xfe\xfd")
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert details == f"{name}: 3 bytes are not a {request.DESCRIPTOR.full_name}"
    rehearsal = car()
    assert client.call("drive", rehearsal.drive(open_car(client, rehearsal))).trajectory.poses


def test_a_refusal_has_its_status_and_sentence(client):
    code, details = code_of(client, "drive", car("stranger").drive(0))
    assert code == grpc.StatusCode.NOT_FOUND and details.startswith("drive: no session 'stranger'")
    rehearsal = car()
    client.call("start_session", rehearsal.start())
    code, _ = code_of(client, "drive", rehearsal.drive(now_of(rehearsal)))
    assert code == grpc.StatusCode.FAILED_PRECONDITION


def test_a_planner_that_fails_is_an_answer_and_not_the_end(client, planner, monkeypatch):
    rehearsal = car()
    now = open_car(client, rehearsal)
    with monkeypatch.context() as patch:
        patch.setattr(planner, "_one", lambda *args: 1 / 0)
        code, details = code_of(client, "drive", rehearsal.drive(now))
    assert code == grpc.StatusCode.INTERNAL and "ZeroDivisionError" in details
    assert client.call("drive", rehearsal.drive(now)).trajectory.poses


def test_a_client_that_vanishes_costs_no_plan(server, client, planner):
    rehearsal, other = car("stays"), car("goes")
    now = open_car(client, rehearsal)
    with Client(server.address) as gone:
        open_car(gone, other)
        planner.gate.clear()
        running = client.start("drive", rehearsal.drive(now))
        time.sleep(0.2)
        waiting = gone.start("drive", other.drive(now))
        time.sleep(0.2)
        waiting.cancel()
    time.sleep(0.2)
    planner.gate.set()
    assert running.result().trajectory.poses
    assert client.call("drive", rehearsal.drive(now)).trajectory.poses
    assert [len(batch) for batch in planner.batches] == [1, 1]


def test_a_message_beyond_the_limit_is_refused_and_the_next_is_read():
    with Server(make_driver(), max_message=100_000) as server, Client(server.address) as client:
        rehearsal = car()
        now = open_car(client, rehearsal)
        large = rehearsal.image(FRONT, now)
        large.camera_image.image_bytes = bytes(200_000)
        code, _ = code_of(client, "submit_image_observation", large)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.call("drive", rehearsal.drive(now)).trajectory.poses


def test_health_and_version(client):
    for service in ("", wire.SERVICE):
        reply = client.call("Check", wire.HealthCheckRequest(service=service), wire.HEALTH_SERVICE)
        assert reply.status == wire.SERVING
    code, _ = code_of(
        client, "Check", wire.HealthCheckRequest(service="other"), wire.HEALTH_SERVICE
    )
    assert code == grpc.StatusCode.NOT_FOUND
    assert client.call("get_version", wire.Empty()).version_id


def test_thousands_of_calls_that_wait_are_all_answered(monkeypatch):
    driver, go_on = make_driver(), threading.Event()
    answer = driver.get_version
    monkeypatch.setattr(driver, "get_version", lambda request: go_on.wait() and answer(request))
    with Server(driver, threads=1) as server, Client(server.address) as client:
        waiting = [client.start("get_version", wire.Empty()) for _ in range(3500)]
        go_on.set()
        assert all(reply.result().version_id for reply in waiting)


def test_calls_are_counted(planner):
    with Server(make_driver(planner)) as server, Client(server.address) as client:
        assert set(server.counts().values()) == {0} and "drive" in server.counts()
        for _ in range(2):
            client.call("get_version", wire.Empty())
        assert code_of(client, "shut_down", wire.Empty()) is not None
        found = server.counts()
    assert found["get_version"] == 2 and found["refused"] == 1
    assert found["drive"] == found["shut_down"] == 0


def test_only_where_allowed_can_a_client_end_the_server(server, client):
    code, _ = code_of(client, "shut_down", wire.Empty())
    assert code == grpc.StatusCode.PERMISSION_DENIED
    with Server(make_driver(), may_shut_down=True) as other, Client(other.address) as own:
        own.call("shut_down", wire.Empty())
        other.wait()


def test_a_port_has_one_server(server):
    driver = make_driver()
    with pytest.raises(InputError, match=f"port {server.port}"):
        Server(driver, port=server.port)
    driver.close()


def test_the_port_is_seen_by_this_machine_alone(server):
    assert server.address == f"127.0.0.1:{server.port}"

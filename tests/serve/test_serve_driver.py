"""The driver's answers to messages: sessions, observations in any order, plans, refusals."""

import pickle
import random

import grpc
import numpy as np
import pytest
from serve_helpers import FRONT, K, StraightPlanner, car, make_driver, now_of, tell

from alpamayo_jax.config import ConfigError
from alpamayo_jax.serve import wire
from alpamayo_jax.serve.driver import DriverSettings
from alpamayo_jax.serve.errors import Refused
from alpamayo_jax.serve.plan_rules import reply_faults
from alpamayo_jax.serve.rehearsal import STEP_US
from alpamayo_jax.serve.sessions import Sessions


@pytest.fixture
def planner():
    return StraightPlanner()


@pytest.fixture
def driver(planner):
    made = make_driver(planner)
    yield made
    made.close()


def refused(code, *words):
    """Expects a refusal with that status and a sentence that has `words`."""
    return pytest.raises(Refused, check=lambda e: e.code == code and all(
        word in e.sentence for word in words))  # fmt: skip


BAD, EARLY = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
UNKNOWN, TWICE = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_plan_keeps_the_rules_and_shows_all_samples(driver):
    rehearsal = car()
    now = tell(driver, rehearsal)
    reply = driver.drive(rehearsal.drive(now))
    assert not list(reply_faults(reply, now, now + STEP_US, rehearsal.pose(now)[0]))
    sampled = reply.debug_info.sampled_trajectories
    assert len(sampled) == K and reply.trajectory == sampled[1]  # the most likely
    assert reply.terminate_session is False
    # Constant velocity along the chord of the last step is near the arc for a second.
    there = rehearsal.pose(now + 10 * STEP_US)[0]
    vec = reply.trajectory.poses[10].pose.vec
    assert np.hypot(vec.x - there[0], vec.y - there[1]) < 0.6


def test_the_debug_information_names_the_reasoning(driver):
    rehearsal = car(yaw_rate=0.3)
    now = tell(driver, rehearsal)
    shown = pickle.loads(driver.drive(rehearsal.drive(now)).debug_info.unstructured_debug_info)
    assert shown["command_name"] == "LEFT"
    assert shown["reasoning_text"].startswith("session car ") and shown["reasoning_text"][-1] == "1"


@pytest.mark.parametrize("seed", (0, 1, 2))
def test_the_order_of_observations_does_not_matter(planner, driver, seed):
    for name, order in (("sorted", None), ("mixed", random.Random(seed))):
        rehearsal = car(name)
        driver.drive(rehearsal.drive(tell(driver, rehearsal, shuffle=order)))
    first, second = planner.observations
    np.testing.assert_array_equal(first.ego_history_xyz, second.ego_history_xyz)
    np.testing.assert_array_equal(first.cameras[0].images, second.cameras[0].images)


def test_dynamic_states_are_not_believed(planner, driver):
    """AlpaSim sends zeros at first; the poses move all the same."""
    rehearsal = car()
    now = tell(driver, rehearsal)  # the rehearsal's first messages have zero states
    driver.drive(rehearsal.drive(now))
    speed = np.linalg.norm(np.diff(planner.observations[0].ego_history_xyz[-2:], axis=0)) / 0.1
    assert speed == pytest.approx(rehearsal.speed, rel=1e-3)


def test_plans_of_a_session_have_different_seeds_that_repeat(planner, driver):
    for name in ("a", "b"):
        rehearsal = car(name)
        now = tell(driver, rehearsal)
        driver.drive(rehearsal.drive(now))
        driver.drive(rehearsal.drive(now))
    first, second, again, again_second = [batch[0] for batch in planner.batches]
    assert first != second and (first, second) == (again, again_second)


def test_a_pinned_seed_overrides_that_of_the_simulator(planner):
    driver = make_driver(planner, seed=3)
    for seed in (1, 2):
        rehearsal = car(f"car{seed}")
        driver.start_session(rehearsal.start(seed=seed))
        driver.drive(rehearsal.drive(tell(driver, rehearsal, start=False)))
    assert planner.batches[0] == planner.batches[1]
    driver.close()


def test_cameras_that_the_policy_does_not_use_are_dropped(planner):
    driver = make_driver(planner, cameras=(1,))
    both = car(cameras=(FRONT, "camera_front_tele_30fov", "camera_unheard_of"))
    driver.drive(both.drive(tell(driver, both)))
    assert [c.camera_index for c in planner.observations[0].cameras] == [1]
    driver.close()


def test_a_camera_of_another_name_can_be_told(planner):
    driver = make_driver(planner, camera_names=(("my_front", 1),))
    other = car(cameras=("my_front",))
    driver.drive(other.drive(tell(driver, other)))
    assert planner.observations[0].cameras[0].camera_index == 1
    driver.close()


def test_a_policy_without_cameras_drives_by_poses(planner):
    driver = make_driver(planner, cameras=())
    rehearsal = car(cameras=())
    driver.drive(rehearsal.drive(tell(driver, rehearsal)))
    assert planner.observations[0].cameras == ()
    driver.close()


def test_the_route_becomes_text_only_where_asked_for(planner):
    for navigation, want in ((False, None), (True, "Turn left in 10m")):
        driver = make_driver(planner, navigation=navigation)
        rehearsal = car(yaw_rate=0.5)
        driver.drive(rehearsal.drive(tell(driver, rehearsal)))
        assert planner.observations[-1].navigation == want
        driver.close()


def test_too_little_history_is_a_precondition(driver):
    rehearsal = car()
    now = tell(driver, rehearsal, steps=10)
    with refused(EARLY, "1.000 s of past", "1.5 s"):
        driver.drive(rehearsal.drive(now))
    tell(driver, rehearsal, start=False)  # and it can go on
    assert driver.drive(rehearsal.drive(now_of(rehearsal))).trajectory.poses


def test_sessions_must_be_open_and_may_not_be_opened_twice(driver):
    rehearsal = car()
    for name, message in (("drive", rehearsal.drive(0)), ("close_session", rehearsal.close()),
                          *rehearsal.observations(rehearsal.begin_us, rehearsal.begin_us)):  # fmt: skip
        with refused(UNKNOWN, "'car'"):
            getattr(driver, name)(message)
    driver.start_session(rehearsal.start())
    with refused(TWICE, "'car'"):
        driver.start_session(rehearsal.start())
    driver.close_session(rehearsal.close())
    driver.start_session(rehearsal.start())


@pytest.mark.parametrize(
    "rehearsal, words",
    [
        (car(""), ("0 characters",)),
        (car("x" * 300), ("300 characters",)),
        (car(cameras=("camera_unheard_of",)), ("camera_unheard_of", "one that it knows")),
        (car(cameras=()), ("none",)),
    ],
)
def test_a_session_that_cannot_be_driven_is_refused_at_its_start(driver, rehearsal, words):
    with refused(BAD, *words):
        driver.start_session(rehearsal.start())
    assert not len(driver.sessions)


def test_a_camera_that_the_policy_needs_must_be_there():
    driver = make_driver(cameras=(1, 6))
    with refused(BAD, "camera_front_tele_30fov"):
        driver.start_session(car().start())
    driver.close()


def bad_messages():
    rehearsal = car()
    time = rehearsal.begin_us
    image, other = rehearsal.image(FRONT, time), rehearsal.image("camera_rear_left_70fov", time)
    image.camera_image.image_bytes = b"no picture"
    poses, far, nan = (rehearsal.egomotion([time]) for _ in range(3))
    poses.trajectory.poses[0].pose.quat.w = 3.0
    far.trajectory.poses[0].timestamp_us = 2**64 - 1
    nan.trajectory.poses[0].pose.vec.x = np.nan
    return [
        ("submit_image_observation", image, ("no picture"[:0], "JPEG or PNG")),
        ("submit_image_observation", other, ("camera_rear_left_70fov", FRONT)),
        ("submit_egomotion_observation", poses, ("unit quaternion",)),
        ("submit_egomotion_observation", nan, ("NaN",)),
        ("submit_egomotion_observation", far, ("beyond any clock",)),
        ("drive", wire.DriveRequest(session_uuid="car", time_now_us=2**63), ("clock",)),
    ]


@pytest.mark.parametrize("name, message, words", bad_messages())
def test_a_bad_message_is_refused_and_changes_nothing(driver, name, message, words):
    rehearsal = car()
    now = tell(driver, rehearsal)
    with refused(BAD, *words):
        getattr(driver, name)(message)
    assert driver.drive(rehearsal.drive(now)).trajectory.poses


def test_only_so_many_sessions_and_the_forgotten_make_room():
    clock = [0.0]
    sessions = Sessions(most=2, idle_s=10.0, clock=lambda: clock[0])
    sessions.start("a", 0, {}, ())
    sessions.start("b", 0, {}, ())
    with refused(FULL, "2 sessions"):
        sessions.start("c", 0, {}, ())
    clock[0] = 8.0
    sessions.get("b")
    clock[0] = 11.0
    sessions.start("c", 0, {}, ())
    assert sessions.get("b").uuid == "b" and len(sessions) == 2
    with refused(UNKNOWN, "'a'"):
        sessions.get("a")


def test_the_version_is_the_same_every_time(driver):
    first, second = driver.get_version(wire.Empty()), driver.get_version(wire.Empty())
    assert first == second and first.version_id.startswith("alpamayo_jax-")
    version = first.grpc_api_version
    assert (version.major, version.minor, version.patch) == wire.API_VERSION


def test_the_recording_is_not_read(driver):
    rehearsal = car()
    driver.start_session(rehearsal.start())
    assert driver.submit_recording_ground_truth(
        wire.GroundTruthRequest(session_uuid="car")
    ) == wire.Empty()  # fmt: skip


@pytest.mark.parametrize("change", ({"num_frames": 0}, {"max_sessions": 0}, {"max_batch": 0}))
def test_settings_are_checked(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        DriverSettings(**change)

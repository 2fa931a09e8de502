"""Trajectories that do what is said, and that do not."""

import numpy as np
import pytest
from reward_episodes import bump, episodes, poses, ramp, situation

from alpamayo_jax.coc.intent import intent_of, parse_intent
from alpamayo_jax.coc.rules.labeller import label_clip
from alpamayo_jax.data.clip_folder import find_clips, read_clip
from alpamayo_jax.data.windows import keyframe_times, target
from alpamayo_jax.rl.rewards.consistency import Consistency, agrees, behaviour_of
from alpamayo_jax.sim.source import ProceduralSource

MOTIONS = {
    "keep": poses(8.0),
    "slow": poses(ramp(8.0, 5.0, 0.5, 3.0)),
    "stop": poses(ramp(8.0, 0.0, 0.5, 4.5)),
    "stop and go": poses(np.minimum(ramp(8.0, 0.0, 0.0, 3.0) + ramp(0.0, 6.0, 4.0, 6.4), 8.0)),
    "faster": poses(ramp(8.0, 12.0, 0.5, 3.5)),
    "much faster": poses(ramp(8.0, 15.0, 0.5, 3.0)),
    "late faster": poses(ramp(8.0, 12.0, 4.0, 6.4)),
    "stand": poses(0.0),
    "start": poses(ramp(0.0, 6.0, 0.5, 4.0)),
    "wait, start": poses(ramp(0.0, 6.0, 3.0, 6.4)),
    "curve left": poses(8.0, ramp(0.0, 0.5)),
    "turn left": poses(5.0, ramp(0.0, 1.5, 1.0, 4.0)),
    "turn right": poses(5.0, ramp(0.0, -1.5, 1.0, 4.0)),
    "aside left": poses(8.0, bump(0.15, 0.5, 4.0)),  # 8 m/s * 0.15 * 3.5 s * 2 / pi = 2.7 m
    "aside right": poses(8.0, -bump(0.15, 0.5, 4.0)),
    "little left": poses(8.0, bump(0.05, 0.5, 4.0)),  # 0.9 m
    "left and back": poses(8.0, bump(0.1, 0.0, 3.2) - bump(0.1, 3.2, 6.4)),
    "begins left": poses(8.0, ramp(0.0, 0.12, 4.0, 6.4)),
    "back up": poses(ramp(0.0, -3.0, 0.0, 3.0)),
}
SAID = {
    "Keep the speed because the lane ahead is clear.": {
        "keep", "late faster", "curve left", "little left", "begins left"},
    "Slow down because the car ahead is braking.": {"slow", "stop", "stop and go"},
    "Slow down for the sharp left curve ahead.": {"slow", "stop", "stop and go"},
    "Stop because the traffic light is red.": {"stop", "stop and go", "stand"},
    "Stay stopped because the traffic light is red.": {"stand", "wait, start"},
    "Start moving because the light is green": {
        "start", "wait, start", "faster", "much faster", "late faster"},
    "Speed up because the lane ahead is clear.": {
        "start", "wait, start", "faster", "much faster", "late faster"},
    "Yield to the pedestrian who is crossing": {
        "slow", "stop", "stop and go", "stand", "wait, start"},
    "Hold a low speed through the left curve.": {
        "keep", "slow", "stop", "stop and go", "late faster", "stand", "curve left", "turn left",
        "aside left", "aside right", "little left", "left and back", "begins left",
        "wait, start"},
    "Turn left at the junction": {"turn left", "curve left"},
    "Turn right at the junction": {"turn right"},
    "Change to the left lane": {"aside left", "left and back", "begins left"},
    "Change to the right lane": {"aside right"},
    "Nudge left to give room to the cyclist on the right": {
        "aside left", "little left", "left and back", "begins left"},
    "Overtake the slow truck ahead": {
        "keep", "faster", "much faster", "late faster", "start", "wait, start", "curve left",
        "little left", "begins left"},
}  # fmt: skip
# A motion that can be taken for what is said or not.
NOT_ASKED = {
    "Turn left at the junction": {"curve left"},
    "Hold a low speed through the left curve.": {"stand", "wait, start"},
}


def _agrees(text, name):
    xyz, rot = MOTIONS[name]
    return agrees(parse_intent(text), behaviour_of(xyz[None], rot[None]).at((0,)))


@pytest.mark.parametrize("text", SAID)
def test_what_agrees(text):
    asked = set(MOTIONS) - NOT_ASKED.get(text, set())
    found = {name for name in asked if _agrees(text, name)}
    assert found == SAID[text] & asked


def test_sides_mirror():
    for text, other in (
        ("Nudge left for the cyclist", "Nudge right for the cyclist"),
        ("Turn left", "Turn right"),
        ("Keep the speed", "Keep the speed"),
        ("Follow the left curve", "Follow the right curve"),
    ):
        for name, (xyz, rot) in MOTIONS.items():
            flip = np.array([1, -1, 1], np.float32)
            turned = rot * flip[:, None] * flip
            there = behaviour_of((xyz * flip)[None], turned[None]).at((0,))
            assert agrees(parse_intent(other), there) == _agrees(text, name), (text, name)


def test_what_a_motion_is():
    does = behaviour_of(*map(np.stack, zip(*MOTIONS.values())))
    by_name = {name: does.at((i,)) for i, name in enumerate(MOTIONS)}
    np.testing.assert_allclose(by_name["aside left"].aside, [2.67, 0.0], atol=0.05)
    np.testing.assert_allclose(by_name["aside right"].aside, [0.0, 2.67], atol=0.05)
    np.testing.assert_allclose(by_name["curve left"].aside, 0.0, atol=1e-4)
    np.testing.assert_allclose(by_name["turn right"].turned, -1.5, atol=1e-5)
    assert by_name["turn left"].sharp and not by_name["curve left"].sharp
    assert by_name["stop"].halves and not by_name["slow"].halves
    assert by_name["stand"].stands and by_name["stand"].waits == 65
    assert by_name["much faster"].strong and not by_name["faster"].strong
    assert by_name["back up"].backs
    assert (by_name["keep"].change, by_name["keep"].onset) == (0, 65)
    assert by_name["late faster"].onset > 30 > by_name["faster"].onset


def test_scores():
    keep, stop = MOTIONS["keep"], MOTIONS["stop"]
    text, other = "Keep the speed.", "Stop because the traffic light is red."
    made = episodes(
        [situation(), situation()],
        [[text, other, "banana"], [other, text, text]],
        [[keep, keep, keep], [stop, stop, keep]],
        valid=[[True, True, True], [True, True, False]],
    )
    scores = Consistency()(made)
    np.testing.assert_array_equal(scores.values, [[1, 0, 0], [1, 0, 0]])
    assert scores.valid.all() and scores.measured.all()


def test_batch_dimensions():
    xyz, rot = (np.stack(a) for a in zip(*list(MOTIONS.values())[:6]))
    flat = behaviour_of(xyz, rot)
    shaped = behaviour_of(xyz.reshape(2, 3, 64, 3), rot.reshape(2, 3, 64, 3, 3))
    np.testing.assert_array_equal(shaped.change, flat.change.reshape(2, 3))
    np.testing.assert_allclose(shaped.aside, flat.aside.reshape(2, 3, 2))


def test_experts_do_what_their_traces_say_and_not_what_others_say():
    source = ProceduralSource(20, 3, cameras=())
    clips = [source.clip(i) for i in range(20)]
    wanted = [target(clip, t0) for clip in clips for t0 in keyframe_times(clip)]
    intents = [parse_intent(w.reasoning) for w in wanted]
    assert len(wanted) > 30 and None not in intents
    does = behaviour_of(*(np.stack([getattr(w, f"ego_future_{n}") for w in wanted])
                          for n in ("xyz", "rot")))  # fmt: skip
    others = np.random.default_rng(0).permutation(len(wanted))
    right = np.mean([agrees(intent, does.at((i,))) for i, intent in enumerate(intents)])
    wrong = np.mean([agrees(intents[j], does.at((i,))) for i, j in enumerate(others)])
    assert right > 0.8 and wrong < 0.5


def test_recorded_drivers_do_what_labels_of_their_drives_say(real_clips_dir):
    found, read = [], []
    for folder in find_clips(real_clips_dir)[:5]:
        clip = read_clip(folder)
        for label in label_clip(clip)[0]:
            if label.keyframe_s + 6.4 <= clip.ego.t[-1]:
                wanted = target(clip, label.keyframe_s)
                does = behaviour_of(wanted.ego_future_xyz, wanted.ego_future_rot).at(())
                read.append(parse_intent(label.trace) == intent_of(label))
                found.append(agrees(intent_of(label), does))
    assert found and np.mean(found) > 0.7 and np.mean(read) > 0.9

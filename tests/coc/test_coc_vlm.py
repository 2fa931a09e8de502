"""Labelling with a model behind an endpoint: what it is shown, and what becomes of its answers."""

import dataclasses
import json

import pytest
from vlm_answers import DECIDED, SEEN, good, images_of, stage_of, text_of

from alpamayo_jax.coc import vlm_prompt
from alpamayo_jax.coc.chat import ChatClient, ChatUnavailable
from alpamayo_jax.coc.chat_cache import AnswerCache
from alpamayo_jax.coc.component import ATTRIBUTES
from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.endpoint import Endpoint
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.coc.vlm import Moment, Quarantined, VlmLabeller, spent, write_quarantine
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.testing.chat_server import completion, serving


@pytest.fixture(scope="module")
def clip():
    return procedural_clip(5, 0, seconds=20.0, image_size=(64, 48), cache=True)


def labeller_of(url, cache=None, **fields):
    endpoint = Endpoint(url, "m", attempts=2, prompt_price=1.0, completion_price=10.0, **fields)
    return VlmLabeller(ChatClient(endpoint, cache, sleep=lambda s: None))


def test_a_label_and_what_was_shown(clip):
    with serving(good) as (url, endpoint):
        label = labeller_of(url).label(Moment(clip, 8.0))
    assert isinstance(label, CocLabel) and label.validate() is label
    assert label.longitudinal is Longitudinal.FOLLOW_LEAD and label.author == "vlm:m"
    assert label.components[0].seen_at == 7.5
    first, second = endpoint.bodies
    assert (stage_of(first), stage_of(second)) == ("seen", "decided")
    assert len(images_of(first)) == 5 and len(images_of(second)) == 17
    assert images_of(second)[:5] == images_of(first)
    assert label.provenance["prompt_tokens"] == 200 and len(label.provenance["requests"]) == 2


def test_the_first_question_holds_nothing_of_the_future(clip):
    """Whatever happens after the keyframe, the model is asked the same."""
    late = clip.ego.t > 8.05
    xyz = clip.ego.xyz + 40.0 * late[:, None]
    (camera,) = clip.cameras
    blind = dataclasses.replace(
        camera, read=lambda n: camera.read(n) if n <= 80 else camera.read(0)
    )
    ego = dataclasses.replace(clip.ego, xyz=xyz)
    other = dataclasses.replace(clip, ego=ego, cameras=(blind,))
    with serving(good) as (url, endpoint):
        for one in (clip, other):
            labeller_of(url).label(Moment(one, 8.0))
    first, second, first_other, second_other = endpoint.bodies
    assert first == first_other and second != second_other
    times = [line for line in text_of(first).splitlines() if line.startswith("t = ")]
    assert times == ["t = -2.0 s", "t = -1.5 s", "t = -1.0 s", "t = -0.5 s", "t = +0.0 s"]


def test_the_second_question_lists_what_was_seen_and_every_decision(clip):
    with serving(good) as (url, endpoint):
        labeller_of(url).label(Moment(clip, 8.0, ScenarioClass.CUT_IN))
    text = text_of(endpoint.bodies[1])
    assert "0: critical_object type=vehicle pose=in_path motion=slowing" in text
    assert "1: traffic_light state=green" in text and "chosen as: vehicle_cut_in" in text
    for decision in (*Longitudinal, *Lateral):
        assert f"- {decision.value}: " in text


def test_the_schemas_say_what_is_read():
    def check_strict(schema):
        if schema.get("type") == "object":
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
        for child in (*schema.get("properties", {}).values(), *schema.get("anyOf", ())):
            check_strict(child)
        if "items" in schema:
            check_strict(schema["items"])

    seen, decided = vlm_prompt.seen_schema(), vlm_prompt.decided_schema()
    check_strict(seen)
    check_strict(decided)
    assert set(decided["properties"]) == set(DECIDED)
    kinds = seen["properties"]["components"]["items"]["anyOf"]
    assert len(kinds) == len(ATTRIBUTES)
    assert set(kinds[0]["properties"]["attributes"]["properties"]) == set(
        SEEN["components"][0]["attributes"]
    )


def test_a_malformed_answer_may_be_corrected_once(clip):
    said = []

    def reply(body):
        said.append(body)
        return "A car is slowing." if len(said) == 1 else good(body)

    with serving(reply) as (url, endpoint):
        label = labeller_of(url).label(Moment(clip, 8.0))
    assert isinstance(label, CocLabel) and len(endpoint.bodies) == 3
    again = endpoint.bodies[1]["messages"]
    assert again[2] == {"role": "assistant", "content": "A car is slowing."}
    assert "cannot be used" in again[3]["content"] and "JSON" in again[3]["content"]
    assert label.provenance["prompt_tokens"] == 300


@pytest.mark.parametrize("stage", ["seen", "decided"])
def test_a_malformed_answer_is_quarantined_with_its_words(clip, stage):
    def reply(body):
        return "no JSON today" if stage_of(body) == stage else good(body)

    with serving(reply) as (url, _):
        outcome = labeller_of(url).label(Moment(clip, 8.0))
    assert isinstance(outcome, Quarantined) and outcome.rule == "malformed_answer"
    assert outcome.answer == "no JSON today" and (outcome.clip, outcome.keyframe_s) == (
        clip.clip_id, 8.0,
    )  # fmt: skip
    assert clip.clip_id in outcome.reason
    assert len(outcome.provenance["requests"]) == (2 if stage == "seen" else 3)


def test_an_answer_that_was_cut_off_is_asked_for_shorter(clip):
    with serving(lambda body: completion('{"components": [', "length")) as (url, endpoint):
        outcome = labeller_of(url).label(Moment(clip, 8.0))
    assert outcome.rule == "malformed_answer"
    assert "be shorter" in endpoint.bodies[1]["messages"][3]["content"]


@pytest.mark.parametrize(
    "changes, rule",
    [
        ({"usable": False, "unusable_reason": "runs a red light"}, "excluded"),
        ({"longitudinal": None}, "no_decision"),
    ],
)
def test_nothing_to_label(clip, changes, rule):
    def reply(body):
        return good(body) if stage_of(body) == "seen" else json.dumps(DECIDED | changes)

    with serving(reply) as (url, _):
        assert labeller_of(url).label(Moment(clip, 8.0)).rule == rule


def test_a_refused_request_and_an_unusable_clip_harm_no_other(clip):
    short = dataclasses.replace(clip, clip_id="refused")

    def reply(body):
        return (400, {}, b"too long") if "refused" in str(body["n"]) else good(body)

    moments = [Moment(clip, 8.0), Moment(clip, 99.0), Moment(short, 8.0), Moment(clip, 9.0)]
    with serving(good) as (url, endpoint):
        endpoint.reply = lambda body: (
            (400, {}, b"too long") if len(endpoint.bodies) == 3 else good(body)
        )
        labeller = labeller_of(url, concurrency=1)
        outcomes = list(labeller.label_each(moments))
    assert [type(o).__name__ for o in outcomes] == [
        "CocLabel", "Quarantined", "Quarantined", "CocLabel",
    ]  # fmt: skip
    assert [o.rule for o in outcomes[1:3]] == ["unusable_clip", "refused_request"]


def test_no_camera_shows_the_view_from_above(clip):
    with serving(good) as (url, endpoint):
        label = labeller_of(url).label(Moment(dataclasses.replace(clip, cameras=()), 8.0))
    assert isinstance(label, CocLabel)
    assert "view from above pictures" in text_of(endpoint.bodies[0])
    assert len(images_of(endpoint.bodies[0])) == 5


def test_a_stopped_run_pays_for_nothing_twice_and_ends_the_same(clip, tmp_path):
    moments = [Moment(clip, t) for t in (4.0, 6.0, 8.0, 10.0)]

    def reply(body):
        if "t = +6.0 s" in text_of(body) and "-2.0" not in text_of(body):
            return "malformed"
        return good(body)

    with serving(reply) as (url, endpoint):
        undisturbed = list(labeller_of(url).label_each(moments))
        asked = len(endpoint.bodies)
        count = iter(range(1000))
        endpoint.reply = lambda body: (503, {}, b"") if next(count) >= 3 else reply(body)
        stopped = labeller_of(url, AnswerCache(tmp_path), concurrency=1)
        with pytest.raises(ChatUnavailable):
            list(stopped.label_each(moments))
        endpoint.reply = reply
        again = labeller_of(url, AnswerCache(tmp_path))
        outcomes = list(again.label_each(moments))
    assert outcomes == undisturbed
    counts = spent(again._client, outcomes)
    assert counts["cached_requests"] == 3 and counts["paid_requests"] == asked - 3
    assert counts["prompt_tokens"] == 100 * asked
    assert counts["dollars"] == pytest.approx((100 * asked + 10 * 20 * asked) / 1e6)
    assert counts["paid_prompt_tokens"] == 100 * (asked - 3)


def test_quarantine_file(tmp_path):
    entries = [Quarantined("c\n", 1.0, "malformed_answer", "bad", "\ud800 half"),
               Quarantined("d", 2.0, "excluded", "runs a light")]  # fmt: skip
    path = write_quarantine(tmp_path / "deep" / "quarantine.jsonl", entries)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["clip"] for line in lines] == ["c\n", "d"]
    assert json.loads(lines[0])["answer"] == "\ud800 half"

"""Free-form traces are asked for with the same pictures, and without any form."""

import dataclasses

import pytest
from vlm_answers import images_of, text_of

from alpamayo_jax.coc.chat import ChatClient
from alpamayo_jax.coc.endpoint import Endpoint
from alpamayo_jax.coc.free_form import free_form_traces
from alpamayo_jax.coc.vlm import Moment
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.testing.chat_server import completion, serving


@pytest.fixture(scope="module")
def clip():
    return procedural_clip(5, 0, seconds=20.0, image_size=(64, 48), cache=True)


def ask(url, moments):
    client = ChatClient(Endpoint(url, "m", attempts=1, concurrency=1), sleep=lambda s: None)
    return list(free_form_traces(client, moments))


def test_a_trace(clip):
    with serving(lambda body: " It slows,\n because. ") as (url, endpoint):
        (found,) = ask(url, [Moment(clip, 8.0)])
    assert (found.kind, found.trace) == ("free_form", "It slows, because.")
    assert found.key == ("free_form", clip.clip_id, 8000)
    (body,) = endpoint.bodies
    assert len(images_of(body)) == 17 and "response_format" not in body
    assert "camera pictures" in text_of(body) and "t = +6.0 s" in text_of(body)


def test_moments_without_a_text_are_none(clip):
    blind = dataclasses.replace(clip, clip_id="blind")

    def reply(body):
        return (400, {}, b"no") if len(endpoint.bodies) == 1 else completion(None)

    with serving(reply) as (url, endpoint):
        assert ask(url, [Moment(clip, 8.0), Moment(clip, 9.0), Moment(blind, 99.0)]) == [None] * 3

"""The endpoint that tests and notebooks talk to."""

import json
import urllib.error
import urllib.request

import pytest

from alpamayo_jax.testing.chat_server import completion, in_turn, serving


def post(url, body):
    data = json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=5) as response:
        return response.read()


def test_what_it_hears_and_says():
    with serving(lambda body: body["messages"][0]["content"].upper()) as (url, endpoint):
        said = json.loads(post(f"{url}/chat/completions", {"messages": [{"content": "hi"}]}))
    assert said == completion("HI") and url.startswith("http://127.0.0.1:")
    assert endpoint.bodies[0]["path"] == "/v1/chat/completions" and endpoint.most_at_once == 1
    with pytest.raises(OSError):
        post(url, {})


def test_every_kind_of_reply():
    reply = in_turn({"a": 1}, b"raw", (503, {"Retry-After": 3}, b"busy"), OSError(), 0.01)
    with serving(reply) as (url, endpoint):
        assert json.loads(post(url, {})) == {"a": 1}
        assert post(url, {}) == b"raw"
        with pytest.raises(urllib.error.HTTPError) as error:
            post(url, {})
        assert error.value.code == 503 and error.value.headers["Retry-After"] == "3"
        with pytest.raises(OSError):
            post(url, {})
        assert json.loads(post(url, {})) == completion("late") == json.loads(post(url, {}))
    assert len(endpoint.bodies) == 6

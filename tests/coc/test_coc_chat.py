"""Asking a chat endpoint that is slow, broken, busy or rude."""

import email.utils
import logging
import threading
import time

import pytest

from alpamayo_jax.coc.chat import ChatClient, ChatRefused, ChatUnavailable
from alpamayo_jax.coc.chat_cache import AnswerCache
from alpamayo_jax.coc.endpoint import ChatRequest, Endpoint, image_part, text_part
from alpamayo_jax.testing.chat_server import completion, in_turn, serving


def request(text="hello", **fields):
    return ChatRequest(({"role": "user", "content": text},), **fields)


def make_client(url, cache=None, **fields):
    waits = []
    client = ChatClient(Endpoint(url, "m", **fields), cache, waits.append, jitter=lambda: 1.0)
    client.waits = waits
    return client


def test_an_answer(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    parts = [text_part("what is this?"), image_part(b"abc")]
    with serving(lambda body: "a car") as (url, endpoint):
        client = make_client(url)
        answer = client.ask(ChatRequest(({"role": "user", "content": parts},)))
    assert (answer.text, answer.finish_reason, answer.model) == ("a car", "stop", "fake-1")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cached) == (100, 20, False)
    assert endpoint.bodies[0]["path"] == "/v1/chat/completions"
    assert endpoint.bodies[0]["messages"][0]["content"] == parts
    assert endpoint.headers[0]["Authorization"] == "Bearer sk-1"
    assert (client.usage.requests, client.usage.prompt_tokens) == (1, 100)


def test_without_a_key_none_is_sent(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda body: "x") as (url, endpoint):
        make_client(url).ask(request())
    assert "Authorization" not in endpoint.headers[0]


def test_equal_requests_are_paid_once(tmp_path):
    with serving(lambda body: body["messages"][0]["content"].upper()) as (url, endpoint):
        first = make_client(url, AnswerCache(tmp_path))
        assert first.ask(request("a")).text == "A" and first.ask(request("b")).text == "B"
        again = make_client(url, AnswerCache(tmp_path))
        answer = again.ask(request("a"))
    assert answer.text == "A" and answer.cached and answer.prompt_tokens == 100
    assert len(endpoint.bodies) == 2
    assert (again.usage.requests, again.usage.cached, again.usage.prompt_tokens) == (0, 1, 0)


def test_the_cache_is_of_the_whole_content(tmp_path):
    with serving(lambda body: "x") as (url, endpoint):
        for fields in ({}, {"options": {"seed": 1}}, {"structured": "none"}):
            client = make_client(url, AnswerCache(tmp_path), **fields)
            client.ask(request(schema={"type": "object"}))
    assert len(endpoint.bodies) == 3


def test_equal_requests_in_flight_are_paid_once(tmp_path):
    with serving(in_turn(0.2)) as (url, endpoint):
        client = make_client(url, AnswerCache(tmp_path), concurrency=4)
        answers = list(client.ask_each(client.ask, [request()] * 4))
    assert len(endpoint.bodies) == 1 and [a.cached for a in answers].count(True) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {}, b"slow down"),
        (500, {}, b""),
        (503, {}, b"loading"),
        OSError("closes the connection"),
        b"<html>a proxy</html>",
        b'{"choices": []}',
        {"choices": [{"message": "text"}]},
        b"[" * 100_000,
    ],
)
def test_transient_trouble_is_retried(trouble):
    with serving(in_turn(trouble, trouble, "fine")) as (url, endpoint):
        client = make_client(url)
        assert client.ask(request()).text == "fine"
    assert client.waits == [1.0, 2.0] and client.usage.retries == 2
    assert client.usage.requests == 1


def test_the_wait_is_bounded_and_the_number_of_attempts_too():
    with serving(in_turn((503, {}, b"still loading"))) as (url, endpoint):
        client = make_client(url, attempts=5, longest_wait_s=3.0)
        with pytest.raises(ChatUnavailable, match="5 attempts.*503: still loading"):
            client.ask(request())
    assert client.waits == [1.0, 2.0, 3.0, 3.0] and len(endpoint.bodies) == 5


@pytest.mark.parametrize("value, least, most", [("7", 7, 7), ("1e9", 1, 1), ("soon", 1, 1)])
def test_the_endpoint_says_how_long_to_wait(value, least, most):
    with serving(in_turn((429, {"Retry-After": value}, b""), "fine")) as (url, _):
        client = make_client(url)
        client.ask(request())
    assert least <= client.waits[0] <= most


def test_the_endpoint_says_until_when_to_wait():
    until = email.utils.formatdate(time.time() + 60, usegmt=True)
    with serving(in_turn((429, {"Retry-After": until}, b""), "fine")) as (url, _):
        client = make_client(url)
        client.ask(request())
    assert 50 < client.waits[0] <= 60


def test_a_slow_answer_is_given_up():
    with serving(in_turn(0.6, "fine")) as (url, _):
        client = make_client(url, timeout_s=0.2)
        assert client.ask(request()).text == "fine"
    assert client.usage.retries == 1


def test_nobody_there():
    client = make_client("http://127.0.0.1:9/v1", attempts=2)
    with pytest.raises(ChatUnavailable, match="127.0.0.1:9.*2 attempts"):
        client.ask(request())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_refused_request(status):
    with serving(in_turn((status, {}, b'{"error": "too many images"}'), "fine")) as (url, _):
        client = make_client(url)
        with pytest.raises(ChatRefused, match=f"{status}.*too many images"):
            client.ask(request("a"))
        assert client.ask(request("b")).text == "fine"
    assert client.usage.retries == 0


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_takes_nothing_is_not_asked_again(status):
    with serving(in_turn((status, {}, b"no"))) as (url, endpoint):
        with pytest.raises(ChatUnavailable, match=str(status)):
            make_client(url).ask(request())
    assert len(endpoint.bodies) == 1


def test_the_key_is_in_no_message_no_log_and_no_file(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    rude = b"your key sk-very-secret (Bearer sk-very-secret) is wrong"
    caplog.set_level(logging.DEBUG)
    with serving(in_turn((500, {}, rude), "fine", (401, {}, rude))) as (url, _):
        client = make_client(url, AnswerCache(tmp_path))
        client.ask(request("a"))
        with pytest.raises(ChatUnavailable, match="OPENAI_API_KEY") as error:
            client.ask(request("b"))
    assert "sk-very-secret" not in str(error.value) + caplog.text + repr(client.endpoint)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"sk-very" in path.read_bytes()]


def test_a_redirect_is_not_followed(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    with serving(lambda body: "stolen") as (other, thief):
        with serving(in_turn((307, {"Location": other}, b""))) as (url, _):
            with pytest.raises(ChatUnavailable, match="307"):
                make_client(url).ask(request())
    assert not thief.bodies


def test_an_empty_answer_is_an_answer():
    with serving(lambda body: completion(None, "content_filter")) as (url, _):
        answer = make_client(url).ask(request())
    assert (answer.text, answer.finish_reason) == ("", "content_filter")


def test_each_in_order_and_no_more_at_once_than_allowed():
    def reply(body):
        number = int(body["messages"][0]["content"])
        time.sleep(0.02 * (3 - number % 3))
        return str(number)

    with serving(reply) as (url, endpoint):
        client = make_client(url, concurrency=3)
        texts = [a.text for a in client.ask_each(client.ask, (request(str(i)) for i in range(12)))]
    assert texts == [str(i) for i in range(12)]
    assert endpoint.most_at_once == 3


def test_items_are_drawn_as_they_are_needed():
    drawn, gate = [], threading.Event()

    def items():
        for i in range(100):
            drawn.append(i)
            yield i

    client = make_client("http://127.0.0.1:9/v1", concurrency=2)
    results = client.ask_each(lambda i: gate.wait(5) and i, items())
    gate.set()
    assert next(results) == 0 and len(drawn) <= 4
    results.close()


def test_an_error_ends_the_rest():
    done = []

    def work(i):
        if i == 2:
            raise ChatUnavailable("gone")
        done.append(i)
        return i

    client = make_client("http://127.0.0.1:9/v1", concurrency=1)
    results = client.ask_each(work, range(50))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ChatUnavailable):
        next(results)
    assert len(done) < 10

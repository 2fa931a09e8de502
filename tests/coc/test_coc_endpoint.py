"""Addresses, keys and bodies of chat endpoints."""

import pytest

from alpamayo_jax.coc.endpoint import ChatRequest, Endpoint, cost, image_part, text_part
from alpamayo_jax.config import ConfigError

SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://host/v1", "https://", "https://h/v1?x=1", "http://[bad/v1"],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="is not an address"):
        Endpoint(url, "m")


def test_a_key_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as error:
        Endpoint("https://me:sk-secret@host/v1", "m")
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(
    "name, value",
    [("model", ""), ("structured", "yaml"), ("attempts", 0), ("concurrency", 0), ("timeout_s", 0)],
)
def test_a_bad_setting_is_named(name, value):
    with pytest.raises(ConfigError, match=name):
        Endpoint(**{"url": "https://h/v1", "model": "m", name: value})


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", " sk-1 \n")
    assert Endpoint("https://h/v1", "m", key_env="MY_KEY").key() == "sk-1"
    assert Endpoint("http://127.0.0.1:1/v1", "m", key_env="MY_KEY").key() == "sk-1"
    assert Endpoint("http://host/v1", "m", key_env="").key() == ""
    monkeypatch.delenv("MY_KEY")
    assert Endpoint("http://host/v1", "m", key_env="MY_KEY").key() == ""


def test_a_key_is_not_sent_in_clear_text(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-1")
    with pytest.raises(ConfigError, match="plain http") as error:
        Endpoint("http://host/v1", "m", key_env="MY_KEY").key()
    assert "sk-1" not in str(error.value)


def test_an_odd_key_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-1\r\nX-Evil: 1")
    with pytest.raises(ConfigError, match="MY_KEY") as error:
        Endpoint("https://h/v1", "m", key_env="MY_KEY").key()
    assert "sk-1" not in str(error.value)


@pytest.mark.parametrize(
    "structured, want",
    [("json_schema", "json_schema"), ("json_object", "json_object"), ("none", None)],
)
def test_how_structure_is_asked_for(structured, want):
    endpoint = Endpoint("https://h/v1", "m", structured=structured, options={"seed": 3})
    request = ChatRequest(({"role": "user", "content": "hello"},), SCHEMA, "thing")
    body = request.body(endpoint)
    assert body["model"] == "m" and body["seed"] == 3
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert body.get("response_format", {}).get("type") == want
    if want == "json_schema":
        given = body["response_format"]["json_schema"]
        assert given == {"name": "thing", "strict": True, "schema": SCHEMA}


def test_free_text_asks_for_no_structure():
    body = ChatRequest(()).body(Endpoint("https://h/v1", "m"))
    assert "response_format" not in body and body["temperature"] == 0.0


def test_parts():
    assert text_part("a") == {"type": "text", "text": "a"}
    assert image_part(b"\x00\x01", "image/png")["image_url"]["url"] == "data:image/png;base64,AAE="


def test_cost_needs_both_prices():
    priced = Endpoint("https://h/v1", "m", prompt_price=2.0, completion_price=10.0)
    assert cost(priced, 500_000, 100_000) == pytest.approx(2.0)
    assert cost(Endpoint("https://h/v1", "m", prompt_price=2.0), 1, 1) is None

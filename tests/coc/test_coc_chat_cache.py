"""Kept answers are found by content, and damage is no answer."""

import os

import pytest

from alpamayo_jax.coc.chat_cache import AnswerCache, content_key

ANSWER = {"text": "yes", "prompt_tokens": 3}


def test_equal_content_has_one_key():
    a = {"model": "m", "messages": [{"role": "user", "content": "x"}], "seed": 1}
    b = dict(reversed(a.items()))
    assert content_key(a) == content_key(b) and len(content_key(a)) == 64
    assert content_key(a) != content_key(a | {"seed": 2})
    assert content_key({"a": ["x", "y"]}) != content_key({"a": ["y", "x"]})


def test_kept_and_found(tmp_path):
    cache, key = AnswerCache(tmp_path / "deep" / "cache"), content_key({"a": 1})
    assert cache.get(key) is None
    cache.put(key, ANSWER)
    assert cache.get(key) == ANSWER
    assert AnswerCache(tmp_path / "deep" / "cache").get(key) == ANSWER
    cache.put(key, ANSWER | {"text": "no"})
    assert cache.get(key)["text"] == "no"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"key": "other", "answer": {}}', b"[" * 100_000]
)
def test_a_damaged_file_is_no_answer(tmp_path, damage):
    cache, key = AnswerCache(tmp_path), content_key({"a": 1})
    cache.put(key, ANSWER)
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(damage)
    assert cache.get(key) is None
    cache.put(key, ANSWER)
    assert cache.get(key) == ANSWER


def test_an_answer_cut_anywhere_is_no_answer(tmp_path):
    cache, key = AnswerCache(tmp_path), content_key({"a": 1})
    cache.put(key, ANSWER)
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert cache.get(key) is None


def test_a_huge_file_is_not_read(tmp_path):
    cache, key = AnswerCache(tmp_path), content_key({"a": 1})
    cache.put(key, ANSWER)
    (path,) = tmp_path.rglob("*.json")
    os.truncate(path, 2**34)
    assert cache.get(key) is None

"""Answers of a paid endpoint on disk, found again by the content of the request.

One file per answer, written whole, named by the SHA-256 of the request's canonical JSON, so that a
run that was stopped pays for no answer twice. The request itself is not kept (it holds images), and
neither is the endpoint's address or key.
"""

import hashlib
import json
import os
import pathlib
from typing import Any, Mapping

from absl import logging

from alpamayo_jax.files import write_bytes

_LARGEST = 16 * 2**20  # bytes; a larger file is not one of ours


def content_key(body: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of a request body; equal for equal content in any key order."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """A folder of answers."""

    def __init__(self, folder: str | os.PathLike):
        """Uses `folder`, which is made with the first answer."""
        self._folder = pathlib.Path(folder)

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer kept under `key`, or None; a damaged file counts as absent."""
        path = self._path(key)
        try:
            if path.stat().st_size > _LARGEST:
                raise ValueError(f"more than {_LARGEST} bytes")
            kept = json.loads(path.read_bytes())
            if not isinstance(kept, dict) or kept.get("key") != key:
                raise ValueError("not an answer to this request")
            answer = kept.get("answer")
            if not isinstance(answer, dict):
                raise ValueError("no answer in it")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            logging.warning("cache file %s is not usable and is asked for again: %s", path, error)
            return None
        return answer

    def put(self, key: str, answer: Mapping[str, Any]) -> None:
        """Keeps `answer` (JSON values only) under `key`."""
        text = json.dumps({"key": key, "answer": answer}, sort_keys=True)
        write_bytes(self._path(key), text.encode())

"""A client for OpenAI-compatible chat endpoints: a hosted model, or a vLLM or SGLang server.

`POST {url}/chat/completions` with messages that may hold images, and optionally a JSON schema that
the answer has to follow. Answers are cached by content, transient failures are retried with
backoff, and tokens are counted. The API key is read from an environment variable when a request is
sent; it is never logged, cached or shown.
"""

import collections
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import email.utils
import http.client
import json
import random
import re
import threading
import time
from typing import Any, Callable, Iterable, Iterator, Mapping, TypeVar
import urllib.error
import urllib.request

from absl import logging

from alpamayo_jax.coc.chat_cache import AnswerCache, content_key
from alpamayo_jax.coc.endpoint import ChatAnswer, ChatRequest, Endpoint

_LARGEST_ANSWER = 8 * 2**20  # bytes
_TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_THIS_REQUEST = {400, 413, 415, 422}  # the next request may still be answered
_LONGEST_ADVISED_S = 300.0

Item, Result = TypeVar("Item"), TypeVar("Result")


class ChatUnavailable(RuntimeError):
    """The endpoint cannot be used now; nothing is lost, the same run later goes on from here."""


class ChatRefused(RuntimeError):
    """The endpoint does not take this one request."""


@dataclasses.dataclass
class Usage:
    """What a client has done so far; tokens are those paid for, without the cache's."""

    requests: int = 0
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatClient:
    """Asks one endpoint; may be used from many threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        cache: AnswerCache | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ):
        """Sends nothing yet.

        Args:
          endpoint: where.
          cache: where answers are kept, or None.
          sleep, jitter: how backoff waits, and draws from [0, 1).
        """
        self.endpoint, self.usage = endpoint, Usage()
        self._cache, self._sleep, self._jitter = cache, sleep, jitter
        self._guard, self._in_flight = threading.Lock(), {}
        handlers = [_NoRedirect()]
        if endpoint.is_loopback:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, request: ChatRequest) -> ChatAnswer:
        """The answer to `request`, from the cache where it is there.

        Raises:
          ChatRefused: the endpoint does not take this request.
          ChatUnavailable: it cannot be reached, or takes no request, after all attempts.
          ConfigError: the key is not usable.
        """
        body = request.body(self.endpoint)
        key = content_key(body)
        if self._cache is None:
            return self._send(body, key)
        with self._guard:
            lock = self._in_flight.setdefault(key, threading.Lock())
        try:
            with lock:  # an equal request in flight is paid for once
                return self._from_cache(key) or self._send(body, key)
        finally:
            with self._guard:
                self._in_flight.pop(key, None)

    def ask_each(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """`function` of each item, as many at a time as the endpoint takes, in the items' order.

        Items are drawn no further ahead than needed to keep the endpoint busy. The first error is
        raised where its result would be, and what has not begun is left.
        """
        ahead = 2 * self.endpoint.concurrency
        pool, pending = ThreadPoolExecutor(self.endpoint.concurrency), collections.deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _from_cache(self, key: str) -> ChatAnswer | None:
        kept = self._cache.get(key)
        if kept is None:
            return None
        try:
            answer = ChatAnswer(**kept, key=key, cached=True)
        except TypeError:
            return None
        with self._guard:
            self.usage.cached += 1
        return answer

    def _send(self, body: Mapping[str, Any], key: str) -> ChatAnswer:
        data = json.dumps(body, allow_nan=False).encode()
        for attempt in range(self.endpoint.attempts):
            try:
                answer = _read_answer(self._post(data), key)
                break
            except _Transient as error:
                reason, advised = str(error), error.wait_s
            if attempt + 1 == self.endpoint.attempts:
                raise ChatUnavailable(
                    f"endpoint {self.endpoint.url}: {self.endpoint.attempts} attempts failed, the "
                    f"last with: {reason}"
                )
            wait = min(self.endpoint.longest_wait_s, self.endpoint.first_wait_s * 2**attempt)
            wait = max(wait * (0.5 + 0.5 * self._jitter()), min(advised, _LONGEST_ADVISED_S))
            logging.warning("endpoint: %s; next attempt in %.1f s", reason, wait)
            with self._guard:
                self.usage.retries += 1
            self._sleep(wait)
        with self._guard:
            self.usage.requests += 1
            self.usage.prompt_tokens += answer.prompt_tokens
            self.usage.completion_tokens += answer.completion_tokens
        if self._cache is not None:
            kept = dataclasses.asdict(answer)
            self._cache.put(key, {k: v for k, v in kept.items() if k not in ("key", "cached")})
        return answer

    def _post(self, data: bytes) -> bytes:
        """The body of a successful response."""
        key = self.endpoint.key()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        url = self.endpoint.url.rstrip("/") + "/chat/completions"
        deadline = time.monotonic() + self.endpoint.timeout_s
        try:
            request = urllib.request.Request(url, data, headers, method="POST")
            with self._opener.open(request, timeout=self.endpoint.timeout_s) as response:
                return _read_all(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._status_error(error, key) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _Transient(f"{type(error).__name__}: {reason}") from None

    def _status_error(self, error: urllib.error.HTTPError, key: str) -> Exception:
        try:
            said = error.read(4096).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            said = ""
        said = re.sub(r"(?i)bearer\s+\S+", "***", said.replace(key, "***") if key else said)
        message = f"HTTP {error.code}: {' '.join(said.split())[:300]}"
        if error.code in _TRANSIENT:
            return _Transient(message, _retry_after(error.headers.get("Retry-After")))
        if error.code in _THIS_REQUEST:
            return ChatRefused(message)
        hint = f"; is the key in {self.endpoint.key_env} right?" if error.code in (401, 403) else ""
        return ChatUnavailable(f"endpoint {self.endpoint.url}: {message}{hint}")


class _Transient(Exception):
    """Worth another attempt, at the earliest `wait_s` from now."""

    def __init__(self, message: str, wait_s: float = 0.0):
        super().__init__(message)
        self.wait_s = wait_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        return None


def _read_all(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The whole body; the socket's own timeout is per read, so a trickle needs a deadline."""
    data = bytearray()
    while chunk := response.read1(65536):
        data += chunk
        if len(data) > _LARGEST_ANSWER:
            raise _Transient(f"an answer of more than {_LARGEST_ANSWER} bytes")
        if time.monotonic() > deadline:
            raise _Transient("the answer took too long")
    return bytes(data)


def _read_answer(data: bytes, key: str) -> ChatAnswer:
    try:
        response = json.loads(data)
        choice = response["choices"][0]
        message, usage = choice["message"], response.get("usage") or {}
        return ChatAnswer(
            text=str(message.get("content") or ""),
            finish_reason=str(choice.get("finish_reason") or ""),
            model=str(response.get("model") or ""),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            key=key,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _Transient(
            f"the response is no chat completion ({type(error).__name__}: {error})"
        ) from None


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if not value:
        return 0.0
    try:
        return max(float(value), 0.0) if float(value) < 1e6 else 0.0
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0

"""OpenAI-compatible chat endpoints: where they are, and what a request to one looks like."""

import base64
import dataclasses
import os
from typing import Any, Mapping
import urllib.parse

from alpamayo_jax.config import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
STRUCTURED = ("json_schema", "json_object", "none")


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where and how to ask.

    Attributes:
      url: base address, such as "https://api.openai.com/v1" or "http://127.0.0.1:8000/v1".
      model: name that the endpoint knows.
      key_env: environment variable that holds the API key; "" sends none.
      structured: how a JSON schema is asked for: "json_schema", "json_object" (the schema is only
        in the prompt) or "none".
      options: further fields of the request body, such as temperature and max_tokens.
      timeout_s: for one attempt, from the first byte sent to the last received.
      attempts: for one request, the first included.
      first_wait_s, longest_wait_s: backoff between attempts, doubling from first to longest.
      concurrency: requests in flight.
      prompt_price, completion_price: dollars per million tokens; None where unknown.
    """

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    structured: str = "json_schema"
    options: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"temperature": 0.0, "max_tokens": 2048}
    )
    timeout_s: float = 180.0
    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    concurrency: int = 4
    prompt_price: float | None = None
    completion_price: float | None = None

    def __post_init__(self):
        try:
            parts = urllib.parse.urlsplit(self.url)
            host = parts.hostname
        except ValueError:
            parts, host = urllib.parse.urlsplit(""), None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise ConfigError(
                f"endpoint url {self.url!r} is not an address such as http://127.0.0.1:8000/v1"
            )
        if parts.username or parts.password:
            raise ConfigError("endpoint url holds a user name or password; give the key by key_env")
        if not self.model:
            raise ConfigError("endpoint: a model name is needed")
        if self.structured not in STRUCTURED:
            raise ConfigError(
                f"endpoint: structured is {self.structured!r}; known: {', '.join(STRUCTURED)}"
            )
        for name in ("timeout_s", "attempts", "concurrency"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"endpoint: {name} must be above 0, got {getattr(self, name)}")

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        return urllib.parse.urlsplit(self.url).hostname in LOOPBACK

    def key(self) -> str:
        """The API key, "" where the variable is not set.

        Raises:
          ConfigError: a key would go over the network in clear text, or is not a key.
        """
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(f"the value of {self.key_env} is no API key: it has odd characters")
        if key and self.url.startswith("http:") and not self.is_loopback:
            raise ConfigError(
                f"the key in {self.key_env} would be sent over plain http to {self.url}; use "
                f"https, or an empty key_env for an endpoint that needs no key"
            )
        return key


@dataclasses.dataclass(frozen=True)
class ChatRequest:
    """What to ask.

    Attributes:
      messages: in the endpoint's form: {"role", "content"}, content a text or a list of parts.
      schema: JSON schema of the answer, or None for free text.
      schema_name: its name, letters, digits, _ and -.
    """

    messages: tuple[Mapping[str, Any], ...]
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"

    def body(self, endpoint: Endpoint) -> dict[str, Any]:
        """The request body, which is also what the cache is keyed by."""
        body = {**endpoint.options, "model": endpoint.model, "messages": list(self.messages)}
        if self.schema is not None and endpoint.structured == "json_schema":
            schema = {"name": self.schema_name, "strict": True, "schema": self.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.schema is not None and endpoint.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body


@dataclasses.dataclass(frozen=True)
class ChatAnswer:
    """What came back.

    Attributes:
      text: the answer, "" where the model refused.
      finish_reason: "stop", "length", ... as the endpoint says.
      model: as the endpoint says, which may be more exact than asked.
      prompt_tokens, completion_tokens: as the endpoint counts.
      key: content key of the request.
      cached: whether nothing was paid for it now.
    """

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    key: str
    cached: bool = False


def cost(endpoint: Endpoint, prompt_tokens: int, completion_tokens: int) -> float | None:
    """Dollars for that many tokens, or None where the endpoint has no price."""
    if endpoint.prompt_price is None or endpoint.completion_price is None:
        return None
    return (
        endpoint.prompt_price * prompt_tokens + endpoint.completion_price * completion_tokens
    ) / 1e6


def text_part(text: str) -> dict[str, Any]:
    """A text within a message."""
    return {"type": "text", "text": text}


def image_part(data: bytes, mime: str = "image/jpeg") -> dict[str, Any]:
    """An encoded image within a message."""
    url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}

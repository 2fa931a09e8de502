"""A chat endpoint on this machine that says what it is told to, for tests and notebooks."""

import contextlib
import http.server
import json
import threading
import time
from typing import Any, Callable, Iterator, Mapping


class FakeEndpoint:
    """Requests that came in, and what is said to each.

    `reply` is called with the parsed body of each request (and its path) and returns a text (a
    completion), a dict (the whole response), bytes (sent as they are), or (status, headers, bytes).
    An exception that it raises closes the connection without an answer.
    """

    def __init__(self, reply: Callable[[dict[str, Any]], Any]):
        """Has heard nothing yet."""
        self.reply = reply
        self.bodies, self.headers, self.most_at_once = [], [], 0
        self._now, self._guard = 0, threading.Lock()

    def answer(
        self, body: dict[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any], bytes]:
        """(status, headers, body) of the response to one request."""
        with self._guard:
            self.bodies.append(body)
            self.headers.append(headers)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            said = self.reply(body)
        finally:
            with self._guard:
                self._now -= 1
        if isinstance(said, tuple):
            return said
        if isinstance(said, str):
            said = completion(said)
        if isinstance(said, dict):
            said = json.dumps(said).encode()
        return 200, {}, said


def completion(
    text: str | None,
    finish_reason: str = "stop",
    prompt_tokens: int = 100,
    completion_tokens: int = 20,
) -> dict[str, Any]:
    """A response with one answer."""
    message = {"role": "assistant", "content": text}
    return {
        "model": "fake-1",
        "choices": [{"message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
    }


@contextlib.contextmanager
def serving(reply: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[str, FakeEndpoint]]:
    """Yields (base url, FakeEndpoint); the endpoint listens on loopback until the block ends."""
    endpoint = FakeEndpoint(reply)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            data = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(data) | {"path": self.path}
            try:
                status, headers, said = endpoint.answer(body, dict(self.headers))
            except Exception:
                self.close_connection = True
                return
            with contextlib.suppress(OSError):  # the client may have given up
                self.send_response(status)
                for name, value in ({"Content-Length": len(said)} | headers).items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(said)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def in_turn(*replies: Any) -> Callable[[dict[str, Any]], Any]:
    """A reply that says each of `replies` once, the last one ever after.

    An exception is raised; a number of seconds is waited for before an answer.
    """
    left = list(replies)

    def reply(body):
        said = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, float):
            time.sleep(said)
            return "late"
        return said

    return reply

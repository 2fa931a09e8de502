"""The driver behind a gRPC port: every message is answered, none ends the server."""

import collections
from concurrent.futures import Future, ThreadPoolExecutor
import threading
from typing import Any, Callable

from absl import logging
from google.protobuf.message import DecodeError
import grpc

from alpamayo_jax.serve import wire
from alpamayo_jax.serve.driver import Driver
from alpamayo_jax.serve.errors import Refused
from alpamayo_jax.types import InputError

MAX_MESSAGE = 64 << 20  # bytes; an uncompressed picture of a large camera fits
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_GRACE_S = 5.0
_MAX_PENDING = 100_000


class Server:
    """A port on which a driver answers. `with Server(driver) as server: ...`

    Args:
      driver: to answer with.
      host: address to listen on; the loopback one is seen by this machine alone.
      port: 0 takes a free one.
      max_message: bytes of a message that are read.
      threads: calls answered at once; a plan that waits for its batch takes one.
      may_shut_down: whether the `shut_down` call of a client ends the server.

    Raises:
      InputError: the port cannot be opened.
    """

    def __init__(
        self,
        driver: Driver,
        host: str = "127.0.0.1",
        port: int = 0,
        max_message: int = MAX_MESSAGE,
        threads: int = 128,
        may_shut_down: bool = False,
    ):
        self._driver, self._may_shut_down = driver, may_shut_down
        self._asked_to_stop = threading.Event()
        self._counts: collections.Counter[str] = collections.Counter()
        self._counting = threading.Lock()
        self._grpc = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="call"),
            options=[
                ("grpc.max_receive_message_length", max_message),
                ("grpc.max_send_message_length", max_message),
                ("grpc.so_reuseport", 0),  # a second server on the port is an error
                # Calls beyond 1000 that wait for a thread would be cancelled without a word.
                ("grpc.server.max_pending_requests", _MAX_PENDING),
                ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
            ],
        )
        calls = {name: self._handler(name, types[0]) for name, types in wire.CALLS.items()}
        health = {"Check": self._handler("Check", wire.HealthCheckRequest, self._check)}
        self._grpc.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler(wire.SERVICE, calls),
            grpc.method_handlers_generic_handler(wire.HEALTH_SERVICE, health),
        ))
        address = f"[{host}]" if ":" in host else host
        try:
            self.port = self._grpc.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            raise InputError(
                f"port {port} of {host} cannot be opened ({error}); is another server running?"
            ) from error
        self.address = f"{address}:{self.port}"
        self._grpc.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Blocks until `ask_to_stop`."""
        self._asked_to_stop.wait()

    def ask_to_stop(self) -> None:
        """Ends `wait`; may be called from a signal handler."""
        self._asked_to_stop.set()

    def stop(self) -> None:
        """Refuses new calls, gives running ones a few seconds, and closes the driver."""
        self._grpc.stop(_GRACE_S).wait()
        self._driver.close()

    def counts(self) -> dict[str, int]:
        """How many calls were answered so far: by name, and of all how many were `refused`."""
        with self._counting:
            return {**dict.fromkeys((*wire.CALLS, "refused"), 0), **self._counts}

    def _count(self, name: str) -> None:
        with self._counting:
            self._counts[name] += 1

    def _handler(
        self, name: str, request_type: Any, answer: Callable[[Any], Any] | None = None
    ) -> grpc.RpcMethodHandler:
        """Reads, answers and refuses; the bytes are parsed here so that garbage gets a sentence."""

        def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                request = request_type.FromString(data)
            except DecodeError:
                self._count("refused")
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"{name}: {len(data)} bytes are not a {request_type.DESCRIPTOR.full_name}",
                )
            try:
                reply = self._answer(name, answer, request, context).SerializeToString()
                self._count(name)
                return reply
            except Refused as refusal:
                code, sentence = refusal.code, refusal.sentence
            except Exception as error:  # one call's failure must not reach another
                logging.exception("%s failed", name)
                code = grpc.StatusCode.INTERNAL
                sentence = f"failed with {type(error).__name__}: {error}; the log has more"
            self._count("refused")
            context.abort(code, f"{name}: {sentence}")

        return grpc.unary_unary_rpc_method_handler(handle)

    def _answer(
        self, name: str, answer: Callable | None, request: Any, context: grpc.ServicerContext
    ) -> Any:
        if answer is not None:
            return answer(request)
        if name == "drive":
            return self._driver.drive(request, on_future=lambda f: _cancel_with(context, f))
        if name == "shut_down":
            return self._shut_down()
        return getattr(self._driver, name)(request)

    def _shut_down(self) -> Any:
        if not self._may_shut_down:
            raise Refused(
                grpc.StatusCode.PERMISSION_DENIED, "this driver is not ended by its clients"
            )
        self.ask_to_stop()
        return wire.Empty()

    def _check(self, request: Any) -> Any:
        if request.service not in ("", wire.SERVICE):
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}")
        return wire.HealthCheckResponse(status=wire.SERVING)


def _cancel_with(context: grpc.ServicerContext, future: Future) -> None:
    """Gives the plan up when the client goes away before its batch runs."""
    if not context.add_callback(future.cancel):
        future.cancel()

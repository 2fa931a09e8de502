"""A client of any AlpaSim driver: one method per call of the interface."""

from typing import Any

import grpc

from alpamayo_jax.serve import wire

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Client:
    """A connection to a driver. `with Client("127.0.0.1:6789") as client: ...`

    Calls take a message, or bytes as they are, and a time limit in seconds; they raise
    `grpc.RpcError`.
    """

    def __init__(self, address: str, timeout_s: float = 60.0):
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *args: object) -> None:
        self._channel.close()

    def ready(self, timeout_s: float) -> bool:
        """Whether the driver answers the door within that time."""
        try:
            grpc.channel_ready_future(self._channel).result(timeout_s)
        except grpc.FutureTimeoutError:
            return False
        return True

    def start(self, name: str, message: Any, service: str = wire.SERVICE) -> grpc.Future:
        """Begins a call; the future's result is the reply."""
        calls = wire.HEALTH_CALLS if service == wire.HEALTH_SERVICE else wire.CALLS
        method = self._channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=calls[name][1].FromString,
        )
        return method.future(message, timeout=self._timeout_s)

    def call(self, name: str, message: Any, service: str = wire.SERVICE) -> Any:
        """The reply of a call."""
        return self.start(name, message, service).result()

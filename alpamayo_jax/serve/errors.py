"""How a call is refused: a gRPC status code and a sentence."""

import grpc


class Refused(Exception):
    """A call that cannot be answered.

    Attributes:
      code: gRPC status code.
      sentence: what was found, what was expected, what to do.
    """

    def __init__(self, code: grpc.StatusCode, sentence: str):
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


def bad_message(sentence: str) -> Refused:
    """The message itself is wrong, whatever the state of the session."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, sentence)


def not_yet(sentence: str) -> Refused:
    """The session cannot answer this now: observations are missing."""
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, sentence)

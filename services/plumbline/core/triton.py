"""What clients of Triton Inference Server share: how they connect, and what its errors mean.

The package tritonclient brings the `inference` protos of the protocol that KServe shares; a
process must not import both.
"""

from __future__ import annotations

import importlib
from typing import Any

import grpc

from plumbline.core.errors import FailedPreconditionError

MAX_MESSAGE_BYTES = 64 * 2**20
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A Triton that restarts is found again within a second; the default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
)
_PASSING = ("Stub process", "Stream removed", "Socket closed", "find shared memory region")
"""Parts of messages of other codes that say no more than that Triton or its model went away."""
_NOT_SERVED = ("unknown model", "has no available versions")
"""Parts of messages, under several codes, about models that Triton does not serve."""


class TritonError(Exception):
    """A call that Triton did not answer, or refused.

    Args:
        code: canonical, such as UNAVAILABLE; UNKNOWN where Triton told none.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_about_no_model(self) -> bool:
        """Whether Triton does not serve the model, or that version of it; it may be loading."""
        return self.code == "NOT_FOUND" or any(part in str(self) for part in _NOT_SERVED)

    @property
    def is_passing(self) -> bool:
        """Whether the same call may succeed later: Triton restarts, or its queue is full."""
        return self.code == "UNAVAILABLE" or any(part in str(self) for part in _PASSING)


def triton_error(error: Exception) -> TritonError:
    """From what tritonclient raises: an error of its own, or from streams one of gRPC."""
    if isinstance(error, grpc.RpcError):
        return TritonError(error.code().name, error.details() or error.code().name)
    told: Any = error  # tritonclient's InferenceServerException
    code = str(told.status() or "UNKNOWN").removeprefix("StatusCode.")
    return TritonError(code, str(told.message() or code))


def import_tritonclient(name: str, *, purpose: str, instead: str) -> Any:
    """A module of tritonclient.

    Args:
        purpose: what needs it, for the message; for example "scores from Triton".
        instead: a setting that does without it.
    Raises:
        FailedPreconditionError: the package is not installed.
    """
    try:
        return importlib.import_module(f"tritonclient.{name}")
    except ImportError as error:
        raise FailedPreconditionError(
            f"{purpose} need {error.name}, which is not installed; install plumbline[triton] or "
            f"set {instead}",
            reason="NO_TRITONCLIENT",
        ) from error

"""The one error tree.

    PlumblineError
    ├── InvalidInputError            INVALID_ARGUMENT
    │   └── ConfigError
    ├── NotFoundError                NOT_FOUND
    ├── AlreadyExistsError           ALREADY_EXISTS
    ├── ConflictError                ABORTED
    ├── FailedPreconditionError      FAILED_PRECONDITION
    ├── CheckpointError              FAILED_PRECONDITION
    ├── UnauthenticatedError         UNAUTHENTICATED
    ├── PermissionDeniedError        PERMISSION_DENIED
    ├── ResourceExhaustedError       RESOURCE_EXHAUSTED
    │   └── StorageFullError
    ├── DeadlineExceededError        DEADLINE_EXCEEDED
    ├── CancelledError               CANCELLED
    ├── DataLossError                DATA_LOSS
    │   └── CorruptArtifactError
    └── UnavailableError             UNAVAILABLE
        ├── StorageUnavailableError
        ├── BrokerUnavailableError
        └── ServiceUnavailableError

Each class names its canonical code and a default reason (UPPER_SNAKE_CASE, at most 63
characters); `core.rpc` maps both onto google.rpc.Status. Errors survive pickling, because
process pools copy them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class PlumblineError(Exception):
    """Base of every error that a user may see.

    Args:
        message: what is wrong, the value, and what is accepted.
        reason: machine-readable cause, when the class's default is too broad.
        field: path of the offending field, for INVALID_ARGUMENT.
        metadata: further facts for programs; never secrets.
    """

    code: ClassVar[str] = "INTERNAL"
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            _rebuild,
            (type(self), self.message, self.reason, self.field, self.metadata),
        )


def _rebuild(
    cls: type[PlumblineError],
    message: str,
    reason: str,
    field: str | None,
    metadata: Mapping[str, str],
) -> PlumblineError:
    return cls(message, reason=reason, field=field, metadata=metadata)


class InvalidInputError(PlumblineError, ValueError):
    """The caller's input is wrong whatever the state of the system."""

    code = "INVALID_ARGUMENT"
    default_reason = "INVALID_INPUT"


class ConfigError(InvalidInputError):
    """A pipeline, stage or service configuration is wrong."""

    default_reason = "INVALID_CONFIG"


class NotFoundError(PlumblineError, LookupError):
    """What the caller names does not exist."""

    code = "NOT_FOUND"
    default_reason = "NOT_FOUND"


class AlreadyExistsError(PlumblineError):
    """What the caller would create exists with other content."""

    code = "ALREADY_EXISTS"
    default_reason = "ALREADY_EXISTS"


class ConflictError(PlumblineError):
    """A compare-and-set or a lease was lost to another writer."""

    code = "ABORTED"
    default_reason = "CONFLICT"


class FailedPreconditionError(PlumblineError):
    """The system is not in the state that the call needs."""

    code = "FAILED_PRECONDITION"
    default_reason = "FAILED_PRECONDITION"


class CheckpointError(FailedPreconditionError):
    """A model directory is incomplete, unsafe or inconsistent."""

    default_reason = "BAD_CHECKPOINT"


class UnauthenticatedError(PlumblineError):
    """No valid credential came with the call."""

    code = "UNAUTHENTICATED"
    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(PlumblineError):
    """The credential lacks the scope that the call needs."""

    code = "PERMISSION_DENIED"
    default_reason = "PERMISSION_DENIED"


class ResourceExhaustedError(PlumblineError):
    """A bound was reached: concurrency, queue, size or quota."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = "RESOURCE_EXHAUSTED"


class StorageFullError(ResourceExhaustedError, OSError):
    """The disk or bucket has no room; nothing was published."""

    default_reason = "STORAGE_FULL"


class DeadlineExceededError(PlumblineError, TimeoutError):
    """The caller's deadline passed before the answer was ready."""

    code = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class CancelledError(PlumblineError):
    """The work was cancelled on request."""

    code = "CANCELLED"
    default_reason = "CANCELLED"


class DataLossError(PlumblineError):
    """Stored bytes are not what was stored."""

    code = "DATA_LOSS"
    default_reason = "DATA_LOSS"


class CorruptArtifactError(DataLossError):
    """An artifact's bytes do not match its manifest."""

    default_reason = "CORRUPT_ARTIFACT"


class UnavailableError(PlumblineError, ConnectionError):
    """A part that the call needs does not answer; trying again may help."""

    code = "UNAVAILABLE"
    default_reason = "UNAVAILABLE"


class StorageUnavailableError(UnavailableError):
    """The object store does not answer."""

    default_reason = "STORAGE_UNAVAILABLE"


class BrokerUnavailableError(UnavailableError):
    """The Redis broker does not answer."""

    default_reason = "BROKER_UNAVAILABLE"


class ServiceUnavailableError(UnavailableError):
    """Another of the platform's services does not answer."""

    default_reason = "SERVICE_UNAVAILABLE"

"""The error tree as google.rpc.Status, and back.

On the wire every error carries exactly one ErrorInfo (AIP-193), a BadRequest field violation when
the error names a field, a RetryInfo when trying again may help, and a RequestInfo. A client raises
the class that the server raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from plumbline.core.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidInputError,
    PlumblineError,
    ServiceUnavailableError,
)

DOMAIN = "plumbline"
STATUS_DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"

CLASS_KEY = "errorClass"
"""ErrorInfo metadata key: tells classes of one code apart when the reason is not a default."""

RETRY_DELAY_S = 1
_RETRYABLE = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE"})

# Trailers travel in HTTP/2 headers, which peers bound at 8 KiB in all. The message is sent twice,
# once percent-encoded (up to 9 bytes for a Chinese character), so each part has its own budget.
_MESSAGE_HEADER_BYTES = 3000
_DESCRIPTION_CHARS = 200
_METADATA_VALUE_CHARS = 200
_METADATA_ENTRIES = 8

# Codes that grpc itself produces and that no class of the tree owns under the same name.
_TRANSPORT_CLASSES: dict[str, type[PlumblineError]] = {
    "UNAVAILABLE": ServiceUnavailableError,
    # A server of the platform says CANCELLED with an ErrorInfo. Without one, grpc reset a call that
    # reached a server in the moment when it stopped.
    "CANCELLED": ServiceUnavailableError,
    "OUT_OF_RANGE": InvalidInputError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
}


_CANCELLED_HERE = "Locally cancelled"


def to_status(error: PlumblineError, *, request_id: str = "") -> status_pb2.Status:
    """The error as google.rpc.Status, within what fits in HTTP/2 trailers.

    Args:
        error: any error of the tree; its class, reason, field and metadata are kept.
        request_id: id of the call that failed; empty to leave out.
    """
    message = _fit_header(error.message)
    return status_pb2.Status(
        code=code_pb2.Code.Value(error.code),
        message=message,
        details=[_pack(detail) for detail in _details(error, message, request_id)],
    )


def internal_status(request_id: str) -> status_pb2.Status:
    """What a caller learns of an unhandled exception: that it happened, and the id to quote."""
    error = PlumblineError(f"internal error; the server's log has it under request id {request_id}")
    return to_status(error, request_id=request_id)


def unimplemented_status(method: str, request_id: str) -> status_pb2.Status:
    """For a method of the contract that the server does not answer."""
    status = to_status(
        PlumblineError(f"{method} is not served here", reason="UNIMPLEMENTED"),
        request_id=request_id,
    )
    status.code = code_pb2.UNIMPLEMENTED
    return status


def trailing_metadata(status: status_pb2.Status, request_id: str) -> tuple[tuple[str, object], ...]:
    """Trailers of a call that ends with `status`."""
    return (
        (STATUS_DETAILS_KEY, status.SerializeToString()),
        (REQUEST_ID_KEY, request_id),
    )


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """The status's code as grpc's enum."""
    return grpc.StatusCode[code_pb2.Code.Name(status.code)]


def from_rpc_error(error: grpc.RpcError, *, service: str = "") -> PlumblineError:
    """The error that the server raised, or the class that fits what the transport reports.

    Args:
        error: what a call on a bare stub raised.
        service: name or address for the message, when the transport failed.
    """
    code = error.code().name
    status = _rich_status(error)
    if status is not None:
        rebuilt = from_status(status)
        if rebuilt is not None:
            return rebuilt
    where = f"{service}: " if service else ""
    details = error.details() or "no details"
    if details.startswith(_CANCELLED_HERE):
        return CancelledError(f"{where}{details}")
    found = _TRANSPORT_CLASSES.get(code) or _base_class(code)
    reason = found.default_reason if code in (found.code, "CANCELLED") else code
    return found(f"{where}{details} ({code})", reason=reason)


def retry_delay_s(error: grpc.RpcError) -> float | None:
    """After how many seconds the server asks to be called again, if it says so."""
    status = _rich_status(error)
    retry_info = error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(retry_info):
            return float(retry_info.retry_delay.ToTimedelta().total_seconds())
    return None


def from_status(status: status_pb2.Status) -> PlumblineError | None:
    """The error that `status` describes; None when its ErrorInfo is not of this platform."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    request_info = error_details_pb2.RequestInfo()
    for detail in status.details:
        for target in (info, bad_request, request_info):
            detail.Unpack(target)
    if info.domain != DOMAIN:
        return None
    metadata = dict(info.metadata)
    found = _find_class(code_pb2.Code.Name(status.code), info.reason, metadata.pop(CLASS_KEY, ""))
    if request_info.request_id:
        metadata.setdefault("requestId", request_info.request_id)
    violations = bad_request.field_violations
    return found(
        status.message,
        reason=info.reason,
        field=violations[0].field if violations else None,
        metadata=metadata,
    )


def _details(error: PlumblineError, message: str, request_id: str) -> Iterator[Message]:
    metadata = {
        key: _valid_unicode(value[:_METADATA_VALUE_CHARS])
        for key, value in list(error.metadata.items())[:_METADATA_ENTRIES]
    }
    if error.reason != error.default_reason:
        metadata[CLASS_KEY] = type(error).__name__
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_valid_unicode(error.field[:_METADATA_VALUE_CHARS]),
            description=message[:_DESCRIPTION_CHARS],
        )
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if error.code in _RETRYABLE:
        delay = duration_pb2.Duration(seconds=RETRY_DELAY_S)
        yield error_details_pb2.RetryInfo(retry_delay=delay)
    if request_id:
        yield error_details_pb2.RequestInfo(request_id=request_id)


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _fit_header(message: str) -> str:
    """Cuts the message to the header budget, counted as grpc percent-encodes it."""
    message = _valid_unicode(message)
    budget = _MESSAGE_HEADER_BYTES
    for position, character in enumerate(message):
        plain = " " <= character <= "~" and character != "%"
        budget -= 1 if plain else 3 * len(character.encode())
        if budget < 0:
            return message[:position] + "..."
    return message


def _valid_unicode(text: str) -> str:
    """Lone surrogates, as in names of files, have no UTF-8 and would fail the reply itself."""
    return text.encode("utf-8", "replace").decode()


def _rich_status(error: grpc.RpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY:
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except DecodeError:
                # A proxy's foreign trailer must not hide the error that it accompanies.
                return None
            return status
    return None


def _find_class(code: str, reason: str, name: str) -> type[PlumblineError]:
    same_code = [cls for cls in _tree() if cls.code == code]
    named = [cls for cls in same_code if cls.__name__ == name]
    by_reason = [cls for cls in same_code if cls.default_reason == reason]
    return next(iter((*named, *by_reason)), _base_class(code))


def _base_class(code: str) -> type[PlumblineError]:
    """The topmost class of the code; the root of the tree for codes without one."""
    return next((cls for cls in _tree() if cls.code == code), PlumblineError)


def _tree() -> Iterator[type[PlumblineError]]:
    """Every class of the tree, parents before children."""
    level: Iterable[type[PlumblineError]] = (PlumblineError,)
    while level:
        yield from level
        level = [child for cls in level for child in cls.__subclasses__()]

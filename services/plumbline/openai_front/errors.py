"""The error tree as HTTP statuses with bodies in OpenAI's shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import grpc
from starlette.responses import JSONResponse

from plumbline.core import telemetry
from plumbline.core.errors import PlumblineError, ResourceExhaustedError, UnavailableError
from plumbline.core.rpc.status import RETRY_DELAY_S, retry_delay_s

BODY_TOO_LARGE = "BODY_TOO_LARGE"
BODY_TIMEOUT = "BODY_TIMEOUT"
METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
UNKNOWN_PATH = "UNKNOWN_PATH"

INTERNAL_STATUS = 500
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_STATUSES_BY_REASON = {BODY_TIMEOUT: 408, BODY_TOO_LARGE: 413, METHOD_NOT_ALLOWED: 405}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    "UNAUTHENTICATED": "invalid_api_key",
    "NOT_FOUND": "model_not_found",
    "RESOURCE_EXHAUSTED": "rate_limit_exceeded",
    "UNAVAILABLE": "service_unavailable",
    "DEADLINE_EXCEEDED": "timeout",
}
"""What clients compare with; other errors carry their reason."""

_PARAMS: Mapping[str, str | None] = {
    "policy": "model",
    "max_response_tokens": "max_tokens",
    "responses_per_prompt": "n",
    "temperatures": "temperature",
    "seeds": "seed",
    # `messages` in one endpoint, `prompt` in the other; the message says which it is.
    "prompts": None,
}
"""OpenAI's names of the sampler's fields."""


def status_of(error: Exception) -> int:
    """HTTP status."""
    if not isinstance(error, PlumblineError):
        return INTERNAL_STATUS
    by_reason = _STATUSES_BY_REASON.get(error.reason)
    return by_reason or _STATUSES.get(error.code, INTERNAL_STATUS)


def error_body(error: Exception) -> dict[str, Any]:
    """{"error": {...}}; of an error that is nobody's input, the request id and nothing else."""
    status = status_of(error)
    if not isinstance(error, PlumblineError) or status == INTERNAL_STATUS:
        request_id = telemetry.current_request_id()
        message = f"internal error; the server's log has it under request id {request_id}"
        return _body(message, "server_error", None, "internal_error")
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = error.reason.lower()
    if error.reason not in (*_STATUSES_BY_REASON, UNKNOWN_PATH):
        code = _CODES.get(error.code, code)
    param = "model" if code == "model_not_found" else _param(error.field)
    return _body(error.message, kind, param, code)


def error_response(error: Exception) -> JSONResponse:
    """The whole reply to a request that failed before its reply began."""
    return JSONResponse(error_body(error), status_of(error), headers=_headers(error))


def _headers(error: Exception) -> Mapping[str, str]:
    if isinstance(error, ResourceExhaustedError | UnavailableError):
        cause = error.__cause__
        told = retry_delay_s(cause) if isinstance(cause, grpc.RpcError) else None
        return {"retry-after": str(math.ceil(told or RETRY_DELAY_S))}
    if status_of(error) == 401:
        return {"www-authenticate": "Bearer"}
    return {}


def _param(field: str | None) -> str | None:
    if field is None:
        return None
    if field.startswith("prompt."):
        return field.removeprefix("prompt.")
    return _PARAMS.get(field, field)


def _body(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}

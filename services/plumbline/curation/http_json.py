"""Posts JSON to an endpoint that a user runs and reads its JSON; failures are typed errors."""

from __future__ import annotations

import json
import os
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import urllib3

from plumbline.core.errors import (
    ConfigError,
    InvalidInputError,
    PermissionDeniedError,
    ServiceUnavailableError,
    UnauthenticatedError,
)

_RETRIED_STATUSES = (429, 500, 502, 503, 504)
_BACKOFF_S = 0.2
"""Before the second attempt; doubles with each further one."""
_BACKOFF_MAX_S = 10.0
_MAX_ANSWER_BYTES = 64 << 20
_SHOWN_CHARACTERS = 200


class JsonEndpoint:
    """One URL, with its connections kept open; safe to share between threads.

    Args:
        url: http or https, without credentials in it.
        timeout_s: to connect, and between two pieces of an answer; for each attempt.
        retries: further attempts after a lost connection, a time-out or a status that says to try
            again (429, 500, 502, 503, 504). The endpoint must bear being asked twice.
        token_env: environment variable that holds a bearer token; empty for none.

    Raises:
        ConfigError: a URL of another kind, or a token variable that is not set.
    """

    def __init__(self, url: str, timeout_s: float, retries: int, token_env: str = "") -> None:
        self._url = _checked(url)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token_env:
            self._headers["Authorization"] = f"Bearer {_token(token_env)}"
        self._http = urllib3.PoolManager(
            maxsize=8,
            timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s),
            retries=urllib3.Retry(
                total=retries,
                # Never followed: a redirect would carry documents to a host that nobody named.
                redirect=False,
                status_forcelist=_RETRIED_STATUSES,
                allowed_methods=("POST",),
                backoff_factor=_BACKOFF_S,
                backoff_max=_BACKOFF_MAX_S,
                raise_on_status=False,
            ),
        )

    @property
    def url(self) -> str:
        return self._url

    def post(self, payload: Any) -> Any:
        """The endpoint's answer to a JSON-compatible payload.

        Raises:
            ServiceUnavailableError: no answer, or a failing one, after all attempts.
            UnauthenticatedError, PermissionDeniedError: the endpoint refuses the token.
            InvalidInputError: it refuses the request, or its answer is no JSON.
        """
        body = json.dumps(payload, ensure_ascii=False).encode("utf-8", errors="replace")
        try:
            response = self._http.request(
                "POST", self._url, body=body, headers=self._headers, preload_content=False
            )
            with response:
                content = response.read(_MAX_ANSWER_BYTES + 1, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServiceUnavailableError(
                f"the endpoint {self._url} does not answer: {error}",
                reason="ENDPOINT_UNAVAILABLE",
            ) from error
        _check_status(self._url, response.status, content)
        return _decoded(self._url, content)

    def close(self) -> None:
        """Close the connections; the endpoint can be used no more."""
        self._http.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"url {url!r} is not an endpoint; http://HOST/PATH or https://HOST/PATH is accepted",
            field="url",
        )
    if parts.username or parts.password:
        raise ConfigError(
            f"the url of {parts.hostname} holds a credential; name an environment variable that "
            "holds the token in token_env instead",
            field="url",
        )
    return url


def _token(variable: str) -> str:
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigError(
            f"the environment variable {variable} is not set; it must hold the endpoint's token",
            field="token_env",
        )
    return token


def _check_status(url: str, status: int, content: bytes) -> None:
    if 200 <= status < 300:
        return
    said = content[: 4 * _SHOWN_CHARACTERS].decode("utf-8", errors="replace")
    message = f"the endpoint {url} answered {status}: {said[:_SHOWN_CHARACTERS]!r}"
    if status == 401:
        raise UnauthenticatedError(message)
    if status == 403:
        raise PermissionDeniedError(message)
    if status in _RETRIED_STATUSES or status >= 500:
        raise ServiceUnavailableError(message, reason="ENDPOINT_FAILED")
    raise InvalidInputError(message, reason="ENDPOINT_REFUSED")


def _decoded(url: str, content: bytes) -> Any:
    if len(content) > _MAX_ANSWER_BYTES:
        raise InvalidInputError(
            f"the endpoint {url} answered more than {_MAX_ANSWER_BYTES} bytes; less is accepted",
            reason="ENDPOINT_ANSWER_TOO_LARGE",
        )
    try:
        return json.loads(content)
    except ValueError as error:
        shown = content[:_SHOWN_CHARACTERS].decode("utf-8", errors="replace")
        raise InvalidInputError(
            f"the endpoint {url} answered {shown!r}; JSON is accepted",
            reason="ENDPOINT_ANSWER_NOT_JSON",
        ) from error

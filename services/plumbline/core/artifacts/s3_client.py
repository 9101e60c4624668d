"""The client of an S3 store, and what its answers mean in the error tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from xml.etree import ElementTree

import urllib3
from minio import Minio

from plumbline.core.errors import (
    ConfigError,
    NotFoundError,
    PermissionDeniedError,
    PlumblineError,
    StorageFullError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from plumbline.core.settings import S3Access

_ABSENT_CODES: Final = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload"}
_FULL_CODES: Final = {
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
    "InsufficientStorage",
}
_UNKNOWN_CALLER_CODES: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


def http_client(authorities: Path | None, timeout_s: float) -> urllib3.PoolManager:
    """Connections that retry, and trust the authorities of a PEM file, else the system's.

    Raises:
        ConfigError: there is no such file.
    """
    if authorities is not None and not authorities.is_file():
        raise ConfigError(
            f"PLUMBLINE_S3_CA={authorities} is no file; accepted: certificates in PEM form",
            field="s3_ca",
        )
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s * 12),
        retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        maxsize=16,
        ca_certs=str(authorities) if authorities is not None else None,
    )


def s3_client(access: S3Access, http: urllib3.PoolManager) -> Minio:
    """Raises ConfigError when the endpoint is malformed."""
    parts = urlsplit(access.endpoint)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/"):
        raise ConfigError(
            f"S3 endpoint {access.endpoint!r} is malformed; accepted: http(s)://host:port",
            field="s3_endpoint",
        )
    keys = (access.access_key, access.secret_key)
    access_key, secret_key = (key.get_secret_value() if key else None for key in keys)
    try:
        return Minio(
            parts.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=parts.scheme == "https",
            region=access.region,
            http_client=http,
        )
    except ValueError as error:
        raise ConfigError(
            f"S3 endpoint {access.endpoint!r}: {error}", field="s3_endpoint"
        ) from None


def typed_error(doing: str, code: str, message: str) -> PlumblineError:
    """The error of an answer with a code.

    Args:
        doing: what was asked, and of which store.
    """
    text = f"{doing}: {code}: {message}"
    if code in _ABSENT_CODES:
        return NotFoundError(text)
    if code in _FULL_CODES:
        return StorageFullError(f"{text}; free some space and run it again")
    if code in _UNKNOWN_CALLER_CODES:
        return UnauthenticatedError(
            f"{text}; check PLUMBLINE_S3_ACCESS_KEY and PLUMBLINE_S3_SECRET_KEY"
        )
    if code == "AccessDenied":
        return PermissionDeniedError(text)
    return StorageUnavailableError(text)


def error_in(body: bytes) -> tuple[str, str]:
    """Code and message of an S3 error document; empty where the body is none."""
    try:
        document = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return "", body[:200].decode("utf-8", "replace")
    found: dict[str, Any] = {item.tag.rpartition("}")[2]: item.text or "" for item in document}
    return str(found.get("Code", "")), str(found.get("Message", ""))


def root_cause(error: BaseException) -> str:
    """`Connection refused` rather than the retry machinery's account of it."""
    reason = getattr(error, "reason", None)
    return str(reason if reason is not None else error)

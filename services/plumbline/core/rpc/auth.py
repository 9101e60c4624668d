"""Bearer tokens with scopes, and TLS credentials.

The tokens file names who may call what, and holds no secret itself:

    {"<sha256 of the token, hex>": {"name": "evaluation-team",
                                    "scopes": ["reward.ScoreResponses", "sampler.*"],
                                    "expires_at": "2027-01-01T00:00:00Z"}}

A scope is `<service>.<method>`, `<service>.*` or `*`. It is read again when the file changes, so a
token is revoked without a restart.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import grpc
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.types import StringConstraints

from plumbline.core.errors import ConfigError, PermissionDeniedError, UnauthenticatedError
from plumbline.core.settings import Settings

AUTHORIZATION_KEY = "authorization"
_BEARER = re.compile(r"[Bb]earer ([!-~]+)")

Scope = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z]+\.(\*|[A-Z][A-Za-z]*))$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

logger = logging.getLogger(__name__)


class Grant(BaseModel):
    """What one token may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """Who holds the token; appears in the logs."""
    scopes: frozenset[Scope] = Field(min_length=1)
    expires_at: AwareDatetime | None = None

    def allows(self, service: str, method: str) -> bool:
        return not self.scopes.isdisjoint(("*", f"{service}.*", f"{service}.{method}"))


_TABLE = TypeAdapter(dict[Digest, Grant])


class TokenTable:
    """The tokens file, kept current.

    Raises:
        ConfigError: the file is missing or malformed when the server starts. Later a broken file
            is logged and the last good table stays in force.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = _file_version(path)
        self._grants = _read_table(path)

    def authorize(self, authorization: str | None, service: str, method: str) -> Grant:
        """The grant behind an `authorization` header, if it covers the method.

        Args:
            authorization: the header's value; None when the call had none.
            service: scope name of the service, for example `reward`.
            method: RPC name; empty asks only that the token is valid.
        Raises:
            UnauthenticatedError: no token, an unknown one or an expired one.
            PermissionDeniedError: no scope of the token covers the method.
        """
        grant = self._authenticate(authorization)
        if method and not grant.allows(service, method):
            raise PermissionDeniedError(
                f"the token of {grant.name!r} lacks the scope {service}.{method}; it has "
                f"{', '.join(sorted(grant.scopes))}",
                reason="MISSING_SCOPE",
                metadata={"scope": f"{service}.{method}"},
            )
        return grant

    def _authenticate(self, authorization: str | None) -> Grant:
        if authorization is None:
            raise UnauthenticatedError(
                "the call carries no token; send metadata `authorization: Bearer <token>`",
                reason="TOKEN_MISSING",
            )
        match = _BEARER.fullmatch(authorization)
        # Looked up by digest, so that timing tells nothing about the tokens that exist.
        digest = hashlib.sha256(match[1].encode()).hexdigest() if match else ""
        grant = self._current().get(digest)
        if grant is None:
            raise UnauthenticatedError("the token is not known here", reason="TOKEN_UNKNOWN")
        if grant.expires_at is not None and grant.expires_at <= datetime.now(UTC):
            raise UnauthenticatedError(
                f"the token of {grant.name!r} expired at {grant.expires_at.isoformat()}",
                reason="TOKEN_EXPIRED",
            )
        return grant

    def _current(self) -> Mapping[str, Grant]:
        version = _file_version(self._path)
        if version != self._version:
            self._version = version
            try:
                self._grants = _read_table(self._path)
            except ConfigError:
                logger.exception("tokens file changed and is broken; the last good one stays")
        return self._grants


def client_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """TLS when a CA or a client certificate is set, mutual when both are; None for plaintext."""
    if settings.tls_ca is None and settings.tls_cert is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_read_optional(settings.tls_ca),
        private_key=_read_optional(settings.tls_key),
        certificate_chain=_read_optional(settings.tls_cert),
    )


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """TLS when a certificate is set; with a CA, clients must present one that it signed.

    Files that change, as when a certificate is renewed, serve the connections made from then on.

    Raises:
        ConfigError: a CA without a certificate, or a file that cannot be read.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        if settings.tls_ca is not None:
            raise ConfigError(
                f"PLUMBLINE_TLS_CA={settings.tls_ca} asks for client certificates, but a server "
                "needs PLUMBLINE_TLS_CERT and PLUMBLINE_TLS_KEY too",
                field="tls_cert",
            )
        return None
    files = _TLSFiles(settings.tls_key, settings.tls_cert, settings.tls_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.configuration(),
        files.renewed,
        require_client_authentication=settings.tls_ca is not None,
    )


class _TLSFiles:
    """A server's TLS files, looked at for each handshake: certificates are renewed under it."""

    def __init__(self, key: Path, certificate: Path, authority: Path | None) -> None:
        self._key, self._certificate, self._authority = key, certificate, authority
        self._version = self._current_version()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(_read(self._key), _read(self._certificate))],
            root_certificates=_read_optional(self._authority),
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The configuration if a file has changed, else None, which keeps the last one."""
        version = self._current_version()
        if version == self._version:
            return None
        try:
            configuration = self.configuration()
        except ConfigError:
            logger.exception("TLS files changed and cannot be read; the last ones stay")
            return None
        self._version = version
        return configuration

    def _current_version(self) -> tuple[tuple[int, int, int], ...]:
        paths = (self._key, self._certificate, self._authority)
        return tuple(_file_version(path) for path in paths if path is not None)


def _read_table(path: Path) -> dict[str, Grant]:
    try:
        return _TABLE.validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the tokens file {path}: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise ConfigError(f"the tokens file {path} is malformed: {problems}") from None


def _problem(item: Any) -> str:
    """One validation error without its input: a token written by mistake must not reach a log."""
    if item["type"] == "string_pattern_mismatch" and item["loc"][-1] == "[key]":
        return "a key is not the sha256 of a token in 64 hex digits"
    where = ".".join(str(part)[:12] for part in item["loc"])
    return f"{where}: {item['msg']}"


def _file_version(path: Path) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)  # reading it tells why
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read_optional(path: Path | None) -> bytes | None:
    return None if path is None else _read(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the TLS file {path}: {error.strerror}") from error

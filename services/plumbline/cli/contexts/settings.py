"""What a context means for this process's clients: addresses, credentials and the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import PrivateAttr, SecretStr

from plumbline.core.errors import ConfigError, FailedPreconditionError
from plumbline.core.settings import S3Access, Settings

if TYPE_CHECKING:
    from plumbline.cli.contexts.config import TLS, Context
    from plumbline.cli.contexts.release import Release


class Place(Protocol):
    """How one platform is reached."""

    @property
    def release(self) -> Release | None:
        """The release, where the platform is one on a cluster."""
        ...

    def target(self, service: str) -> str:
        """gRPC target; raises PlumblineError where the service cannot be reached."""
        ...

    def server_name(self, service: str) -> str | None:
        """Name in its certificate, where that is not the target's."""
        ...

    def store_url(self) -> str:
        """Raises FailedPreconditionError where the store cannot be reached from here."""
        ...

    def s3_access(self) -> S3Access: ...

    def token(self) -> SecretStr | None:
        """The token of calls, where the context names none."""
        ...

    def tls(self) -> TLS:
        """Files of connections, where the context names none."""
        ...


class ContextSettings(Settings):
    """Settings under which services and the store are those of a context; nothing is local."""

    _place: Place = PrivateAttr()

    @classmethod
    def of(cls, base: Settings, place: Place, **values: Any) -> ContextSettings:
        """The settings of this shell with a platform of its own in place of the local one."""
        settings = cls.model_validate({**dict(base), "targets": {}, **values})
        settings._place = place
        return settings

    def target(self, service: str) -> str:
        """Address of a service; unlike that of other settings it is always there, or an error."""
        return self.targets.get(service) or self._place.target(service)

    def server_name(self, service: str) -> str | None:
        return self._place.server_name(service)

    @property
    def release(self) -> Release | None:
        """The release, where the context is one on a cluster."""
        return self._place.release

    @property
    def store_url(self) -> str:
        return self._place.store_url()

    @property
    def s3_access(self) -> S3Access:
        return self._place.s3_access()


class Addresses:
    """A platform whose services and store are named by address."""

    release = None

    def __init__(self, name: str, context: Context, base: Settings) -> None:
        self._name = name
        self._context = context
        self._base = base

    def target(self, service: str) -> str:
        found = self._context.target(service)
        if found is None:
            raise ConfigError(
                f"context {self._name!r} names no address of {service}; accepted: "
                f"`services.{service}` or `gateway` in the contexts file"
            )
        return found

    def server_name(self, service: str) -> str | None:
        return self._context.tls.server_name or None

    def store_url(self) -> str:
        if not self._context.store:
            raise no_store(self._name)
        return self._context.store

    def s3_access(self) -> S3Access:
        return named_access(self._context, self._base)

    def token(self) -> SecretStr | None:
        # The shell's own token is for another platform, and is told to none but that.
        return None

    def tls(self) -> TLS:
        return self._context.tls


def context_settings(
    name: str, context: Context, environment: Mapping[str, str]
) -> ContextSettings:
    """Settings for clients of a context; what is kept on this machine is kept for each apart.

    Raises:
        ConfigError: a token that the context names is not there.
    """
    base = Settings.from_environment(environment)
    place = _place(name, context, base)
    tls = context.tls if context.tls.ca or context.tls.cert else place.tls()
    return ContextSettings.of(
        base,
        place,
        state_dir=base.state_dir / "contexts" / name,
        token=_named_token(name, context, environment) or place.token(),
        tls_ca=tls.ca,
        tls_cert=tls.cert,
        tls_key=tls.key,
        redis_url=None,
    )


def no_store(name: str) -> FailedPreconditionError:
    """The error of a command that needs a store which the context does not name."""
    return FailedPreconditionError(
        f"context {name!r} names no store that is reached from here, so artifacts and local files "
        "cannot be moved; accepted: `store: s3://bucket/prefix` and `s3_endpoint` in the context",
        reason="NO_STORE",
    )


def named_access(context: Context, base: Settings) -> S3Access:
    """A context's store as it is named there. From the shell come the keys alone: its endpoint is
    that of another store."""
    default = Settings()
    return S3Access(
        endpoint=context.s3_endpoint or default.s3_endpoint,
        access_key=base.s3_access_key,
        secret_key=base.s3_secret_key,
        region=context.s3_region or default.s3_region,
        ca=context.s3_ca,
    )


def _place(name: str, context: Context, base: Settings) -> Place:
    if context.cluster is None:
        return Addresses(name, context, base)
    # Imported here: the client of Kubernetes takes a second, and most contexts need none.
    from plumbline.cli.contexts.release_place import ReleasePlace, linked

    return ReleasePlace(name, context, base, linked(context.cluster))


def _named_token(name: str, context: Context, environment: Mapping[str, str]) -> SecretStr | None:
    if context.token_env:
        value = environment.get(context.token_env)
        if not value:
            raise ConfigError(f"context {name!r}: the variable {context.token_env} holds no token")
        return SecretStr(value)
    if context.token_file is not None:
        return SecretStr(_read(name, context.token_file))
    return None


def _read(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"context {name!r}: cannot read {path}: {error}") from error

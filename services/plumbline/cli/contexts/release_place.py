"""A release on a cluster as a place: ports on loopback that lead to its pods.

The first call to a service opens its port, which stays open for the length of the command.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from plumbline.cli.contexts.cluster_api import ClusterApi
from plumbline.cli.contexts.config import TLS, Cluster
from plumbline.cli.contexts.forwarding import Dial, Forwarding
from plumbline.cli.contexts.release import PodEnvironment, Release
from plumbline.cli.contexts.settings import named_access, no_store
from plumbline.core.errors import (
    ConfigError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
)
from plumbline.core.settings import S3Access, Settings

if TYPE_CHECKING:
    from plumbline.cli.contexts.config import Context

SPEAKER: Final = "pipeline"
"""Component whose pods are asked what the release's pods are told; also answers for jobs."""
ADMIN_TOKEN: Final = "admin-token"
_TLS_VARIABLES: Final[Mapping[str, str]] = {
    "ca": "PLUMBLINE_TLS_CA",
    "cert": "PLUMBLINE_TLS_CERT",
    "key": "PLUMBLINE_TLS_KEY",
}
T = TypeVar("T")


class Link:
    """A release and the ports that lead to its pods."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self._forwardings: dict[str, Forwarding] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def told(self) -> PodEnvironment:
        """What the release's pods are told."""
        return self.release.environment(SPEAKER)

    def forwarded(self, what: str, dial: Dial) -> str:
        """host:port on loopback that leads where `dial` does.

        Raises:
            PlumblineError: nothing can be reached there now.
        """
        with self._lock:
            if what not in self._forwardings:
                # Tried once at the start, so that what is wrong is said at once and in full.
                dial().close()
                self._forwardings[what] = Forwarding(f"{what} of {self.release}", dial)
            return self._forwardings[what].address

    def close(self) -> None:
        """Ends every port that was opened."""
        with self._lock:
            forwardings, self._forwardings = self._forwardings, {}
        for forwarding in forwardings.values():
            forwarding.close()


class ReleasePlace:
    """Where the services and the store of a release are, seen from outside its cluster."""

    def __init__(self, name: str, context: Context, base: Settings, link: Link) -> None:
        self._name = name
        self._context = context
        self._base = base
        self._link = link

    @property
    def release(self) -> Release:
        return self._link.release

    def target(self, service: str) -> str:
        component = _component(service)
        dial = functools.partial(self._link.release.dial, component)
        return self._link.forwarded(component, dial)

    def server_name(self, service: str) -> str | None:
        if not self._link.told.listed(_TLS_VARIABLES["cert"]):
            return None
        return self._context.tls.server_name or self._link.release.server_name(_component(service))

    def store_url(self) -> str:
        found = self._context.store or self._link.told.value("PLUMBLINE_STORE") or ""
        if not found or (found.startswith("file:") and not self._context.store):
            raise no_store(self._name)
        return found

    def s3_access(self) -> S3Access:
        """As the release's pods reach it, but for what the context names itself."""
        named = named_access(self._context, self._base)
        if self._context.store and self._context.s3_endpoint:
            return named  # a store of its own, which the release's keys are not for
        told = self._link.told
        access_key, secret_key, region = (
            self._if_readable(told.value, f"PLUMBLINE_S3_{name}")
            for name in ("ACCESS_KEY", "SECRET_KEY", "REGION")
        )
        keys = (named.access_key, named.secret_key)
        if access_key and secret_key:
            keys = (SecretStr(access_key), SecretStr(secret_key))
        ca = named.ca or self._if_readable(self._told_file, "PLUMBLINE_S3_CA")
        endpoint = None if self._context.s3_endpoint else told.value("PLUMBLINE_S3_ENDPOINT")
        return S3Access(
            endpoint=self._reachable(endpoint) if endpoint else named.endpoint,
            access_key=keys[0],
            secret_key=keys[1],
            region=self._context.s3_region or region or named.region,
            ca=ca,
        )

    def token(self) -> SecretStr | None:
        told = self._link.told  # outside: without the right to list pods nothing is reached at all
        try:
            found = _admin_token(told)
        except (PermissionDeniedError, NotFoundError):
            # Who may not read Secrets calls with a token of his own, or with none.
            found = None
        return SecretStr(found.decode().strip()) if found else None

    def tls(self) -> TLS:
        told = self._link.told
        try:
            # Where TLS is on, the chart lists these with the container. Sources of `envFrom` are
            # left out, so that who may not read ConfigMaps can use a release without TLS.
            files = {
                field: self._copied(name, told.listed(name))
                for field, name in _TLS_VARIABLES.items()
            }
        except PermissionDeniedError as error:
            raise PermissionDeniedError(
                f"the services use TLS, and their certificates cannot be read: {error.message}; "
                f"name files in `tls` of context {self._name!r}"
            ) from error
        return TLS(**files)

    def _if_readable(self, read: Callable[[str], T | None], variable: str) -> T | None:
        """None where the caller may not read it and names the store's address himself."""
        try:
            return read(variable)
        except PermissionDeniedError:
            if not self._context.s3_endpoint:
                raise
            return None

    def _reachable(self, endpoint: str) -> str:
        """The store's endpoint, or a port on loopback where it is a Service of the cluster."""
        service = self._link.release.own_service(endpoint)
        if service is None:
            return endpoint
        if urlsplit(endpoint).scheme == "https":
            raise FailedPreconditionError(
                f"the store {endpoint} is inside the cluster and uses TLS, which a forwarded port "
                f"does not carry; name an address of it in `s3_endpoint` of context {self._name!r}"
            )
        dial = functools.partial(self._link.release.dial_service, *service)
        return f"http://{self._link.forwarded(service[0], dial)}"

    def _told_file(self, variable: str) -> Path | None:
        return self._copied(variable, self._link.told.value(variable))

    def _copied(self, variable: str, named: str | None) -> Path | None:
        """A private copy of the file that a variable of the pods names."""
        if not named:
            return None
        content = self._link.told.file(named)
        if content is None:
            raise ConfigError(
                f"{variable}={named} of {self._link.release} comes from neither a Secret nor a "
                f"ConfigMap; name a file in context {self._name!r}"
            )
        path = _private_directory() / f"{self._name}-{variable.lower()}.pem"
        path.write_bytes(content)
        return path


@functools.cache
def linked(cluster: Cluster) -> Link:
    """The link to a release; a process has one, however often it loads its settings."""
    release = Release(ClusterApi(cluster), namespace=cluster.namespace, name=cluster.release)
    link = Link(release)
    atexit.register(link.close)
    return link


@functools.cache
def _private_directory() -> Path:
    """For copies of keys; gone when the process ends."""
    directory = Path(tempfile.mkdtemp(prefix="plumbline-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _admin_token(told: PodEnvironment) -> bytes | None:
    """What the chart keeps in the Secret of the tokens file, beside the file."""
    tokens = told.value("PLUMBLINE_TOKENS_FILE")
    if not tokens:
        return None
    return told.file(str(PurePosixPath(tokens).with_name(ADMIN_TOKEN)))


def _component(service: str) -> str:
    return SPEAKER if service == "jobs" else service

"""The Kubernetes API, as far as the launcher needs it.

Objects are raw JSON: what the API server says is what `standing` reads, whatever fields a version
adds. One list of Jobs and one of Pods answer for all attempts, from the API server's own cache.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from plumbline.core.errors import (
    AlreadyExistsError,
    ConfigError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    PlumblineError,
    ResourceExhaustedError,
    ServiceUnavailableError,
)
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.names import ATTEMPT_LABEL, JOB_ID_LABEL, attempt_name, selector
from plumbline.launcher.owner import account_of, owned_by

Json = Mapping[str, Any]

_CONNECT_TIMEOUT_S = 2.0
_READ_TIMEOUT_S = 5.0
"""Together half of the default lease: no call may cost a job its lease."""
_ACCOUNT_FILES = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECTIONS = 64
"""Kept open: attempts of a launcher are created and deleted from a thread each."""
_SHOWN_BYTES = 200
"""Of an answer that is not understood."""
_CACHED = {"resourceVersion": "0"}
"""A list from the API server's cache, which costs its store nothing."""
_COLLECTIONS = {
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "JobSet": "/apis/jobset.x-k8s.io/v1alpha2/namespaces/{namespace}/jobsets",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Event": "/api/v1/namespaces/{namespace}/events",
}
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)" '
    r'in API group "(?P<group>[^"]*)"'
)

logger = logging.getLogger(__name__)


class Transport(Protocol):
    """One HTTP exchange with the API server."""

    def request(self, method: str, path: str, body: Json | None = None) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            ServiceUnavailableError: nobody answered.
        """
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the API server holds for attempts, by the attempt's name."""

    jobs: Mapping[str, Json] = field(default_factory=dict)
    pods: Mapping[str, Sequence[Json]] = field(default_factory=dict)


class Cluster:
    """The objects of one instance in one namespace. Safe to share between threads.

    Every method raises ServiceUnavailableError where the API server does not answer, and
    PermissionDeniedError where the launcher's Role lacks a rule.
    """

    def __init__(
        self,
        transport: Transport,
        config: LauncherConfig,
        namespace: str,
        *,
        token: str = "",
    ) -> None:
        """
        Args:
            token: of the service account that attempts are to go with.
        """
        self.namespace = namespace
        self._transport = transport
        self._owner = account_of(token, namespace)
        self._selector = selector(config)
        self._root = "JobSet" if config.job_set else "Job"

    @classmethod
    def connect(cls, config: LauncherConfig) -> Cluster:
        """The cluster that this process runs in, or the one of the kubeconfig.

        Raises:
            FailedPreconditionError: the client package is not installed.
            ConfigError: neither says where a cluster is.
        """
        transport, namespace, token = _connect()
        return cls(transport, config, config.namespace or namespace, token=token)

    def create(self, manifest: Json) -> Json:
        """Create an object and return it as stored.

        Raises:
            AlreadyExistsError: one of this kind and name is there.
            InvalidInputError: the API server or an admission webhook refuses it.
            ResourceExhaustedError: a quota is used up.
        """
        path = self._path(str(manifest["kind"]))
        return self._json("POST", path, manifest)

    def create_root(self, manifest: Json) -> Json:
        """As `create`, for the Job or JobSet of an attempt; it goes with the launcher's account."""
        return self.create(owned_by(manifest, self._owner))

    def root(self, name: str) -> Json | None:
        """The Job, or JobSet, that an attempt was created as; None where it is gone."""
        return self._read(f"{self._path(self._root)}/{name}")

    def snapshot(self) -> Snapshot:
        """All Jobs and Pods of attempts."""
        query = urlencode({"labelSelector": self._selector, **_CACHED})
        jobs = self._json("GET", f"{self._path('Job')}?{query}")["items"]
        pods = self._json("GET", f"{self._path('Pod')}?{query}")["items"]
        by_attempt: dict[str, list[Json]] = defaultdict(list)
        for pod in pods:
            by_attempt[_attempt_of(pod)].append(pod)
        return Snapshot({_attempt_of(job): job for job in jobs}, dict(by_attempt))

    def warnings(self) -> Sequence[Json]:
        """Events of type Warning in the namespace, of the last hour or so."""
        query = urlencode({"fieldSelector": "type=Warning", **_CACHED})
        events: Sequence[Json] = self._json("GET", f"{self._path('Event')}?{query}")["items"]
        return events

    def delete(self, name: str) -> None:
        """Delete an attempt's objects, its pods first; one that is gone is left at that."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        try:
            self._json("DELETE", f"{self._path(self._root)}/{name}", body)
        except NotFoundError:
            logger.debug("%s was gone before it was deleted", name)

    def pod_log(self, pod: str, *, tail_lines: int) -> bytes:
        """The end of what a pod wrote; empty where it never ran or its machine is lost."""
        query = urlencode({"tailLines": tail_lines, "timestamps": "false"})
        try:
            return self._call("GET", f"{self._path('Pod')}/{pod}/log?{query}")
        except (NotFoundError, InvalidInputError, ServiceUnavailableError) as error:
            return f"(no log of pod {pod}: {error.message})\n".encode()

    def _path(self, kind: str) -> str:
        return _COLLECTIONS[kind].format(namespace=self.namespace)

    def _read(self, path: str) -> Json | None:
        try:
            return self._json("GET", path)
        except NotFoundError:
            return None

    def _json(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = self._call(method, path, body)
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            # A proxy in between may have a page of its own to show.
            shown = answer[:_SHOWN_BYTES].decode(errors="replace")
            raise ServiceUnavailableError(
                f"the Kubernetes API answers {method} {path.partition('?')[0]} with {shown!r}; "
                "accepted: a JSON object",
                reason="KUBERNETES_UNAVAILABLE",
            )
        return found

    def _call(self, method: str, path: str, body: Json | None = None) -> bytes:
        status, answer = self._transport.request(method, path, body)
        if status >= 300:
            raise api_error(status, answer, f"{method} {path.partition('?')[0]}")
        return answer


def api_error(status: int, answer: bytes, what: str) -> PlumblineError:
    """The error of the platform's tree that an API server's refusal is.

    Args:
        status: HTTP status.
        answer: body, mostly a Status object.
        what: the request, for the message.
    """
    message, reason = _status(answer)
    if status == 403:
        return _forbidden(message)
    if status == 404:
        return NotFoundError(f"Kubernetes knows no such object: {message or what}")
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExistsError(message)
    if status in (400, 405, 413, 415, 422):
        return InvalidInputError(f"Kubernetes refuses it: {message}", reason="KUBERNETES_REFUSED")
    if status == 401:
        return ServiceUnavailableError(
            f"the Kubernetes API does not accept the launcher's credential ({what}): {message}",
            reason="KUBERNETES_UNAUTHORIZED",
        )
    return ServiceUnavailableError(
        f"the Kubernetes API answers {status} to {what}: {message}",
        reason="KUBERNETES_UNAVAILABLE",
    )


def _forbidden(message: str) -> PlumblineError:
    if found := _FORBIDDEN.search(message):
        group = found["group"] or "core"
        return PermissionDeniedError(
            f"the launcher's Role lacks the verb {found['verb']!r} on {found['resource']!r} of API "
            f"group {group!r} for {found['user']}: {message}",
            reason="KUBERNETES_RBAC",
        )
    if "exceeded quota" in message:
        return ResourceExhaustedError(
            f"a quota of the namespace is used up: {message}", reason="KUBERNETES_QUOTA"
        )
    return FailedPreconditionError(f"Kubernetes refuses it: {message}", reason="KUBERNETES_REFUSED")


def _status(answer: bytes) -> tuple[str, str]:
    """Message and reason of a Status object, or the text that came in its place."""
    try:
        status = json.loads(answer)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        return answer.decode(errors="replace")[:500], ""
    return str(status.get("message", "")), str(status.get("reason", ""))


def _attempt_of(item: Json) -> str:
    labels = item["metadata"]["labels"]
    return attempt_name(labels.get(JOB_ID_LABEL, ""), labels.get(ATTEMPT_LABEL, 0))


class _HttpTransport:
    """The `kubernetes` package's own connection: its TLS, tokens and their renewal."""

    def __init__(self, configuration: Any) -> None:
        from kubernetes.client.rest import RESTClientObject

        # The watch tries again by itself, and a held call would cost leases.
        configuration.retries = False
        configuration.connection_pool_maxsize = _CONNECTIONS
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)

    def request(self, method: str, path: str, body: Json | None = None) -> tuple[int, bytes]:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "*/*" if "/log?" in path else "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        headers.update(self._credential())
        try:
            response = self._rest.request(
                method,
                f"{self._configuration.host}{path}",
                headers=headers,
                body=body,
                _request_timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S),
            )
            return int(response.status), bytes(response.read())
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise ServiceUnavailableError(
                f"the Kubernetes API at {self._configuration.host} does not answer: {error}",
                reason="KUBERNETES_UNAVAILABLE",
            ) from error

    def _credential(self) -> Mapping[str, str]:
        """The headers that say who asks; renews a token that is due, from its file or issuer."""
        import urllib3
        from kubernetes.client.exceptions import ApiException
        from kubernetes.config import ConfigException

        try:
            settings = self._configuration.auth_settings().values()
        except (ConfigException, urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise ServiceUnavailableError(
                "the launcher's credential for the Kubernetes API at "
                f"{self._configuration.host} cannot be read: {error}",
                reason="KUBERNETES_UNAUTHORIZED",
            ) from error
        return {setting["key"]: setting["value"] for setting in settings}


def _connect() -> tuple[Transport, str, str]:
    """A transport, the namespace that goes with it, and the pod's token, if this is a pod."""
    try:
        from kubernetes import client, config
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            f"PLUMBLINE_EXECUTOR=kubernetes needs the package {error.name!r}, which is not "
            "installed; install plumbline[kubernetes]",
            reason="MISSING_PACKAGE",
        ) from error
    configuration, token = client.Configuration(), ""
    # Named here, because the package reads the variable only when it is imported.
    file = os.environ.get("KUBECONFIG") or None
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and file is None:
            config.load_incluster_config(client_configuration=configuration)
            namespace = (_ACCOUNT_FILES / "namespace").read_text(encoding="utf-8").strip()
            token = (_ACCOUNT_FILES / "token").read_text(encoding="utf-8").strip()
        else:
            config.load_kube_config(file, client_configuration=configuration)
            _, context = config.list_kube_config_contexts(file)
            namespace = context["context"].get("namespace", "")
    except (config.ConfigException, OSError) as error:
        raise ConfigError(
            f"no cluster is configured: {error}; accepted: a pod with a service account's token, "
            "or KUBECONFIG",
            field="executor",
        ) from error
    return _HttpTransport(configuration), namespace or "default", token

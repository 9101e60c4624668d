"""A release of the chart as its own pods see it.

Nothing about the chart is fixed here but the labels of its objects: where the store is, which
token services use among themselves, and which authority signed their certificates is read from the
environment of a running pod, through the Secrets and ConfigMaps that it names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from plumbline.core.errors import (
    FailedPreconditionError,
    NotFoundError,
    ServiceUnavailableError,
)
from plumbline.launcher.names import COMPONENT_LABEL, INSTANCE_LABEL, JOB_ID_LABEL

if TYPE_CHECKING:
    from plumbline.cli.contexts.forwarding import Connection

Object = Mapping[str, Any]

GRPC_PORT: Final = "grpc"
"""Name of the port on which a service's pods answer calls."""


class Api(Protocol):
    """What a release needs of the Kubernetes API; see `cluster_api.ClusterApi`."""

    def find(self, kind: str, selector: str) -> list[Object]: ...

    def read(self, kind: str, name: str) -> Object: ...

    def log(self, pod: str, container: str, lines: int) -> str: ...

    def dial(self, pod: str, port: int) -> Connection: ...


class Release:
    """One release in one namespace."""

    def __init__(self, api: Api, *, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name

    def pods(self, component: str = "") -> list[Object]:
        """Pods of a component, or of the whole release."""
        return self._api.find("pod", self._selector(component))

    def job_pods(self, job_id: str) -> list[Object]:
        """Pods in which a job's training was launched, those of the newest attempt last."""
        found = self._api.find("pod", f"{JOB_ID_LABEL}={job_id}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def log(self, pod: Object, lines: int) -> str:
        """The end of what a pod's own container wrote."""
        return self._api.log(pod_name(pod), container(pod)["name"], lines)

    def dial(self, component: str, port: str = GRPC_PORT) -> Connection:
        """A connection to a port, by name, of a ready pod of a component.

        Raises:
            ServiceUnavailableError: no pod is ready, or the connection is refused.
        """
        pod = self._ready_pod(self._selector(component), component)
        return self._api.dial(pod_name(pod), port_number(pod, port))

    def dial_service(self, service: str, port: int) -> Connection:
        """A connection to a ready pod behind a Service of the namespace.

        Raises:
            FailedPreconditionError: the Service selects no pods.
            ServiceUnavailableError: no pod is ready, or the connection is refused.
        """
        found = self._api.read("service", service)["spec"]
        if not found.get("selector"):
            raise FailedPreconditionError(
                f"the Service {service} of {self} has no selector, so there is no pod to forward a "
                "port to; name an address of the store in `s3_endpoint` of the context"
            )
        labels = ",".join(f"{name}={value}" for name, value in found["selector"].items())
        pod = self._ready_pod(labels, service)
        mapped = {one["port"]: one.get("targetPort", port) for one in found["ports"]}.get(
            port, port
        )
        number = mapped if isinstance(mapped, int) else port_number(pod, mapped)
        return self._api.dial(pod_name(pod), number)

    def server_name(self, component: str) -> str:
        """Name that a component's certificate carries."""
        services = self._api.find("service", self._selector(component))
        if not services:
            raise NotFoundError(f"{self} has no Service of {component}")
        return f"{services[0]['metadata']['name']}.{self._namespace}.svc"

    def own_service(self, url: str) -> tuple[str, int] | None:
        """Service and port that a URL leads to, where it is one of this namespace."""
        parts = urlsplit(url)
        service, *rest = (parts.hostname or "").split(".")
        if not service or (rest and rest[0] != self._namespace):
            return None
        try:
            self._api.read("service", service)
        except NotFoundError:
            return None
        return service, parts.port or (443 if parts.scheme == "https" else 80)

    def environment(self, component: str) -> PodEnvironment:
        """What the pods of a component are told.

        Raises:
            NotFoundError: the component has no pod.
        """
        pods = self.pods(component)
        if not pods:
            raise NotFoundError(
                f"{self} has no pod of {component}; `plumbline context show` names where it is "
                "looked for"
            )
        return PodEnvironment(self._api, pods[0])

    def __str__(self) -> str:
        return f"release {self._name} in namespace {self._namespace}"

    def _selector(self, component: str) -> str:
        instance = f"{INSTANCE_LABEL}={self._name}"
        return f"{instance},{COMPONENT_LABEL}={component}" if component else instance

    def _ready_pod(self, selector: str, what: str) -> Object:
        pods = self._api.find("pod", selector)
        for pod in pods:
            if is_ready(pod):
                return pod
        states = ", ".join(f"{pod_name(pod)} {pod['status'].get('phase', '')}" for pod in pods)
        raise ServiceUnavailableError(
            f"no pod of {what} is ready in {self}: {states or 'there is none'}"
        )


class PodEnvironment:
    """Variables and files of a pod's own container, read from where the pod has them."""

    def __init__(self, api: Api, pod: Object) -> None:
        self._api = api
        self._container = container(pod)
        self._volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        self._read: dict[tuple[str, str], Mapping[str, bytes]] = {}

    def value(self, name: str) -> str | None:
        """A variable's value; None where the pod has none.

        Raises:
            PermissionDeniedError: the caller may not read the Secret that holds it.
        """
        entry = self._own_entry(name)
        if entry is not None:
            return self._entry(entry)
        for source in self._container.get("envFrom", ()):
            prefix = source.get("prefix", "")
            for kind, key in (("config_map", "configMapRef"), ("secret", "secretRef")):
                if key in source and name.startswith(prefix):
                    found = self._content(kind, source[key]["name"]).get(name[len(prefix) :])
                    if found is not None:
                        return found.decode()
        return None

    def listed(self, name: str) -> str | None:
        """The value of a variable that the container lists itself, under `env`; None for others."""
        entry = self._own_entry(name)
        return None if entry is None else self._entry(entry)

    def file(self, path: str) -> bytes | None:
        """Content of a file below where a Secret or a ConfigMap is mounted; None for any other.

        Keys of it that the mount leaves out are found as well, by their own names.
        """
        for mount in self._container.get("volumeMounts", ()):
            place = PurePosixPath(mount["mountPath"])
            if PurePosixPath(path).is_relative_to(place):
                inside = str(PurePosixPath(path).relative_to(place))
                return self._mounted(self._volumes[mount["name"]], mount.get("subPath") or inside)
        return None

    def _own_entry(self, name: str) -> Object | None:
        entries: Sequence[Object] = self._container.get("env", ())
        return next((entry for entry in entries if entry["name"] == name), None)

    def _entry(self, entry: Object) -> str | None:
        if "valueFrom" not in entry:
            return str(entry.get("value", "")) or None
        for kind, key in (("config_map", "configMapKeyRef"), ("secret", "secretKeyRef")):
            reference = entry["valueFrom"].get(key)
            if reference is not None:
                found = self._content(kind, reference["name"]).get(reference["key"])
                return found.decode() if found is not None else None
        return None

    def _mounted(self, volume: Object, name: str) -> bytes | None:
        sources: Sequence[Object] = volume.get("projected", {}).get("sources", (volume,))
        for source in sources:
            for kind, key in (("config_map", "configMap"), ("secret", "secret")):
                if key not in source:
                    continue
                items = {item["path"]: item["key"] for item in source[key].get("items") or ()}
                reference = source[key].get("secretName") or source[key].get("name")
                found = self._content(kind, reference).get(items.get(name, name))
                if found is not None:
                    return found
        return None

    def _content(self, kind: str, name: str) -> Mapping[str, bytes]:
        """A Secret's or a ConfigMap's data; each is asked for once."""
        if (kind, name) not in self._read:
            text = self._api.read(kind, name).get("data") or {}
            decode = base64.b64decode if kind == "secret" else str.encode
            self._read[kind, name] = {key: decode(value) for key, value in text.items()}
        return self._read[kind, name]


def pod_name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def container(pod: Object) -> Object:
    """The pod's own container; sidecars follow it."""
    found: Object = pod["spec"]["containers"][0]
    return found


def is_ready(pod: Object) -> bool:
    """Whether calls may go to a pod: it says so and is not about to end."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def port_number(pod: Object, name: str) -> int:
    """Raises NotFoundError when the pod's container names no such port."""
    for port in container(pod).get("ports", ()):
        if port.get("name") == name:
            return int(port["containerPort"])
    raise NotFoundError(f"pod {pod_name(pod)} has no port called {name!r}")

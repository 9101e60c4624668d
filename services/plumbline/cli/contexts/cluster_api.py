"""The Kubernetes API as a client of a release needs it: objects as JSON, logs, and connections to
pods. Faults become errors of the tree."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from plumbline.cli.contexts.pod_connection import PodConnection, connect_pod
from plumbline.core.errors import (
    ConfigError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    PlumblineError,
    ServiceUnavailableError,
    UnauthenticatedError,
)

if TYPE_CHECKING:
    from plumbline.cli.contexts.config import Cluster

CALL_TIMEOUT_S: Final = 20.0

Object = Mapping[str, Any]
"""An object of the API with the field names that it has on the wire."""

_BY_STATUS: Final[Mapping[int, type[PlumblineError]]] = {
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
}


class ClusterApi:
    """Calls in one namespace.

    Args:
        timeout_s: for an answer of the API server.
    Raises:
        FailedPreconditionError: the package `kubernetes` is not installed.
        ConfigError: there is no usable kubeconfig, or it lacks the context.
    """

    def __init__(self, place: Cluster, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._namespace = place.namespace
        self._timeout_s = timeout_s
        self._raw: dict[str, Any] = {"_preload_content": False, "_request_timeout": timeout_s}
        self._configuration = _configuration(place)
        from kubernetes import client  # which `_configuration` has seen to be there

        self._core: Any = client.CoreV1Api(client.ApiClient(self._configuration))

    @property
    def host(self) -> str:
        """Address of the API server."""
        return str(self._configuration.host)

    def find(self, kind: str, selector: str) -> list[Object]:
        """Objects with labels: kind is `pod`, `service`, ..."""
        call = getattr(self._core, f"list_namespaced_{kind}")
        with self._errors(f"listing {kind}s with {selector}"):
            found = self._json(call(self._namespace, label_selector=selector, **self._raw))
        return list(found["items"])

    def read(self, kind: str, name: str) -> Object:
        """One object: kind is `service`, `secret`, `config_map`, ..."""
        call = getattr(self._core, f"read_namespaced_{kind}")
        with self._errors(f"reading the {kind.replace('_', ' ')} {name}"):
            return self._json(call(name, self._namespace, **self._raw))

    def log(self, pod: str, container: str, lines: int) -> str:
        """The end of a container's log."""
        with self._errors(f"reading the log of pod {pod}"):
            response = self._core.read_namespaced_pod_log(
                pod, self._namespace, container=container, tail_lines=lines, **self._raw
            )
            return bytes(response.data).decode("utf-8", "replace")

    def dial(self, pod: str, port: int) -> PodConnection:
        """A connection to a port of a pod, through the API server and the node's kubelet."""
        place = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/portforward"
        headers: dict[str, str] = {}
        with self._errors(f"forwarding port {port} of pod {pod}"):
            client = self._core.api_client
            client.update_params_for_auth(headers, [], ["BearerToken"], place, "GET", None)
            url = f"{self.host}{place}?ports={port}"
            return connect_pod(self._configuration, url, headers, timeout_s=self._timeout_s)

    def _json(self, response: Any) -> Object:
        found: Object = json.loads(response.data)
        return found

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        import urllib3
        from kubernetes.client.exceptions import ApiException
        from websocket import WebSocketBadStatusException, WebSocketException

        where = f"{doing} in namespace {self._namespace} at {self.host}"
        try:
            yield
        except ApiException as error:
            raise _typed(where, int(error.status or 0), error.body, error.reason) from error
        except WebSocketBadStatusException as error:
            body, reason = error.resp_body, error.status_message
            raise _typed(where, error.status_code, body, reason) from error
        except WebSocketException as error:
            raise ServiceUnavailableError(f"{where}: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            cause = getattr(error, "reason", None) or error
            raise ServiceUnavailableError(f"{where}: {cause}") from error


def _configuration(place: Cluster) -> Any:
    try:
        import yaml
        from kubernetes import client, config
    except ImportError as error:
        raise FailedPreconditionError(
            "a context on a cluster needs the package kubernetes: "
            "pip install 'plumbline[kubernetes]'"
        ) from error
    configuration = client.Configuration()
    # One more try: a command of a person says soon what is wrong.
    configuration.retries = 1
    load: Callable[..., None] = config.load_kube_config
    try:
        load(
            config_file=str(place.kubeconfig) if place.kubeconfig else None,
            context=place.kube_context or None,
            client_configuration=configuration,
        )
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the kubeconfig cannot be used: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        # The client looks into the file without asking whether it has the form of a kubeconfig.
        raise ConfigError(f"the kubeconfig cannot be used: it is none ({error})") from error
    return configuration


def _typed(where: str, status: int, body: Any, reason: Any) -> PlumblineError:
    """The error of an answer, with what the API server said in it."""
    try:
        said = json.loads(body)["message"]
    except (TypeError, ValueError, KeyError):
        said = reason
    return _BY_STATUS.get(status, ServiceUnavailableError)(f"{where}: {said}")

"""What a pod's first container would see, for a process that stands in for it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.api_client import ApiClient, Json

_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))")
_RENDEZVOUS = re.compile(r"([a-z0-9-]+)-\d+\.[a-z0-9-]+\.[a-z0-9-]+\.svc(?:\.cluster\.local)?")
_PORT = re.compile(r"(?<=[:=])29500\b")


class Container:
    """Command, environment and volumes of a pod's first container, mapped to this machine."""

    def __init__(
        self, client: ApiClient, pod: Json, home: Path, port_of: Callable[[str], int]
    ) -> None:
        """
        Args:
            home: the pod's directory, which its volumes are made in.
            port_of: the port on loopback where the ranks of a Job meet, by the Job's name.
        """
        self._client = client
        self._pod = pod
        self._spec = pod["spec"]["containers"][0]
        self._namespace = pod["metadata"]["namespace"]
        self._port_of = port_of
        self._home = home
        self.message_path = home / "termination-log"
        self._inside = self._mount_volumes()
        inside = self._spec.get("terminationMessagePath", "/dev/termination-log")
        self._inside[inside] = self.message_path
        self._variables = self._read_environment()

    def command(self) -> list[str]:
        """Arguments, with `$(NAME)` put in and paths and rendezvous mapped."""
        written = [*self._spec.get("command", []), *self._spec.get("args", [])]
        return [self._map(_expand(argument, self._variables)) for argument in written]

    def environment(self) -> dict[str, str]:
        return {name: self._map(value) for name, value in self._variables.items()}

    def _map(self, text: str) -> str:
        for inside, outside in self._inside.items():
            # Alone, or as the value of an option.
            head, found, tail = text.partition(inside)
            if found and (head == "" or head.endswith("=")) and tail[:1] in ("", "/"):
                text = f"{head}{outside}{tail}"
                break
        # In one process's world each pod has an address, here all share one: ports tell them apart.
        job = self._pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name", "")
        text = _RENDEZVOUS.sub("127.0.0.1", text)
        return _PORT.sub(str(self._port_of(job)), text) if job else text

    def _mount_volumes(self) -> dict[str, Path]:
        mounts = {mount["name"]: mount for mount in self._spec.get("volumeMounts", [])}
        inside: dict[str, Path] = {}
        for volume in self._pod["spec"].get("volumes", []):
            mount = mounts.get(volume["name"])
            if mount is None:
                continue
            directory = self._home / "volumes" / volume["name"]
            directory.mkdir(parents=True, exist_ok=True)
            for name, content in self._files_of(volume).items():
                (directory / name).write_bytes(content)
            inside[mount["mountPath"]] = directory
        return inside

    def _files_of(self, volume: Mapping[str, Any]) -> dict[str, bytes]:
        if "secret" in volume:
            return self._secret(volume["secret"]["secretName"])
        if "configMap" in volume:
            return self._config_map(volume["configMap"]["name"])
        return {}

    def _secret(self, name: str) -> dict[str, bytes]:
        found = self._client.get(f"/api/v1/namespaces/{self._namespace}/secrets/{name}")
        return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}

    def _config_map(self, name: str) -> dict[str, bytes]:
        found = self._client.get(f"/api/v1/namespaces/{self._namespace}/configmaps/{name}")
        return {key: value.encode() for key, value in found.get("data", {}).items()}

    def _read_environment(self) -> dict[str, str]:
        variables: dict[str, str] = {}
        for entry in self._spec.get("env", []):
            source = entry.get("valueFrom")
            value = entry.get("value", "") if source is None else self._value_from(source)
            variables[entry["name"]] = _expand(value, variables)
        return variables

    def _value_from(self, source: Mapping[str, Any]) -> str:
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            return self._secret(reference["name"])[reference["key"]].decode()
        if "configMapKeyRef" in source:
            reference = source["configMapKeyRef"]
            return self._config_map(reference["name"])[reference["key"]].decode()
        return self._field(source["fieldRef"]["fieldPath"])

    def _field(self, path: str) -> str:
        """A field of the pod, such as `metadata.labels['KEY']`."""
        head, bracket, key = path.partition("['")
        node: Any = self._pod
        for part in head.split("."):
            node = node.get(part, {})
        if bracket:
            node = node.get(key.removesuffix("']"), {})
        return str(node) if node != {} else ""


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """Put variables in as Kubernetes does: `$$` escapes, an unknown name stays as it is."""

    def value_of(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return variables.get(found[2], found[0])

    return _REFERENCE.sub(value_of, text)

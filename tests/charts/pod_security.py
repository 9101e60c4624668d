"""The Pod Security Standard `restricted`, as written by Kubernetes, over one pod's specification.

Source: kubernetes.io/docs/concepts/security/pod-security-standards, for Kubernetes 1.34.
`restricted` is all of `baseline` and four controls more. Two rules of this platform come on top:
`hardening`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Spec = Mapping[str, Any]

_VOLUME_SOURCES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)
_SELINUX_TYPES = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(spec: Spec) -> list[str]:
    """What `restricted` forbids in a pod's `spec`; empty where it admits the pod."""
    pod = spec.get("securityContext") or {}
    found = [*_pod_violations(spec, pod)]
    for container in _containers(spec):
        context = container.get("securityContext") or {}
        found += (f"{container['name']}: {what}" for what in _baseline(container, context))
        found += (f"{container['name']}: {what}" for what in _restricted(context, pod))
    return found


def hardening(spec: Spec) -> list[str]:
    """What this platform forbids beyond the standard: a writable root and an unasked-for token."""
    found = [
        f"{container['name']}: readOnlyRootFilesystem is not true"
        for container in _containers(spec)
        if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True
    ]
    if spec.get("automountServiceAccountToken") is not False:
        found.append("automountServiceAccountToken is not false")
    return found


def _containers(spec: Spec) -> Sequence[Mapping[str, Any]]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind) or []]


def _pod_violations(spec: Spec, pod: Mapping[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is true"
    for volume in spec.get("volumes") or []:
        sources = set(volume) - {"name"}
        if not sources <= _VOLUME_SOURCES:
            yield f"volume {volume['name']}: {', '.join(sorted(sources - _VOLUME_SOURCES))}"
    for sysctl in pod.get("sysctls") or []:
        if sysctl["name"] not in _SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _shared_controls(pod)


def _shared_controls(context: Mapping[str, Any]) -> Iterator[str]:
    """Controls of baseline and restricted that a pod and a container can both break."""
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "windowsOptions.hostProcess is true"
    if (context.get("seccompProfile") or {}).get("type", "RuntimeDefault") not in (
        "RuntimeDefault",
        "Localhost",
    ):
        yield f"seccompProfile {context['seccompProfile']['type']}"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in (
        "RuntimeDefault",
        "Localhost",
    ):
        yield f"appArmorProfile {context['appArmorProfile']['type']}"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"seLinuxOptions {selinux}"
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot is false"


def _baseline(container: Mapping[str, Any], context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("privileged"):
        yield "privileged is true"
    if context.get("procMount", "Default") != "Default":
        yield f"procMount {context['procMount']}"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']}"
    lifecycle = container.get("lifecycle") or {}
    actions = [container.get(name) or {} for name in _PROBES] + [*lifecycle.values()]
    for action in actions:
        for kind in ("httpGet", "tcpSocket"):
            if (action.get(kind) or {}).get("host"):
                yield f"{kind}.host {action[kind]['host']}"
    yield from _shared_controls(context)


def _restricted(context: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    profile = context.get("seccompProfile") or pod.get("seccompProfile") or {}
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccompProfile"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "capabilities.drop lacks ALL"
    added = set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}
    if added:
        yield f"capabilities.add {', '.join(sorted(added))}"

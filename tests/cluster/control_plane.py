"""A real Kubernetes control plane: etcd, API server, controller manager and scheduler.

Everything is a process on one address, with certificates of its own, and ends with the block.
Nodes join from outside: simulated ones (`simulated_nodes`), ones that run their pods' commands as
processes (`pod_agent`), or a real kubelet, which `kubeconfig("system:node:NAME", ["system:nodes"])`
admits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import urllib3
from cluster.api_client import ApiClient, ApiFault
from cluster.certificates import Authority, KeyPair
from cluster.processes import Processes

STARTUP_S = 120.0
"""Generous, because other work may take the cores."""
NODE_GRACE_S = 15
"""Without a sign of life for so long, a node counts as lost; Kubernetes' own default is 50 s."""
EVICTION_S = 2
"""Pods of a lost node are evicted after so long, where they do not say otherwise (default 300)."""

_SERVICES = "10.96.0.0/16"
_FIRST_SERVICE = "10.96.0.1"


class ControlPlane:
    """Starts on entry; `admin` may do anything."""

    def __init__(
        self,
        find_program: Callable[[str], Path],
        take_port: Callable[[], int],
        directory: Path,
        *,
        address: str = "127.0.0.1",
    ) -> None:
        """
        Args:
            find_program: path of a program of `.ci/cluster`.
            address: that the API server answers at. Loopback is enough for simulated nodes; pods
                of a real one need an address of the bridge that they are on.
        """
        self._find = find_program
        self._take_port = take_port
        self.directory = directory
        self.address = address
        self.server = f"https://{address}:{take_port()}"
        self.authority = Authority(directory / "pki")
        self.processes = Processes(directory / "logs")
        self._pairs: dict[str, KeyPair] = {}
        self.admin = self.client("admin", ["system:masters"])

    def __enter__(self) -> ControlPlane:
        try:
            self._start_etcd()
            self._start_api_server()
            self._start_controllers()
        except BaseException:
            self.processes.stop_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.stop_all()

    def client(self, user: str, groups: Sequence[str] = ()) -> ApiClient:
        """Talks to the API server with a certificate."""
        pair = self._pair(user, groups)
        return ApiClient(self.server, self.authority.certificate, pair=pair)

    def account_token(self, namespace: str, name: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token: str = self.admin.call("POST", path, request)["status"]["token"]
        return token

    def kubeconfig(self, user: str = "admin", groups: Sequence[str] = ()) -> Path:
        """A kubeconfig file for a user with a certificate."""
        pair = self._pair(user, groups)
        files = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        return self._write_kubeconfig(user, files)

    def account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig file for a service account, as its pods would act."""
        token = self.account_token(namespace, name)
        return self._write_kubeconfig(f"{namespace}-{name}", {"token": token}, namespace)

    def make_namespace(self, name: str, *, enforce: str = "restricted") -> None:
        """A namespace that enforces a Pod Security level; returns when pods can start in it."""
        labels = {"pod-security.kubernetes.io/enforce": enforce}
        metadata = {"name": name, "labels": labels}
        self.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        # The controllers make it a moment later, and pods without one are refused until then.
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        self.processes.wait_for(account, lambda: self.admin.find(account), STARTUP_S)

    def _pair(self, user: str, groups: Sequence[str]) -> KeyPair:
        if user not in self._pairs:
            self._pairs[user] = self.authority.issue(user, groups=groups)
        return self._pairs[user]

    def _write_kubeconfig(
        self, user: str, credentials: dict[str, str], namespace: str = "default"
    ) -> Path:
        cluster = {"server": self.server, "certificate-authority": str(self.authority.certificate)}
        context = {"cluster": "tests", "user": user, "namespace": namespace}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "tests", "context": context}],
            "current-context": "tests",
        }
        path = self.directory / f"{user.replace(':', '-')}.kubeconfig"
        path.write_text(json.dumps(content))  # JSON is YAML
        path.chmod(0o600)
        return path

    def _start_etcd(self) -> None:
        self._etcd = f"http://127.0.0.1:{self._take_port()}"
        peer = f"http://127.0.0.1:{self._take_port()}"
        options = {
            "name": "tests",
            "data-dir": self.directory / "etcd",
            "listen-client-urls": self._etcd,
            "advertise-client-urls": self._etcd,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"tests={peer}",
            # Nothing outlives the session, so nothing needs to reach the disk.
            "unsafe-no-fsync": "true",
        }
        self._run("etcd", options)
        self._await("etcd", self._etcd, "/health")

    def _start_api_server(self) -> None:
        names = [f"IP:{self.address}", f"IP:{_FIRST_SERVICE}", "DNS:localhost"]
        names += [f"DNS:kubernetes.default.svc{suffix}" for suffix in ("", ".cluster.local")]
        serving = self.authority.issue("kube-apiserver", addresses=names)
        kubelets = self._pair("kube-apiserver-kubelet-client", ["system:masters"])
        self._tokens = self.authority.signing_keys("service-accounts")
        options: dict[str, object] = {
            "etcd-servers": self._etcd,
            "bind-address": self.address,
            "advertise-address": self.address,
            "secure-port": self.server.rpartition(":")[2],
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "client-ca-file": self.authority.certificate,
            "kubelet-client-certificate": kubelets.certificate,
            "kubelet-client-key": kubelets.key,
            # Names of nodes are nobody's to resolve.
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self._tokens.certificate,
            "service-account-signing-key-file": self._tokens.key,
            "service-cluster-ip-range": _SERVICES,
            "authorization-mode": "Node,RBAC",
            # PodSecurity is on by default; namespaces ask for it by label.
            "enable-admission-plugins": "NodeRestriction",
            "default-not-ready-toleration-seconds": EVICTION_S,
            "default-unreachable-toleration-seconds": EVICTION_S,
        }
        if self.address.startswith("127."):
            # Endpoints of the service `kubernetes` may not be loopback addresses.
            options["endpoint-reconciler-type"] = "none"
        self._run("kube-apiserver", options)
        self.await_api_server()

    def await_api_server(self) -> None:
        """Return when the API server says that it is ready."""
        self._await("kube-apiserver", self.server, "/readyz")

    def _start_controllers(self) -> None:
        self._start_controller(
            "kube-controller-manager",
            {
                "root-ca-file": self.authority.certificate,
                "service-account-private-key-file": self._tokens.key,
                "cluster-signing-cert-file": self.authority.certificate,
                "cluster-signing-key-file": self.authority.key,
                # Each controller acts with no more rights than it has in a real cluster.
                "use-service-account-credentials": "true",
                "node-monitor-period": "1s",
                "node-monitor-grace-period": f"{NODE_GRACE_S}s",
            },
        )
        self._start_controller("kube-scheduler", {})

    def _start_controller(self, name: str, options: Mapping[str, object]) -> None:
        port = self._take_port()
        serving = self.authority.issue(f"{name}-serving", addresses=["IP:127.0.0.1"])
        own = {
            "kubeconfig": self.kubeconfig(f"system:{name}"),
            "bind-address": "127.0.0.1",
            "secure-port": port,
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "leader-elect": "false",
        }
        self._run(name, {**own, **options})
        self._await(name, f"https://127.0.0.1:{port}", "/healthz")

    def _run(self, name: str, options: Mapping[str, object]) -> None:
        flags = [f"--{option}={value}" for option, value in options.items()]
        self.processes.start(name, [self._find(name), *flags])

    def _await(self, name: str, server: str, path: str) -> None:
        client = self.admin.at(server)

        def healthy() -> bool:
            try:
                client.get(path)
            except (ApiFault, urllib3.exceptions.HTTPError):
                return False
            return True

        self.processes.wait_for(f"{name} at {server}", healthy, STARTUP_S, name)

"""A context on a cluster, through the real client of Kubernetes: what it finds of a release, and
calls over forwarded ports."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from typer.testing import CliRunner, Result

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from contract.scripted_cluster import ScriptedCluster, serving
from object_stores import make_certificate

from plumbline.cli.contexts.cluster_api import ClusterApi
from plumbline.cli.contexts.config import Cluster, Context
from plumbline.cli.contexts.pods import pod_logs, pod_states
from plumbline.cli.contexts.settings import ContextSettings, context_settings
from plumbline.cli.main import app
from plumbline.core.errors import (
    ConfigError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    ServiceUnavailableError,
)
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import S3Access, Settings
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc

INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
STARTING = {
    "phase": "Pending",
    "containerStatuses": [
        {"restartCount": 2, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    ],
}


class NamedSampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Answers with the name of its policy, and knows whose token it saw."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tokens: list[object] = []

    async def ListPolicies(
        self, request: pb.ListPoliciesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListPoliciesResponse:
        self.tokens += [v for k, v in context.invocation_metadata() or () if k == "authorization"]
        return pb.ListPoliciesResponse(policies=[pb.Policy(id=self.name)])


def serving_sampler(servicer: NamedSampler, settings: Settings | None = None) -> Any:
    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.SamplerService"]

    return serve_in_thread("sampler", register, settings=settings or Settings())


def encoded(**values: str) -> dict[str, str]:
    keys = {name.replace("_", "-"): value for name, value in values.items()}
    return {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}


def container(**more: Any) -> dict[str, Any]:
    ports = [{"name": "grpc", "containerPort": 50051}, {"name": "s3", "containerPort": 8333}]
    return {"containers": [{"name": "own", "ports": ports, **more}], "volumes": []}


@pytest.fixture
def cluster() -> ScriptedCluster:
    """A release `rel` whose pipeline pod is told of a store and of tokens, as the chart does it."""
    found = ScriptedCluster()
    told = container(
        env=[
            {"name": "PLUMBLINE_S3_ENDPOINT", "value": "http://rel-store.plumb.svc:8333"},
            {
                "name": "PLUMBLINE_S3_ACCESS_KEY",
                "valueFrom": {"secretKeyRef": {"name": "rel-s3", "key": "access"}},
            },
            {
                "name": "PLUMBLINE_S3_SECRET_KEY",
                "valueFrom": {"secretKeyRef": {"name": "rel-s3", "key": "secret"}},
            },
            {"name": "PLUMBLINE_TOKENS_FILE", "value": "/etc/plumbline/auth/tokens.json"},
        ],
        envFrom=[{"configMapRef": {"name": "rel-environment"}}],
        volumeMounts=[{"name": "tokens", "mountPath": "/etc/plumbline/auth"}],
    )
    told["volumes"] = [
        {"name": "tokens", "secret": {"secretName": "rel-auth", "items": [_same("tokens.json")]}}
    ]
    labels = {INSTANCE: "rel", COMPONENT: "pipeline"}
    found.add("pods", "rel-pipeline-0", labels, spec=told, status=READY)
    found.add("configmaps", "rel-environment", data={"PLUMBLINE_STORE": "s3://plumbline"})
    found.add("secrets", "rel-s3", data=encoded(access="key", secret="hush"))
    found.add("secrets", "rel-auth", data=encoded(admin_token="of-the-admin"))
    sampler = {INSTANCE: "rel", COMPONENT: "sampler"}
    found.add("pods", "rel-sampler-0", sampler, spec=container(), status=READY)
    store = {INSTANCE: "rel", COMPONENT: "store"}
    found.add("pods", "rel-store-0", store, spec=container(), status=READY)
    ports = [{"port": 8333, "targetPort": "s3"}]
    found.add("services", "rel-store", store, spec={"selector": store, "ports": ports})
    found.add("services", "rel-sampler", sampler, spec={"selector": sampler, "ports": []})
    return found


def _same(key: str) -> dict[str, str]:
    return {"key": key, "path": key}


@pytest.fixture
def settings_of(
    cluster: ScriptedCluster, tmp_path: Path
) -> Iterator[Callable[..., ContextSettings]]:
    """Settings of a context on the cluster; the API server runs while the test does."""
    with serving(cluster) as address:
        kubeconfig = cluster.kubeconfig(address, tmp_path / "kubeconfig")

        def make(**more: Any) -> ContextSettings:
            place = {"namespace": "plumb", "release": "rel", "kubeconfig": kubeconfig}
            place |= more.pop("cluster", {})
            shell = {"PLUMBLINE_STATE_DIR": str(tmp_path), **more.pop("shell", {})}
            context = Context.model_validate({"cluster": place, **more})
            return context_settings("prod", context, shell)

        yield make


def policies(settings: Settings) -> list[str]:
    with connect("sampler", settings=settings, timeout_s=20) as sampler:
        return [policy.id for policy in sampler.ListPolicies(pb.ListPoliciesRequest()).policies]


def test_calls_reach_a_ready_pod_with_the_releases_token(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    servicer = NamedSampler("first")
    with serving_sampler(servicer) as address:
        cluster.ports["rel-sampler-0", 50051] = address

        assert policies(settings_of()) == ["first"]

    assert servicer.tokens == ["Bearer of-the-admin"]


def test_after_a_pod_went_away_calls_go_to_the_next_one(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    labels = {INSTANCE: "rel", COMPONENT: "sampler"}
    with (
        serving_sampler(NamedSampler("first")) as one,
        serving_sampler(NamedSampler("second")) as two,
    ):
        cluster.ports["rel-sampler-0", 50051] = one
        with connect("sampler", settings=settings_of(), timeout_s=20) as sampler:
            before = sampler.ListPolicies(pb.ListPoliciesRequest()).policies[0].id
            cluster.add("pods", "rel-sampler-1", labels, spec=container(), status=READY)
            cluster.ports["rel-sampler-1", 50051] = two
            cluster.objects["pods"]["rel-sampler-0"]["metadata"]["deletionTimestamp"] = "now"
            cluster.cut()
            after = sampler.ListPolicies(pb.ListPoliciesRequest()).policies[0].id

    assert (before, after) == ("first", "second")


def test_no_ready_pod_is_said_at_once(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    cluster.objects["pods"]["rel-sampler-0"]["status"] = STARTING

    with pytest.raises(ServiceUnavailableError, match=r"no pod of sampler is ready.*rel-sampler-0"):
        settings_of().target("sampler")
    with pytest.raises(ServiceUnavailableError, match=r"no pod of reward is ready.*there is none"):
        settings_of().target("reward")


class Echo(socketserver.BaseRequestHandler):
    """Stands for a store: sends back what it hears."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := self.request.recv(65536):
                self.request.sendall(chunk)


@pytest.fixture
def store() -> Iterator[str]:
    """host:port of a server in the place of a store's pod."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_store_is_reached_through_its_service(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings], store: str
) -> None:
    cluster.ports["rel-store-0", 8333] = store
    settings = settings_of()
    access = settings.s3_access

    assert settings.store_url == "s3://plumbline"
    assert access.access_key is not None and access.access_key.get_secret_value() == "key"
    assert access.secret_key is not None and access.secret_key.get_secret_value() == "hush"
    host, _, port = access.endpoint.removeprefix("http://").rpartition(":")
    content = b"ping" * 20_000
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(content)
        heard = b""
        while len(heard) < len(content):
            heard += client.recv(65536)
    assert heard == content


def test_a_store_outside_is_used_as_it_is_named(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    env = cluster.objects["pods"]["rel-pipeline-0"]["spec"]["containers"][0]["env"]
    env[0]["value"] = "https://s3.example.com"

    assert settings_of().s3_access.endpoint == "https://s3.example.com"
    assert settings_of(s3_endpoint="https://cdn").s3_access.endpoint == "https://cdn"
    env[0]["value"] = "https://rel-store:8333"
    with pytest.raises(FailedPreconditionError, match="inside the cluster and uses TLS"):
        _ = settings_of(cluster={"kube_context": "here"}).s3_access


SHELL = {
    "PLUMBLINE_S3_ENDPOINT": "http://localhost:9000",
    "PLUMBLINE_S3_ACCESS_KEY": "shells",
    "PLUMBLINE_S3_SECRET_KEY": "shells",
    "PLUMBLINE_S3_REGION": "shells",
    "PLUMBLINE_S3_CA": "/shells.pem",
}


def revealed(access: S3Access) -> dict[str, str | None]:
    keys = {"access_key": access.access_key, "secret_key": access.secret_key}
    return {
        **{name: key.get_secret_value() if key else None for name, key in keys.items()},
        "endpoint": access.endpoint,
        "region": access.region,
        "ca": access.ca.read_text() if access.ca else None,
    }


def test_another_address_of_the_store_takes_the_releases_keys(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    own = cluster.objects["pods"]["rel-pipeline-0"]["spec"]["containers"][0]
    own["env"].append({"name": "PLUMBLINE_S3_CA", "value": "/store-ca/ca.crt"})
    own["volumeMounts"].append({"name": "store-ca", "mountPath": "/store-ca"})
    volumes = cluster.objects["pods"]["rel-pipeline-0"]["spec"]["volumes"]
    volumes.append({"name": "store-ca", "secret": {"secretName": "rel-store-ca"}})
    cluster.add("secrets", "rel-store-ca", data={"ca.crt": base64.b64encode(b"CA").decode()})
    cluster.objects["configmaps"]["rel-environment"]["data"]["PLUMBLINE_S3_REGION"] = "eu-1"

    settings = settings_of(s3_endpoint="https://s3.example.com", shell=SHELL)

    assert revealed(settings.s3_access) == {
        "access_key": "key",
        "secret_key": "hush",
        "endpoint": "https://s3.example.com",
        "region": "eu-1",
        "ca": "CA",
    }


def test_a_store_of_ones_own_takes_the_shells_keys(
    settings_of: Callable[..., ContextSettings],
) -> None:
    """Those of the release, which may be read here, are for another store."""
    access = settings_of(store="s3://lab", s3_endpoint="https://lab", shell=SHELL).s3_access

    assert (revealed(access)["access_key"], access.endpoint) == ("shells", "https://lab")


def test_the_shells_keys_are_used_where_those_of_the_release_cannot_be_read(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    cluster.forbidden |= {"secrets", "configmaps"}

    settings = settings_of(store="s3://lab", s3_endpoint="https://s3.example.com", shell=SHELL)

    assert settings.store_url == "s3://lab"
    assert revealed(settings.s3_access) == {
        "access_key": "shells",
        "secret_key": "shells",
        "endpoint": "https://s3.example.com",
        "region": "us-east-1",
        "ca": None,
    }
    with pytest.raises(PermissionDeniedError, match="reading the secret rel-s3"):
        _ = settings_of(store="s3://lab", shell=SHELL).s3_access


def test_a_release_that_is_told_no_endpoint_has_its_store_at_the_usual_one(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    env = cluster.objects["pods"]["rel-pipeline-0"]["spec"]["containers"][0]["env"]
    env[0]["value"] = ""

    assert settings_of(shell=SHELL).s3_access.endpoint == "https://s3.amazonaws.com"


def test_a_service_without_selector_cannot_be_forwarded(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    cluster.objects["services"]["rel-store"]["spec"] = {"externalName": "s3.example.com"}

    with pytest.raises(FailedPreconditionError, match=r"rel-store .*`s3_endpoint`"):
        _ = settings_of().s3_access


def test_the_right_to_list_pods_and_to_forward_is_enough_without_tls(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    cluster.forbidden |= {"secrets", "configmaps"}
    with serving_sampler(NamedSampler("first")) as address:
        cluster.ports["rel-sampler-0", 50051] = address
        settings = settings_of()

        assert policies(settings) == ["first"]

    assert (settings.token, settings.tls_ca, settings.server_name("sampler")) == (None, None, None)


@pytest.mark.parametrize("named", [{}, {"tls": {"ca": "/lab/ca.pem"}}])
def test_without_the_right_to_list_pods_that_is_what_is_said(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings], named: dict[str, Any]
) -> None:
    cluster.forbidden.add("pods")

    with pytest.raises(PermissionDeniedError, match=r"^listing pods .*: pods is forbidden"):
        settings_of(**named)


def test_without_leave_to_read_secrets_a_call_carries_no_token(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings], tmp_path: Path
) -> None:
    cluster.forbidden.add("secrets")
    (tmp_path / "own").write_text("mine")

    assert settings_of().token is None
    own = settings_of(token_file=tmp_path / "own").token
    assert own is not None and own.get_secret_value() == "mine"


def secure(cluster: ScriptedCluster, content: dict[str, bytes]) -> None:
    """Give the release's pods TLS files, as the chart does it."""
    spec = cluster.objects["pods"]["rel-pipeline-0"]["spec"]
    files = {"CA": "ca.crt", "CERT": "tls.crt", "KEY": "tls.key"}
    spec["containers"][0]["env"] += [
        {"name": f"PLUMBLINE_TLS_{name}", "value": f"/tls/{file}"} for name, file in files.items()
    ]
    spec["containers"][0]["volumeMounts"].append({"name": "tls", "mountPath": "/tls"})
    spec["volumes"].append({"name": "tls", "secret": {"secretName": "rel-tls"}})
    data = {file: base64.b64encode(content[name]).decode() for name, file in files.items()}
    cluster.add("secrets", "rel-tls", data=data)


def test_tls_files_come_from_where_the_pod_has_them(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    secure(cluster, {"CA": b"CA", "CERT": b"CERT", "KEY": b"KEY"})

    settings = settings_of()

    found = [settings.tls_ca, settings.tls_cert, settings.tls_key]
    assert [path.read_text() for path in found if path] == ["CA", "CERT", "KEY"]
    assert settings.server_name("sampler") == "rel-sampler.plumb.svc"
    cluster.forbidden.add("secrets")
    with pytest.raises(PermissionDeniedError, match="name files in `tls` of context 'prod'"):
        settings_of(cluster={"kube_context": "here"})


def test_calls_over_mutual_tls_expect_the_name_of_the_service(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings], tmp_path: Path
) -> None:
    """The port is on 127.0.0.1, and the certificate names nothing but the service."""
    made = make_certificate(tmp_path / "tls", names="DNS:rel-sampler.plumb.svc")
    files = {"CA": made.ca, "CERT": made.cert, "KEY": made.key}
    secure(cluster, {name: path.read_bytes() for name, path in files.items()})
    own = Settings(tls_cert=made.cert, tls_key=made.key, tls_ca=made.ca)
    with serving_sampler(NamedSampler("secured"), own) as address:
        cluster.ports["rel-sampler-0", 50051] = address

        assert policies(settings_of()) == ["secured"]


def test_logs_and_states_of_pods(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    labels = {"plumbline.dev/job-id": "job1", INSTANCE: "rel", COMPONENT: "training"}
    cluster.add("pods", "plumbline-job1-1-0", labels, spec=container(), status=STARTING)
    cluster.logs |= {"plumbline-job1-1-0": "loss 0.5\n", "rel-sampler-0": "ready\n"}
    settings = settings_of()

    assert pod_logs(settings, "job1", 5) == [("job1: plumbline-job1-1-0", "loss 0.5\n")]
    assert pod_logs(settings, "run", 5, lambda: [("train", "job1")]) == [
        ("train: plumbline-job1-1-0", "loss 0.5\n")
    ]
    assert pod_logs(settings, "sampler", 5) == [("rel-sampler-0", "ready\n")]
    with pytest.raises(NotFoundError, match="accepted: pipeline, sampler, store, training"):
        pod_logs(settings, "nothing", 5)
    states = {row["pod"]: (row["state"], row["restarts"]) for row in pod_states(settings)}
    assert states["rel-sampler-0"] == ("ready", 0)
    assert states["plumbline-job1-1-0"] == ("ImagePullBackOff", 2)
    cluster.objects["pods"]["rel-sampler-0"]["metadata"]["deletionTimestamp"] = "now"
    assert "Terminating" in [row["state"] for row in pod_states(settings)]


@pytest.fixture
def logs(
    settings_of: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Result]:
    """Runs `plumbline logs` in a context on the cluster."""
    place = {"namespace": "plumb", "release": "rel", "kubeconfig": str(tmp_path / "kubeconfig")}
    file = tmp_path / "contexts.yaml"
    file.write_text(yaml.safe_dump({"contexts": {"prod": {"cluster": place}}}))
    monkeypatch.setenv("PLUMBLINE_CONTEXTS_FILE", str(file))
    monkeypatch.setenv("PLUMBLINE_CONTEXT", "prod")
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path))
    return lambda name: CliRunner().invoke(app, ["logs", name])


def test_logs_are_read_while_the_pipeline_service_is_down(
    cluster: ScriptedCluster, logs: Callable[[str], Result]
) -> None:
    waiting = {"restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    status = {"phase": "Running", "containerStatuses": [waiting]}
    cluster.objects["pods"]["rel-pipeline-0"]["status"] = status
    cluster.logs["rel-pipeline-0"] = "no such bucket"

    assert logs("pipeline").stdout == "no such bucket\n"
    # Only the pipeline service knows whether this is a run.
    assert "no pod of pipeline is ready" in str(logs("a-run").exception)


def test_a_pod_without_a_log_leaves_those_of_the_others(
    cluster: ScriptedCluster, logs: Callable[[str], Result]
) -> None:
    labels = {INSTANCE: "rel", COMPONENT: "sampler"}
    cluster.add("pods", "rel-sampler-1", labels, spec=container(), status=STARTING)
    cluster.logs["rel-sampler-0"] = "ready"

    shown = logs("sampler").stdout

    assert "ready\n" in shown
    assert "container own in pod rel-sampler-1 is waiting to start" in shown


@pytest.mark.parametrize("content", [b"a: [", b"a word", b"- a list", b"contexts: 3", b"\xff"])
def test_a_file_that_is_no_kubeconfig(
    settings_of: Callable[..., ContextSettings], tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "broken"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match="kubeconfig cannot be used"):
        settings_of(cluster={"kubeconfig": file})


def test_a_port_forward_that_is_never_answered_ends(tmp_path: Path) -> None:
    """As behind a proxy that takes the connection and knows no WebSockets."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        kubeconfig = ScriptedCluster().kubeconfig(address, tmp_path / "kubeconfig")
        api = ClusterApi(Cluster(namespace="plumb", kubeconfig=kubeconfig), timeout_s=0.2)

        with pytest.raises(ServiceUnavailableError, match=r"forwarding port 1 of .*timed out"):
            api.dial("rel-sampler-0", 1)


def test_a_port_forward_stays_open_while_nothing_is_said(
    cluster: ScriptedCluster, tmp_path: Path, store: str
) -> None:
    cluster.ports["rel-store-0", 8333] = store
    with serving(cluster) as address:
        kubeconfig = cluster.kubeconfig(address, tmp_path / "kubeconfig")
        api = ClusterApi(Cluster(namespace="plumb", kubeconfig=kubeconfig), timeout_s=0.5)
        connection = api.dial("rel-store-0", 8333)
        late = threading.Timer(1.0, connection.sendall, [b"late"])
        late.start()

        assert connection.recv(4) == b"late"
        late.join()
        connection.close()


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ({"namespace": "other"}, NotFoundError, "not found"),
        ({"release": "none"}, NotFoundError, "release none in namespace plumb has no pod"),
        ({"kube_context": "none"}, ConfigError, "kubeconfig cannot be used"),
        ({"kubeconfig": "/nowhere"}, ConfigError, "kubeconfig cannot be used"),
    ],
)
def test_what_is_wrong_with_a_place_is_said(
    settings_of: Callable[..., ContextSettings],
    place: dict[str, str],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        settings_of(cluster=place)


def test_refused_forwarding_is_said(
    cluster: ScriptedCluster, settings_of: Callable[..., ContextSettings]
) -> None:
    cluster.forbidden.add("portforward")

    with pytest.raises(PermissionDeniedError, match="forwarding port 50051 of pod rel-sampler-0"):
        settings_of().target("sampler")

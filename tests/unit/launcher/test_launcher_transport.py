"""The way to the API server, through the `kubernetes` package and a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from plumbline.core.errors import ConfigError, PermissionDeniedError, ServiceUnavailableError
from plumbline.launcher.cluster import Cluster, _HttpTransport
from plumbline.launcher.config import LauncherConfig

pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")

from kubernetes.client import Configuration
from kubernetes.config import ConfigException

CONFIG = LauncherConfig(image="worker:1")


class Handler(BaseHTTPRequestHandler):
    """Notes each request, answers lists with nothing and refuses to create."""

    seen: list[tuple[str, str, str, bytes]]

    def _answer(self, code: int, body: object) -> None:
        length = int(self.headers.get("Content-Length", 0))
        token = self.headers.get("Authorization", "")
        self.seen.append((self.command, self.path, token, self.rfile.read(length)))
        encoded = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def do_GET(self) -> None:
        self._answer(200, {"items": []})

    def do_POST(self) -> None:
        message = (
            'jobs.batch is forbidden: User "me" cannot create resource "jobs" in API group "batch"'
        )
        self._answer(403, {"message": message, "reason": "Forbidden"})

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str, str, bytes]]]]:
    handler = type("NotingHandler", (Handler,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", handler.seen
        http.shutdown()


def kubeconfig(path: Path, url: str, namespace: str = "ml") -> Path:
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "x",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "t0ken"}}],
                "contexts": [{"name": "x", "context": context}],
            }
        )
    )
    return path


def test_requests_carry_token_namespace_and_body(
    server: tuple[str, list[tuple[str, str, str, bytes]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, seen = server
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", url)))
    cluster = Cluster.connect(CONFIG)

    assert cluster.namespace == "ml"
    assert cluster.snapshot().jobs == {}
    with pytest.raises(PermissionDeniedError, match="lacks the verb 'create' on 'jobs'"):
        cluster.create({"kind": "Job", "metadata": {"name": "x"}})

    assert {token for _, _, token, _ in seen} == {"Bearer t0ken"}
    assert [method for method, *_ in seen] == ["GET", "GET", "POST"]
    assert json.loads(seen[-1][3]) == {"kind": "Job", "metadata": {"name": "x"}}


def test_the_configurations_namespace_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", "http://127.0.0.1:1")))

    assert Cluster.connect(CONFIG.model_copy(update={"namespace": "jobs"})).namespace == "jobs"


def test_nobody_there_is_unavailable_and_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", "http://127.0.0.1:1")))

    with pytest.raises(ServiceUnavailableError, match=r"at http://127\.0\.0\.1:1 does not answer"):
        Cluster.connect(CONFIG).snapshot()


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "missing"])
def test_a_token_that_cannot_be_read_is_unavailable_until_it_can(
    empty: bool, server: tuple[str, list[tuple[str, str, str, bytes]]], tmp_path: Path
) -> None:
    url, seen = server
    token = tmp_path / "token"
    if empty:
        token.touch()

    def refresh(configuration: Configuration) -> None:
        # As the package reads the token of a service account.
        content = token.read_text()
        if not content:
            raise ConfigException("Token file exists but empty.")
        configuration.api_key["BearerToken"] = f"bearer {content}"

    configuration = Configuration(host=url, api_key={"BearerToken": "bearer of-before"})
    configuration.refresh_api_key_hook = refresh
    cluster = Cluster(_HttpTransport(configuration), CONFIG, "ml")

    with pytest.raises(ServiceUnavailableError, match="credential for the Kubernetes API") as error:
        cluster.snapshot()
    assert ("exists but empty" if empty else str(token)) in error.value.message
    assert seen == []

    token.write_text("t0ken")
    assert cluster.snapshot().jobs == {}
    assert {sent for _, _, sent, _ in seen} == {"bearer t0ken"}


def test_no_cluster_at_all_says_what_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))

    with pytest.raises(ConfigError, match="or KUBECONFIG"):
        Cluster.connect(CONFIG)

"""Bearer tokens and mutual TLS: who has which, and whether certificates name what is called."""

from __future__ import annotations

import json

import pytest
from charts.rendering import SERVICES, Object, Rendered, render

MANAGED: Object = {"tls": {"mode": "certManager"}}
GIVEN: Object = {
    "tls": {"mode": "existingSecret", "existingSecret": "server", "clientExistingSecret": "client"}
}
TLS_FILES = {
    "PLUMBLINE_TLS_CERT": "tls.crt",
    "PLUMBLINE_TLS_KEY": "tls.key",
    "PLUMBLINE_TLS_CA": "ca.crt",
}


def secret_of(release: Rendered, component: str, mount: str) -> str | None:
    """Name of the Secret that a pod has at a path."""
    pod = release.pod(component)
    names = [m["name"] for m in pod.main["volumeMounts"] if m["mountPath"] == mount]
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    return volumes[names[0]]["secret"]["secretName"] if names else None


# Tokens; test_tokens.py has what they allow


@pytest.mark.parametrize("component", SERVICES)
def test_every_server_asks_for_tokens(component: str) -> None:
    made = render()

    path = made.pod(component).environment()["PLUMBLINE_TOKENS_FILE"]["value"]
    assert path == "/etc/plumbline/auth/tokens.json"
    assert secret_of(made, component, "/etc/plumbline/auth") == "demo-plumbline-auth"
    assert (
        "PLUMBLINE_TOKENS_FILE"
        not in render(changes={"auth": {"enabled": False}}).pod(component).environment()
    )


def test_only_those_that_call_others_have_a_token_and_the_front_has_none() -> None:
    holders = {p.component for p in render().pods() if "PLUMBLINE_TOKEN" in p.environment()}

    workers = {"worker-control", "worker-curation", "worker-training", "worker-models"}
    assert holders == {"reward", "retriever", "helm-test", *workers}


def test_nobody_but_the_administrator_gets_the_administrator_s_token(release: Rendered) -> None:
    assert "admin-token" not in json.dumps([pod.spec for pod in release.pods()])


def test_tokens_of_one_s_own() -> None:
    made = render(changes={"auth": {"existingSecret": "mine"}})

    assert made.find("Secret", "auth") is None
    assert secret_of(made, "reward", "/etc/plumbline/auth") == "mine"
    source = made.pod("reward").environment()["PLUMBLINE_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert source == {"name": "mine", "key": "internal-token"}


# TLS


@pytest.mark.parametrize("values", [MANAGED, GIVEN], ids=["managed", "given"])
def test_every_part_speaks_tls_with_files_that_it_has(values: Object) -> None:
    made = render(changes={**values, "launcher": {"executor": "kubernetes"}})
    for pod in made.pods():
        if "plumbline-" not in pod.main["image"]:
            continue
        environment = pod.environment()
        found = {name: environment[name]["value"] for name in TLS_FILES}
        assert found == {name: f"/etc/plumbline/tls/{file}" for name, file in TLS_FILES.items()}
        assert "/etc/plumbline/tls" in {m["mountPath"] for m in pod.main["volumeMounts"]}, pod.owner


@pytest.mark.parametrize(
    ("values", "server", "client"),
    [
        (MANAGED, "demo-plumbline-server-tls", "demo-plumbline-client-tls"),
        (GIVEN, "server", "client"),
        ({"tls": {"mode": "existingSecret", "existingSecret": "one"}}, "one", "one"),
    ],
)
def test_servers_and_clients_have_certificates_of_their_own(
    values: Object, server: str, client: str
) -> None:
    made = render(changes=values)

    for component in (*SERVICES, "openai-front"):
        assert secret_of(made, component, "/etc/plumbline/tls") == server, component
    for component in ("worker-control", "worker-training"):
        assert secret_of(made, component, "/etc/plumbline/tls") == client, component


def test_the_servers_certificate_has_every_name_that_is_called() -> None:
    made = render(changes=MANAGED)
    names = set(made.one("Certificate", "server-tls")["spec"]["dnsNames"])
    shared = made.one("ConfigMap", "environment")["data"]
    targets = [value for key, value in shared.items() if key.endswith("_TARGET")]

    assert len(targets) == len(SERVICES)
    for target in targets:
        assert target.removeprefix("dns:///").rpartition(":")[0] in names
    assert "demo-plumbline-openai-front.values.svc" in names
    assert "localhost" in names  # behind a port-forward
    assert not [name for name in names if name.startswith("*")]


def test_certificates_say_what_they_are_for() -> None:
    made = render(changes=MANAGED)
    server, client = (
        made.one("Certificate", f"{role}-tls")["spec"] for role in ("server", "client")
    )

    assert {"server auth", "client auth"} <= set(server["usages"])  # servers call each other
    assert "server auth" not in client["usages"]
    assert server["issuerRef"] == client["issuerRef"]


def test_without_an_issuer_the_release_has_an_authority_of_its_own() -> None:
    made = render(changes=MANAGED)
    authority = made.one("Certificate", "ca")["spec"]
    issuer = made.one("Issuer", "ca")["spec"]

    assert authority["isCA"] is True
    assert issuer["ca"]["secretName"] == authority["secretName"]
    assert made.one("Certificate", "server-tls")["spec"]["issuerRef"]["name"] == "demo-plumbline-ca"
    own = {
        "tls": {
            "mode": "certManager",
            "certManager": {"issuerRef": {"name": "mine", "kind": "ClusterIssuer"}},
        }
    }
    made = render(changes=own)
    assert made.of_kind("Issuer") == []
    assert made.one("Certificate", "server-tls")["spec"]["issuerRef"]["kind"] == "ClusterIssuer"


def test_the_front_s_probes_speak_what_it_speaks() -> None:
    def scheme(release: Rendered) -> str:
        found: str = (
            release.pod("openai-front").main["readinessProbe"]["httpGet"].get("scheme", "HTTP")
        )
        return found

    assert scheme(render()) == "HTTP"
    assert scheme(render(changes=MANAGED)) == "HTTPS"


def test_without_tls_there_is_nothing_of_it() -> None:
    made = render()

    assert made.of_kind("Certificate", "Issuer") == []
    assert all(set(TLS_FILES).isdisjoint(pod.environment()) for pod in made.pods())

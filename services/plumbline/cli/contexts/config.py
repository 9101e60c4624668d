"""The contexts file: platforms by name, and which of them the command uses.

    current: lab
    contexts:
      lab:
        services: {pipeline: "lab.example:50051", sampler: "lab.example:50052"}
        tls: {ca: /etc/lab/ca.pem}
        token_file: ~/.config/plumbline/lab.token
        store: s3://plumbline/lab
        s3_endpoint: https://s3.lab.example
      prod:
        cluster: {namespace: plumbline, release: plumbline, kube_context: prod-eu}

It holds no secret: tokens are named by a file or by a variable of the environment, keys of a store
come from `PLUMBLINE_S3_ACCESS_KEY` and `_SECRET_KEY`, and those of a release from its own Secrets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from plumbline.cli.contexts import CONTEXT_VARIABLE
from plumbline.core.errors import ConfigError, NotFoundError, StorageUnavailableError
from plumbline.core.validation import FrozenConfig, closest, parse_config

FILE_VARIABLE: Final = "PLUMBLINE_CONTEXTS_FILE"
LOCAL: Final = "local"
"""The platform of this machine: what the environment and `plumbline up` say. Needs no entry."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
File = Annotated[Path, AfterValidator(Path.expanduser)]
Target = Annotated[str, StringConstraints(pattern=r"^\S+$")]
Service = Literal[
    "curation", "sampler", "reward", "trainer", "retriever", "evaluation", "pipeline", "jobs"
]


class TLS(FrozenConfig):
    """Files for connections to the services, in PEM form."""

    ca: File | None = None
    """Authorities that may sign the services' certificates; None means plaintext."""
    cert: File | None = None
    """This client's own certificate, where the services ask for one."""
    key: File | None = None
    server_name: str = ""
    """Name that the services' certificates carry, where it is not that of their address."""

    @model_validator(mode="after")
    def _pair_is_complete(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError(f"cert={self.cert} and key={self.key} must be given together")
        return self


class Cluster(FrozenConfig):
    """A release of the chart on a Kubernetes cluster, reached through its API server."""

    namespace: Name
    release: Name = "plumbline"
    kube_context: str = ""
    """Context of the kubeconfig; empty means its current one."""
    kubeconfig: File | None = None
    """None means what KUBECONFIG names, else ~/.kube/config."""


class Context(FrozenConfig):
    """One platform: addresses of its services, or a release on a cluster."""

    cluster: Cluster | None = None
    services: Mapping[Service, Target] = Field(default_factory=dict)
    """gRPC target by service."""
    gateway: Target | None = None
    """Target that answers for every service which `services` does not name."""
    tls: TLS = TLS()
    token_file: File | None = None
    """File with the bearer token that calls carry."""
    token_env: str = ""
    """Variable of the environment with the token."""
    store: str = Field("", pattern=r"^((s3|file)://\S+)?$")
    """Where its artifacts are, as seen from here; empty leaves commands that need them out, or,
    on a cluster, takes what the release uses."""
    s3_endpoint: str = ""
    """Where an S3 store answers; empty means AWS, or, on a cluster, the endpoint of the release.
    The same holds for its region and for the authorities of its certificate."""
    s3_region: str = ""
    s3_ca: File | None = None

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        addresses = bool(self.services or self.gateway)
        if (self.cluster is not None) == addresses:
            given = "both are given" if addresses else "neither is"
            raise ValueError(
                f"a context has either `cluster` or addresses (`services`, `gateway`); {given}"
            )
        if self.token_file is not None and self.token_env:
            raise ValueError(
                f"token_file={self.token_file} and token_env={self.token_env} exclude each other"
            )
        return self

    def target(self, service: str) -> str | None:
        """Where a service answers; jobs are the pipeline service's where they have no address."""
        named = {str(name): target for name, target in self.services.items()}
        if "pipeline" in named:
            named.setdefault("jobs", named["pipeline"])
        return named.get(service) or self.gateway

    @property
    def where(self) -> str:
        """One line for people."""
        if self.cluster is not None:
            kube = f" of {self.cluster.kube_context}" if self.cluster.kube_context else ""
            return f"release {self.cluster.release} in {self.cluster.namespace}{kube}"
        parts = [f"{name}={target}" for name, target in sorted(self.services.items())]
        return ", ".join([*parts, *([f"gateway={self.gateway}"] if self.gateway else [])])


class ContextsFile(FrozenConfig):
    """Content of the file."""

    current: Name = LOCAL
    contexts: Mapping[Name, Context] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if LOCAL in self.contexts:
            raise ValueError(f"{LOCAL!r} is this machine and cannot be defined")
        if self.current != LOCAL and self.current not in self.contexts:
            raise ValueError(f"current={self.current} is none of: {', '.join(self.names)}")
        return self

    @property
    def names(self) -> list[str]:
        return [LOCAL, *sorted(self.contexts)]

    def get(self, name: str) -> Context:
        """Raises NotFoundError when there is no such context; `local` has no entry."""
        if name not in self.contexts:
            raise NotFoundError(
                f"no context {name!r}{closest(name, self.names)}; accepted: {', '.join(self.names)}"
            )
        return self.contexts[name]


def contexts_path(environment: Mapping[str, str]) -> Path:
    """Where the file is: PLUMBLINE_CONTEXTS_FILE, else under XDG_CONFIG_HOME or ~/.config."""
    if environment.get(FILE_VARIABLE):
        return Path(environment[FILE_VARIABLE]).expanduser()
    configuration = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(configuration).expanduser() / "plumbline" / "contexts.yaml"


def read_contexts(path: Path) -> ContextsFile:
    """The file's content; empty where there is none.

    Raises:
        ConfigError: it cannot be read, is not YAML, or says what is not accepted.
    """
    import yaml

    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ContextsFile()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the contexts file {path} cannot be read: {error}") from error
    if not isinstance(values, dict | None):
        raise ConfigError(f"{path} holds a {type(values).__name__}; a map is accepted")
    return parse_config(ContextsFile, values or {}, where=str(path))


def write_contexts(path: Path, content: ContextsFile) -> None:
    """Replace the file in one step; only its owner may read it.

    Raises:
        StorageUnavailableError: it cannot be written.
    """
    import yaml

    values = content.model_dump(mode="json", exclude_defaults=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", opener=_private) as file:
            yaml.safe_dump(values, file, sort_keys=True)
        temporary.replace(path)
    except OSError as error:
        raise StorageUnavailableError(f"cannot write {path}: {error.strerror}") from error


def chosen_context(environment: Mapping[str, str]) -> tuple[str, Context] | None:
    """The context in force and its name; None for this machine.

    Raises:
        NotFoundError: PLUMBLINE_CONTEXT or `--context` names none.
    """
    content = read_contexts(contexts_path(environment))
    name = environment.get(CONTEXT_VARIABLE) or content.current
    return None if name == LOCAL else (name, content.get(name))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

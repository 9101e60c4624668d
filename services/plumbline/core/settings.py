"""Where things are and how to reach them: endpoints and secrets from the environment, nothing else.

What a run does is configured in YAML; this module only says where its parts live. Values that the
environment leaves out fall back to `<state>/endpoints.json`, which `plumbline up` writes:

    {"services": {"reward": "127.0.0.1:4567"}, "redis_url": "redis://...", "store": "file:///..."}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from plumbline.core.errors import ConfigError
from plumbline.core.validation import parse_config

SERVICES = ("curation", "sampler", "reward", "trainer", "retriever", "evaluation", "pipeline")
"""Names of the gRPC services; each has `PLUMBLINE_<NAME>_TARGET` and `PLUMBLINE_<NAME>_LISTEN`."""

ENDPOINTS_FILE = "endpoints.json"
DEFAULT_LISTEN = "127.0.0.1:0"
DEFAULT_CACHE_BYTES = 20 * 2**30

_VARIABLES = {
    "state_dir": "PLUMBLINE_STATE_DIR",
    "store": "PLUMBLINE_STORE",
    "cache_bytes": "PLUMBLINE_CACHE_BYTES",
    "redis_url": "REDIS_URL",
    "metrics_listen": "PLUMBLINE_METRICS_LISTEN",
    "token": "PLUMBLINE_TOKEN",
    "tokens_file": "PLUMBLINE_TOKENS_FILE",
    "tls_cert": "PLUMBLINE_TLS_CERT",
    "tls_key": "PLUMBLINE_TLS_KEY",
    "tls_ca": "PLUMBLINE_TLS_CA",
    "tls_server_name": "PLUMBLINE_TLS_SERVER_NAME",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "threads": "PLUMBLINE_THREADS",
    "drain_s": "PLUMBLINE_DRAIN_S",
    "grace_s": "PLUMBLINE_GRACE_S",
    "executor": "PLUMBLINE_EXECUTOR",
    "s3_endpoint": "PLUMBLINE_S3_ENDPOINT",
    "s3_access_key": "PLUMBLINE_S3_ACCESS_KEY",
    "s3_secret_key": "PLUMBLINE_S3_SECRET_KEY",
    "s3_region": "PLUMBLINE_S3_REGION",
    "s3_ca": "PLUMBLINE_S3_CA",
    "pseudonym_keys_file": "PLUMBLINE_PSEUDONYM_KEYS_FILE",
    "reward_backend": "PLUMBLINE_REWARD_BACKEND",
    "triton_target": "PLUMBLINE_TRITON_TARGET",
    "triton_shared_memory": "PLUMBLINE_TRITON_SHARED_MEMORY",
    "triton_tokenizer": "PLUMBLINE_TRITON_TOKENIZER",
    "sampler_backend": "PLUMBLINE_SAMPLER_BACKEND",
    "openai_base_url": "PLUMBLINE_OPENAI_BASE_URL",
    "openai_api_key": "PLUMBLINE_OPENAI_API_KEY",
    "qdrant_url": "PLUMBLINE_QDRANT_URL",
    "qdrant_api_key": "PLUMBLINE_QDRANT_API_KEY",
}
_IMPORT_ROOTS = "PLUMBLINE_IMPORT_ROOTS"
_TRACKERS = "PLUMBLINE_TRACKERS"


class S3Access(BaseModel):
    """Where an S3 store answers, and as whom it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str
    access_key: SecretStr | None = None
    """None, like the secret key, for anonymous access."""
    secret_key: SecretStr | None = None
    region: str = "us-east-1"
    ca: Path | None = None


class Settings(BaseModel):
    """Endpoints and secrets of one process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Path = Path(".plumbline")
    """Local state: the embedded store, caches, logs, scratch."""
    store: str = ""
    """`file:///directory` or `s3://bucket/prefix`; empty means `<state_dir>/store`."""
    cache_bytes: int = Field(DEFAULT_CACHE_BYTES, ge=0)
    """Bound of the local artifact cache."""
    redis_url: str | None = Field(None, repr=False)
    """May hold a password, so it stays out of `repr`."""
    targets: Mapping[str, str] = Field(default_factory=dict)
    """gRPC target by service, where the environment names one; see `target`."""
    listens: Mapping[str, str] = Field(default_factory=dict)
    metrics_listen: str | None = None
    """host:port of the Prometheus endpoint; None means no endpoint."""
    token: SecretStr | None = None
    """Bearer token that this process's clients send."""
    tokens_file: Path | None = None
    """Tokens and scopes that this process's servers accept."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    tls_server_name: str | None = None
    """Name that clients expect in a server's certificate; None means the address's own. Needed
    where a service is reached through a tunnel."""
    s3_endpoint: str = "https://s3.amazonaws.com"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_region: str = "us-east-1"
    s3_ca: Path | None = None
    """PEM file of the authorities that may sign the S3 endpoint's certificate, in place of the
    system's."""
    pseudonym_keys_file: Path | None = None
    """JSON file of the keys behind pseudonyms, {name: base64 of 32 bytes or more}."""
    reward_backend: Literal["in_process", "triton"] = "in_process"
    """Where the reward service's scores are computed."""
    triton_target: str | None = None
    """host:port of Triton Inference Server's gRPC endpoint."""
    triton_shared_memory: bool = False
    """Hand input to Triton in shared memory, where it runs on this machine."""
    triton_tokenizer: str = ""
    """Artifact or directory with the tokenizer of the policies that Triton holds; empty leaves
    them without a chat template."""
    sampler_backend: Literal["native", "openai", "triton"] = "native"
    """What draws the sampler's responses."""
    openai_base_url: str | None = None
    """Of the endpoint whose models the sampler's `openai` backend offers as policies."""
    openai_api_key: SecretStr | None = None
    qdrant_url: str | None = None
    """Of the Qdrant server that searches vectors of knowledge bases, where a retriever's
    configuration says so."""
    qdrant_api_key: SecretStr | None = None
    otlp_endpoint: str | None = None
    threads: int = Field(2, ge=1)
    """torch threads per process."""
    drain_s: float = Field(1.0, ge=0, le=300, allow_inf_nan=False)
    """How long a server that was asked to end says so, and still takes calls."""
    grace_s: float = Field(10.0, ge=0, le=3600, allow_inf_nan=False)
    """How long its calls in progress may go on after that."""
    executor: Literal["local", "kubernetes"] = "local"
    """Where a worker runs jobs that do not say: on its own machine, or as Kubernetes Jobs that the
    launcher's configuration describes."""
    import_roots: tuple[Path, ...] | None = None
    """Directories that `path:` inputs may come from; None means any."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """What follows the figures of training while it runs."""

    @model_validator(mode="after")
    def _pairs_are_complete(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                f"PLUMBLINE_TLS_CERT={self.tls_cert} and PLUMBLINE_TLS_KEY={self.tls_key} "
                "must be set together"
            )
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError(
                "PLUMBLINE_S3_ACCESS_KEY and PLUMBLINE_S3_SECRET_KEY must be set together"
            )
        if self.reward_backend == "triton" and not self.triton_target:
            raise ValueError(
                "PLUMBLINE_REWARD_BACKEND=triton needs PLUMBLINE_TRITON_TARGET, host:port of "
                "Triton's gRPC endpoint"
            )
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from the environment, then from `<state>/endpoints.json`, then defaults.

        Raises:
            ConfigError: a variable's value is not accepted; `field` names the setting.
        """
        variables = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: variables[variable]
            for name, variable in _VARIABLES.items()
            if variables.get(variable)
        }
        values["targets"] = _by_service(variables, "TARGET")
        values["listens"] = _by_service(variables, "LISTEN")
        # Set but empty means that no path may be imported; unset means any.
        if _IMPORT_ROOTS in variables:
            values["import_roots"] = tuple(filter(None, variables[_IMPORT_ROOTS].split(os.pathsep)))
        named = variables.get(_TRACKERS, "").split(",")
        values["trackers"] = tuple(name.strip() for name in named if name.strip())
        state_dir = Path(values.get("state_dir", ".plumbline")).absolute()
        endpoints = read_endpoints(state_dir)
        values["state_dir"] = state_dir
        values.setdefault("store", endpoints.get("store") or f"file://{state_dir / 'store'}")
        values.setdefault("redis_url", endpoints.get("redis_url"))
        try:
            return parse_config(cls, values)
        except ConfigError as error:
            variable = _VARIABLES.get(error.field or "", "the environment")
            raise ConfigError(f"{variable}: {error.message}", field=error.field) from None

    @property
    def store_url(self) -> str:
        return self.store or f"file://{self.state_dir.absolute() / 'store'}"

    @property
    def s3_access(self) -> S3Access:
        """How the store is reached where `store_url` is `s3://...`."""
        return S3Access(
            endpoint=self.s3_endpoint,
            access_key=self.s3_access_key,
            secret_key=self.s3_secret_key,
            region=self.s3_region,
            ca=self.s3_ca,
        )

    @property
    def cache_dir(self) -> Path:
        return self.state_dir / "cache"

    @property
    def scratch_dir(self) -> Path:
        return self.state_dir / "scratch"

    @property
    def tracking_dir(self) -> Path:
        return self.state_dir / "tracking"

    def target(self, service: str) -> str | None:
        """Address of a running service, or None.

        `endpoints.json` is read anew on each call, because services come and go. The job service
        is mounted on the pipeline service, which answers for it unless it has a target of its own.
        """
        running = read_endpoints(self.state_dir).get("services") or {}
        found = self.targets.get(service) or running.get(service)
        if found is None and service == "jobs":
            return self.target("pipeline")
        return found

    def server_name(self, service: str) -> str | None:
        """Name expected in a service's certificate, where it is not that of its address."""
        return self.tls_server_name

    def listen(self, service: str) -> str:
        """host:port that a service's server binds; port 0 takes a free one."""
        return self.listens.get(service, DEFAULT_LISTEN)


def read_endpoints(state_dir: Path) -> Mapping[str, Any]:
    """Content of `<state>/endpoints.json`; empty where nothing was started.

    Raises:
        ConfigError: the file is not a JSON object.
    """
    path = state_dir / ENDPOINTS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        endpoints = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}; remove it or run `plumbline up`") from None
    if not isinstance(endpoints, dict):
        raise ConfigError(f"{path} holds {type(endpoints).__name__}; a JSON object is accepted")
    return endpoints


def _by_service(variables: Mapping[str, str], suffix: str) -> dict[str, str]:
    names = (*SERVICES, "jobs", "openai_front")
    found = {name: variables.get(f"PLUMBLINE_{name.upper()}_{suffix}") for name in names}
    return {name: value for name, value in found.items() if value}

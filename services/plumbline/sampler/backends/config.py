"""Configuration of policies that other servers hold."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from plumbline.core.errors import ConfigError
from plumbline.core.settings import Settings
from plumbline.core.validation import FrozenConfig


class OpenAIBackendConfig(FrozenConfig):
    """An OpenAI-compatible endpoint: OpenAI's own, vLLM's, TGI's or another Plumbline's."""

    base_url: str
    """Up to and with its version, for example http://127.0.0.1:8000/v1."""
    api_key: SecretStr = SecretStr("none")
    """Goes out as a bearer token; endpoints without keys take any."""
    default_model: str = ""
    """What an empty policy name means; empty takes the first that the endpoint lists."""
    default_response_tokens: int = Field(256, ge=1)
    """When a request sets no max_response_tokens; endpoints have defaults of their own."""
    token_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How chat names that bound: OpenAI's newer models know the second name alone."""
    logprobs: bool = True
    """Whether to ask for logprobs, which carry the tokens; some endpoints refuse."""
    stream_usage: bool = True
    """Whether to ask streams for their usage; some endpoints refuse."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Sent with every request; {"return_tokens_as_token_ids": true} makes vLLM tell token ids."""
    max_requests: int = Field(256, ge=1)
    """To the endpoint at a time."""
    max_responses_per_request: int = Field(4096, ge=1)
    """Prompts times responses per prompt."""
    timeout_s: float = Field(600.0, gt=0)
    """Without a byte from the endpoint."""
    max_retries: int = Field(2, ge=0)
    """Of requests that were refused for now (429, 5xx) or lost."""

    @field_validator("base_url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("accepted: a URL such as http://127.0.0.1:8000/v1")
        return value


def configured_openai_backend(settings: Settings) -> OpenAIBackendConfig:
    """The endpoint that the environment names.

    Raises:
        ConfigError: PLUMBLINE_OPENAI_BASE_URL is not set.
    """
    if settings.openai_base_url is None:
        raise ConfigError(
            "no endpoint is known; set PLUMBLINE_OPENAI_BASE_URL to one such as "
            "http://127.0.0.1:8000/v1",
            field="openai_base_url",
        )
    values: dict[str, Any] = {"base_url": settings.openai_base_url}
    if settings.openai_api_key is not None:
        values["api_key"] = settings.openai_api_key
    return OpenAIBackendConfig(**values)


class TritonPolicyConfig(FrozenConfig):
    """Policies that Triton Inference Server holds, with the tensors of its vLLM backend."""

    target: str = Field(min_length=1)
    """host:port of Triton's gRPC endpoint."""
    default_model: str = ""
    """What an empty policy name means; empty takes the first that Triton lists."""
    default_response_tokens: int = Field(256, ge=1)
    """When a request sets no max_response_tokens; vLLM's own default is 16."""
    max_requests: int = Field(256, ge=1)
    """To Triton at a time."""
    max_responses_per_request: int = Field(4096, ge=1)
    """Prompts times responses per prompt."""
    patience_s: float = Field(30.0, ge=0)
    """How long a request waits for a Triton that is away; its deadline may come first."""
    first_backoff_s: float = Field(0.05, gt=0)
    """Wait before the second attempt; each further wait is twice as long, up to the last."""
    last_backoff_s: float = Field(1.0, gt=0)
    look_up_s: float = Field(10.0, gt=0)
    """For Triton to tell of a model."""
    load_s: float = Field(600.0, gt=0)
    """For Triton to load a model."""


def configured_triton_policies(settings: Settings) -> TritonPolicyConfig:
    """The Triton that the environment names.

    Raises:
        ConfigError: PLUMBLINE_TRITON_TARGET is not set.
    """
    if settings.triton_target is None:
        raise ConfigError(
            "no Triton is known; set PLUMBLINE_TRITON_TARGET to host:port of its gRPC endpoint",
            field="triton_target",
        )
    return TritonPolicyConfig(target=settings.triton_target)

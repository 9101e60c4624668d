"""Configuration of the HTTP front."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from plumbline.core.validation import FrozenConfig, configured

SERVICE = "openai_front"
"""Names the front in logs, in PLUMBLINE_OPENAI_FRONT_LISTEN and in `<state>/endpoints.json`."""

CONFIG_VARIABLE = "PLUMBLINE_OPENAI_FRONT_CONFIG"


class FrontConfig(FrozenConfig):
    """One front."""

    default_policy: str = ""
    """What an empty or `default` model means; empty leaves it to the sampler."""
    max_body_bytes: int = Field(4 * 2**20, gt=0, le=12 * 2**20)
    """A request's JSON; larger ones get 413. Below the limit of a gRPC message."""
    body_timeout_s: float = Field(30.0, gt=0)
    """For the whole of a request's body to arrive; then 408."""
    request_timeout_s: float = Field(300.0, gt=0)
    """Deadline of a call that is not streamed; then 504."""
    stream_timeout_s: float = Field(3600.0, gt=0)
    """Deadline of a streamed call; an error event then ends the stream."""
    max_requests: int = Field(1024, ge=1)
    """Answered at a time; further ones get 429 at once."""
    max_choices: int = Field(1024, ge=1)
    """Prompts times n of one request."""
    max_streamed_choices: int = Field(128, ge=1)
    """The same where they are streamed: each is a call of its own to the sampler."""
    keep_alive_s: int = Field(75, ge=0)
    """For the next request on an idle connection."""
    grace_s: int = Field(10, ge=0)
    """For requests in progress when the front is stopped."""


def configured_front(environment: Mapping[str, str]) -> FrontConfig:
    """The front's configuration, from the YAML file that the environment names; else defaults.

    Raises:
        ConfigError: the file cannot be read, or says what is not accepted.
    """
    return configured(FrontConfig, environment, CONFIG_VARIABLE)

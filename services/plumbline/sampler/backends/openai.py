"""Policies behind an OpenAI-compatible endpoint, with the methods of `SamplerEngine`.

What the endpoint does not tell is left empty, not made up. A response has tokens where the
endpoint tells their ids and the logprobs that they were drawn with: another Plumbline's does;
vLLM's does with return_tokens_as_token_ids, at temperature 1 with nothing cut, biased or penalised;
OpenAI's own tells no ids. Prompts never have tokens. A policy's id is the model that a reply names.
"""

from __future__ import annotations

from plumbline.sampler.backends.config import OpenAIBackendConfig
from plumbline.sampler.backends.openai_endpoint import OpenAIEndpoint
from plumbline.sampler.backends.remote import RemoteBackend


class OpenAIBackend(RemoteBackend[str]):
    """Draws responses from the models of one endpoint."""

    def __init__(self, config: OpenAIBackendConfig) -> None:
        super().__init__(
            lambda: OpenAIEndpoint(config),
            name="openai-backend",
            default_model=config.default_model,
            max_responses=config.max_responses_per_request,
        )

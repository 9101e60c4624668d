"""Configuration of the tools that check what a text claims."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig
from plumbline.retriever.tools.sandbox.config import SandboxConfig


class KnowledgeConfig(FrozenConfig):
    """When a passage speaks for or against a claim."""

    min_support: float = Field(0.75, gt=0, le=1)
    """Share of the claim's meaningful words that a passage must have to support it."""
    min_refute: float = Field(0.6, gt=0, le=1)
    """The same share, for a passage that contradicts the claim in a number or an opposite."""
    min_refute_strictly: float = Field(0.85, gt=0, le=1)
    """The same share, for a passage that denies the claim; and without its names, for one that
    names somebody else."""
    documents: int = Field(5, ge=1, le=50)
    """Documents of which sentences are looked at, for each query."""
    passages: int = Field(5, ge=1, le=50)
    """Sentences that are held against a claim."""
    shown_passages: int = Field(3, ge=1, le=50)
    """Evidence returned with a claim."""


class SearchEndpointConfig(FrozenConfig):
    """A web search that the operator runs or trusts; no request can name another one."""

    url: str = ""
    """With `{query}` where the query goes, for example
    `https://search.example/api?q={query}&n=5`. Empty asks nobody."""
    hosts: tuple[str, ...] = ()
    """Hosts that may be asked; the one in `url` must be among them."""
    results: str = "results"
    """Where the answer's JSON holds the list of results: keys with dots between them."""
    text: str = "snippet"
    """Where a result holds its text."""
    title: str = "title"
    id: str = "url"
    token_env: str = ""
    """Environment variable that holds a bearer token."""
    timeout_s: float = Field(5.0, gt=0, le=60)
    max_results: int = Field(10, ge=1, le=100)
    max_answer_bytes: int = Field(1 << 20, ge=1 << 10)

    @model_validator(mode="after")
    def _names_a_place_for_the_query(self) -> SearchEndpointConfig:
        if self.url and self.url.count("{query}") != 1:
            raise ValueError(f"url {self.url!r} must have {{query}} in it exactly once")
        return self


class ToolsConfig(FrozenConfig):
    """Checking claims."""

    max_text_characters: int = Field(50_000, ge=1)
    max_claims: int = Field(100, ge=1, le=1000)
    """Of each kind; the rest of a text is not checked."""
    max_documents: int = Field(1000, ge=1)
    max_document_characters: int = Field(200_000, ge=1)
    approximate_relative: float = Field(0.01, ge=0, lt=1)
    """How far a result after a sign such as ≈ may be from the exact one."""
    cached_corpora: int = Field(4, ge=1)
    """Indexes of corpora kept in memory."""
    max_corpus_documents: int = Field(200_000, ge=1)
    judge_max_tokens: int = Field(256, ge=16)
    judge_failure: Literal["not_enough", "rules"] = "not_enough"
    """What becomes of a claim whose judge answers no JSON: left open, or left to the rules."""
    knowledge: KnowledgeConfig = KnowledgeConfig()
    search_endpoint: SearchEndpointConfig = SearchEndpointConfig()
    sandbox: SandboxConfig = SandboxConfig()

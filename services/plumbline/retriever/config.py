"""Configuration of the retriever and of its stage."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EmbedderConfig(BaseModel):
    """How texts become vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "hashed"
    """`hashed` (character n-grams; needs no weights, any language) or the path of a
    sentence-transformers directory."""
    dimensions: int = Field(512, ge=16, le=8192)
    """Width of hashed vectors; a model has its own."""


class RetrieverConfig(BaseModel):
    """Search, and the step from search to reply."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(3, ge=1, le=100)
    """Most values that one query takes."""
    rrf_k: int = Field(60, ge=1)
    """Rank constant of reciprocal-rank fusion. Source: Cormack et al. 2009."""
    min_cosine: float = Field(0.45, ge=-1, le=1)
    """A value without triggers governs a query from this similarity on."""
    rule_template: str = "Rule: {text}"
    """How a governing value is written into the system message."""
    snapshots: int = Field(8, ge=1)
    """Knowledge bases kept in memory."""


class ImportValuesConfig(BaseModel):
    """Stage `retriever.import_values`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[str, ...] = ()
    """Import only these values; empty imports all."""
    limit: int = Field(0, ge=0)
    """Import only the first values, in the file's order; 0 imports all."""
    embedder: EmbedderConfig = EmbedderConfig()

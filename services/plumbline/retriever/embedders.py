"""Texts to unit vectors.

Shapes: N texts, D dimensions.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import CheckpointError
from plumbline.retriever.config import EmbedderConfig

_WORD = re.compile(r"[a-z0-9]+|[\u3400-\u9fff]")
_BATCH = 32
_MAX_TOKENS = 256

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Anything that turns texts into unit vectors."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """[N, D] float32, rows of length one (zero for a text without content)."""
        ...


def normalise(text: str) -> str:
    """NFKC and case folding, so that spelling variants match."""
    return unicodedata.normalize("NFKC", text).casefold()


def tokenise(text: str) -> list[str]:
    """Words, and for Han both characters and bigrams: Chinese has no spaces to split at."""
    tokens: list[str] = []
    previous = ""
    for match in _WORD.finditer(normalise(text)):
        token = match.group()
        tokens.append(token)
        han = "\u3400" <= token <= "\u9fff"
        if han and previous:
            tokens.append(previous + token)
        previous = token if han else ""
    return tokens


class HashedEmbedder:
    """Signed hashing of words and character trigrams; needs no weights and knows no language."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        matrix = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for row, text in zip(matrix, texts, strict=True):
            for feature in self._features(text):
                digest = zlib.crc32(feature.encode())
                row[digest % self._dimensions] += 1.0 if digest & 0x80000000 else -1.0
        return _unit_rows(matrix)

    @staticmethod
    def _features(text: str) -> list[str]:
        tokens = tokenise(text)
        trigrams = [
            f"#{padded[i : i + 3]}"
            for padded in (f"^{token}$" for token in tokens)
            for i in range(len(padded) - 2)
        ]
        return tokens + trigrams


class TransformerEmbedder:
    """Mean-pooled token states of a sentence-transformers directory."""

    def __init__(self, directory: Path) -> None:
        from plumbline.models.checkpoint import check_model_directory

        check_model_directory(directory)
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self._model = AutoModel.from_pretrained(directory, local_files_only=True).eval()

    def embed(self, texts: Sequence[str]) -> Vectors:
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                batch = self._tokenizer(
                    list(texts[start : start + _BATCH]),
                    padding=True,
                    truncation=True,
                    max_length=_MAX_TOKENS,
                    return_tensors="pt",
                )
                states = self._model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1)
                rows.append(((states * mask).sum(1) / mask.sum(1)).float().numpy())
        width = self._model.config.hidden_size
        return _unit_rows(np.concatenate(rows) if rows else np.zeros((0, width), np.float32))


def build_embedder(config: EmbedderConfig) -> Embedder:
    """The embedder that a config names.

    Raises:
        CheckpointError: the directory does not exist or is not a model.
    """
    if config.model == "hashed":
        return HashedEmbedder(config.dimensions)
    directory = Path(config.model)
    if not directory.is_dir():
        raise CheckpointError(
            f"embedder {config.model!r} is not a directory; accepted: 'hashed' or the path of a "
            "sentence-transformers directory",
            field="embedder.model",
        )
    return TransformerEmbedder(directory)


def _unit_rows(matrix: Vectors) -> Vectors:
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: Vectors = np.divide(matrix, norms, out=np.zeros_like(matrix), where=norms > 0)
    return unit

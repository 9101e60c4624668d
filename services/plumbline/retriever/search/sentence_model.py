"""Embedders in the layout of sentence-transformers, run with transformers alone.

Read from the directory: the modules, how token states are pooled, the longest input, and the
prompts that go before queries and documents.

Shapes: N texts, B batch, T tokens, H hidden size.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline.core.errors import CheckpointError, FailedPreconditionError
from plumbline.retriever.search.dense import Vector, Vectors, unit_rows
from plumbline.retriever.search.hashed import Weights
from plumbline.retriever.search.questions import Question

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 32
_DEFAULT_MAX_TOKENS = 512
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
_POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}


class SentenceModelEmbedder:
    """Pooled token states of a model directory, scaled to length one.

    A directory without `modules.json` is taken as a plain encoder, and its states are averaged.

    Raises:
        CheckpointError: a module or a pooling that is not supported, or a directory that cannot
            be loaded safely.
        FailedPreconditionError: torch or transformers is not installed.
    """

    def __init__(self, directory: Path) -> None:
        require_torch(f"embedder {directory.name!r}")
        self._directory = directory
        self._backbone = _check_modules(directory)
        self._pooling = _pooling(directory)
        self._prompts = _prompts(directory)
        self._max_tokens = _max_tokens(self._backbone)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of every file that the vectors depend on."""
        digest = hashlib.sha256()
        files = [*self._directory.rglob("*.json"), *self._directory.rglob("*.safetensors")]
        for path in sorted(files):
            with path.open("rb") as file:
                digest.update(path.relative_to(self._directory).as_posix().encode() + b"\0")
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"sentence-model:{digest.hexdigest()[:32]}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """[N, H] unit rows."""
        return self._embed([self._prompts["document"] + text for text in texts])

    def embed_query(self, question: Question, weights: Weights | None) -> Vector:
        """[H] unit vector."""
        # Always a batch of its own: padding to a longer neighbour would change the last bits.
        row: Vector = self._embed([self._prompts["query"] + question.text])[0]
        return row

    def between_documents(self, texts: Sequence[str], vectors: Vectors) -> Vectors:
        """[N, H] the rows themselves."""
        return vectors

    def feature_weights(self, texts: Sequence[str]) -> Weights | None:
        """None: what a feature tells is in the model's weights."""
        return None

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from plumbline.models.checkpoint import load_encoder_or_decoder

        return load_encoder_or_decoder(self._backbone)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        model, _ = self._loaded
        vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        # Batches of equal length hold little padding.
        by_length = sorted(range(len(texts)), key=lambda place: (len(texts[place]), place))
        for start in range(0, len(texts), _BATCH):
            places = by_length[start : start + _BATCH]
            vectors[places] = self._embed_batch([texts[place] for place in places])
        return unit_rows(vectors)

    def _embed_batch(self, texts: list[str]) -> Vectors:
        import torch

        model, tokenizer = self._loaded
        batch = tokenizer(
            texts,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
            pooled: Vectors = pool(states, batch["attention_mask"], self._pooling).float().numpy()
        return pooled


def pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """[B, H] one state per text.

    Args:
        states: [B, T, H], texts at the left.
        mask: [B, T], 1 at tokens of the text.
        how: mean, cls (the first), max or lasttoken.
    """
    if how == "cls":
        return states[:, 0]
    if how == "lasttoken":
        last = mask.sum(dim=1) - 1
        return states[range(len(states)), last]
    weights = mask.unsqueeze(-1).to(states.dtype)
    if how == "max":
        return states.masked_fill(weights == 0, float("-inf")).max(dim=1).values
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def require_torch(what: str) -> None:
    """Raises FailedPreconditionError where torch or transformers is not installed."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise FailedPreconditionError(
                f"{what} needs {package}, which is not installed here; "
                "pip install 'plumbline[models]', or use the embedder 'hashed'"
            )


def _check_modules(directory: Path) -> Path:
    """Where the backbone lies."""
    modules = _read_json(directory / "modules.json", [])
    backbone = directory
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind not in _KNOWN_MODULES:
            raise CheckpointError(
                f"{directory.name}: module {module.get('type')!r} is not supported; accepted: "
                f"{', '.join(_KNOWN_MODULES)}"
            )
        if kind == "Transformer":
            backbone = directory / module.get("path", "")
    return backbone


def _pooling(directory: Path) -> str:
    config = _read_json(directory / "1_Pooling" / "config.json", {})
    named = config.get("pooling_mode")
    chosen = [how for flag, how in _POOLING_FLAGS.items() if config.get(flag)]
    others = [
        flag for flag, on in config.items() if flag.startswith("pooling_mode_") and on is True
    ]
    if named is not None:
        chosen, others = [named], []
    if not config:
        return "mean"
    unknown = sorted(set(others) - set(_POOLING_FLAGS))
    if len(chosen) != 1 or unknown or chosen[0] not in _POOLING_FLAGS.values():
        raise CheckpointError(
            f"{directory.name}: pooling {', '.join([*chosen, *unknown]) or 'none'} is not "
            f"supported; accepted: one of {', '.join(_POOLING_FLAGS.values())}"
        )
    return str(chosen[0])


def _prompts(directory: Path) -> dict[str, str]:
    """What goes before a query and before a document."""
    config = _read_json(directory / "config_sentence_transformers.json", {})
    prompts = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name"), "")
    document = prompts.get("document") or prompts.get("passage") or default
    return {"query": prompts.get("query") or default, "document": document}


def _max_tokens(backbone: Path) -> int:
    """Longest input in tokens: the directory's, and never above what the model has places for."""
    stated = _read_json(backbone / "sentence_bert_config.json", {}).get("max_seq_length")
    places = _read_json(backbone / "config.json", {}).get("max_position_embeddings")
    # Models of the RoBERTa family count their places from 2.
    bounds = [stated, places - 2 if places else None]
    return min((int(bound) for bound in bounds if bound), default=_DEFAULT_MAX_TOKENS)


def _read_json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error

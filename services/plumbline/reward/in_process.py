"""Scores computed in this process, with batches that span concurrent calls."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch

from plumbline.models.batching import pad_right
from plumbline.models.resident import ResidentModels
from plumbline.models.reward import RewardModel
from plumbline.reward.backends import EncodedText, ModelFiles
from plumbline.reward.batcher import Batcher, BatchLimits
from plumbline.reward.config import RewardConfig


@dataclass(frozen=True, slots=True)
class _LoadedModel:
    model: RewardModel
    size_bytes: int
    longest: int | None
    """Positions that the backbone knows, None where it can count any number."""


class InProcessBackend:
    """Reward models in this process's memory, loaded when first used.

    On a CPU the bits of a score depend on the text alone: texts are padded to a width that only
    their own length decides and share a forward pass with texts of that width, and matrix products
    have a number of rows that rounds them all alike (`EXACT_ROWS`). On an accelerator texts of
    near widths share a pass, and scores agree up to rounding.

    Args:
        device: where models run; None takes an accelerator if there is one.
    """

    def __init__(self, config: RewardConfig | None = None, *, device: str | None = None) -> None:
        self._config = config or RewardConfig()
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._models = ResidentModels(
            self._load,
            lambda loaded: loaded.size_bytes,
            max_models=self._config.max_models,
            max_bytes=self._config.max_model_bytes,
        )
        limits = BatchLimits(
            tokens_per_batch=self._config.tokens_per_batch,
            max_queued=self._config.max_queued_items,
            max_delay_s=self._config.max_delay_s,
            one_width=self._device == "cpu",
        )
        self._batcher = Batcher(self._compute, self._width, limits)

    def prepare(self, model: ModelFiles) -> None:
        self._get(model)

    def submit(
        self, model: ModelFiles, texts: Sequence[EncodedText], *, deadline: float | None = None
    ) -> Future[list[float]]:
        self._get(model)
        return self._batcher.submit(model, texts, deadline=deadline)

    def close(self) -> None:
        self._batcher.close()

    @torch.inference_mode()
    def _compute(
        self, model: ModelFiles, texts: Sequence[EncodedText], width: int
    ) -> Sequence[float]:
        scorer = self._get(model).model
        ids, mask = pad_right([text.token_ids for text in texts], scorer.format.pad_id, width=width)
        lengths = [text.response_length for text in texts]
        scores: list[float] = scorer(ids.to(self._device), mask.to(self._device), lengths).tolist()
        return scores

    def _width(self, model: ModelFiles, text: EncodedText) -> int:
        length, multiple = len(text.token_ids), self._config.length_multiple
        width = -(-length // multiple) * multiple
        longest = self._get(model).longest
        return width if longest is None else max(min(width, longest), length)

    def _get(self, model: ModelFiles) -> _LoadedModel:
        return self._models.get(model.id, model.path)

    def _load(self, model_id: str, path: Path) -> _LoadedModel:
        model = RewardModel.load(path, self._config.dtype)
        model.to(self._device)
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        longest = getattr(model.backbone.config, "max_position_embeddings", None)
        return _LoadedModel(model, size, longest)

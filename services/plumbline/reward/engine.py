"""Holds reward models and scores responses with them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.data.records import Message
from plumbline.models.references import Resolve
from plumbline.models.resident import ResidentModels
from plumbline.models.reward import RewardModel
from plumbline.reward.combine import combine_scores
from plumbline.reward.config import RewardConfig

HELPFULNESS, SAFETY, COMBINED = "helpfulness", "safety", "combined"
HEADS = (HELPFULNESS, SAFETY, COMBINED)
_MODEL_HEADS = (HELPFULNESS, SAFETY)
_PREFERENCE = "preference"
"""Trained on which response people prefer overall; serves as either head."""


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """A response to be scored."""

    prompt: tuple[Message, ...]
    response: str
    risky: bool = False
    """The prompt is known to be risky: the combined head uses the safety score."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores in the order of the items."""

    by_head: Mapping[str, tuple[float, ...]]
    """Logits."""
    model_ids: Mapping[str, str]
    """Reward model used, by the head it scored."""
    temperatures: Mapping[str, float]
    """What differences of two scores are divided by to read them as probabilities, by head; 1 for
    the combined head, whose scores come from two models."""


@dataclass(frozen=True, slots=True)
class RewardModelInfo:
    """What can be told about a loaded reward model."""

    id: str
    head: str
    architecture: str


@dataclass(frozen=True, slots=True)
class _LoadedModel:
    model: RewardModel
    size_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held during forward passes: threads that share the cores would only slow one another."""


class RewardEngine:
    """Scores responses with reward models that are loaded when first named.

    A score depends on its prompt and response alone, not on what is scored beside it.

    Args:
        resolve: turns a reference into the model's id and directory.
        config: bounds.
        device: where models run; None takes an accelerator if there is one.
    """

    def __init__(
        self, resolve: Resolve, config: RewardConfig | None = None, *, device: str | None = None
    ) -> None:
        self._resolve = resolve
        self._config = config or RewardConfig()
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._defaults: dict[str, str] = {}
        self._models = ResidentModels(
            self._load,
            lambda loaded: loaded.size_bytes,
            max_models=self._config.max_models,
            max_bytes=self._config.max_model_bytes,
        )

    def load(self, reference: str, head: str = "") -> RewardModelInfo:
        """Load a reward model now and make it the default of a head.

        Args:
            head: helpfulness or safety; empty takes the head that the model was trained for
                (helpfulness for a model of overall preference).
        Raises:
            InvalidInputError: no reference, or a head that no model has.
            FailedPreconditionError: the model was trained for another head.
        """
        if not reference:
            raise InvalidInputError(
                "no reward model named; accepted: an artifact id, a tag or a directory",
                field="reward_model",
            )
        if head and head not in _MODEL_HEADS:
            raise InvalidInputError(
                f"head {head!r} has no model of its own; accepted: {', '.join(_MODEL_HEADS)}",
                field="head",
            )
        model_id, path = self._resolve(reference)
        model = self._models.get(model_id, path).model
        trained_for = HELPFULNESS if model.card.head == _PREFERENCE else model.card.head
        head = head or trained_for
        _check_head(model, reference, head)
        self._defaults[head] = reference
        return RewardModelInfo(model_id, head, model.backbone.config.model_type)

    def score(
        self,
        items: Sequence[ScoredItem],
        heads: Sequence[str],
        models: Mapping[str, str] | None = None,
    ) -> Scores:
        """Score every item under every head.

        Args:
            heads: of helpfulness, safety and combined; at least one.
            models: reference by helpfulness and safety; what is absent or empty takes the default.
        Raises:
            InvalidInputError: an unknown head, no head, or too many items.
            FailedPreconditionError: a head has no model, or a model was trained for another head.
        """
        self._check_request(items, heads)
        needed = _MODEL_HEADS if COMBINED in heads else [h for h in _MODEL_HEADS if h in heads]
        chosen = {head: self._get(head, (models or {}).get(head, "")) for head in needed}
        tensors = {head: self._score_with(chosen[head][1], items) for head in needed}
        if COMBINED in heads:
            tensors[COMBINED] = combine_scores(
                tensors[HELPFULNESS],
                tensors[SAFETY],
                torch.tensor([item.risky for item in items], dtype=torch.bool),
                threshold=self._config.safety_threshold,
            )
        return Scores(
            by_head={head: tuple(tensors[head].tolist()) for head in dict.fromkeys(heads)},
            model_ids={head: model_id for head, (model_id, _) in chosen.items()},
            temperatures={
                head: chosen[head][1].model.card.temperature if head in chosen else 1.0
                for head in dict.fromkeys(heads)
            },
        )

    def _check_request(self, items: Sequence[ScoredItem], heads: Sequence[str]) -> None:
        if not heads:
            raise InvalidInputError(f"no head named; accepted: {', '.join(HEADS)}", field="heads")
        for head in heads:
            if head not in HEADS:
                raise InvalidInputError(
                    f"head {head!r} is unknown; accepted: {', '.join(HEADS)}", field="heads"
                )
        limit = self._config.max_items_per_request
        if not 0 < len(items) <= limit:
            raise InvalidInputError(
                f"{len(items)} responses came; accepted: 1 to {limit} in one call", field="items"
            )

    def _get(self, head: str, reference: str) -> tuple[str, _LoadedModel]:
        reference = reference or self._defaults.get(head, "")
        if not reference:
            raise FailedPreconditionError(
                f"no reward model is named for head {head!r} and none is the default; name one in "
                f"models.{head}, or call LoadRewardModel first",
                reason="NO_DEFAULT_REWARD_MODEL",
            )
        model_id, path = self._resolve(reference)
        loaded = self._models.get(model_id, path)
        _check_head(loaded.model, reference, head)
        return model_id, loaded

    def _score_with(self, loaded: _LoadedModel, items: Sequence[ScoredItem]) -> Tensor:
        """Scores [B] in float64 on the CPU."""
        with loaded.lock:
            scores = loaded.model.score_responses(
                [item.prompt for item in items],
                [item.response for item in items],
                tokens_per_batch=self._config.tokens_per_batch,
            )
        if not bool(scores.isfinite().all()):
            raise FailedPreconditionError(
                "the reward model's scores are not finite; accepted: a model with finite weights",
                reason="REWARD_MODEL_NOT_FINITE",
            )
        return scores.double()

    def _load(self, model_id: str, path: Path) -> _LoadedModel:
        model = RewardModel.load(path, self._config.dtype)
        model.to(self._device)
        return _LoadedModel(model, sum(p.numel() * p.element_size() for p in model.parameters()))


def _check_head(model: RewardModel, reference: str, head: str) -> None:
    if model.card.head not in (head, _PREFERENCE):
        raise FailedPreconditionError(
            f"reward model {reference} was trained for head {model.card.head!r}; "
            f"head {head!r} needs a model trained for it or for overall preference",
            reason="WRONG_HEAD",
        )

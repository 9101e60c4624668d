"""Scores responses: which models, which token ids, and how heads combine.

A `ScoringBackend` computes the scores; what it needs of a model here is the tokenizer and the card.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.models.references import Resolve
from plumbline.models.resident import ResidentModels
from plumbline.models.reward import RewardModelCard
from plumbline.reward.backends import ScoringBackend
from plumbline.reward.combine import combine_scores
from plumbline.reward.config import RewardConfig
from plumbline.reward.drift import ScoreStatistics
from plumbline.reward.encoding import RewardEncoder, ScoredItem

HELPFULNESS, SAFETY, COMBINED = "helpfulness", "safety", "combined"
HEADS = (HELPFULNESS, SAFETY, COMBINED)
MODEL_HEADS = (HELPFULNESS, SAFETY)
_PREFERENCE = "preference"
"""Trained on which response people prefer overall; serves as either head."""
_MOST_ENCODERS = 64


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


class PendingScores:
    """Scores that a backend is computing; made by `RewardEngine.submit`."""

    def __init__(
        self,
        heads: Sequence[str],
        risky: Sequence[bool],
        models: Mapping[str, RewardEncoder],
        threshold: float,
        statistics: ScoreStatistics,
    ) -> None:
        self._heads = tuple(dict.fromkeys(heads))
        self._risky = risky
        self._models = models
        self._threshold = threshold
        self._statistics = statistics
        self.futures: dict[str, Future[list[float]]] = {}
        """By head that has a model."""

    def cancel(self) -> None:
        """Nobody waits any more: what has not begun is not scored."""
        for future in self.futures.values():
            future.cancel()

    def result(self) -> Scores:
        """The scores, once every future is done; waits for them. To be called once.

        Raises:
            FailedPreconditionError: a score is not finite. Others come from the backend.
        """
        found = {head: tuple(future.result()) for head, future in self.futures.items()}
        for head, values in found.items():
            self._check_finite(head, values)
            model = self._models[head]
            self._statistics.observe(head, model.files.id, values, model.card.score_deciles)
        if COMBINED in self._heads:
            combined = combine_scores(
                torch.tensor(found[HELPFULNESS], dtype=torch.float64),
                torch.tensor(found[SAFETY], dtype=torch.float64),
                torch.tensor(self._risky, dtype=torch.bool),
                threshold=self._threshold,
            )
            found[COMBINED] = tuple(combined.tolist())
        return Scores(
            by_head={head: found[head] for head in self._heads},
            model_ids={head: model.files.id for head, model in self._models.items()},
            temperatures={
                head: self._models[head].card.temperature if head in self._models else 1.0
                for head in self._heads
            },
        )

    def _check_finite(self, head: str, values: Sequence[float]) -> None:
        if not all(map(math.isfinite, values)):
            raise FailedPreconditionError(
                f"scores of reward model {self._models[head].files.id} are not finite; accepted: "
                "a model with finite weights",
                reason="REWARD_MODEL_NOT_FINITE",
            )


class RewardEngine:
    """Scores responses with reward models that are loaded when first named.

    A score depends on its prompt and response alone, not on what is scored beside it.

    Args:
        resolve: turns a reference into the model's id and directory.
        config: bounds.
        device: where models of this process run; None takes an accelerator if there is one.
        backend: what computes scores; None computes them in this process.
    """

    def __init__(
        self,
        resolve: Resolve,
        config: RewardConfig | None = None,
        *,
        device: str | None = None,
        backend: ScoringBackend | None = None,
    ) -> None:
        self._resolve = resolve
        self._config = config or RewardConfig()
        self._backend = backend or _in_process(self._config, device)
        self.statistics = ScoreStatistics()
        self._defaults: dict[str, str] = {}
        self._encoders = ResidentModels(
            RewardEncoder.load, lambda _: 1, max_models=_MOST_ENCODERS, max_bytes=_MOST_ENCODERS
        )

    def load(self, reference: str, head: str = "") -> RewardModelInfo:
        """Make a reward model ready now and the default of a head.

        Args:
            head: helpfulness or safety; empty takes the head that the model was trained for
                (helpfulness for a model of overall preference).
        Raises:
            InvalidInputError: no reference, or a head that no model has.
            FailedPreconditionError: the model was trained for another head, or the backend does
                not serve it.
        """
        if not reference:
            raise InvalidInputError(
                "no reward model named; accepted: an artifact id, a tag or a directory",
                field="reward_model",
            )
        if head and head not in MODEL_HEADS:
            raise InvalidInputError(
                f"head {head!r} has no model of its own; accepted: {', '.join(MODEL_HEADS)}",
                field="head",
            )
        model = self._find(reference)
        trained_for = HELPFULNESS if model.card.head == _PREFERENCE else model.card.head
        head = head or trained_for
        _check_head(model.card, reference, head)
        self._backend.prepare(model.files)
        self._defaults[head] = reference
        return RewardModelInfo(model.files.id, head, model.architecture)

    def score(
        self,
        items: Sequence[ScoredItem],
        heads: Sequence[str],
        models: Mapping[str, str] | None = None,
    ) -> Scores:
        """Score every item under every head, and wait for it; see `submit`."""
        return self.submit(items, heads, models).result()

    def submit(
        self,
        items: Sequence[ScoredItem],
        heads: Sequence[str],
        models: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> PendingScores:
        """Begin to score every item under every head.

        Args:
            heads: of helpfulness, safety and combined; at least one.
            models: reference by helpfulness and safety; what is absent or empty takes the default.
            timeout_s: how long somebody waits; None means without end.
        Raises:
            InvalidInputError: an unknown head, no head, too many items, or an item that the
                model's layout cannot hold.
            FailedPreconditionError: a head has no model, or a model was trained for another head.
            ResourceExhaustedError: too much is being scored already.
        """
        self._check_request(items, heads)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        needed = MODEL_HEADS if COMBINED in heads else [h for h in MODEL_HEADS if h in heads]
        chosen = {head: self._get(head, (models or {}).get(head, "")) for head in needed}
        # Tokenised before anything is queued, so that a refused item leaves nothing behind.
        encoded = {head: model.encode(items) for head, model in chosen.items()}
        risky = [item.risky for item in items]
        threshold = self._config.safety_threshold
        pending = PendingScores(heads, risky, chosen, threshold, self.statistics)
        try:
            for head, model in chosen.items():
                pending.futures[head] = self._backend.submit(
                    model.files, encoded[head], deadline=deadline
                )
        except BaseException:
            pending.cancel()
            raise
        return pending

    def close(self) -> None:
        """Let go of the backend's threads and connections."""
        self._backend.close()

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

    def _get(self, head: str, reference: str) -> RewardEncoder:
        reference = reference or self._defaults.get(head, "")
        if not reference:
            raise FailedPreconditionError(
                f"no reward model is named for head {head!r} and none is the default; name one in "
                f"models.{head}, or call LoadRewardModel first",
                reason="NO_DEFAULT_REWARD_MODEL",
            )
        model = self._find(reference)
        _check_head(model.card, reference, head)
        return model

    def _find(self, reference: str) -> RewardEncoder:
        model_id, path = self._resolve(reference)
        return self._encoders.get(model_id, path)


def _in_process(config: RewardConfig, device: str | None) -> ScoringBackend:
    from plumbline.reward.in_process import InProcessBackend

    return InProcessBackend(config, device=device)


def _check_head(card: RewardModelCard, reference: str, head: str) -> None:
    if card.head not in (head, _PREFERENCE):
        raise FailedPreconditionError(
            f"reward model {reference} was trained for head {card.head!r}; "
            f"head {head!r} needs a model trained for it or for overall preference",
            reason="WRONG_HEAD",
        )

"""Finds entities through a user's model behind an HTTP endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.curation.http_json import JsonEndpoint
from plumbline.curation.pii.names.config import RemoteNerConfig
from plumbline.curation.pii.spans import Span

_RECOGNIZER = "remote"
_SHOWN = 120


class RemoteRecognizer:
    """Asks the endpoint batch by batch; safe to share between threads.

    Raises:
        ConfigError: the URL is none, or the token's environment variable is not set.
    """

    def __init__(self, config: RemoteNerConfig) -> None:
        self._config = config
        self._labels = dict(config.labels)
        self.types = frozenset(self._labels.values())
        self._endpoint = JsonEndpoint(
            config.url, config.timeout_s, config.retries, config.token_env
        )

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Proposals in each text, in the text's own offsets.

        Raises:
            ServiceUnavailableError: the endpoint does not answer, also when asked again.
            InvalidInputError: it answers something else than entities of these texts.
            UnauthenticatedError, PermissionDeniedError: it refuses the token.
        """
        found: list[list[Span]] = [[] for _ in texts]
        for batch in self._batches(texts):
            answer = self._endpoint.post({"texts": [texts[index] for index in batch]})
            for index, entities in zip(batch, self._entities(answer, len(batch)), strict=True):
                found[index] = self._spans(entities, texts[index])
        return found

    def close(self) -> None:
        """Close the connections; the recognizer can be used no more."""
        self._endpoint.close()

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Indices of the texts that hold something, within the bounds of a request."""
        batch: list[int] = []
        size = 0
        for index, text in enumerate(texts):
            if not text.strip():
                continue
            length = len(text.encode("utf-8", "replace"))
            full = len(batch) >= self._config.max_batch_texts
            if batch and (full or size + length > self._config.max_batch_bytes):
                yield batch
                batch, size = [], 0
            batch.append(index)
            size += length
        if batch:
            yield batch

    def _entities(self, answer: Any, texts: int) -> list[Any]:
        lists = answer.get("entities") if isinstance(answer, dict) else None
        if not isinstance(lists, list) or not all(isinstance(item, list) for item in lists):
            raise self._bad_answer(
                f"it answers {_shown(answer)}; an object with a list of "
                "entities for each text under 'entities' is accepted"
            )
        if len(lists) != texts:
            raise self._bad_answer(
                f"it answers entities of {len(lists)} texts where {texts} were sent; one list for "
                "each text is accepted"
            )
        return lists

    def _spans(self, entities: Sequence[Any], text: str) -> list[Span]:
        spans = []
        for entity in entities:
            start, end, label, score = self._read(entity)
            if not 0 <= start < end <= len(text):
                raise self._bad_answer(
                    f"it answers the place {start} to {end} in a text of {len(text)} characters; "
                    "places within the text, end exclusive, are accepted"
                )
            if not 0 <= score <= 1:
                raise self._bad_answer(f"it answers the score {score}; 0 to 1 is accepted")
            name = self._labels.get(label)
            if name is not None:
                spans.append(Span(start, end, name, score, _RECOGNIZER))
        return spans

    def _read(self, entity: Any) -> tuple[int, int, str, float]:
        """(start, end, label, score) of an entity as it was answered."""
        if isinstance(entity, dict):
            start, end, label = entity.get("start"), entity.get("end"), entity.get("type")
            score = entity.get("score", self._config.default_score)
            # JSON's true and false are whole numbers to Python.
            no_number = any(isinstance(value, bool) for value in (start, end, score))
            if (
                isinstance(start, int)
                and isinstance(end, int)
                and isinstance(label, str)
                and isinstance(score, int | float)
                and not no_number
            ):
                return start, end, label, float(score)
        raise self._bad_answer(
            f"it answers the entity {_shown(entity)}; whole numbers start and end, a string type "
            "and a number score are accepted"
        )

    def _bad_answer(self, finding: str) -> InvalidInputError:
        return InvalidInputError(
            f"the entity endpoint {self._endpoint.url} cannot be used: {finding}",
            reason="BAD_NER_ANSWER",
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"

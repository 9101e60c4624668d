"""Asks a user's model over HTTP which documents to drop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from plumbline.core.errors import InvalidInputError
from plumbline.curation.filters.config import EndpointConfig
from plumbline.curation.filters.objection import Objection
from plumbline.curation.http_json import JsonEndpoint
from plumbline.curation.view import DocumentView

_MAX_DETAIL_CHARACTERS = 300


class EndpointRule:
    """Documents that the endpoint objects to; texts are sent as they came, not normalized.

    A failing endpoint fails the work: a filter that is not asked must not look like one that found
    nothing.
    """

    version: ClassVar[int] = 1

    def __init__(self, config: EndpointConfig) -> None:
        """
        Raises:
            ConfigError: the URL or the token's variable is wrong.
        """
        self.id = config.name
        self._config = config
        self._endpoint = JsonEndpoint(
            config.url, config.timeout_s, config.retries, config.token_env
        )

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        """
        Raises:
            ServiceUnavailableError: the endpoint does not answer.
            UnauthenticatedError, PermissionDeniedError: it refuses the token.
            InvalidInputError: it refuses the request, or answers something else than results.
        """
        answers: list[Objection | None] = []
        for batch in self._batches(views):
            documents = [{"text": view.text, "language": view.language} for view in batch]
            answer = self._endpoint.post({"documents": documents})
            answers += [self._objection(result) for result in self._results(answer, len(batch))]
        return answers

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def _batches(self, views: Sequence[DocumentView]) -> Iterator[Sequence[DocumentView]]:
        first, size = 0, 0
        for index, view in enumerate(views):
            full = index - first == self._config.batch_documents
            if index > first and (full or size + len(view.text) > self._config.batch_characters):
                yield views[first:index]
                first, size = index, 0
            size += len(view.text)
        if first < len(views):
            yield views[first:]

    def _results(self, answer: Any, count: int) -> list[dict[str, Any]]:
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
            raise self._refuse("no list of results", answer)
        if len(results) != count:
            raise self._refuse(f"{len(results)} results for {count} documents", answer)
        return results

    def _objection(self, result: dict[str, Any]) -> Objection | None:
        score, keep = result.get("score"), result.get("keep")
        if isinstance(keep, bool):
            dropped = not keep
        elif isinstance(score, int | float) and not isinstance(score, bool):
            dropped = score >= self._config.threshold
        else:
            raise self._refuse("a result without keep or score", result)
        if not dropped:
            return None
        code = str(result.get("code") or self.id).upper().replace("-", "_").replace(" ", "_")
        said = str(result.get("detail") or "")
        if not said and score is not None:
            said = f"score {score} (below {self._config.threshold} is kept)"
        return Objection(code, said[:_MAX_DETAIL_CHARACTERS])

    def _refuse(self, what: str, answer: Any) -> InvalidInputError:
        return InvalidInputError(
            f"the endpoint {self._endpoint.url} answered {what}: {str(answer)[:200]}; accepted: "
            '{"results": [{"keep": bool} or {"score": number}, one for each document]}',
            reason="ENDPOINT_ANSWER_NOT_RESULTS",
        )

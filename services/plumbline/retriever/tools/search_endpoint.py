"""A web search that the operator has configured, as a source of evidence.

Its address comes from the configuration alone; a request brings the query and nothing else, so no
caller can make the service reach a host of their choice. Redirects are not followed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_plus, urlsplit

import urllib3

from plumbline.core.errors import ConfigError, ServiceUnavailableError
from plumbline.retriever.tools.config import SearchEndpointConfig
from plumbline.retriever.tools.records import Document

_PLACE = "{query}"


class SearchEndpoint:
    """Asks one search over HTTP; safe to share between threads.

    Raises:
        ConfigError: a URL of another kind, a host that is not allowed, or a token variable that is
            not set.
    """

    def __init__(self, config: SearchEndpointConfig) -> None:
        _check_url(config)
        self._config = config
        self._headers = {"Accept": "application/json"}
        if config.token_env:
            token = os.environ.get(config.token_env, "").strip()
            if not token:
                raise ConfigError(
                    f"the environment variable {config.token_env} is not set; it must hold the "
                    "search's token",
                    field="search_endpoint.token_env",
                )
            self._headers["Authorization"] = f"Bearer {token}"
        self._http = urllib3.PoolManager(
            maxsize=8,
            timeout=urllib3.Timeout(total=config.timeout_s),
            retries=urllib3.Retry(total=1, redirect=False, raise_on_status=False),
        )

    def find(self, query: str, k: int) -> Sequence[Document]:
        """Results as documents.

        Raises:
            ServiceUnavailableError: no answer in time, a failing one, or one that is no JSON of
                the configured form.
        """
        url = self._config.url.replace(_PLACE, quote_plus(query))
        results = _at(self._get(url), self._config.results)
        if not isinstance(results, list):
            raise _failed(f"has no list at {self._config.results!r}")
        documents = [self._document(result, i) for i, result in enumerate(results)]
        kept = [document for document in documents if document is not None]
        return kept[: min(k, self._config.max_results)]

    def _get(self, url: str) -> Any:
        limit = self._config.max_answer_bytes
        try:
            with self._http.request(
                "GET", url, headers=self._headers, redirect=False, preload_content=False
            ) as response:
                content = response.read(limit + 1, decode_content=True)
                status = response.status
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _failed(f"does not answer: {error}") from error
        if status != 200:
            raise _failed(f"answered {status}; 200 is accepted")
        if len(content) > limit:
            raise _failed(f"answered more than {limit} bytes")
        try:
            return json.loads(content)
        except ValueError as error:
            raise _failed("answered no JSON") from error

    def _document(self, result: Any, position: int) -> Document | None:
        text = _at(result, self._config.text)
        if not isinstance(text, str) or not text.strip():
            return None
        title, identity = _at(result, self._config.title), _at(result, self._config.id)
        return Document(
            id=identity if isinstance(identity, str) and identity else f"result {position + 1}",
            text=text,
            title=title if isinstance(title, str) else "",
        )


def _check_url(config: SearchEndpointConfig) -> None:
    parts = urlsplit(config.url.replace(_PLACE, "query"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"search_endpoint.url={config.url!r} is no http or https address",
            field="search_endpoint.url",
        )
    if _PLACE in config.url.partition("?")[0].partition("//")[2].partition("/")[0]:
        raise ConfigError(
            f"search_endpoint.url={config.url!r} has the query in its host; after the host is "
            "accepted",
            field="search_endpoint.url",
        )
    if parts.username or parts.password:
        raise ConfigError(
            f"search_endpoint.url of {parts.hostname} holds a credential; token_env is accepted",
            field="search_endpoint.url",
        )
    if parts.hostname not in config.hosts:
        raise ConfigError(
            f"search_endpoint.url names the host {parts.hostname!r}; accepted hosts: "
            f"{', '.join(config.hosts) or 'none, set search_endpoint.hosts'}",
            field="search_endpoint.hosts",
        )


def _at(value: Any, path: str) -> Any:
    """The value at keys with dots between them; None where there is none."""
    for key in path.split(".") if path else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _failed(how: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(f"the configured search {how}", reason="SEARCH_FAILED")

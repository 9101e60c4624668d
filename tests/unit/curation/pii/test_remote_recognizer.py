"""A user's entity model behind HTTP, against a real server in a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from plumbline.core.errors import (
    ConfigError,
    InvalidInputError,
    ServiceUnavailableError,
    UnauthenticatedError,
)
from plumbline.core.validation import parse_config
from plumbline.curation.pii.names.config import RemoteNerConfig
from plumbline.curation.pii.remote import RemoteRecognizer
from plumbline.curation.pii.spans import Span


class Model:
    """What the server says: by default, every `Ann` in the texts."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.headers: list[dict[str, str]] = []
        self.failures = 0
        self.status = 200
        self.answer: Callable[[list[str]], Any] = self.anns

    def anns(self, texts: list[str]) -> Any:
        return {"entities": [self._of(text) for text in texts]}

    def _of(self, text: str) -> list[dict[str, Any]]:
        start = text.find("Ann")
        found = {"start": start, "end": start + 3, "type": "PER", "score": 0.9}
        return [found] if start >= 0 else []


@contextmanager
def serving(model: Model) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts = json.loads(body)["texts"]
            model.requests.append(texts)
            model.headers.append(dict(self.headers))
            status = model.status
            if model.failures:
                model.failures -= 1
                status = 503
            content = json.dumps(model.answer(texts)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/entities"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def recognizer(url: str, **settings: Any) -> Iterator[RemoteRecognizer]:
    found = RemoteRecognizer(RemoteNerConfig(url=url, timeout_s=5, **settings))
    try:
        yield found
    finally:
        found.close()


def test_entities_become_spans_with_mapped_types() -> None:
    with serving(Model()) as url, recognizer(url) as remote:
        assert remote.types == {"PERSON", "ADDRESS"}
        spans = remote.find(["Hi Ann", "nobody", "安娜 Ann!"])
    assert spans == [
        [Span(3, 6, "PERSON", 0.9, "remote")],
        [],
        [Span(3, 6, "PERSON", 0.9, "remote")],
    ]


def test_unmapped_labels_are_dropped_and_scores_default() -> None:
    model = Model()
    model.answer = lambda texts: {
        "entities": [
            [{"start": 0, "end": 2, "type": "MISC"}, {"start": 0, "end": 2, "type": "PER"}]
        ]
    }
    with serving(model) as url, recognizer(url, default_score=0.6) as remote:
        assert remote.find(["Bo"]) == [[Span(0, 2, "PERSON", 0.6, "remote")]]


def test_requests_are_bounded_by_count_and_bytes() -> None:
    """Bytes of UTF-8: 安 has three, so two of them make six, and a third does not fit in eight."""
    model = Model()
    with serving(model) as url:
        with recognizer(url, max_batch_texts=2) as remote:
            remote.find(["a", "b", "c", " ", ""])
        with recognizer(url, max_batch_bytes=8) as remote:
            remote.find(["安", "安", "安", "long text beyond the bound", "x"])
    assert model.requests == [
        ["a", "b"],
        ["c"],
        ["安", "安"],
        ["安"],
        ["long text beyond the bound"],
        ["x"],
    ]


def test_a_failing_endpoint_is_asked_again() -> None:
    model = Model()
    model.failures = 2
    with serving(model) as url, recognizer(url, retries=2) as remote:
        assert len(remote.find(["Hi Ann"])[0]) == 1
    assert len(model.requests) == 3


def test_an_endpoint_that_keeps_failing_is_unavailable() -> None:
    model = Model()
    model.failures = 9
    with (
        serving(model) as url,
        recognizer(url, retries=1) as remote,
        pytest.raises(ServiceUnavailableError, match="503"),
    ):
        remote.find(["Hi Ann"])
    assert len(model.requests) == 2


def test_nobody_listening_is_unavailable(free_port: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{free_port()}/entities"
    with recognizer(url, retries=0) as remote, pytest.raises(ServiceUnavailableError):
        remote.find(["Hi Ann"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "under 'entities'"),
        ({"entities": [[], []]}, "2 texts where 1"),
        ({"entities": [{"start": 0}]}, "under 'entities'"),
        ({"entities": [["Ann"]]}, "the entity 'Ann'"),
        ({"entities": [[{"start": 0, "end": 99, "type": "PER"}]]}, "0 to 99 in a text of 6"),
        ({"entities": [[{"start": 3, "end": 3, "type": "PER"}]]}, "3 to 3"),
        ({"entities": [[{"start": -1, "end": 3, "type": "MISC"}]]}, "-1 to 3"),
        ({"entities": [[{"start": True, "end": 3, "type": "PER"}]]}, "the entity"),
        ({"entities": [[{"start": 0, "end": 3, "type": "PER", "score": 7}]]}, "score 7"),
    ],
)
def test_bad_answers_are_refused(answer: Any, message: str) -> None:
    model = Model()
    model.answer = lambda texts: answer
    with (
        serving(model) as url,
        recognizer(url) as remote,
        pytest.raises(InvalidInputError, match=message) as raised,
    ):
        remote.find(["Hi Ann"])
    assert raised.value.reason == "BAD_NER_ANSWER"


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NER_TOKEN", "made-up-for-this-test")
    model = Model()
    with serving(model) as url, recognizer(url, token_env="NER_TOKEN") as remote:
        remote.find(["Hi"])
    assert model.headers[0]["Authorization"] == "Bearer made-up-for-this-test"


def test_a_refused_token_is_told_apart() -> None:
    model = Model()
    model.status = 401
    with serving(model) as url, recognizer(url) as remote, pytest.raises(UnauthenticatedError):
        remote.find(["Hi"])


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="blank"):
        parse_config(RemoteNerConfig, {"url": "http://ner", "labels": {"PER": " "}})
    with pytest.raises(ConfigError, match="ftp"):
        RemoteRecognizer(RemoteNerConfig(url="ftp://ner/entities"))
    with pytest.raises(ConfigError, match="NER_TOKEN_THAT_IS_NOT_SET"):
        RemoteRecognizer(RemoteNerConfig(url="http://ner", token_env="NER_TOKEN_THAT_IS_NOT_SET"))

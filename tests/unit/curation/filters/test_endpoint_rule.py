"""A user's model over HTTP: what is asked, what is answered, and what fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from plumbline.core.errors import (
    ConfigError,
    InvalidInputError,
    PermissionDeniedError,
    ServiceUnavailableError,
    UnauthenticatedError,
)
from plumbline.curation.filters.config import EndpointConfig, LanguageConfig
from plumbline.curation.filters.endpoint import EndpointRule
from plumbline.curation.filters.rules import Objection
from plumbline.curation.http_json import JsonEndpoint
from plumbline.curation.view import DocumentView


class Server(ThreadingHTTPServer):
    """Answers each request by the next of `script`, the last for ever."""

    script: list[tuple[int, Any]]
    requests: list[Any]
    headers: list[dict[str, str]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.headers.append(dict(self.headers))
        status, answer = self.server.script[0]
        if len(self.server.script) > 1:
            self.server.script.pop(0)
        if callable(answer):
            answer = answer(body)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.script, made.requests, made.headers = [], [], []
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/judge"


def judge(server: Server, texts: list[str], **config: Any) -> list[Objection | None]:
    rule = EndpointRule(EndpointConfig(url=url(server), timeout_s=5, **config))
    try:
        return rule.judge([DocumentView(text, LanguageConfig()) for text in texts])
    finally:
        rule.close()


def keep_short(body: Any) -> Any:
    return {"results": [{"keep": len(item["text"]) < 10} for item in body["documents"]]}


def test_documents_go_in_batches_and_answers_come_back_in_order(server: Server) -> None:
    server.script = [(200, keep_short)]
    texts = ["short", "a long document", "短文", "another long document", "tiny"]

    answers = judge(server, texts, batch_documents=2, name="house_model")

    dropped = Objection("HOUSE_MODEL", "")
    assert answers == [None, dropped, None, dropped, None]
    assert [len(body["documents"]) for body in server.requests] == [2, 2, 1]
    assert server.requests[1]["documents"][0] == {"text": "短文", "language": "und"}


def test_scores_are_compared_with_the_threshold(server: Server) -> None:
    results = [{"score": 0.7}, {"score": 0.69}, {"keep": False, "code": "too-rude", "detail": "!"}]
    server.script = [(200, {"results": results})]

    assert judge(server, ["a", "b", "c"], threshold=0.7) == [
        Objection("ENDPOINT", "score 0.7 (below 0.7 is kept)"),
        None,
        Objection("TOO_RUDE", "!"),
    ]


def test_large_documents_get_requests_of_their_own(server: Server) -> None:
    server.script = [(200, keep_short)]
    judge(server, ["x" * 30, "y" * 5, "z" * 5], batch_characters=12)

    sizes = [[len(item["text"]) for item in body["documents"]] for body in server.requests]
    assert sizes == [[30], [5, 5]]


def test_busy_endpoints_are_asked_again(server: Server) -> None:
    server.script = [(503, {}), (429, {}), (200, {"results": [{"keep": True}]})]

    assert judge(server, ["text"], retries=3) == [None]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (503, {}, ServiceUnavailableError),
        (401, {}, UnauthenticatedError),
        (403, {}, PermissionDeniedError),
        (400, {"error": "no"}, InvalidInputError),
        (302, {}, InvalidInputError),
        (200, b"<html>", InvalidInputError),
        (200, {"results": []}, InvalidInputError),
        (200, {"results": [{"verdict": 1}]}, InvalidInputError),
        (200, [1], InvalidInputError),
    ],
)
def test_failures_are_typed(
    server: Server, status: int, answer: Any, error: type[Exception]
) -> None:
    server.script = [(status, answer)]
    with pytest.raises(error, match=r"127\.0\.0\.1"):
        judge(server, ["text"], retries=0)


def test_nobody_there(free_port: Any) -> None:
    with (
        JsonEndpoint(f"http://127.0.0.1:{free_port()}/", timeout_s=1, retries=0) as endpoint,
        pytest.raises(ServiceUnavailableError, match="does not answer"),
    ):
        endpoint.post({})


def test_the_token_comes_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [(200, keep_short)]
    with pytest.raises(ConfigError, match="HOUSE_TOKEN is not set"):
        judge(server, ["text"], token_env="HOUSE_TOKEN")
    monkeypatch.setenv("HOUSE_TOKEN", "for-this-test")
    judge(server, ["text"], token_env="HOUSE_TOKEN")

    assert server.headers[0]["Authorization"] == "Bearer for-this-test"


@pytest.mark.parametrize("wrong", ["ftp://host/x", "host:80", "http://", "http://me:pw@host/"])
def test_wrong_urls(wrong: str) -> None:
    with pytest.raises(ConfigError):
        EndpointRule(EndpointConfig(url=wrong))

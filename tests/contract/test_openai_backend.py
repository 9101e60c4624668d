"""A sampler's service over the OpenAI backend over our own front over another sampler: the chain
changes nothing. And the backend before endpoints that tell less, or fail."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError

from plumbline.core.artifacts import Lineage, open_configured_store
from plumbline.core.errors import (
    CancelledError,
    ConfigError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PlumblineError,
    ResourceExhaustedError,
    UnavailableError,
)
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.models.references import ModelReferences
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.interface import SamplingOptions
from plumbline.sampler.service import SamplerService
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc

sys.path.append(str(Path(__file__).parent))
from backend_contract import (  # noqa: F401
    test_logprobs_of_given_responses_are_refused,
    test_parameters_out_of_range_are_named,
    test_policies_are_those_of_the_endpoint,
    test_rollouts_are_the_native_ones,
    test_streams_are_the_native_ones,
)

pytest.importorskip("openai", reason="the extra `openai` is not installed")
pytest.importorskip("uvicorn", reason="the extra `http` is not installed")

from plumbline.openai_front.server import front_in_thread
from plumbline.sampler.backends.config import (
    OpenAIBackendConfig,
    configured_openai_backend,
)
from plumbline.sampler.backends.openai import OpenAIBackend

PLAIN = SamplingOptions()


def serving(engine: Any) -> Any:
    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(SamplerService(engine), server)
        return ["plumbline.v1.SamplerService"]

    return serve_in_thread("sampler", register)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def policy(settings: Settings, tiny_policy: Path) -> str:
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    return open_configured_store(settings).put("policy", tiny_policy, lineage=lineage).id


@pytest.fixture(scope="module")
def native(settings: Settings, policy: str) -> Iterator[str]:
    """Address of the sampler that holds the weights."""
    engine = SamplerEngine(ModelReferences(open_configured_store(settings)), device="cpu")
    engine.load(policy)
    with serving(engine) as address:
        yield address


@pytest.fixture(scope="module")
def chained(native: str) -> Iterator[str]:
    """Address of a sampler whose policies are behind the front of the other one."""
    with front_in_thread(Settings(), target=native) as address:
        backend = OpenAIBackend(OpenAIBackendConfig(base_url=f"http://{address}/v1"))
        with serving(backend) as found:
            yield found
        backend.close()


@pytest.fixture
def stubs(native: str, chained: str) -> Iterator[tuple[Any, Any]]:
    """Of the sampler with the weights, and of the one at the end of the chain."""
    with connect("sampler", target=native) as own, connect("sampler", target=chained) as far:
        yield own, far


@pytest.fixture
def tells_tokens() -> bool:
    """Our own front tells the logprobs that tokens were drawn with."""
    return True


# Endpoints that tell less


class Endpoint:
    """A scripted OpenAI-compatible server.

    Attributes:
        reply: (status, body) for every POST, or None to keep the caller waiting.
        events: of a streamed reply, in place of `reply`'s body.
    """

    def __init__(self) -> None:
        self.reply: tuple[int, Any] | None = (200, {})
        self.events: list[Any] = []
        self.asked: list[Any] = []
        self.dropped = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, {"object": "list", "data": [{"id": "gpt", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                endpoint.asked.append({**body, "key": self.headers["authorization"]})
                if endpoint.reply is None:
                    self.connection.recv(1)  # empty when the caller closes
                    endpoint.dropped.set()
                elif endpoint.events:
                    lines = [f"data: {json.dumps(event)}\n\n" for event in endpoint.events]
                    self._send(200, "text/event-stream", "".join(lines).encode())
                else:
                    self._say(*endpoint.reply)

            def _say(self, status: int, body: Any) -> None:
                self._send(status, "application/json", json.dumps(body).encode())

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def backend(endpoint: Endpoint) -> Iterator[OpenAIBackend]:
    config = OpenAIBackendConfig(base_url=endpoint.url, max_retries=0, api_key="key-1")
    made = OpenAIBackend(config)
    yield made
    made.close()


def choice(**fields: Any) -> dict[str, Any]:
    return {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "sea"},
        **fields,
    }


def completion(**fields: Any) -> dict[str, Any]:
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-7", **fields}


def entry(**fields: Any) -> dict[str, Any]:
    return {"token": "sea", "bytes": [115], "logprob": -0.5, "top_logprobs": [], **fields}


def draw(backend: OpenAIBackend, options: SamplingOptions = PLAIN, **how: Any) -> Any:
    """(policy id, the response) of one draw."""
    policy_id, samples = backend.sample("", [[user("where?")]], options, k=1, seeds=[5], **how)
    return policy_id, samples[0].responses[0]


@pytest.mark.parametrize(
    ("told", "temperature", "token_ids", "logprobs"),
    [
        # OpenAI's own: no ids. vLLM's: ids, and logprobs of the policy. Ours: both logprobs.
        ({}, 1.0, (), ()),
        ({"token": "token_id:7"}, 1.0, (7,), (-0.5,)),
        ({"token": "token_id:7"}, 0.7, (), ()),
        ({"token_id": 7, "sampling_logprob": -0.25}, 0.7, (7,), (-0.25,)),
    ],
)
def test_tokens_are_those_that_the_endpoint_tells_all_about(
    endpoint: Endpoint,
    backend: OpenAIBackend,
    told: dict[str, Any],
    temperature: float,
    token_ids: tuple[int, ...],
    logprobs: tuple[float, ...],
) -> None:
    content = [entry(**told)]
    endpoint.reply = (200, completion(choices=[choice(logprobs={"content": content})]))
    policy_id, response = draw(backend, SamplingOptions(temperatures=(temperature,)))

    assert (policy_id, response.text) == ("gpt-7", "sea")
    assert (response.sampled.token_ids, response.sampled.logprobs) == (token_ids, logprobs)
    assert response.sampled.untempered_logprobs == ((-0.5,) if token_ids else ())
    assert response.sampled.seed == 5


def test_what_asks_for_nothing_is_not_sent(endpoint: Endpoint, backend: OpenAIBackend) -> None:
    endpoint.reply = (200, completion(choices=[choice()]))
    draw(backend)
    draw(backend, SamplingOptions(top_k=3, stop=("a",), logit_bias={7: 1.0}, max_response_tokens=9))

    plain, full = endpoint.asked
    assert plain == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "where?"}],
        "seed": 5,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 256,
        "logprobs": True,
        "key": "Bearer key-1",
    }
    added = {"top_k": 3, "stop": ["a"], "logit_bias": {"7": 1.0}, "max_tokens": 9}
    assert full == {**plain, **added}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInputError),
        (401, FailedPreconditionError),
        (403, FailedPreconditionError),
        (404, NotFoundError),
        (429, ResourceExhaustedError),
        (500, UnavailableError),
        (504, DeadlineExceededError),
    ],
)
def test_errors_of_the_endpoint_are_typed(
    endpoint: Endpoint, backend: OpenAIBackend, status: int, kind: type[PlumblineError]
) -> None:
    endpoint.reply = (status, {"error": {"message": "no such luck", "param": "top_p"}})
    with pytest.raises(kind, match="no such luck") as caught:
        draw(backend)
    with pytest.raises(kind, match="no such luck"):
        next(backend.generate("gpt", [user("where?")], SamplingOptions(), seed=1))

    assert type(caught.value) is kind
    assert caught.value.field == ("top_p" if status == 400 else None)


def test_a_withheld_response_is_an_error(endpoint: Endpoint, backend: OpenAIBackend) -> None:
    endpoint.reply = (200, completion(choices=[choice(finish_reason="content_filter")]))
    with pytest.raises(
        FailedPreconditionError, match="'content_filter'; accepted: stop and length"
    ):
        draw(backend)


def chunk(text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {"content": text} if text is not None else {}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return completion(object="chat.completion.chunk", choices=choices)


def test_a_stream_ends_with_reason_and_usage(endpoint: Endpoint, backend: OpenAIBackend) -> None:
    usage = {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}
    last = completion(object="chat.completion.chunk", choices=[], usage=usage)
    endpoint.events = [chunk(""), chunk("the "), chunk("sea"), chunk(None, "length"), last]
    deltas = list(backend.generate("gpt", [user("where?")], SamplingOptions(), seed=1))

    assert [delta.text for delta in deltas] == ["the ", "sea", ""]
    assert [delta.finish_reason for delta in deltas] == [None, None, "length"]
    assert deltas[-1].prompt_tokens == 6
    endpoint.events = endpoint.events[:3]
    with pytest.raises(UnavailableError, match="before the response's end"):
        list(backend.generate("gpt", [user("where?")], SamplingOptions(), seed=1))
    endpoint.events.append({"error": {"message": "out of memory"}})
    with pytest.raises(UnavailableError, match="out of memory"):
        list(backend.generate("gpt", [user("where?")], SamplingOptions(), seed=1))


def test_requests_that_nobody_waits_for_are_dropped(
    endpoint: Endpoint, backend: OpenAIBackend
) -> None:
    endpoint.reply = None

    def leave() -> None:
        if endpoint.asked:
            raise CancelledError("the caller went away")

    with pytest.raises(CancelledError):
        draw(backend, while_waiting=leave)

    assert endpoint.dropped.wait(timeout=10)


@pytest.mark.parametrize("method", ["Generate", "SampleResponses"])
def test_a_call_past_its_deadline_drops_its_requests(
    endpoint: Endpoint, backend: OpenAIBackend, method: str
) -> None:
    endpoint.reply = None
    prompt = prompt_to_wire([user("where?")])
    request: Any = pb.GenerateRequest(prompt=prompt)
    if method == "SampleResponses":
        request = pb.SampleResponsesRequest(prompts=[prompt])
    with (
        serving(backend) as address,
        connect("sampler", target=address) as stub,
        pytest.raises(DeadlineExceededError),
    ):
        found = getattr(stub, method)(request, timeout=0.5)
        list(found)

    assert endpoint.dropped.wait(timeout=10)


def test_alternatives_are_told_or_refused(endpoint: Endpoint, backend: OpenAIBackend) -> None:
    other = {"token": "token_id:9", "bytes": [97], "logprob": -1.5}
    content = [entry(token="token_id:7", top_logprobs=[other])]
    endpoint.reply = (200, completion(choices=[choice(logprobs={"content": content})]))
    _, response = draw(backend, SamplingOptions(top_logprobs=1))

    (detail,) = response.details
    assert (detail.token_id, detail.text, detail.logprob) == (7, b"s", -0.5)
    assert [(one.token_id, one.logprob) for one in detail.alternatives] == [(9, -1.5)]
    endpoint.reply = (200, completion(choices=[choice(logprobs={"content": [entry()]})]))
    with pytest.raises(FailedPreconditionError, match="does not tell the ids of tokens"):
        draw(backend, SamplingOptions(top_logprobs=1))


def test_an_endpoint_that_is_away_is_unavailable() -> None:
    backend = OpenAIBackend(OpenAIBackendConfig(base_url="http://127.0.0.1:9/v1", max_retries=0))
    with pytest.raises(UnavailableError, match="does not answer"):
        backend.policy("gpt")
    backend.close()


def test_the_endpoint_comes_from_the_environment() -> None:
    named = {"PLUMBLINE_OPENAI_BASE_URL": "http://h/v1", "PLUMBLINE_OPENAI_API_KEY": "k"}
    config = configured_openai_backend(Settings.from_environment(named))

    assert (config.base_url, config.api_key.get_secret_value()) == ("http://h/v1", "k")
    with pytest.raises(ConfigError, match="PLUMBLINE_OPENAI_BASE_URL"):
        configured_openai_backend(Settings())
    with pytest.raises(ValidationError, match="accepted: a URL"):
        OpenAIBackendConfig(base_url="h")

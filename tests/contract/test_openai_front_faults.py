"""The HTTP front before a scripted sampler: logprobs, credentials, errors, leaving callers."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from pydantic import SecretStr

from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    PlumblineError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from plumbline.core.rpc import serve_in_thread
from plumbline.core.settings import Settings
from plumbline.openai_front.config import FrontConfig
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc, types_pb2

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("uvicorn", reason="the extra `http` is not installed")

from plumbline.openai_front.server import front_in_thread  # noqa: E402 - needs the extra

ASKED: dict[str, Any] = {"model": "p", "messages": [{"role": "user", "content": "where?"}]}
POLICY = "ab" * 32
CHARACTER = "海".encode()
DETAILS = [
    types_pb2.TokenDetail(
        token_id=7,
        text=b"sea ",
        logprob=-0.5,
        alternatives=[
            types_pb2.TokenAlternative(token_id=7, text=b"sea ", logprob=-0.5),
            types_pb2.TokenAlternative(token_id=9, text=b"house", logprob=-1.25),
        ],
    ),
    # One character over two tokens.
    types_pb2.TokenDetail(token_id=8, text=CHARACTER[:2], logprob=-1.0),
    types_pb2.TokenDetail(token_id=4, text=CHARACTER[2:], logprob=-2.0),
]


class ScriptedSampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Answers as a test says, and notes what arrives.

    Attributes:
        failure: raised in place of an answer; a stream raises it after its script.
        script: messages of every stream; None waits until the caller is gone.
        status: how a call that is not streamed ends, in place of an answer.
        failing_seed: of the stream that fails a little after the others begin to wait.
        running: calls being answered.
        sent: messages of streams that were taken.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.failing_seed: int | None = None
        self.status: status_pb2.Status | None = None
        self.script: list[pb.GenerateResponse | None] = []
        self.answer = pb.SampleResponsesResponse()
        self.wait = False
        self.running = 0
        self.sent = 0
        self.requests: list[Any] = []
        self.headers: list[dict[str, Any]] = []

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateResponse]:
        self._note(request, context)
        self.running += 1
        try:
            for message in self.script:
                if message is not None:
                    yield message
                    self.sent += 1
                elif request.parameters.seed == self.failing_seed:
                    await asyncio.sleep(0.1)
                else:
                    await asyncio.Event().wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.running -= 1

    async def SampleResponses(
        self, request: pb.SampleResponsesRequest, context: grpc.aio.ServicerContext
    ) -> pb.SampleResponsesResponse:
        self._note(request, context)
        self.running += 1
        try:
            if self.wait:
                await asyncio.Event().wait()
            if self.status is not None:
                details = ("grpc-status-details-bin", self.status.SerializeToString())
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, self.status.message, (details,)
                )
            if self.failure is not None:
                raise self.failure
            return self.answer
        finally:
            self.running -= 1

    def _note(self, request: Any, context: grpc.aio.ServicerContext) -> None:
        self.requests.append(request)
        self.headers.append(dict(context.invocation_metadata()))


@pytest.fixture
def sampler() -> ScriptedSampler:
    return ScriptedSampler()


@pytest.fixture
def target(sampler: ScriptedSampler) -> Iterator[str]:
    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(sampler, server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as address:
        yield address


@pytest.fixture
def address(target: str) -> Iterator[str]:
    """Of a front that has a token of its own, which must never help anybody."""
    config = FrontConfig(max_body_bytes=20_000, body_timeout_s=0.3, max_requests=2)
    with front_in_thread(Settings(token=SecretStr("the-front")), config, target=target) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="key-1", max_retries=0) as made:
        yield made


def delta(text: str = "", **fields: Any) -> pb.GenerateResponse:
    return pb.GenerateResponse(delta=text, policy_id=POLICY, **fields)


def last(text: str = "") -> pb.GenerateResponse:
    return delta(
        text,
        finish_reason=types_pb2.FINISH_REASON_STOP,
        usage=types_pb2.Usage(prompt_tokens=5, response_tokens=3),
    )


def sampled(**fields: Any) -> pb.SampleResponsesResponse:
    response = types_pb2.SampledResponse(
        text="sea 海",
        token_ids=[7, 8, 4],
        logprobs=[-0.25, -0.5, -0.75],
        finish_reason=types_pb2.FINISH_REASON_STOP,
        **fields,
    )
    samples = pb.PromptSamples(responses=[response], prompt_token_ids=[1, 2])
    usage = types_pb2.Usage(prompt_tokens=2, response_tokens=3)
    return pb.SampleResponsesResponse(samples=[samples], policy_id=POLICY, usage=usage)


def send(
    address: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of a bare HTTP request."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        found = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, found, json.loads(reply.read() or b"null")
    finally:
        connection.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


# Logprobs and parameters


def test_chat_logprobs_are_tokens_with_bytes_and_alternatives(
    client: Any, sampler: ScriptedSampler
) -> None:
    sampler.answer = sampled(details=DETAILS)
    reply = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2)

    first, *character = reply.choices[0].logprobs.content
    assert (first.token, first.logprob, first.bytes) == ("sea ", -0.5, list(b"sea "))
    assert [(other.token, other.logprob) for other in first.top_logprobs] == [
        ("sea ", -0.5),
        ("house", -1.25),
    ]
    assert (first.token_id, first.sampling_logprob) == (7, -0.25)
    assert bytes(character[0].bytes + character[1].bytes) == CHARACTER
    assert sampler.requests[0].parameters.top_logprobs == 2


def test_streamed_logprobs_come_with_their_pieces(client: Any, sampler: ScriptedSampler) -> None:
    pieces = [("sea ", 0), ("", 1), ("海", 2)]
    sampler.script = [
        delta(text, token_ids=[DETAILS[i].token_id], logprobs=[-0.25], details=[DETAILS[i]])
        for text, i in pieces
    ]
    sampler.script.append(last())
    stream = list(client.chat.completions.create(**ASKED, logprobs=True, stream=True))

    shown = [chunk.choices[0].logprobs for chunk in stream[1:]]
    assert [[entry.token_id for entry in one.content] for one in shown] == [[7], [8], [4], []]
    assert sampler.requests[0].parameters.HasField("top_logprobs")


def test_completion_logprobs_have_offsets_in_characters(
    client: Any, sampler: ScriptedSampler
) -> None:
    sampler.answer = sampled(details=[*DETAILS[:2], DETAILS[2]])
    reply = client.completions.create(model="p", prompt="where?", logprobs=2)

    found = reply.choices[0].logprobs
    assert found.tokens == ["sea ", "�", "�"]
    assert found.token_logprobs == [-0.5, -1.0, -2.0]
    assert found.text_offset == [0, 4, 4]
    assert found.top_logprobs[0] == {"sea ": -0.5, "house": -1.25}
    assert [entry["token_id"] for entry in found.content] == [7, 8, 4]


def test_a_sampler_that_tells_no_details_is_no_silence(
    client: Any, sampler: ScriptedSampler
) -> None:
    sampler.answer = sampled()
    with pytest.raises(openai.BadRequestError, match="leave logprobs out") as caught:
        client.chat.completions.create(**ASKED, logprobs=True)
    assert caught.value.code == "no_token_details"


def test_every_parameter_reaches_the_sampler(client: Any, sampler: ScriptedSampler) -> None:
    sampler.answer = sampled()
    client.chat.completions.create(
        **ASKED,
        temperature=0.5,
        top_p=0.75,
        max_tokens=9,
        n=2,
        seed=6,
        stop=["a", "b"],
        logit_bias={"7": -100, "9": 2.5},
        extra_body={"top_k": 3, "min_p": 0.125, "repetition_penalty": 1.5},
    )
    client.chat.completions.create(**ASKED)

    asked, plain = sampler.requests
    assert (asked.policy, asked.responses_per_prompt) == ("p", 2)
    assert asked.parameters == types_pb2.SamplingParameters(
        temperature=0.5,
        top_p=0.75,
        top_k=3,
        max_response_tokens=9,
        seed=6,
        stop=["a", "b"],
        min_p=0.125,
        repetition_penalty=1.5,
        logit_bias={7: -100, 9: 2.5},
    )
    absent = types_pb2.SamplingParameters(seed=plain.parameters.seed)
    assert plain.parameters == absent


# Credentials and request ids


def test_the_callers_token_and_request_id_go_to_the_sampler(
    client: Any, sampler: ScriptedSampler
) -> None:
    sampler.answer = sampled()
    reply = client.chat.completions.create(**ASKED, extra_headers={"x-request-id": "mine-1"})

    assert reply._request_id == "mine-1"
    assert sampler.headers[0]["authorization"] == "Bearer key-1"
    assert sampler.headers[0]["x-request-id"] == "mine-1"


def test_a_caller_without_a_token_gets_nobody_elses(address: str, sampler: ScriptedSampler) -> None:
    sampler.answer = sampled()
    body = json.dumps(ASKED).encode()
    status, headers, _ = send(address, "POST", "/v1/chat/completions", body)

    assert status == 200
    assert "authorization" not in sampler.headers[0]
    # An id that could forge a line of a log is replaced.
    forged = {"x-request-id": "a b"}
    _, replaced, _ = send(address, "POST", "/v1/chat/completions", body, forged)
    assert replaced["x-request-id"] not in ("a b", headers["x-request-id"])
    bad = {"authorization": "Bearer \xe9"}
    status, headers, reply = send(address, "POST", "/v1/chat/completions", body, bad)
    assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
    assert headers["www-authenticate"] == "Bearer"


# Errors


def refusal(
    failure: PlumblineError, status: int, code: str, kind: str, param: str | None = None
) -> tuple[PlumblineError, int, dict[str, str | None]]:
    return failure, status, {"message": "no", "type": kind, "param": param, "code": code}


INVALID = "invalid_request_error"


@pytest.mark.parametrize(
    ("failure", "status", "body"),
    [
        refusal(InvalidInputError("no", field="top_p"), 400, "invalid_input", INVALID, "top_p"),
        refusal(
            InvalidInputError("no", field="max_response_tokens"),
            400,
            "invalid_input",
            INVALID,
            "max_tokens",
        ),
        refusal(FailedPreconditionError("no", reason="NO_POLICY"), 400, "no_policy", INVALID),
        refusal(UnauthenticatedError("no"), 401, "invalid_api_key", "authentication_error"),
        refusal(PermissionDeniedError("no"), 403, "permission_denied", "permission_error"),
        refusal(NotFoundError("no"), 404, "model_not_found", INVALID, "model"),
        refusal(ResourceExhaustedError("no"), 429, "rate_limit_exceeded", "rate_limit_error"),
        refusal(DeadlineExceededError("no"), 504, "timeout", "server_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_the_sampler_have_openais_shape(
    client: Any,
    sampler: ScriptedSampler,
    failure: PlumblineError,
    status: int,
    body: dict[str, str | None],
    stream: bool,
) -> None:
    sampler.failure = failure
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**ASKED, stream=stream)

    assert caught.value.status_code == status
    assert caught.value.body == body
    retry_after = caught.value.response.headers.get("retry-after")
    assert retry_after == ("1" if status == 429 else None)


@pytest.mark.parametrize("failure", [RuntimeError("secret /path"), PlumblineError("secret /path")])
def test_unexpected_errors_tell_a_request_id_and_nothing_else(
    client: Any, sampler: ScriptedSampler, failure: Exception
) -> None:
    sampler.failure = failure
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**ASKED, extra_headers={"x-request-id": "lost-1"})

    assert caught.value.status_code == 500
    assert caught.value.code == "internal_error"
    assert "lost-1" in caught.value.message
    assert "secret" not in caught.value.response.text


def test_an_error_in_the_middle_ends_the_stream(client: Any, sampler: ScriptedSampler) -> None:
    sampler.script = [delta("sea")]
    sampler.failure = ResourceExhaustedError("the cache is full")
    said = []
    with pytest.raises(openai.APIError, match="the cache is full") as caught:
        for chunk in client.chat.completions.create(**ASKED, stream=True):
            said.append(chunk.choices[0].delta.content)

    assert said == ["", "sea"]
    assert caught.value.code == "rate_limit_exceeded"


def test_a_caller_is_told_when_to_come_back(client: Any, sampler: ScriptedSampler) -> None:
    retry_info = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=7))
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full")
    status.details.add().Pack(retry_info)
    sampler.status = status
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**ASKED)

    assert caught.value.response.headers["retry-after"] == "7"


def test_a_sampler_that_is_away_is_told_soon() -> None:
    started = time.monotonic()
    with (
        front_in_thread(Settings(), target="127.0.0.1:9") as address,
        openai.OpenAI(base_url=f"http://{address}/v1", api_key="k", max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(**ASKED)

    assert (caught.value.status_code, caught.value.code) == (503, "service_unavailable")
    assert caught.value.response.headers["retry-after"] == "1"
    assert time.monotonic() - started < 15


def test_what_is_no_request_is_refused_in_json(address: str) -> None:
    path = "/v1/chat/completions"
    cases = [
        send(address, "GET", "/v1/nothing"),
        send(address, "GET", path),
        send(address, "POST", path, b"{"),
        send(address, "POST", path, b" " * 20_001),
    ]

    assert [status for status, _, _ in cases] == [404, 405, 400, 413]
    errors = [reply["error"] for _, _, reply in cases]
    assert [error["code"] for error in errors] == [
        "unknown_path",
        "method_not_allowed",
        "not_json",
        "body_too_large",
    ]
    assert all(set(error) == {"message", "type", "param", "code"} for error in errors)
    assert all(headers["x-request-id"] for _, headers, _ in cases)


def test_a_body_that_never_ends_is_given_up(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    connection.send(b"5\r\n{    \r\n")
    reply = connection.getresponse()

    assert (reply.status, json.loads(reply.read())["error"]["code"]) == (408, "body_timeout")
    connection.close()


def test_a_full_front_refuses_at_once(client: Any, address: str, sampler: ScriptedSampler) -> None:
    sampler.script = [delta("sea"), None]
    streams = [client.chat.completions.create(**ASKED, stream=True) for _ in range(2)]
    with pytest.raises(openai.RateLimitError, match="2 requests are being answered"):
        client.chat.completions.create(**ASKED)
    assert send(address, "GET", "/healthz")[0] == 200
    for stream in streams:
        stream.close()
    eventually(lambda: sampler.running == 0)
    sampler.answer = sampled()
    assert client.chat.completions.create(**ASKED).choices


# Callers that leave


def test_a_stream_that_nobody_reads_ends_its_calls(client: Any, sampler: ScriptedSampler) -> None:
    sampler.script = [delta("sea"), None]
    stream = client.chat.completions.create(**ASKED, stream=True, n=3)
    next(iter(stream))
    eventually(lambda: sampler.running == 3)
    stream.close()

    eventually(lambda: sampler.running == 0)


def test_a_reader_that_falls_behind_holds_the_sampler_back(
    client: Any, sampler: ScriptedSampler
) -> None:
    sampler.script = [delta("x" * 100_000)] * 2000
    stream = client.chat.completions.create(**ASKED, stream=True)
    sent: list[int] = []

    def stands_still() -> bool:
        sent.append(sampler.sent)
        return len(sent) > 40 and len(set(sent[-40:])) == 1

    eventually(stands_still)
    assert sampler.sent < 300
    stream.close()
    eventually(lambda: sampler.running == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_leaves_before_the_reply_ends_its_call(
    client: Any, sampler: ScriptedSampler, stream: bool
) -> None:
    sampler.script, sampler.wait = [None], True
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**ASKED, stream=stream, timeout=0.3)

    eventually(lambda: len(sampler.requests) == 1 and sampler.running == 0)


def test_one_failed_choice_ends_the_others(client: Any, sampler: ScriptedSampler) -> None:
    sampler.script, sampler.failing_seed = [delta("sea"), None], 5
    sampler.failure = UnavailableError("one is gone")
    said = []
    with pytest.raises(openai.APIError, match="one is gone"):
        for chunk in client.chat.completions.create(**ASKED, stream=True, seed=5, n=3):
            said += [choice.delta.content for choice in chunk.choices]

    assert said == ["", "", "", "sea", "sea", "sea"]
    eventually(lambda: sampler.running == 0)

"""Every error class crosses gRPC and comes out as itself: unary and streams, blocking and asyncio.

A real server on loopback; its servicer raises what the request names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import plumbline
from plumbline.core import errors
from plumbline.core.rpc import from_rpc_error, serve_in_thread
from plumbline.core.rpc.status import from_status, to_status
from plumbline.v1 import (
    curation_pb2,
    curation_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    reward_pb2,
    reward_pb2_grpc,
)

CLASSES = sorted(
    (
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.PlumblineError)
    ),
    key=lambda found: found.__name__,
)
CODES = {
    "PlumblineError": "INTERNAL",
    "ConfigError": "INVALID_ARGUMENT",
    "StorageFullError": "RESOURCE_EXHAUSTED",
    "CorruptArtifactError": "DATA_LOSS",
    "BrokerUnavailableError": "UNAVAILABLE",
    "ConflictError": "ABORTED",
}


def raised(name: str) -> errors.PlumblineError:
    found: type[errors.PlumblineError] = getattr(errors, name)
    return found(f"{name} says 不可以", field="items[2].text", metadata={"limit": "3"})


class RaisingReward(reward_pb2_grpc.RewardServiceServicer):
    async def RankResponses(
        self, request: reward_pb2.RankResponsesRequest, context: grpc.aio.ServicerContext
    ) -> reward_pb2.RankResponsesResponse:
        if request.responses[0] == "unhandled":
            raise KeyError("/etc/secret")
        if request.responses[0] == "long":
            raise errors.InvalidInputError(
                "长" * 50_000, field="f" * 9999, metadata={"k": "v" * 9999}
            )
        if request.responses[0] == "surrogate":
            raise errors.NotFoundError("file \udcff is missing", metadata={"name": "\udcff"})
        if request.responses[0] == "custom":
            raise errors.ConfigError("unknown key", reason="UNKNOWN_KEY")
        raise raised(request.responses[0])


class RaisingJobs(jobs_pb2_grpc.JobServiceServicer):
    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        yield jobs_pb2.WatchJobResponse()
        raise raised(request.job_id)


class RaisingCuration(curation_pb2_grpc.CurationServiceServicer):
    async def StreamAnonymizeText(
        self,
        request_iterator: AsyncIterator[curation_pb2.StreamAnonymizeTextRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[curation_pb2.StreamAnonymizeTextResponse]:
        async for request in request_iterator:
            if request.text:
                raise raised(request.text)
            yield curation_pb2.StreamAnonymizeTextResponse(document_id=request.document_id)


def register(server: grpc.aio.Server) -> list[str]:
    reward_pb2_grpc.add_RewardServiceServicer_to_server(RaisingReward(), server)
    jobs_pb2_grpc.add_JobServiceServicer_to_server(RaisingJobs(), server)
    curation_pb2_grpc.add_CurationServiceServicer_to_server(RaisingCuration(), server)
    names = ("RewardService", "JobService", "CurationService")
    return [f"plumbline.v1.{name}" for name in names]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_in_thread("reward", register) as bound:
        yield bound


def rank(response: str) -> reward_pb2.RankResponsesRequest:
    return reward_pb2.RankResponsesRequest(responses=[response])


def check(caught: errors.PlumblineError, found: type[errors.PlumblineError]) -> None:
    assert type(caught) is found
    assert caught.message == f"{found.__name__} says 不可以"
    assert caught.reason == found.default_reason
    assert caught.field == "items[2].text"
    assert caught.metadata["limit"] == "3"
    assert caught.metadata["requestId"]
    # What a process pool does to carry an error over: rebuild it from its own recipe.
    rebuild, arguments = caught.__reduce__()
    again = rebuild(*arguments)
    assert (type(again), again.message, again.reason) == (found, caught.message, caught.reason)


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)
def test_each_class_crosses_unary_stream_and_bidi_calls(
    address: str, found: type[errors.PlumblineError]
) -> None:
    with grpc.insecure_channel(address) as channel:
        # Bare stubs: the platform's client would retry UNAVAILABLE for seconds.
        reward = reward_pb2_grpc.RewardServiceStub(channel)
        with pytest.raises(grpc.RpcError) as unary:
            reward.RankResponses(rank(found.__name__), timeout=10)
        check(from_rpc_error(unary.value), found)
        assert unary.value.code().name == CODES.get(found.__name__, found.code)

        jobs = jobs_pb2_grpc.JobServiceStub(channel)
        responses = jobs.WatchJob(jobs_pb2.WatchJobRequest(job_id=found.__name__), timeout=10)
        next(responses)
        with pytest.raises(grpc.RpcError) as streamed:
            next(responses)
        check(from_rpc_error(streamed.value), found)

        curation = curation_pb2_grpc.CurationServiceStub(channel)
        requests = [curation_pb2.StreamAnonymizeTextRequest(text=found.__name__)]
        with pytest.raises(grpc.RpcError) as bidi:
            list(curation.StreamAnonymizeText(iter(requests), timeout=10))
        check(from_rpc_error(bidi.value), found)


def test_blocking_client_raises_the_class_from_all_kinds_of_call(address: str) -> None:
    with (
        plumbline.connect("reward", target=address) as reward,
        plumbline.connect("jobs", target=address) as jobs,
        plumbline.connect("curation", target=address) as curation,
    ):
        with pytest.raises(errors.CorruptArtifactError) as caught:
            reward.RankResponses(rank("CorruptArtifactError"))
        check(caught.value, errors.CorruptArtifactError)
        future = reward.RankResponses.future(rank("ConflictError"))
        assert isinstance(future.exception(), errors.ConflictError)
        with pytest.raises(errors.ConflictError):
            future.result()
        watched = jobs.WatchJob(jobs_pb2.WatchJobRequest(job_id="NotFoundError"))
        assert next(watched) == jobs_pb2.WatchJobResponse()
        with pytest.raises(errors.NotFoundError):
            next(watched)
        texts = [
            curation_pb2.StreamAnonymizeTextRequest(document_id="7"),
            curation_pb2.StreamAnonymizeTextRequest(text="CheckpointError"),
        ]
        answers = curation.StreamAnonymizeText(iter(texts))
        assert next(answers).document_id == "7"
        with pytest.raises(errors.CheckpointError):
            next(answers)


async def test_asyncio_client_raises_the_class_from_all_kinds_of_call(address: str) -> None:
    async with (
        plumbline.aconnect("reward", target=address) as reward,
        plumbline.aconnect("jobs", target=address) as jobs,
        plumbline.aconnect("curation", target=address) as curation,
    ):
        with pytest.raises(errors.CorruptArtifactError) as caught:
            await reward.RankResponses(rank("CorruptArtifactError"))
        check(caught.value, errors.CorruptArtifactError)
        with pytest.raises(errors.NotFoundError):
            async for _ in jobs.WatchJob(jobs_pb2.WatchJobRequest(job_id="NotFoundError")):
                pass
        texts = [curation_pb2.StreamAnonymizeTextRequest(text="CheckpointError")]
        with pytest.raises(errors.CheckpointError):
            async for _ in curation.StreamAnonymizeText(iter(texts)):
                pass


def test_unhandled_exception_tells_only_a_request_id(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        reward = reward_pb2_grpc.RewardServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            reward.RankResponses(rank("unhandled"), timeout=10, metadata=[("x-request-id", "r-17")])
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details().endswith("request id r-17")
    assert "secret" not in repr(caught.value.trailing_metadata())
    assert ("x-request-id", "r-17") in [tuple(item) for item in caught.value.trailing_metadata()]


def test_foreign_client_reads_google_rpc_status(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        reward = reward_pb2_grpc.RewardServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            reward.RankResponses(rank("StorageFullError"), timeout=10)
    status = rpc_status.from_call(caught.value)
    kinds = [detail.TypeName().rpartition(".")[2] for detail in status.details]
    assert kinds == ["ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo"]
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("plumbline", "STORAGE_FULL")
    retry = error_details_pb2.RetryInfo()
    status.details[2].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_class_survives_a_reason_of_its_own(address: str) -> None:
    with (
        plumbline.connect("reward", target=address) as reward,
        pytest.raises(errors.ConfigError) as caught,
    ):
        reward.RankResponses(rank("custom"))
    assert caught.value.reason == "UNKNOWN_KEY"
    assert "errorClass" not in caught.value.metadata


def test_long_and_broken_text_still_reaches_the_caller(address: str) -> None:
    # 50,000 Chinese characters take 450 KB percent-encoded; peers accept 8 KiB of trailers.
    with plumbline.connect("reward", target=address) as reward:
        with pytest.raises(errors.InvalidInputError) as long:
            reward.RankResponses(rank("long"))
        with pytest.raises(errors.NotFoundError) as broken:
            reward.RankResponses(rank("surrogate"))
    assert long.value.message.startswith("长长")
    assert long.value.message.endswith("...")
    assert broken.value.message == "file ? is missing"


def test_method_left_to_others_is_unimplemented(address: str) -> None:
    with (
        plumbline.connect("reward", target=address) as reward,
        pytest.raises(errors.PlumblineError, match="ComparePairs is not served here") as caught,
    ):
        reward.ComparePairs(reward_pb2.ComparePairsRequest())
    assert caught.value.reason == "UNIMPLEMENTED"


def test_status_of_another_domain_is_not_taken_for_ours() -> None:
    status = to_status(errors.NotFoundError("x"))
    info = error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="elsewhere.example")
    status.details[0].Pack(info)
    assert from_status(status) is None


def test_no_optional_detail_without_cause() -> None:
    status = to_status(errors.NotFoundError("x"))
    assert [detail.TypeName() for detail in status.details] == ["google.rpc.ErrorInfo"]

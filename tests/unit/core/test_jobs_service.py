"""JobService over a real channel: conversions, idempotence, pages, watching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from pydantic import BaseModel, ConfigDict

from plumbline.core.broker import connect_broker
from plumbline.core.errors import ConfigError, InvalidInputError, NotFoundError
from plumbline.core.execution import Execution
from plumbline.core.job_service import (
    JobService,
    config_from_wire,
    execution_from_wire,
    execution_to_wire,
    job_to_wire,
)
from plumbline.core.jobs import JobStore
from plumbline.core.queue import create_app
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import InputSpec, Stage
from plumbline.v1 import jobs_pb2 as pb
from plumbline.v1 import jobs_pb2_grpc as pb_grpc


class MixConfig(BaseModel):
    """Numbers of both kinds, nested."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = 1
    rate: float = 0.5
    sizes: tuple[int, ...] = ()


STAGES = {
    "room.mix": Stage(
        name="room.mix",
        version=1,
        config=MixConfig,
        inputs={"corpus": InputSpec(kinds=("corpus",), required=False, many=True)},
        output_kind="report",
        queue="training",
        run="nowhere:nothing",
        ranks="nowhere:nothing",
    )
}


@pytest.fixture
def jobs(valkey: str) -> JobStore:
    url = valkey.rpartition("/")[0] + "/4"
    connect_broker(url).flushdb()
    return JobStore(url)


@pytest.fixture
def stub(jobs: JobStore) -> Iterator[Any]:
    settings = Settings(redis_url=jobs.redis_url)
    service = JobService(jobs, create_app(settings, STAGES), STAGES)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        pb_grpc.add_JobServiceServicer_to_server(service, server)
        return [pb.DESCRIPTOR.services_by_name["JobService"].full_name]

    with serve_in_thread("jobs", register) as address:
        client = connect("jobs", target=address, timeout_s=20)
        yield client
        client.close()


def request(**config: Any) -> pb.CreateJobRequest:
    struct = Struct()
    struct.update(config)
    inputs = {"corpus": pb.InputReferences(artifacts=["corpus/a@latest", "corpus/b@latest"])}
    spec = pb.StageSpec(stage="room.mix", config=struct, inputs=inputs)
    return pb.CreateJobRequest(request_id="r1", spec=spec, labels={"team": "a"})


def test_create_and_get_give_the_same_job(stub: Any, jobs: JobStore) -> None:
    created = stub.CreateJob(request(steps=3, sizes=[1, 2])).job

    assert stub.GetJob(pb.GetJobRequest(job_id=created.id)).job == created
    assert created.state == pb.JOB_STATE_QUEUED
    assert created.why == "Waiting for a worker on queue training"
    assert list(created.spec.inputs["corpus"].artifacts) == ["corpus/a@latest", "corpus/b@latest"]
    assert jobs.get(created.id).spec["config"] == {"steps": 3, "rate": 0.5, "sizes": [1, 2]}
    assert not created.HasField("start_time") and created.HasField("create_time")


def test_create_is_idempotent_by_request_id(stub: Any) -> None:
    first = stub.CreateJob(request(steps=3)).job

    assert stub.CreateJob(request(steps=3)).job.id == first.id
    with pytest.raises(InvalidInputError, match=first.id):
        stub.CreateJob(request(steps=4))


def test_where_a_job_runs_is_part_of_its_request(stub: Any, jobs: JobStore) -> None:
    plain, placed = request(steps=3), request(steps=3)
    placed.request_id = "r2"
    placed.spec.execution.CopyFrom(pb.Execution(nodes=2, ranks_per_node=8, pool="big"))

    first, second = stub.CreateJob(plain).job, stub.CreateJob(placed).job

    assert second.spec.execution == placed.spec.execution and second.id != first.id
    assert not first.spec.HasField("execution")
    assert jobs.get(second.id).spec["execution"] == {
        "nodes": 2, "ranks_per_node": 8, "pool": "big"
    }  # fmt: skip
    assert stub.CreateJob(placed).job.id == second.id
    placed.spec.execution.nodes = 3
    with pytest.raises(InvalidInputError, match="another body"):
        stub.CreateJob(placed)
    # The default spelt out is no other body.
    plain.spec.execution.CopyFrom(pb.Execution(nodes=1))
    assert stub.CreateJob(plain).job.id == first.id


@pytest.mark.parametrize("executor", [0, 1, 2])
def test_executions_keep_their_meaning_over_the_wire(executor: int) -> None:
    pool = "" if executor == pb.EXECUTOR_LOCAL else "a-1"
    sent = pb.Execution(executor=executor, nodes=1, ranks_per_node=4, pool=pool)

    assert execution_to_wire(execution_from_wire(sent)) == sent
    assert execution_to_wire(Execution()) is None


def test_a_misspelt_key_is_refused_with_its_field(stub: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'steps'") as caught:
        stub.CreateJob(request(stpes=3))

    assert caught.value.field == "stpes"


def test_an_unknown_job_is_not_found(stub: Any) -> None:
    with pytest.raises(NotFoundError):
        stub.GetJob(pb.GetJobRequest(job_id="0" * 32))
    with pytest.raises(NotFoundError):
        list(stub.WatchJob(pb.WatchJobRequest(job_id="0" * 32)))


def test_pages_by_state(stub: Any) -> None:
    job = stub.CreateJob(request()).job
    queued = pb.ListJobsRequest(state=pb.JOB_STATE_QUEUED)

    assert [found.id for found in stub.ListJobs(queued).jobs] == [job.id]
    assert not stub.ListJobs(pb.ListJobsRequest(state=pb.JOB_STATE_FAILED)).jobs
    with pytest.raises(InvalidInputError):
        stub.ListJobs(pb.ListJobsRequest(page_size=-1))


def test_watching_ends_with_the_job(stub: Any, jobs: JobStore) -> None:
    job = stub.CreateJob(request()).job
    stream = stub.WatchJob(pb.WatchJobRequest(job_id=job.id))
    assert next(stream).job.state == pb.JOB_STATE_QUEUED

    lease = jobs.acquire(job.id, "w", 30)
    assert lease is not None
    jobs.append_metrics(lease, 1, {"loss": 0.25})
    jobs.succeed(lease, "a" * 64)

    last = [answer.job for answer in stream][-1]
    assert (last.state, last.result_artifact) == (pb.JOB_STATE_SUCCEEDED, "a" * 64)
    assert dict(last.metrics) == {"loss": 0.25}
    assert last == job_to_wire(jobs.get(job.id))


def test_cancelling_says_why_and_leaves_ended_jobs_alone(stub: Any) -> None:
    job = stub.CreateJob(request()).job
    cancelled = stub.CancelJob(pb.CancelJobRequest(job_id=job.id, reason="not needed")).job

    assert (cancelled.state, cancelled.why) == (pb.JOB_STATE_CANCELLED, "Cancelled: not needed")
    again = stub.CancelJob(pb.CancelJobRequest(job_id=job.id, reason="really")).job
    assert again == cancelled


def test_whole_numbers_come_back_as_int() -> None:
    struct = Struct()
    struct.update({"steps": 3, "rate": 0.5, "nested": {"sizes": [1, 2.5]}})

    values = config_from_wire(struct)

    assert values == {"steps": 3, "rate": 0.5, "nested": {"sizes": [1, 2.5]}}
    assert isinstance(values["steps"], int) and isinstance(values["nested"]["sizes"][0], int)

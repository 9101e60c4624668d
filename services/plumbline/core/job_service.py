"""JobService: create, read, watch and cancel jobs. Mounted on every server that makes jobs.

Also holds the conversions between job records and their messages, for the rooms whose own calls
return a job.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
from celery import Celery
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from plumbline.core.errors import InvalidInputError
from plumbline.core.execution import Execution, read_execution
from plumbline.core.jobs import Job, JobState, JobStore
from plumbline.core.queue import submit
from plumbline.core.rpc import remaining_s, run_blocking
from plumbline.core.stages import Stage
from plumbline.v1 import jobs_pb2 as pb
from plumbline.v1 import jobs_pb2_grpc as pb_grpc


class JobService(pb_grpc.JobServiceServicer):
    """Converts messages; the job store and the queue do the work."""

    def __init__(self, jobs: JobStore, app: Celery, stages: Mapping[str, Stage]) -> None:
        self._jobs = jobs
        self._app = app
        self._stages = stages

    async def CreateJob(
        self, request: pb.CreateJobRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreateJobResponse:
        job = await run_blocking(
            submit,
            self._jobs,
            self._app,
            self._stages,
            request.spec.stage,
            config_from_wire(request.spec.config),
            inputs_from_wire(request.spec.inputs),
            request.request_id,
            dict(request.labels),
            execution_from_wire(request.spec.execution),
        )
        return pb.CreateJobResponse(job=job_to_wire(job))

    async def GetJob(
        self, request: pb.GetJobRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetJobResponse:
        job = await run_blocking(self._jobs.get, request.job_id)
        return pb.GetJobResponse(job=job_to_wire(job))

    async def ListJobs(
        self, request: pb.ListJobsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListJobsResponse:
        jobs, next_page_token = await run_blocking(
            self._jobs.list,
            page_size=request.page_size,
            page_token=request.page_token,
            state=_state_from_wire(request.state),
        )
        return pb.ListJobsResponse(
            jobs=[job_to_wire(job) for job in jobs], next_page_token=next_page_token
        )

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchJobResponse]:
        async for job in self._jobs.awatch(request.job_id, remaining_s()):
            yield pb.WatchJobResponse(job=job_to_wire(job))

    async def CancelJob(
        self, request: pb.CancelJobRequest, context: grpc.aio.ServicerContext
    ) -> pb.CancelJobResponse:
        job = await run_blocking(self._jobs.cancel, request.job_id, request.reason)
        return pb.CancelJobResponse(job=job_to_wire(job))


def job_to_wire(job: Job) -> pb.Job:
    """The record as its message."""
    config = Struct()
    config.update(dict(job.spec["config"]))
    inputs = {
        name: pb.InputReferences(artifacts=references)
        for name, references in job.spec["inputs"].items()
    }
    return pb.Job(
        id=job.id,
        request_id=job.request_id,
        spec=pb.StageSpec(
            stage=job.kind,
            config=config,
            inputs=inputs,
            execution=execution_to_wire(Execution.of(job.spec)),
        ),
        state=pb.JobState.Value(f"JOB_STATE_{job.state.value}"),
        why=job.why,
        progress=pb.JobProgress(
            done=job.progress.done, total=job.progress.total, message=job.progress.message
        ),
        attempts=job.attempts,
        result_artifact=job.result or "",
        create_time=_timestamp(job.created_at),
        start_time=_timestamp(job.started_at),
        end_time=_timestamp(job.finished_at),
        labels=job.labels,
        metrics=job.metrics,
    )


def config_from_wire(config: Struct) -> dict[str, Any]:
    """The mapping that a Struct carries; whole numbers come back as int.

    A Struct knows only floating point, so 3 arrives as 3.0; config models and output keys see 3.
    """
    return {name: _whole(value) for name, value in MessageToDict(config).items()}


def execution_to_wire(execution: Execution) -> pb.Execution | None:
    """The message; None for the default, which the wire leaves out."""
    if execution == Execution():
        return None
    name = f"EXECUTOR_{execution.executor.upper() or 'UNSPECIFIED'}"
    return pb.Execution(
        executor=pb.Executor.Value(name),
        nodes=execution.nodes,
        ranks_per_node=execution.ranks_per_node,
        pool=execution.pool,
    )


def execution_from_wire(execution: pb.Execution) -> Execution:
    """Where a job is to run; zeros and an absent message are the default.

    Raises:
        InvalidInputError: a value that is not accepted.
    """
    if execution.executor not in pb.Executor.values():
        raise InvalidInputError(
            f"executor={execution.executor} is unknown; accepted: {', '.join(pb.Executor.keys())}",
            field="execution.executor",
        )
    name = pb.Executor.Name(execution.executor).removeprefix("EXECUTOR_").lower()
    return read_execution(
        {
            "executor": "" if name == "unspecified" else name,
            "nodes": execution.nodes or 1,
            "ranks_per_node": execution.ranks_per_node or 1,
            "pool": execution.pool,
        }
    )


def inputs_from_wire(inputs: Mapping[str, pb.InputReferences]) -> dict[str, Sequence[str]]:
    """References by input name."""
    return {name: list(references.artifacts) for name, references in inputs.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return value


def _state_from_wire(state: int) -> JobState | None:
    if state == pb.JOB_STATE_UNSPECIFIED:
        return None
    if state not in pb.JobState.values():
        raise InvalidInputError(
            f"state={state} is unknown; accepted: {', '.join(pb.JobState.keys())}", field="state"
        )
    return JobState(pb.JobState.Name(state).removeprefix("JOB_STATE_"))


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    stamp = Timestamp()
    stamp.FromNanoseconds(round(seconds * 1e6) * 1000)
    return stamp

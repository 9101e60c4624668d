"""PipelineService: translates messages; `Runner` decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from plumbline.core.errors import InvalidInputError
from plumbline.core.job_service import config_from_wire, execution_to_wire
from plumbline.core.jobs import JobState
from plumbline.core.rpc import run_blocking
from plumbline.pipeline.runner import Runner
from plumbline.pipeline.runs import Run, StageRun
from plumbline.v1 import jobs_pb2, pipeline_pb2, pipeline_pb2_grpc

WATCH_INTERVAL_S = 0.25
"""How often a watched run is looked at; stages last seconds to hours."""

_STATES: Mapping[JobState, jobs_pb2.JobState] = {
    JobState.QUEUED: jobs_pb2.JOB_STATE_QUEUED,
    JobState.RUNNING: jobs_pb2.JOB_STATE_RUNNING,
    JobState.SUCCEEDED: jobs_pb2.JOB_STATE_SUCCEEDED,
    JobState.FAILED: jobs_pb2.JOB_STATE_FAILED,
    JobState.CANCELLED: jobs_pb2.JOB_STATE_CANCELLED,
}


class PipelineService(pipeline_pb2_grpc.PipelineServiceServicer):
    """Runs over gRPC. Errors map in core.rpc."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def CreateRun(
        self, request: pipeline_pb2.CreateRunRequest, context: grpc.aio.ServicerContext
    ) -> pipeline_pb2.CreateRunResponse:
        if not request.pipeline_yaml.strip():
            raise InvalidInputError("pipeline_yaml is empty", field="pipeline_yaml")
        act = self._runner.plan if request.plan_only else self._runner.create
        run = await run_blocking(
            act,
            request.pipeline_yaml,
            config_from_wire(request.params),
            request_id=request.request_id,
        )
        return pipeline_pb2.CreateRunResponse(run=run_message(run))

    async def GetRun(
        self, request: pipeline_pb2.GetRunRequest, context: grpc.aio.ServicerContext
    ) -> pipeline_pb2.GetRunResponse:
        run = await run_blocking(self._runner.get, request.run_id)
        return pipeline_pb2.GetRunResponse(run=run_message(run))

    async def ListRuns(
        self, request: pipeline_pb2.ListRunsRequest, context: grpc.aio.ServicerContext
    ) -> pipeline_pb2.ListRunsResponse:
        runs, token = await run_blocking(
            self._runner.list_runs, page_size=request.page_size, token=request.page_token
        )
        return pipeline_pb2.ListRunsResponse(
            runs=[run_message(run) for run in runs], next_page_token=token
        )

    async def WatchRun(
        self, request: pipeline_pb2.WatchRunRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pipeline_pb2.WatchRunResponse]:
        seen: bytes | None = None
        while True:
            run = await run_blocking(self._runner.get, request.run_id)
            message = run_message(run)
            now = message.SerializeToString(deterministic=True)
            if now != seen:
                seen = now
                yield pipeline_pb2.WatchRunResponse(run=message)
            if run.ended:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def CancelRun(
        self, request: pipeline_pb2.CancelRunRequest, context: grpc.aio.ServicerContext
    ) -> pipeline_pb2.CancelRunResponse:
        run = await run_blocking(self._runner.cancel, request.run_id, request.reason)
        return pipeline_pb2.CancelRunResponse(run=run_message(run))


def run_message(run: Run) -> pipeline_pb2.Run:
    """A run as it goes over the wire."""
    return pipeline_pb2.Run(
        id=run.id,
        request_id=run.request_id,
        pipeline=run.pipeline,
        state=_STATES[run.state],
        why=run.why,
        stages=[_stage_message(stage) for stage in run.stages],
        metrics=run.metrics,
        create_time=_timestamp(run.created_at),
        end_time=_timestamp(run.ended_at),
    )


def _stage_message(stage: StageRun) -> pipeline_pb2.StageRun:
    return pipeline_pb2.StageRun(
        name=stage.name,
        uses=stage.uses,
        state=_STATES[stage.state],
        why=stage.why,
        job_id=stage.job_id,
        artifact=stage.artifact,
        cached=stage.cached,
        duration_s=stage.duration_s,
        progress=jobs_pb2.JobProgress(
            done=stage.progress.done, total=stage.progress.total, message=stage.progress.message
        ),
        depends_on=stage.depends_on,
        execution=execution_to_wire(stage.execution),
    )


def _timestamp(seconds: float) -> Timestamp | None:
    if not seconds:
        return None
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp

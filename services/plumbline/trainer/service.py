"""TrainerService: checks and queues training jobs. JobService on the same server follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from plumbline.core.errors import NotFoundError
from plumbline.core.execution import Execution
from plumbline.core.job_service import (
    config_from_wire,
    execution_from_wire,
    inputs_from_wire,
    job_to_wire,
)
from plumbline.core.jobs import Job
from plumbline.core.rpc import run_blocking
from plumbline.core.stages import Stage
from plumbline.core.validation import closest
from plumbline.v1 import trainer_pb2 as pb
from plumbline.v1 import trainer_pb2_grpc as pb_grpc

CreateJob = Callable[
    [str, Mapping[str, Any], Mapping[str, Sequence[str]], str, Mapping[str, str], Execution], Job
]
"""Queues (stage name, config, inputs, request id, labels, execution) after checking them."""

_PREFIX = "trainer."


class TrainerService(pb_grpc.TrainerServiceServicer):
    """Translates methods into stages.

    Args:
        stages: the trainer's, by name.
        create_job: of the queue; raises ConfigError where config or inputs are not accepted.
    """

    def __init__(self, stages: Mapping[str, Stage], create_job: CreateJob) -> None:
        self._stages = {
            name.removeprefix(_PREFIX): stage
            for name, stage in stages.items()
            if name.startswith(_PREFIX)
        }
        self._create_job = create_job

    async def CreateTrainingJob(
        self, request: pb.CreateTrainingJobRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreateTrainingJobResponse:
        stage = self._stages.get(request.method)
        if stage is None:
            raise NotFoundError(
                f"there is no training method {request.method!r}"
                f"{closest(request.method, set(self._stages))}; "
                f"accepted: {', '.join(sorted(self._stages))}",
                reason="UNKNOWN_METHOD",
                field="method",
            )
        job = await run_blocking(
            self._create_job,
            stage.name,
            config_from_wire(request.config),
            inputs_from_wire(request.inputs),
            request.request_id,
            dict(request.labels),
            execution_from_wire(request.execution),
        )
        return pb.CreateTrainingJobResponse(job=job_to_wire(job))

    async def ListMethods(
        self, request: pb.ListMethodsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListMethodsResponse:
        methods = [_method_to_wire(name, stage) for name, stage in sorted(self._stages.items())]
        return pb.ListMethodsResponse(methods=methods)


def _method_to_wire(name: str, stage: Stage) -> pb.TrainingMethod:
    schema = Struct()
    schema.update(stage.config.model_json_schema())
    return pb.TrainingMethod(
        name=name,
        description=stage.description,
        config_schema=schema,
        inputs={input_name: "|".join(spec.kinds) for input_name, spec in stage.inputs.items()},
        runs_on_ranks=bool(stage.ranks),
        one_rank_settings=stage.one_rank_settings,
    )

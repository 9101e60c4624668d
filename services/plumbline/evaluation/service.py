"""EvaluationService: each call queues a stage; JobService on the same server follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from plumbline.core.job_service import config_from_wire, inputs_from_wire, job_to_wire
from plumbline.core.jobs import Job
from plumbline.core.rpc import run_blocking
from plumbline.v1 import evaluation_pb2 as pb
from plumbline.v1 import evaluation_pb2_grpc as pb_grpc

CreateJob = Callable[[str, Mapping[str, Any], Mapping[str, Sequence[str]], str], Job]
"""(stage, config, inputs, request_id) -> the queued job."""


class EvaluationService(pb_grpc.EvaluationServiceServicer):
    """Queues evaluations through the function that it is given."""

    def __init__(self, create_job: CreateJob) -> None:
        self._create_job = create_job

    async def EvaluatePolicy(
        self, request: pb.EvaluatePolicyRequest, context: grpc.aio.ServicerContext
    ) -> pb.EvaluatePolicyResponse:
        job = await run_blocking(
            self._create_job,
            "evaluation.evaluate",
            config_from_wire(request.config),
            inputs_from_wire(request.inputs),
            request.request_id,
        )
        return pb.EvaluatePolicyResponse(job=job_to_wire(job))

    async def ComparePolicies(
        self, request: pb.ComparePoliciesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ComparePoliciesResponse:
        job = await run_blocking(
            self._create_job,
            "evaluation.compare",
            config_from_wire(request.config),
            {"candidate": [request.candidate], "baseline": [request.baseline]},
            request.request_id,
        )
        return pb.ComparePoliciesResponse(job=job_to_wire(job))

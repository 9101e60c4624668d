"""`python -m plumbline.evaluation.server`: settings -> queue -> service -> serve."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import grpc

from plumbline.catalogue import STAGES
from plumbline.core.job_service import JobService
from plumbline.core.jobs import JobStore
from plumbline.core.queue import create_app, submit
from plumbline.core.rpc import serve
from plumbline.core.settings import Settings
from plumbline.evaluation.service import EvaluationService
from plumbline.v1 import evaluation_pb2, evaluation_pb2_grpc, jobs_pb2, jobs_pb2_grpc


def main() -> None:
    settings = Settings.from_environment()
    app = create_app(settings, STAGES)
    jobs = JobStore(settings.redis_url)
    create_job = functools.partial(submit, jobs, app, STAGES)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server(
            EvaluationService(create_job), server
        )
        jobs_pb2_grpc.add_JobServiceServicer_to_server(JobService(jobs, app, STAGES), server)
        return [
            evaluation_pb2.DESCRIPTOR.services_by_name["EvaluationService"].full_name,
            jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
        ]

    serve("evaluation", register, settings=settings)


if __name__ == "__main__":
    main()

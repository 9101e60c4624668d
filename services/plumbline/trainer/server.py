"""`python -m plumbline.trainer.server`: settings -> queue -> services -> serve."""

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
from plumbline.trainer.service import TrainerService
from plumbline.v1 import jobs_pb2, jobs_pb2_grpc, trainer_pb2, trainer_pb2_grpc


def main() -> None:
    settings = Settings.from_environment()
    jobs = JobStore(settings.redis_url)
    app = create_app(settings, STAGES)
    trainer = TrainerService(STAGES, functools.partial(submit, jobs, app, STAGES))

    def register(server: grpc.aio.Server) -> Sequence[str]:
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(trainer, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(JobService(jobs, app, STAGES), server)
        return [
            trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name,
            jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
        ]

    serve("trainer", register, settings=settings)


if __name__ == "__main__":
    main()

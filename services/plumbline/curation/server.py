"""`python -m plumbline.curation.server`: settings -> engine -> service -> serve."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from plumbline.catalogue import STAGES
from plumbline.core.job_service import JobService
from plumbline.core.jobs import Job, JobStore
from plumbline.core.queue import create_app, submit
from plumbline.core.rpc import serve
from plumbline.core.settings import Settings
from plumbline.curation.config import configured_curation
from plumbline.curation.engine import CurationEngine
from plumbline.curation.service import CurationService
from plumbline.v1 import curation_pb2, curation_pb2_grpc, jobs_pb2, jobs_pb2_grpc


def main() -> None:
    settings = Settings.from_environment()
    app = create_app(settings, STAGES)
    jobs = JobStore(settings.redis_url)

    def create_job(
        stage: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Sequence[str]],
        request_id: str,
    ) -> Job:
        return submit(jobs, app, STAGES, stage, config, inputs, request_id)

    service = CurationService(CurationEngine(configured_curation(os.environ)), create_job)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        curation_pb2_grpc.add_CurationServiceServicer_to_server(service, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(JobService(jobs, app, STAGES), server)
        return [
            curation_pb2.DESCRIPTOR.services_by_name["CurationService"].full_name,
            jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
        ]

    serve("curation", register, settings=settings)


if __name__ == "__main__":
    main()

"""`python -m plumbline.pipeline.server`: settings -> runner -> service -> serve.

Beside the calls it looks at every active run now and then: workers tell when a job has ended, and
a run whose message was lost is found here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import grpc

from plumbline.catalogue import STAGES
from plumbline.core.errors import PlumblineError
from plumbline.core.job_service import JobService
from plumbline.core.jobs import JobStore
from plumbline.core.queue import create_app
from plumbline.core.rpc import serve
from plumbline.core.settings import Settings
from plumbline.pipeline.runner import Runner
from plumbline.pipeline.service import PipelineService
from plumbline.pipeline.tasks import open_runner
from plumbline.v1 import jobs_pb2, jobs_pb2_grpc, pipeline_pb2, pipeline_pb2_grpc

SWEEP_INTERVAL_S = 5.0
THREADS = 16
"""A watcher holds a thread only while it reads the record."""

logger = logging.getLogger(__name__)


def main() -> None:
    settings = Settings.from_environment()
    app = create_app(settings, STAGES)
    jobs = JobStore(settings.redis_url)
    runner = open_runner(settings, STAGES, jobs, app)
    stopped = threading.Event()
    threading.Thread(target=sweep, args=(runner, stopped), name="sweep", daemon=True).start()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        pipeline_pb2_grpc.add_PipelineServiceServicer_to_server(PipelineService(runner), server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(JobService(jobs, app, STAGES), server)
        return [
            pipeline_pb2.DESCRIPTOR.services_by_name["PipelineService"].full_name,
            jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
        ]

    serve("pipeline", register, settings=settings, blocking_threads=THREADS, on_stop=stopped.set)


def sweep(runner: Runner, stopped: threading.Event) -> None:
    """Advance active runs until told to stop; a broker that is away is asked again."""
    while not stopped.wait(SWEEP_INTERVAL_S):
        try:
            runner.sweep()
        except PlumblineError as error:
            logger.warning("sweep: %s", error)


if __name__ == "__main__":
    main()

"""The pipeline's Celery task: `plumbline.advance_run`, on the queue `pipeline`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping

from celery import Celery

from plumbline.core.artifacts import open_configured_store
from plumbline.core.jobs import JobStore
from plumbline.core.queue import submit
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage
from plumbline.pipeline.runner import Runner
from plumbline.pipeline.runs import RunStore


def open_runner(
    settings: Settings, stages: Mapping[str, Stage], jobs: JobStore, app: Celery
) -> Runner:
    """A runner on the configured broker and store.

    Raises:
        BrokerUnavailableError: no broker is configured.
    """
    return Runner(
        runs=RunStore(settings.redis_url),
        jobs=jobs,
        artifacts=open_configured_store(settings),
        stages=stages,
        settings=settings,
        submit=functools.partial(submit, jobs, app, stages),
    )


def advance_with(
    stages: Mapping[str, Stage],
) -> Callable[[str, Settings, JobStore, Celery], None]:
    """What a worker calls when a job of a run has ended: `core.worker.main(advance_run=...)`."""
    opening = threading.Lock()
    opened: list[Runner] = []

    def advance_run(run_id: str, settings: Settings, jobs: JobStore, app: Celery) -> None:
        with opening:
            if not opened:
                opened.append(open_runner(settings, stages, jobs, app))
        opened[0].advance(run_id)

    return advance_run

"""The worker: a Celery consumer whose tasks each run one job, outside of the worker's own process.

Celery's thread pool keeps the worker itself from forking: forks of a process with gRPC channels or
torch threads hang. A reconciler thread repairs what faults leave behind, and a file with the time
of the last poll lets a probe tell a worker that consumes from one that only lives.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps, signals

from plumbline.core.artifacts import ArtifactStore, open_configured_store
from plumbline.core.broker import without_password
from plumbline.core.errors import ConfigError, PlumblineError
from plumbline.core.executors import Executor
from plumbline.core.heartbeat import heartbeat_file
from plumbline.core.job_runner import JobMessages, JobRunner, WorkerConfig
from plumbline.core.jobs import Job, JobStore, RetryPolicy
from plumbline.core.local_executor import LocalExecutor
from plumbline.core.local_inputs import PATH_PREFIX
from plumbline.core.queue import (
    CONTROL_QUEUE,
    JOB_QUEUES,
    consumed_queues,
    create_app,
    send_advance,
    send_job,
)
from plumbline.core.reconciler import FindOutput, Reconciler
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage, resolve_inputs, stage_key
from plumbline.core.telemetry import configure, instrument_celery
from plumbline.core.validation import parse_config

STAGE_COMMAND = (sys.executable, "-m", "plumbline.stage_process")
AdvanceRun = Callable[[str, Settings, JobStore, Celery], None]
"""(run id, settings, jobs, app): submits the stages of a pipeline run that became ready."""
CreateLauncher = Callable[[JobStore, Settings, FindOutput], Executor]
"""Makes the executor of a worker whose jobs run as Kubernetes Jobs."""

LAUNCHER_CONCURRENCY = 64
"""Jobs that a launcher follows at a time: each costs it a thread that waits."""

_BROKER_GRACE_S = 5.0
_LAST_RESORT_S = 10.0
_EXIT_FORCED = 70

logger = logging.getLogger(__name__)


def main(
    stages: Mapping[str, Stage],
    *,
    advance_run: AdvanceRun | None = None,
    create_launcher: CreateLauncher | None = None,
    stage_command: Sequence[str] = STAGE_COMMAND,
    argv: Sequence[str] | None = None,
) -> None:
    """Serve queues until SIGTERM.

    Args:
        advance_run: needed by workers of the queue `pipeline`.
        create_launcher: needed where the settings say `executor: kubernetes`.
        stage_command: starts a stage's process; the job's arguments are appended.
    """
    arguments = _parse(argv)
    settings = Settings.from_environment()
    configure("worker", settings)
    try:
        queues = consumed_queues(arguments.queues.split(","))
        values = _worker_values(arguments, settings)
        config = parse_config(WorkerConfig, values, where="worker")
        name = arguments.name or f"{arguments.queues}@{socket.gethostname()}"
        worker = Worker(
            stages,
            settings,
            config,
            name=name,
            queues=queues,
            advance_run=advance_run,
            create_launcher=create_launcher,
            stage_command=stage_command,
        )
    except PlumblineError as error:
        logger.error("%s", error)
        raise SystemExit(2) from error
    worker.serve()


class Worker:
    """One worker process: its Celery app, job runner and reconciler."""

    def __init__(
        self,
        stages: Mapping[str, Stage],
        settings: Settings,
        config: WorkerConfig,
        *,
        name: str,
        queues: Sequence[str],
        advance_run: AdvanceRun | None,
        create_launcher: CreateLauncher | None,
        stage_command: Sequence[str],
    ) -> None:
        retry = RetryPolicy(attempt_cap=config.attempt_cap, unavailable_cap=config.unavailable_cap)
        self._jobs = JobStore(settings.redis_url, retry=retry)
        self._config = config
        self._settings = settings
        self._name = name
        self._queues = queues
        advance = None
        if advance_run is not None and CONTROL_QUEUE in queues:
            advance = self._advance_with(advance_run)
        self._app = create_app(settings, stages, run_job=self._run_job, advance_run=advance)
        messages = JobMessages(
            send_job=partial(send_job, self._app), send_advance=partial(send_advance, self._app)
        )
        store = open_configured_store(settings)
        output_of = partial(find_output, store=store, stages=stages, settings=settings)
        executors: dict[str, Executor] = {"local": LocalExecutor(stage_command, settings)}
        if settings.executor == "kubernetes":
            executors["kubernetes"] = _launcher(create_launcher)(self._jobs, settings, output_of)
        self._runner = JobRunner(
            self._jobs,
            messages,
            executors=executors,
            default_executor=settings.executor,
            config=config,
            name=name,
        )
        self._reconciler = Reconciler(
            self._jobs,
            messages,
            output_of,
            name=name,
            period_s=config.reconcile_period_s,
            broker_grace_s=min(_BROKER_GRACE_S, config.lease_ttl_s),
        )

    def serve(self) -> None:
        """Consume until SIGTERM or SIGINT; running jobs are then given back to their queues."""
        instrument_celery()
        signals.worker_shutting_down.connect(self._on_shutdown, weak=False)
        # Celery asks signal receivers; connecting one keeps it from configuring logs itself.
        signals.setup_logging.connect(_keep_logging, weak=False)
        heartbeat = health_file(self._settings, self._name)
        heartbeat.parent.mkdir(parents=True, exist_ok=True)
        self._app.steps["consumer"].add(_PollHeartbeat)
        self._app.conf.plumbline_heartbeat_file = str(heartbeat)
        self._reconciler.start()
        if self._config.exit_when_idle_s:
            threading.Thread(target=self._exit_when_idle, name="idle", daemon=True).start()
        logger.info(
            "worker %s serves %s through %s",
            self._name,
            ", ".join(self._queues),
            without_password(self._jobs.redis_url),
            extra={"fields": {"event": "serving", "queues": list(self._queues)}},
        )
        # Celery's own event exchange, start-up handshake and heartbeats serve its monitor, which
        # is switched off.
        self._app.worker_main(
            [
                "worker",
                "--pool=threads",
                f"--concurrency={self._config.concurrency}",
                f"--queues={','.join(self._queues)}",
                f"--hostname={self._name}",
                "--loglevel=INFO",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
            ]
        )

    def _run_job(self, job_id: str) -> None:
        self._runner.run(job_id)

    def _advance_with(self, advance_run: AdvanceRun) -> Callable[[str], None]:
        def advance(run_id: str) -> None:
            advance_run(run_id, self._settings, self._jobs, self._app)

        return advance

    def _on_shutdown(self, **_: Any) -> None:
        # SIGTERM stays Celery's warm shutdown: it would wait for ever for threads, but draining
        # bounds how long these take. It thus does what REMAP_SIGTERM=SIGQUIT with a soft shutdown
        # does for process pools, and the jobs are queued again at once, not after a timeout.
        self._reconciler.stop()
        self._runner.drain()
        config = self._config
        limit_s = config.soft_shutdown_s + config.terminate_grace_s + _LAST_RESORT_S
        last_resort = threading.Timer(limit_s, self._end_by_force)
        last_resort.daemon = True
        last_resort.start()

    def _exit_when_idle(self) -> None:
        limit_s = self._config.exit_when_idle_s
        while (idle_s := self._runner.idle_s()) < limit_s:
            time.sleep(max(0.1, limit_s - idle_s))
        logger.info("no job for %.0f s; the worker ends", limit_s)
        # As if it were stopped from outside: what arrives meanwhile goes back to its queue.
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_by_force(self) -> None:
        logger.error("shutdown took too long; ending by force")
        self._runner.kill_all()
        os._exit(_EXIT_FORCED)


def find_output(
    job: Job, *, store: ArtifactStore, stages: Mapping[str, Stage], settings: Settings
) -> str | None:
    """The id of the artifact that a job would make, where it exists already.

    A job with a local path among its inputs is not looked up: importing it may take long.
    """
    stage = stages.get(job.kind)
    references: Mapping[str, Sequence[str]] = job.spec["inputs"]
    local = any(given.startswith(PATH_PREFIX) for many in references.values() for given in many)
    if stage is None or local:
        return None
    inputs = resolve_inputs(stage, references, store=store, settings=settings)
    ids = {name: tuple(artifact.id for artifact in found) for name, found in inputs.items()}
    config = parse_config(stage.config, job.spec["config"], where=f"stage {stage.name}")
    return store.find_output(stage_key(stage, config, ids))


def health_file(settings: Settings, name: str) -> Path:
    """The file whose modification time and content tell when a worker last polled its queues."""
    return heartbeat_file(settings.state_dir, name)


class _PollHeartbeat(bootsteps.StartStopStep):
    """Writes the time to a file while the consumer really waits for messages or is fully busy.

    A worker may live and answer pings, yet have lost its place at the broker after a reconnect.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _period_s = 1.0

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._path = Path(consumer.app.conf.plumbline_heartbeat_file)
        self._last = float("-inf")

    def start(self, consumer: Any) -> None:
        consumer.hub.on_tick.add(partial(self._touch, consumer))

    def _touch(self, consumer: Any) -> None:
        now = time.monotonic()
        if now - self._last < self._period_s or not self._consuming(consumer):
            return
        self._last = now
        partial_path = self._path.with_name(self._path.name + ".partial")
        partial_path.write_text(f"{time.time():.3f}\n", encoding="utf-8")
        partial_path.replace(self._path)

    def _consuming(self, consumer: Any) -> bool:
        if consumer.task_consumer is None:
            return False
        channel = consumer.task_consumer.channel
        return bool(channel._in_poll) or not channel.qos.can_consume()


def _launcher(create_launcher: CreateLauncher | None) -> CreateLauncher:
    if create_launcher is None:
        raise ConfigError(
            "PLUMBLINE_EXECUTOR=kubernetes is not accepted, this worker has no launcher; accepted: "
            "local, or python -m plumbline.worker",
            field="executor",
        )
    return create_launcher


def _keep_logging(**_: Any) -> None:
    return None


def _worker_values(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    names = WorkerConfig.model_fields
    defaults = {"concurrency": LAUNCHER_CONCURRENCY} if settings.executor == "kubernetes" else {}
    return defaults | {
        name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plumbline.worker", description=__doc__)
    parser.add_argument(
        "--queues",
        required=True,
        help=f"comma-separated, from: {', '.join(JOB_QUEUES)}; give {CONTROL_QUEUE} a worker of "
        "its own, or the short tasks that steer wait behind jobs",
    )
    parser.add_argument("--name", help="stable name, shown in job records and in the health file")
    for name, field in WorkerConfig.model_fields.items():
        kind = int if field.annotation is int else float
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"[{field.default}]")
    return parser.parse_args(argv)

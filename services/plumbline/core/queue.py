"""The Celery app: how job ids reach workers, and how scripts submit jobs.

Celery carries ids only. What a message loses (a killed worker, an emptied broker) the reconciler
sends again from the job records, and what it repeats finds the job's lease taken and leaves.

A script needs nothing but `celery` and the broker's URL:

    app = Celery(broker=url, backend=url)
    request = {"kind": "trainer.sft", "spec": {"config": {}, "inputs": {}}, "request_id": "..."}
    job_id = app.send_task("plumbline.submit", kwargs=request).get()
    app.send_task("plumbline.job_status", args=[job_id]).get()["state"]

Such messages go to Celery's default queue, which every worker of the queue `pipeline` consumes too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from plumbline.core.broker import (
    ANSWER_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    HEALTH_CHECK_INTERVAL_S,
    check_redis_url,
    without_password,
)
from plumbline.core.errors import BrokerUnavailableError, ConfigError
from plumbline.core.execution import Execution, check_ranks, read_execution
from plumbline.core.jobs import Job, JobStore
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage, check_input_names
from plumbline.core.validation import closest, parse_config

JOB_QUEUES = ("curation", "sampling", "scoring", "training", "evaluation", "pipeline")
DEFAULT_QUEUE = "celery"
"""Where a message goes whose sender knows no routes."""
CONTROL_QUEUE = "pipeline"
"""Short tasks that steer; a worker of it also consumes DEFAULT_QUEUE."""

VISIBILITY_TIMEOUT_S = 30
"""When an unacknowledged message is delivered again. The shortest among all apps of a broker wins,
so it is no setting. Short is right here: a running job's second delivery sees the lease and leaves,
while the message of a killed worker should not wait long."""

RUN_JOB = "plumbline.run_job"
SUBMIT = "plumbline.submit"
JOB_STATUS = "plumbline.job_status"
ADVANCE_RUN = "plumbline.advance_run"

_RESULT_EXPIRES_S = 3600
_ADVANCE_EXPIRES_S = 30.0
_SOFT_SHUTDOWN_S = 5.0

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    stages: Mapping[str, Stage],
    *,
    run_job: Callable[[str], None] | None = None,
    advance_run: Callable[[str], None] | None = None,
) -> Celery:
    """The configured app; it connects when it first sends or consumes.

    Args:
        stages: what `plumbline.submit` accepts.
        run_job: runs one job by id; only a worker has it.
        advance_run: starts what became ready in a pipeline run; only a worker has it.
    Raises:
        BrokerUnavailableError: no broker is configured.
    """
    url = check_redis_url(settings.redis_url)
    app = Celery("plumbline", broker=url, backend=url, amqp=_PromptAMQP, set_as_current=False)
    app.conf.update(**_configuration())
    _register_control_tasks(app, JobStore(url), stages)
    if run_job is not None:
        _add_task(app, run_job, RUN_JOB, ignore_result=True)
    if advance_run is not None:
        _register_advance(app, JobStore(url), advance_run)
    return app


def submit(
    store: JobStore,
    app: Celery,
    stages: Mapping[str, Stage],
    stage_name: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Sequence[str]],
    request_id: str = "",
    labels: Mapping[str, str] | None = None,
    execution: Execution | None = None,
) -> Job:
    """Check a stage's config and inputs, record the job and send its message.

    Args:
        execution: where it runs; what the worker was set up for, on one rank, unless given.
    Raises:
        ConfigError: an unknown stage, a config, inputs or ranks that it does not take.
        InvalidInputError: `request_id` was used for another body.
        BrokerUnavailableError: nothing was recorded.
    """
    stage = stages.get(stage_name)
    if stage is None:
        raise ConfigError(
            f"unknown stage {stage_name!r}{closest(stage_name, set(stages))}; accepted: "
            f"{', '.join(sorted(stages))}",
            field="stage",
        )
    parsed = parse_config(stage.config, config, where=f"stage {stage_name}")
    references = {name: list(given) for name, given in inputs.items()}
    check_input_names(stage, references)
    spec: dict[str, Any] = {
        "stage": stage_name,
        "config": parsed.model_dump(mode="json"),
        "inputs": references,
    }
    if execution is not None:
        check_ranks(stage, parsed, execution, stages)
        # Only what was asked for, so that a body without it stays what it was.
        if said := execution.as_spec():
            spec["execution"] = said
    job = store.create(spec, queue=stage.queue, request_id=request_id, labels=labels)
    if not job.terminal and job.attempts == 0:
        _send_or_leave_to_reconciler(app, job)
    return job


def send_job(app: Celery, job: Job) -> None:
    """Send the job's message; sending it twice is harmless.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    # The header lets the reconciler see which jobs wait in a queue without decoding bodies.
    _send(app, RUN_JOB, args=[job.id], queue=job.queue, headers={"job_id": job.id})


def send_advance(app: Celery, run_id: str) -> None:
    """Ask a worker to start what became ready in a run; sending it twice is harmless.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    _send(app, ADVANCE_RUN, args=[run_id], queue=CONTROL_QUEUE, expires=_ADVANCE_EXPIRES_S)


def consumed_queues(queues: Sequence[str]) -> tuple[str, ...]:
    """The queues that a worker asked for `queues` consumes.

    Raises:
        ConfigError: a name that no stage uses.
    """
    unknown = [name for name in queues if name not in JOB_QUEUES]
    if unknown or not queues:
        raise ConfigError(
            f"queues {', '.join(unknown) or '(none)'} are not known; accepted: "
            f"{', '.join(JOB_QUEUES)}",
            field="queues",
        )
    extra = (DEFAULT_QUEUE,) if CONTROL_QUEUE in queues else ()
    return (*dict.fromkeys(queues), *extra)


class _PromptConnection(Connection):
    """Looks for a broker that went away every two seconds, however long it stays away.

    Celery's worker has no setting for this: its pauses grow to half a minute.
    """

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        pauses = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2}
        return super().ensure_connection(*args, **{**pauses, **options})


class _PromptAMQP(AMQP):
    Connection = _PromptConnection


def _configuration() -> dict[str, Any]:
    visibility = {"visibility_timeout": VISIBILITY_TIMEOUT_S}
    return {
        # JSON only: a message can name a job, never run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "enable_utc": True,
        "task_queues": [Queue(name) for name in (*JOB_QUEUES, DEFAULT_QUEUE)],
        "task_default_queue": DEFAULT_QUEUE,
        "task_routes": {ADVANCE_RUN: {"queue": CONTROL_QUEUE}},
        # A message is acknowledged when its work is done, and a worker holds no others.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # The attempt cap of the job record bounds what this repeats.
        "task_reject_on_worker_lost": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "result_backend_transport_options": visibility,
        "broker_transport_options": {
            **visibility,
            # The default sweep for lost messages is ten times slower than the timeout promises.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": ANSWER_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        },
        "redis_socket_connect_timeout": CONNECT_TIMEOUT_S,
        "redis_backend_health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Results are a convenience for scripts; the truth is the job record.
        "result_expires": _RESULT_EXPIRES_S,
        "worker_soft_shutdown_timeout": _SOFT_SHUTDOWN_S,
        # Liveness is a file (see worker), and nothing else listens to broadcasts.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "task_publish_retry_policy": {
            "max_retries": 3,
            "interval_start": 0.05,
            "interval_step": 0.1,
            "interval_max": 0.4,
        },
    }


def _register_control_tasks(app: Celery, store: JobStore, stages: Mapping[str, Stage]) -> None:
    def submit_task(kind: str, spec: Mapping[str, Any] | None = None, request_id: str = "") -> str:
        """Record a job from a script and return its id."""
        config, inputs, labels = _checked_spec(kind, spec or {})
        execution = read_execution((spec or {}).get("execution", {}), where="spec.execution")
        return submit(store, app, stages, kind, config, inputs, request_id, labels, execution).id

    def status_task(job_id: str) -> dict[str, Any]:
        """The job's record; it answers for as long as the record is kept."""
        return store.get(job_id).as_dict()

    _add_task(app, submit_task, SUBMIT)
    _add_task(app, status_task, JOB_STATUS)


def _register_advance(app: Celery, store: JobStore, advance_run: Callable[[str], None]) -> None:
    def advance_task(run_id: str) -> None:
        marker = store.pending_runs().get(run_id)
        advance_run(run_id)
        if marker is not None:
            store.clear_pending_run(run_id, marker)

    _add_task(app, advance_task, ADVANCE_RUN, ignore_result=True)


def _add_task(
    app: Celery, function: Callable[..., Any], name: str, *, ignore_result: bool = False
) -> None:
    # Celery by default shares a task with every app of the process, whatever broker that has.
    app.task(function, name=name, ignore_result=ignore_result, shared=False)


def _checked_spec(
    kind: str, spec: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Sequence[str]], Mapping[str, str]]:
    unknown = set(spec) - {"stage", "config", "inputs", "labels", "execution"}
    if unknown:
        raise ConfigError(
            f"spec has the unknown keys {', '.join(sorted(unknown))}; accepted: config, inputs, "
            "labels, execution",
            field="spec",
        )
    if spec.get("stage", kind) != kind:
        raise ConfigError(
            f"kind={kind!r} and spec.stage={spec['stage']!r} differ; name the stage once",
            field="spec.stage",
        )
    inputs = {
        name: [given] if isinstance(given, str) else list(given)
        for name, given in (spec.get("inputs") or {}).items()
    }
    return spec.get("config") or {}, inputs, spec.get("labels") or {}


def _send_or_leave_to_reconciler(app: Celery, job: Job) -> None:
    try:
        send_job(app, job)
    except BrokerUnavailableError as error:
        # The record exists, so the job is accepted: the reconciler sends what was not sent.
        logger.warning("job %s is recorded, its message follows later: %s", job.id, error)


def _send(app: Celery, name: str, **options: Any) -> None:
    try:
        app.send_task(name, ignore_result=True, **options)
    except OperationalError as error:
        url = without_password(str(app.conf.broker_url))
        raise BrokerUnavailableError(f"no broker answers at {url}: {error}") from error

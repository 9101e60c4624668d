"""What may be queued, and the Celery settings that each stand for a fault seen elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel, ConfigDict, Field

from plumbline.core.broker import connect_broker
from plumbline.core.errors import BrokerUnavailableError, ConfigError, InvalidInputError
from plumbline.core.jobs import JobState, JobStore
from plumbline.core.queue import (
    JOB_QUEUES,
    JOB_STATUS,
    SUBMIT,
    VISIBILITY_TIMEOUT_S,
    consumed_queues,
    create_app,
    send_advance,
    send_job,
    submit,
)
from plumbline.core.settings import Settings
from plumbline.core.stages import InputSpec, Stage


class CountConfig(BaseModel):
    """A config with one bounded field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1, ge=1)


STAGES = {
    "room.count": Stage(
        name="room.count",
        version=1,
        config=CountConfig,
        inputs={"corpus": InputSpec(kinds=("corpus",))},
        output_kind="report",
        queue="scoring",
        run="nowhere:nothing",
    )
}
INPUTS = {"corpus": ["corpus/x@latest"]}


@pytest.fixture
def url(valkey: str) -> str:
    chosen = valkey.rpartition("/")[0] + "/5"
    connect_broker(chosen).flushdb()
    return chosen


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    made = create_app(Settings(redis_url=url), STAGES)
    yield made
    made.close()


@pytest.fixture
def jobs(url: str) -> JobStore:
    return JobStore(url)


def test_settings_that_prevent_known_faults(app: Celery) -> None:
    conf = app.conf

    assert conf.task_acks_late and conf.task_reject_on_worker_lost
    assert (conf.worker_prefetch_multiplier, conf.worker_disable_prefetch) == (1, True)
    assert list(conf.accept_content) == ["json"] and conf.task_serializer == "json"
    assert conf.broker_transport_options["visibility_timeout"] == VISIBILITY_TIMEOUT_S
    assert conf.result_backend_transport_options["visibility_timeout"] == VISIBILITY_TIMEOUT_S
    assert conf.visibility_timeout == VISIBILITY_TIMEOUT_S
    assert conf.broker_transport_options["unacked_restore_interval"] == 1
    assert conf.broker_transport_options["unacked_restore_throttle"] == 1
    assert conf.worker_soft_shutdown_timeout > 0
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss
    assert {queue.name for queue in conf.task_queues} == {*JOB_QUEUES, "celery"}


def test_a_client_can_submit_but_not_run(app: Celery) -> None:
    assert {name for name in app.tasks if name.startswith("plumbline.")} == {SUBMIT, JOB_STATUS}


def test_submit_records_the_whole_config_and_sends_only_the_id(
    app: Celery, jobs: JobStore, url: str
) -> None:
    job = submit(jobs, app, STAGES, "room.count", {}, INPUTS, labels={"team": "a"})

    assert job.spec == {"stage": "room.count", "config": {"steps": 1}, "inputs": INPUTS}
    assert (job.queue, job.labels) == ("scoring", {"team": "a"})
    (message,) = connect_broker(url).lrange("scoring", 0, -1)
    assert jobs.queued_job_ids("scoring") == {job.id}
    assert "corpus/x@latest" not in message


def test_the_default_spelt_out_is_the_same_request(app: Celery, jobs: JobStore) -> None:
    first = submit(jobs, app, STAGES, "room.count", {}, INPUTS, "r1")

    assert submit(jobs, app, STAGES, "room.count", {"steps": 1}, INPUTS, "r1").id == first.id
    with pytest.raises(InvalidInputError, match="r1"):
        submit(jobs, app, STAGES, "room.count", {"steps": 2}, INPUTS, "r1")


@pytest.mark.parametrize(
    ("stage", "config", "inputs", "message"),
    [
        ("room.cuont", {}, INPUTS, "did you mean 'room.count'"),
        ("room.count", {"stpes": 2}, INPUTS, "did you mean 'steps'"),
        ("room.count", {"steps": 0}, INPUTS, "steps=0 is not accepted"),
        ("room.count", {}, {}, "input 'corpus' is missing"),
        ("room.count", {}, {"corps": ["x"]}, "unknown input 'corps'"),
        ("room.count", {}, {"corpus": ["x", "y"]}, "got 2 artifacts"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_recorded(
    app: Celery, jobs: JobStore, stage: str, config: Any, inputs: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        submit(jobs, app, STAGES, stage, config, inputs)

    assert jobs.list()[0] == []


def test_the_submit_task_does_what_its_name_says(app: Celery, jobs: JobStore) -> None:
    # The task's body, as a worker calls it; messages themselves are tested with real workers.
    spec = {"config": {"steps": 2}, "inputs": {"corpus": "corpus/x@latest"}}

    job_id = app.tasks[SUBMIT](kind="room.count", spec=spec, request_id="r1")

    assert app.tasks[SUBMIT]("room.count", spec, "r1") == job_id
    status = app.tasks[JOB_STATUS](job_id)
    assert (status["state"], status["spec"]["inputs"]) == ("QUEUED", INPUTS)
    assert jobs.get(job_id).state is JobState.QUEUED


@pytest.mark.parametrize("spec", [{"confg": {}}, {"stage": "room.other"}])
def test_specs_with_other_keys_or_another_stage_are_refused(app: Celery, spec: Any) -> None:
    with pytest.raises(ConfigError):
        app.tasks[SUBMIT]("room.count", spec)


def test_a_script_may_say_where_its_job_runs(app: Celery, jobs: JobStore) -> None:
    spec = {"inputs": INPUTS, "execution": {"executor": "kubernetes", "pool": "cpu"}}

    job = jobs.get(app.tasks[SUBMIT]("room.count", spec))

    assert job.spec["execution"] == {"executor": "kubernetes", "pool": "cpu"}


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"nodes": 2}, "room.count runs on one rank"),
        ({"node": 2}, "spec.execution: unknown key 'node'"),
        ([], "spec.execution"),
    ],
)
def test_executions_that_are_not_accepted(app: Celery, execution: Any, message: str) -> None:
    spec = {"inputs": INPUTS, "execution": execution}

    with pytest.raises(ConfigError, match=message):
        app.tasks[SUBMIT]("room.count", spec)


def test_pipeline_workers_serve_scripts_that_know_no_routes() -> None:
    assert consumed_queues(["pipeline"]) == ("pipeline", "celery")
    assert consumed_queues(["training", "scoring"]) == ("training", "scoring")


@pytest.mark.parametrize("queues", [[], [""], ["training", "trainning"]])
def test_unknown_queues_are_refused(queues: list[str]) -> None:
    with pytest.raises(ConfigError, match="accepted: curation, sampling"):
        consumed_queues(queues)


def test_a_broker_that_is_not_there_is_reported() -> None:
    away = create_app(Settings(redis_url="redis://:s3cret@127.0.0.1:1/0"), STAGES)

    with pytest.raises(BrokerUnavailableError, match=r"redis://:\*\*\*@127\.0\.0\.1:1/0"):
        send_advance(away, "run-1")


def test_a_job_recorded_without_its_message_is_accepted(url: str, jobs: JobStore) -> None:
    away = create_app(Settings(redis_url="redis://127.0.0.1:1/0"), STAGES)

    job = submit(jobs, away, STAGES, "room.count", {}, INPUTS)

    assert jobs.get(job.id).state is JobState.QUEUED


def test_sending_twice_leaves_two_messages_for_one_job(
    app: Celery, jobs: JobStore, url: str
) -> None:
    job = submit(jobs, app, STAGES, "room.count", {}, INPUTS)
    send_job(app, job)

    assert connect_broker(url).llen("scoring") == 2
    assert jobs.queued_job_ids("scoring") == {job.id}

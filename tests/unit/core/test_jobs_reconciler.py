"""What one pass of the reconciler repairs, with a real broker and recorded messages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from plumbline.core.broker import connect_broker
from plumbline.core.errors import StorageUnavailableError
from plumbline.core.job_runner import JobMessages
from plumbline.core.jobs import Job, JobState, JobStore
from plumbline.core.process_identity import lease_owner
from plumbline.core.reconciler import Reconciler

SPEC = {"stage": "trainer.sft", "config": {}, "inputs": {}}


@dataclass
class Sent:
    """The messages that left."""

    jobs: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)


@dataclass
class Fixture:
    """A store, the messages and a reconciler; `outputs` says which jobs have an artifact."""

    jobs: JobStore
    sent: Sent = field(default_factory=Sent)
    outputs: dict[str, str] = field(default_factory=dict)

    def find_output(self, job: Job) -> str | None:
        return self.outputs.get(job.id)

    def reconcile(self, *, broker_grace_s: float = 0.0, name: str = "w") -> None:
        messages = JobMessages(
            send_job=lambda job: self.sent.jobs.append(job.id), send_advance=self.sent.runs.append
        )
        reconciler = Reconciler(
            self.jobs,
            messages,
            self.find_output,
            name=name,
            period_s=0.01,
            broker_grace_s=broker_grace_s,
        )
        reconciler.run_once()
        # Frees the lock for the reconciler of the next pass.
        connect_broker(self.jobs.redis_url).delete("plumbline:lock:reconciler")

    def running(self, *, ttl_s: float, owner: str = "elsewhere#x") -> Job:
        job = self.jobs.create(SPEC, queue="training")
        self.jobs.acquire(job.id, owner, ttl_s)
        return job

    def make_due(self, job: Job) -> None:
        connect_broker(self.jobs.redis_url).hset(f"plumbline:job:{job.id}", "due_at", "1")


@pytest.fixture
def fixture(valkey: str) -> Iterator[Fixture]:
    url = valkey.rpartition("/")[0] + "/6"
    connect_broker(url).flushdb()
    store = JobStore(url)
    yield Fixture(store)
    store.close()


def test_a_job_whose_lease_ran_out_is_queued_again(fixture: Fixture) -> None:
    job = fixture.running(ttl_s=0.01)
    time.sleep(0.03)

    fixture.reconcile()

    found = fixture.jobs.get(job.id)
    assert (found.state, fixture.sent.jobs) == (JobState.QUEUED, [job.id])
    assert found.why == "Worker elsewhere stopped answering; waiting for another"


def test_a_job_whose_lease_lives_is_left_alone(fixture: Fixture) -> None:
    job = fixture.running(ttl_s=30)

    fixture.reconcile()

    assert fixture.jobs.get(job.id).state is JobState.RUNNING
    assert fixture.sent.jobs == []


def test_a_dead_owner_on_this_machine_need_not_run_out(fixture: Fixture) -> None:
    # The owner names this process's pid with the start time of another process.
    identity = lease_owner("w").partition("#")[2].split("/")
    dead = f"w#{identity[0]}/{os.getpid()}/{int(identity[2]) - 1}/nonce"
    job = fixture.running(ttl_s=30, owner=dead)
    alive = fixture.running(ttl_s=30, owner=lease_owner("w"))

    fixture.reconcile()

    assert fixture.sent.jobs == [job.id]
    assert fixture.jobs.get(alive.id).state is JobState.RUNNING


def test_a_lost_job_with_an_artifact_succeeds(fixture: Fixture) -> None:
    job = fixture.running(ttl_s=0.01)
    fixture.outputs[job.id] = "a" * 64
    time.sleep(0.03)

    fixture.reconcile()

    found = fixture.jobs.get(job.id)
    assert (found.state, found.result, fixture.sent.jobs) == (JobState.SUCCEEDED, "a" * 64, [])


def test_a_store_that_is_away_does_not_keep_a_job_from_its_queue(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(job: Job) -> str | None:
        raise StorageUnavailableError("the store does not answer")

    job = fixture.running(ttl_s=0.01)
    time.sleep(0.03)
    monkeypatch.setattr(fixture, "find_output", away)

    fixture.reconcile()

    assert fixture.sent.jobs == [job.id]


def test_owners_may_renew_after_a_broker_restart(fixture: Fixture) -> None:
    job = fixture.running(ttl_s=0.01)
    time.sleep(0.03)

    fixture.reconcile(broker_grace_s=1e9)

    assert fixture.jobs.get(job.id).state is JobState.RUNNING


def test_a_queued_job_without_message_gets_one(fixture: Fixture) -> None:
    job = fixture.jobs.create(SPEC, queue="training")
    fixture.reconcile()
    assert fixture.sent.jobs == [], "its sender may still be about to send it"
    fixture.make_due(job)

    fixture.reconcile()
    fixture.reconcile()

    assert fixture.sent.jobs == [job.id], "once, until that message too is overdue"


def test_a_queued_job_whose_message_waits_gets_no_other(fixture: Fixture) -> None:
    job = fixture.jobs.create(SPEC, queue="training")
    fixture.make_due(job)
    message = f'{{"headers": {{"job_id": "{job.id}"}}, "body": "e30="}}'
    connect_broker(fixture.jobs.redis_url).lpush("training", message)

    fixture.reconcile()

    assert fixture.sent.jobs == []


def test_a_run_with_an_ended_job_is_advanced(fixture: Fixture) -> None:
    job = fixture.jobs.create(SPEC, queue="training", labels={"run_id": "r1"})
    fixture.jobs.cancel(job.id)
    fixture.reconcile()
    assert fixture.sent.runs == [], "the worker that ended the job sends first"
    connect_broker(fixture.jobs.redis_url).zadd("plumbline:jobs:pending_runs", {"r1": 1})

    fixture.reconcile()

    assert fixture.sent.runs == ["r1"]


def test_only_the_holder_of_the_lock_works(fixture: Fixture) -> None:
    job = fixture.running(ttl_s=0.01)
    time.sleep(0.03)
    assert fixture.jobs.hold_lock("reconciler", "another", 30)

    Reconciler(
        fixture.jobs,
        JobMessages(send_job=lambda job: None, send_advance=lambda run: None),
        fixture.find_output,
        name="w",
        period_s=1,
        broker_grace_s=0,
    ).run_once()

    assert fixture.jobs.get(job.id).state is JobState.RUNNING

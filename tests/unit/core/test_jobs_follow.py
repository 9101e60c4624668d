"""Attempts that outlive their worker: what the job's record says of them, on a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from plumbline.core.broker import connect_broker
from plumbline.core.errors import ConflictError, NotFoundError
from plumbline.core.job_leases import FollowedLease, GivenLease
from plumbline.core.jobs import Job, JobState, JobStore, Lease, RetryPolicy
from plumbline.core.stage_process import JobReporter

SPEC = {"stage": "trainer.sft", "config": {}, "inputs": {}}
NAME = "plumbline-0123456789ab-1"
TTL_S = 30.0


@pytest.fixture
def jobs(valkey: str) -> Iterator[JobStore]:
    """A store on a database of its own, empty; one crash is one too many."""
    url = valkey.rpartition("/")[0] + "/5"
    connect_broker(url).flushdb()
    store = JobStore(url, retry=RetryPolicy(attempt_cap=2))
    yield store
    store.close()


def acquired(jobs: JobStore, job: Job, owner: str = "w1", ttl_s: float = TTL_S) -> Lease:
    lease = jobs.acquire(job.id, owner, ttl_s)
    assert lease is not None
    return lease


def followed(jobs: JobStore, *, ttl_s: float = TTL_S) -> tuple[Job, Lease]:
    """A job whose first attempt runs as a Kubernetes Job."""
    job = jobs.create(SPEC, queue="training")
    lease = acquired(jobs, job, ttl_s=ttl_s)
    jobs.follow(lease, NAME)
    return jobs.get(job.id), lease


def test_a_stopped_worker_hands_its_attempt_over_uncharged(jobs: JobStore) -> None:
    job, lease = followed(jobs)
    jobs.release_for_retry(lease, "Worker w1 was stopped", cause="stopped")
    assert jobs.get(job.id).follows == NAME

    second = acquired(jobs, job, "w2")

    found = jobs.get(job.id)
    assert (second.attempt, found.attempts, found.charged_attempts) == (1, 1, 1)
    assert second.fencing_token == lease.fencing_token + 1
    assert found.follows == NAME


def test_killed_workers_never_use_up_the_attempts_of_one_that_goes_on(jobs: JobStore) -> None:
    job, _ = followed(jobs, ttl_s=0.01)

    for number in range(5):  # the cap is two
        time.sleep(0.02)
        assert jobs.requeue_expired(job.id) is JobState.QUEUED
        acquired(jobs, job, f"w{number}", ttl_s=0.01)

    found = jobs.get(job.id)
    assert (found.state, found.attempts, found.charged_attempts) == (JobState.RUNNING, 1, 1)


def test_the_record_says_that_the_attempt_goes_on_without_its_worker(jobs: JobStore) -> None:
    job, _ = followed(jobs, ttl_s=0.01)
    time.sleep(0.02)

    jobs.requeue_expired(job.id)

    why = jobs.get(job.id).why
    assert "w1 stopped answering" in why and f"{NAME} goes on" in why


@pytest.mark.parametrize(("cause", "charged"), [("crash", 2), ("unavailable", 1)])
def test_after_its_end_the_next_attempt_is_a_new_one(
    jobs: JobStore, cause: str, charged: int
) -> None:
    job, lease = followed(jobs)
    jobs.retry = RetryPolicy(attempt_cap=3, longest_delay_s=0.0)
    jobs.release_for_retry(lease, "Pod 0 was evicted", cause=cause)
    assert jobs.get(job.id).follows == ""

    lease = acquired(jobs, job)

    found = jobs.get(job.id)
    assert (lease.attempt, found.attempts, found.charged_attempts) == (2, 2, charged)


def test_waiting_for_parts_ends_the_attempt(jobs: JobStore) -> None:
    job, lease = followed(jobs)

    jobs.await_jobs(lease, ["a" * 32])

    found = jobs.get(job.id)
    assert (found.follows, found.charged_attempts) == ("", 0)


def test_the_reason_of_a_running_job_can_be_told(jobs: JobStore) -> None:
    job, lease = followed(jobs)

    assert jobs.explain(lease, "Pod x waits for a machine") is False

    assert jobs.get(job.id).why == "Pod x waits for a machine"


def test_a_cancellation_keeps_its_own_reason(jobs: JobStore) -> None:
    job, lease = followed(jobs)
    jobs.cancel(job.id, "too dear")

    assert jobs.explain(lease, "Pod x waits for a machine") is True

    assert jobs.get(job.id).why == "Cancelling: too dear"


def test_nobody_explains_or_places_an_attempt_without_its_lease(jobs: JobStore) -> None:
    job, lease = followed(jobs)
    jobs.release_for_retry(lease, "stopped", cause="stopped")

    for act in (jobs.explain, jobs.follow):
        with pytest.raises(ConflictError):
            act(lease, "something")

    assert jobs.get(job.id).why == "stopped"


def test_a_pod_reports_under_whatever_lease_follows_it(jobs: JobStore) -> None:
    job, first = followed(jobs)
    pod = FollowedLease(jobs, job.id, NAME)
    assert pod.current() == first
    jobs.release_for_retry(first, "stopped", cause="stopped")

    pod.refused(ConflictError("lost"))

    assert pod.current() is None, "nobody follows: hold back"
    second = acquired(jobs, job, "w2")
    assert pod.current() == second


def test_a_pod_whose_job_goes_on_as_another_attempt_is_told(jobs: JobStore) -> None:
    job, lease = followed(jobs)
    jobs.release_for_retry(lease, "the machine was lost", cause="crash")
    jobs.follow(acquired(jobs, job), NAME[:-1] + "2")

    with pytest.raises(ConflictError, match=r"goes on as plumbline-.*-2"):
        FollowedLease(jobs, job.id, NAME).current()


def test_a_pod_of_a_cancelled_job_is_told(jobs: JobStore) -> None:
    job, lease = followed(jobs)
    jobs.release_for_retry(lease, "stopped", cause="stopped")
    jobs.cancel(job.id)

    with pytest.raises(ConflictError, match="is CANCELLED"):
        FollowedLease(jobs, job.id, NAME).current()


def test_a_pod_without_a_record_is_told(jobs: JobStore) -> None:
    with pytest.raises(NotFoundError):
        FollowedLease(jobs, "f" * 32, NAME).current()


def test_a_given_lease_ends_with_its_first_refusal(jobs: JobStore) -> None:
    _, lease = followed(jobs)

    with pytest.raises(ConflictError, match="lost"):
        GivenLease(lease).refused(ConflictError("lost"))


def test_figures_are_held_back_while_nobody_follows_and_lost_never(jobs: JobStore) -> None:
    job, first = followed(jobs)
    reporter = JobReporter(jobs, FollowedLease(jobs, job.id, NAME))
    reporter.log_metrics(1, {"loss": 3.0})
    until(lambda: len(jobs.metrics(job.id)) == 1)
    jobs.release_for_retry(first, "stopped", cause="stopped")
    reporter.log_metrics(2, {"loss": 2.0})
    reporter.progress(2, 9, "steps")
    time.sleep(0.6)
    assert reporter.cancel_reason() is None

    acquired(jobs, job, "w2")
    reporter.close(30.0)

    assert [row.values["loss"] for row in jobs.metrics(job.id)] == [3.0, 2.0]
    assert jobs.get(job.id).progress.done == 2


def test_a_reporter_of_an_unwanted_attempt_stops_its_stage(jobs: JobStore) -> None:
    job, first = followed(jobs)
    reporter = JobReporter(jobs, FollowedLease(jobs, job.id, NAME))
    jobs.release_for_retry(first, "the machine was lost", cause="crash")
    jobs.follow(acquired(jobs, job), NAME[:-1] + "2")

    reporter.progress(1, 9, "steps")
    reporter.close(30.0)

    assert "no longer wanted" in (reporter.cancel_reason() or "")


def until(condition: object, within_s: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)

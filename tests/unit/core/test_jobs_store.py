"""The state machine of a job, against a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from plumbline.core.broker import connect_broker, without_password
from plumbline.core.errors import (
    BrokerUnavailableError,
    ConfigError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.core.jobs import Job, JobState, JobStore, Lease, RetryPolicy

SPEC = {"stage": "trainer.sft", "config": {"steps": 3}, "inputs": {"base": ["policy/x@latest"]}}
TTL_S = 30.0


@pytest.fixture
def jobs(valkey: str) -> Iterator[JobStore]:
    """A store on a database of its own, empty."""
    url = valkey.rpartition("/")[0] + "/7"
    connect_broker(url).flushdb()
    store = JobStore(url)
    yield store
    store.close()


def created(jobs: JobStore, **options: object) -> Job:
    return jobs.create(SPEC, queue="training", **options)  # type: ignore[arg-type]


def acquired(jobs: JobStore, job: Job, owner: str = "worker-1", ttl_s: float = TTL_S) -> Lease:
    lease = jobs.acquire(job.id, owner, ttl_s)
    assert lease is not None
    return lease


def test_a_new_job_waits_and_says_why(jobs: JobStore) -> None:
    job = created(jobs, labels={"run_id": "r1"})

    assert (job.state, job.kind, job.queue) == (JobState.QUEUED, "trainer.sft", "training")
    assert job.why == "Waiting for a worker on queue training"
    assert (job.spec, job.labels, job.attempts) == (SPEC, {"run_id": "r1"}, 0)
    assert job.started_at is None and job.finished_at is None


def test_same_request_id_and_body_return_the_first_job(jobs: JobStore) -> None:
    first = created(jobs, request_id="abc")
    jobs.succeed(acquired(jobs, first), "a" * 64)

    second = created(jobs, request_id="abc")

    assert second.id == first.id
    assert second.state is JobState.SUCCEEDED
    assert len(jobs.list()[0]) == 1


def test_concurrent_creation_by_one_request_id_makes_one_job(jobs: JobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = {job.id for job in pool.map(lambda _: created(jobs, request_id="abc"), range(16))}

    assert len(found) == 1


def test_same_request_id_with_another_body_is_refused(jobs: JobStore) -> None:
    first = created(jobs, request_id="abc")
    other = {**SPEC, "config": {"steps": 4}}

    with pytest.raises(InvalidInputError, match=first.id) as caught:
        jobs.create(other, queue="training", request_id="abc")

    assert (caught.value.reason, caught.value.field) == ("REQUEST_ID_REUSED", "request_id")


def test_jobs_without_request_id_are_distinct(jobs: JobStore) -> None:
    assert created(jobs).id != created(jobs).id


@pytest.mark.parametrize("job_id", ["", "../etc", "0" * 32, "A" * 32])
def test_unknown_and_malformed_ids_are_not_found(jobs: JobStore, job_id: str) -> None:
    with pytest.raises(NotFoundError):
        jobs.get(job_id)


def test_one_of_many_deliveries_takes_the_lease(jobs: JobStore) -> None:
    job = created(jobs)

    with ThreadPoolExecutor(5) as pool:
        leases = list(pool.map(lambda i: jobs.acquire(job.id, f"w{i}", TTL_S), range(5)))

    assert len([lease for lease in leases if lease]) == 1
    assert jobs.get(job.id).attempts == 1


def test_acquire_repeated_by_the_same_delivery_gives_the_same_lease(jobs: JobStore) -> None:
    job = created(jobs)

    assert acquired(jobs, job, "w#1") == acquired(jobs, job, "w#1")
    assert jobs.get(job.id).attempts == 1


def test_success_records_the_artifact(jobs: JobStore) -> None:
    job = created(jobs)
    lease = acquired(jobs, job)

    jobs.succeed(lease, "a" * 64, why="Made by attempt 1")

    ended = jobs.get(job.id)
    assert (ended.state, ended.result, ended.why) == (
        JobState.SUCCEEDED,
        "a" * 64,
        "Made by attempt 1",
    )
    assert ended.started_at is not None and ended.finished_at is not None
    assert jobs.active() == []


def test_a_result_reported_twice_is_accepted_once_more(jobs: JobStore) -> None:
    lease = acquired(jobs, created(jobs))
    jobs.succeed(lease, "a" * 64)

    jobs.succeed(lease, "a" * 64)

    assert jobs.get(lease.job_id).result == "a" * 64


End = Callable[[JobStore, Lease], object]


@pytest.mark.parametrize(
    "end",
    [
        lambda jobs, lease: jobs.succeed(lease, "a" * 64),
        lambda jobs, lease: jobs.fail(lease, "it broke", "INTERNAL"),
    ],
)
def test_terminal_is_terminal(jobs: JobStore, end: End) -> None:
    job = created(jobs)
    lease = acquired(jobs, job)
    end(jobs, lease)
    ended = jobs.get(job.id)

    with pytest.raises(ConflictError):
        jobs.succeed(lease, "b" * 64)
    with pytest.raises(ConflictError):
        jobs.renew(lease, TTL_S)
    with pytest.raises(ConflictError):
        jobs.report_progress(lease, 1, 2)
    assert jobs.cancel(job.id) == ended
    assert jobs.acquire(job.id, "w2", TTL_S) is None
    assert jobs.requeue_expired(job.id) is None
    assert not jobs.adopt_result(job.id, "b" * 64)
    assert jobs.get(job.id) == ended


def test_an_expired_lease_is_taken_over_and_the_old_owner_is_fenced(jobs: JobStore) -> None:
    job = created(jobs)
    old = acquired(jobs, job, "w1", 0.02)
    time.sleep(0.05)
    new = acquired(jobs, job, "w2")

    assert new.fencing_token == old.fencing_token + 1
    with pytest.raises(ConflictError, match="w1 no longer holds"):
        jobs.report_progress(old, 1, 2)
    with pytest.raises(ConflictError):
        jobs.append_metrics(old, 1, {"loss": 1.0})
    with pytest.raises(ConflictError):
        jobs.succeed(old, "a" * 64)
    jobs.succeed(new, "b" * 64)
    assert jobs.get(job.id).result == "b" * 64


def test_an_expired_lease_that_nobody_took_is_renewed(jobs: JobStore) -> None:
    job = created(jobs)
    lease = acquired(jobs, job, ttl_s=0.02)
    time.sleep(0.05)

    jobs.renew(lease, TTL_S)

    assert jobs.requeue_expired(job.id) is None


def test_renewal_keeps_others_away(jobs: JobStore) -> None:
    job = created(jobs)
    lease = acquired(jobs, job, ttl_s=0.2)
    for _ in range(4):
        time.sleep(0.1)
        jobs.renew(lease, 0.2)

    assert jobs.acquire(job.id, "w2", TTL_S) is None


def test_a_job_whose_workers_die_is_buried_after_three_attempts(jobs: JobStore) -> None:
    job = created(jobs)
    for attempt in (1, 2, 3):
        assert acquired(jobs, job, f"w{attempt}#x", 0.001).attempt == attempt
        time.sleep(0.01)
        state = jobs.requeue_expired(job.id)

    assert state is JobState.FAILED
    ended = jobs.get(job.id)
    assert ended.why == "Gave up after 3 attempts whose worker died; the last was w3"
    assert [letter.job_id for letter in jobs.dead_letters()] == [job.id]


def test_a_fourth_delivery_buries_too(jobs: JobStore) -> None:
    job = created(jobs)
    for attempt in range(3):
        acquired(jobs, job, f"w{attempt}", 0.001)
        time.sleep(0.01)

    assert jobs.acquire(job.id, "w4", TTL_S) is None
    assert jobs.get(job.id).state is JobState.FAILED
    assert len(jobs.dead_letters()) == 1


def test_crashes_are_repeated_up_to_the_cap(jobs: JobStore) -> None:
    job = created(jobs)
    states = [
        jobs.release_for_retry(acquired(jobs, job, f"w{i}"), "ValueError: no") for i in range(3)
    ]

    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert jobs.get(job.id).why == "Gave up after 3 attempts: ValueError: no"
    assert jobs.dead_letters()[0].why == jobs.get(job.id).why


def test_waiting_for_a_service_is_not_charged_and_backs_off(jobs: JobStore) -> None:
    job = created(jobs)

    state = jobs.release_for_retry(
        acquired(jobs, job), "reward does not answer", code="UNAVAILABLE", cause="unavailable"
    )

    assert state is JobState.QUEUED
    assert jobs.get(job.id).why == "Waiting 1 s, then trying again: reward does not answer"
    assert jobs.acquire(job.id, "w2", TTL_S) is None, "not due yet"
    assert not jobs.take_due(job.id)


def test_waits_beyond_the_attempt_cap_go_on_until_their_own_cap(jobs: JobStore) -> None:
    # Delays double from 1 s; with a longest delay of 0 every retry is due at once.
    patient = JobStore(
        jobs.redis_url, retry=RetryPolicy(attempt_cap=2, unavailable_cap=5, longest_delay_s=0)
    )
    job = created(patient)
    states = [
        patient.release_for_retry(acquired(patient, job, f"w{i}"), "away", cause="unavailable")
        for i in range(6)
    ]

    assert states == [JobState.QUEUED] * 5 + [JobState.FAILED]
    assert patient.get(job.id).why == "Gave up after waiting 5 times: away"


def test_waits_after_a_long_attempt_are_counted_anew(jobs: JobStore) -> None:
    """A machine that is taken away every few hours does not end a job of days."""
    policy = RetryPolicy(unavailable_cap=1, longest_delay_s=0)
    hasty = JobStore(jobs.redis_url, retry=policy)
    # Every attempt is a long one.
    patient = JobStore(jobs.redis_url, retry=replace(policy, long_attempt_s=0))

    def lost(store: JobStore, job: Job, worker: str, *, worked: bool) -> JobState:
        lease = acquired(store, job, worker)
        if worked:
            store.report_progress(lease, 1, 100, "steps")
        return store.release_for_retry(lease, "the machine was lost", cause="unavailable")

    job = created(jobs)
    assert {lost(patient, job, f"w{i}", worked=True) for i in range(4)} == {JobState.QUEUED}
    assert lost(hasty, job, "w4", worked=True) is JobState.FAILED
    # Work of an earlier attempt does not count, and waiting for machines is none.
    job = created(jobs)
    assert lost(patient, job, "w0", worked=True) is JobState.QUEUED
    assert lost(patient, job, "w1", worked=False) is JobState.FAILED


def test_a_stopped_worker_gives_its_job_back_free_of_charge(jobs: JobStore) -> None:
    job = created(jobs)
    for i in range(5):
        lease = acquired(jobs, job, f"w{i}")
        assert jobs.release_for_retry(lease, "stopped", cause="stopped") is JobState.QUEUED

    assert jobs.get(job.id).attempts == 5


def test_cancelling_a_waiting_job_ends_it_at_once(jobs: JobStore) -> None:
    job = jobs.cancel(created(jobs).id, "changed my mind")

    assert (job.state, job.why) == (JobState.CANCELLED, "Cancelled: changed my mind")
    assert jobs.acquire(job.id, "w", TTL_S) is None


def test_cancelling_a_running_job_asks_its_owner(jobs: JobStore) -> None:
    job = created(jobs)
    lease = acquired(jobs, job)
    assert not jobs.renew(lease, TTL_S)

    asked = jobs.cancel(job.id, "too slow")

    assert (asked.state, asked.why) == (JobState.RUNNING, "Cancelling: too slow")
    assert jobs.renew(lease, TTL_S) and jobs.report_progress(lease, 1, 2)
    jobs.confirm_cancelled(lease)
    assert jobs.get(job.id).why == "Cancelled: too slow"


def test_a_cancelled_job_is_not_repeated_after_a_crash(jobs: JobStore) -> None:
    job = created(jobs)
    lease = acquired(jobs, job)
    jobs.cancel(job.id)

    assert jobs.release_for_retry(lease, "killed") is JobState.CANCELLED


def test_a_cancelled_job_whose_worker_died_ends(jobs: JobStore) -> None:
    job = created(jobs)
    acquired(jobs, job, ttl_s=0.02)
    jobs.cancel(job.id)
    time.sleep(0.05)

    assert jobs.requeue_expired(job.id) is JobState.CANCELLED


def test_an_unattended_job_with_an_artifact_succeeds(jobs: JobStore) -> None:
    job = created(jobs)
    acquired(jobs, job, ttl_s=0.02)
    assert not jobs.adopt_result(job.id, "a" * 64), "its owner may still be at work"
    time.sleep(0.05)

    assert jobs.adopt_result(job.id, "a" * 64)
    assert jobs.get(job.id).result == "a" * 64


def test_metrics_are_kept_in_order_and_read_by_cursor(jobs: JobStore) -> None:
    job = created(jobs)
    lease = acquired(jobs, job)
    jobs.append_metrics(lease, 1, {"loss": 2.0})
    jobs.append_metric_rows(lease, [(2, {"loss": 1 / 3, "kl": float("nan")}), (3, {"loss": 0.1})])

    rows = jobs.metrics(job.id)
    assert [(row.step, row.values.get("loss")) for row in rows] == [(1, 2.0), (2, 1 / 3), (3, 0.1)]
    assert jobs.metrics(job.id, rows[1].cursor) == rows[2:]
    assert jobs.get(job.id).metrics["loss"] == 0.1
    assert str(jobs.get(job.id).metrics["kl"]) == "nan"


def test_pages_are_newest_first_complete_and_stable(jobs: JobStore) -> None:
    made = [created(jobs).id for _ in range(7)]
    first, token = jobs.list(page_size=3)
    created(jobs)  # does not shift the pages that follow
    second, token2 = jobs.list(page_size=3, page_token=token)
    third, end = jobs.list(page_size=3, page_token=token2)

    assert [job.id for job in [*first, *second, *third]] == made[::-1]
    assert token and token2 and end == ""


def test_pages_filter_by_state(jobs: JobStore) -> None:
    done, waiting = created(jobs), created(jobs)
    jobs.succeed(acquired(jobs, done), "a" * 64)

    assert [job.id for job in jobs.list(state=JobState.QUEUED)[0]] == [waiting.id]
    assert jobs.list(page_size=1, state=JobState.QUEUED)[1] == ""


@pytest.mark.parametrize(("size", "token"), [(-1, ""), (1, "nonsense")])
def test_bad_pages_are_refused(jobs: JobStore, size: int, token: str) -> None:
    with pytest.raises(InvalidInputError):
        jobs.list(page_size=size, page_token=token)


def test_watch_gives_each_change_and_ends(jobs: JobStore) -> None:
    job = created(jobs)
    seen: list[Job] = []
    watcher = threading.Thread(target=lambda: seen.extend(jobs.watch(job.id)))
    watcher.start()
    lease = acquired(jobs, job)
    time.sleep(0.1)
    jobs.report_progress(lease, 1, 2, "half")
    time.sleep(0.1)
    jobs.succeed(lease, "a" * 64)
    watcher.join(5)

    assert [job.state.value for job in seen][-1] == "SUCCEEDED"
    assert "half" in [job.progress.message for job in seen]


async def test_awatch_ends_with_the_job(jobs: JobStore) -> None:
    job = created(jobs)
    jobs.cancel(job.id)

    assert [seen.state async for seen in jobs.awatch(job.id)] == [JobState.CANCELLED]


def test_watch_ends_at_its_timeout(jobs: JobStore) -> None:
    started = time.monotonic()

    seen = list(jobs.watch(created(jobs).id, timeout_s=0.2))

    assert len(seen) == 1
    assert time.monotonic() - started < 2


def test_an_ended_job_leaves_its_run_to_be_advanced(jobs: JobStore) -> None:
    first = created(jobs, labels={"run_id": "r1"})
    second = created(jobs, labels={"run_id": "r1"})
    jobs.cancel(first.id)
    marker = jobs.pending_runs()["r1"]
    jobs.cancel(second.id)

    assert not jobs.clear_pending_run("r1", marker), "the second end came after the marker"
    assert jobs.clear_pending_run("r1", jobs.pending_runs()["r1"])
    assert jobs.pending_runs() == {}


def test_a_due_message_is_sent_by_one(jobs: JobStore) -> None:
    job = created(jobs)
    assert not jobs.take_due(job.id), "its sender has 3 s"
    connect_broker(jobs.redis_url).hset(f"plumbline:job:{job.id}", "due_at", "1")

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: jobs.take_due(job.id), range(4))) == 1


def test_locks_have_one_holder_and_fall_free(jobs: JobStore) -> None:
    assert jobs.hold_lock("x", "a", 0.1) and jobs.hold_lock("x", "a", 0.1)
    assert not jobs.hold_lock("x", "b", 0.1)
    time.sleep(0.15)
    assert jobs.hold_lock("x", "b", 0.1)


def test_old_records_are_deleted_and_live_ones_kept(jobs: JobStore) -> None:
    old, live = created(jobs, request_id="r"), created(jobs)
    jobs.cancel(old.id)
    time.sleep(0.02)

    assert jobs.prune(older_than_s=0.01) == 1
    with pytest.raises(NotFoundError):
        jobs.get(old.id)
    assert [job.id for job in jobs.list()[0]] == [live.id]
    assert created(jobs, request_id="r").id != old.id


def test_a_broker_that_is_not_there_is_named_quickly_without_its_password() -> None:
    started = time.monotonic()

    with pytest.raises(BrokerUnavailableError) as caught:
        JobStore("redis://user:s3cret@127.0.0.1:1/0").ping()

    assert time.monotonic() - started < 3
    assert "redis://user:***@127.0.0.1:1/0" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_no_broker_at_all_says_what_to_do() -> None:
    with pytest.raises(BrokerUnavailableError, match="plumbline up"):
        JobStore(None)


@pytest.mark.parametrize("url", ["http://localhost:6379", "localhost:6379", "redis://h:port/0"])
def test_urls_of_other_kinds_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="accepted: redis://"):
        JobStore(url)


def test_urls_without_password_stay_as_they_are() -> None:
    assert without_password("redis://host:6379/0") == "redis://host:6379/0"

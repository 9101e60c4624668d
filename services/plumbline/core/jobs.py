"""Job records: what a long run is asked to do, where it stands, and why.

Records live in Redis and outlast every process; Celery carries only their ids. All changes of
state are atomic scripts (`job_scripts`). A worker owns a job through a lease with a fencing token:
whoever comes later has a higher token, and the record accepts only the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from plumbline.core import job_scripts
from plumbline.core.broker import (
    ANSWER_TIMEOUT_S,
    KEY_PREFIX,
    broker_errors,
    check_redis_url,
    connect_broker,
    connect_broker_async,
)
from plumbline.core.errors import (
    BrokerUnavailableError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.core.paging import page_bounds, page_token

DEFAULT_ATTEMPT_CAP = 3
DEFAULT_UNAVAILABLE_CAP = 20
LONGEST_RETRY_DELAY_S = 30.0
LONG_ATTEMPT_S = 600.0
SEND_GRACE_S = 3.0
"""How long a queued job's message may be on its way before the reconciler looks for it."""
METRIC_ROWS_KEPT = 100_000
PARENT_LABEL = "parent_id"
"""Label of a job that does a part of another job's work: the id of that one."""
WATCH_PATIENCE_S = 30.0
"""How long a watcher waits for a broker that restarts."""

_POLL_S = min(5.0, ANSWER_TIMEOUT_S / 2)
_LIST_CHUNK = 200
_JOB_ID = re.compile(r"[0-9a-f]{32}")
_LONGEST_REQUEST_ID = 200


class JobState(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Progress:
    """Units of work done and in all; `total` is 0 while unknown."""

    done: int = 0
    total: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One record. Times are Unix seconds by the broker's clock."""

    id: str
    request_id: str
    kind: str
    """Name of the stage."""
    spec: Mapping[str, Any]
    """{"stage": name, "config": {...}, "inputs": {name: [reference, ...]}}"""
    queue: str
    state: JobState
    why: str
    """The reason of the state, in words; never empty."""
    code: str
    """Canonical error code of a job that FAILED or was CANCELLED; else empty."""
    progress: Progress
    attempts: int
    """Attempts begun so far."""
    created_at: float
    started_at: float | None
    finished_at: float | None
    result: str | None
    """Id of the artifact that the job made."""
    labels: Mapping[str, str]
    metrics: Mapping[str, float]
    """The newest value of each."""
    fencing_token: int
    lease_owner: str | None
    lease_expires_at: float | None
    cancel_requested: bool
    charged_attempts: int = 0
    """Attempts that count against the cap: not those given back, or ended to wait for parts."""
    waiting_for: tuple[str, ...] = ()
    """Jobs that do parts of the work; while they run, this one is QUEUED."""
    follows: str = ""
    """Name of the Kubernetes Job that runs the attempt, whoever holds the lease; empty for an
    attempt that its worker runs itself."""

    @property
    def terminal(self) -> bool:
        return self.state.terminal

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON types, for scripts."""
        return {
            "id": self.id,
            "request_id": self.request_id,
            "kind": self.kind,
            "spec": dict(self.spec),
            "queue": self.queue,
            "state": self.state.value,
            "why": self.why,
            "code": self.code,
            "progress": {
                "done": self.progress.done,
                "total": self.progress.total,
                "message": self.progress.message,
            },
            "attempts": self.attempts,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "result": self.result,
            "labels": dict(self.labels),
            "waiting_for": list(self.waiting_for),
            "metrics": dict(self.metrics),
        }


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job until somebody with a higher token takes over."""

    job_id: str
    owner: str
    fencing_token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class MetricRow:
    """Metrics of one step; `cursor` continues a later read after this row."""

    cursor: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that was given up after its last attempt."""

    job_id: str
    kind: str
    why: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How far the jobs are that another job waits for."""

    ended: int
    total: int
    broken: bool
    """Whether one of them failed or was cancelled: the others are then of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a job is tried."""

    attempt_cap: int = DEFAULT_ATTEMPT_CAP
    """Attempts that may crash."""
    unavailable_cap: int = DEFAULT_UNAVAILABLE_CAP
    """Attempts in a row that may end because another part did not answer."""
    longest_delay_s: float = LONGEST_RETRY_DELAY_S
    """Bound of the doubling wait for a part that does not answer."""
    long_attempt_s: float = LONG_ATTEMPT_S
    """An attempt that went on longer after its first report ends a row of waits: they are counted
    anew after it. A job that trains for days on machines which are taken away now and then is not
    given up for it, and one that never gets its machines is."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """Names of everything that the broker holds for jobs."""

    prefix: str = KEY_PREFIX
    active: str = field(init=False)
    dead_letters: str = field(init=False)
    pending_runs: str = field(init=False)
    index: str = field(init=False)
    sequence: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("active", "dead_letters", "pending_runs", "index", "sequence"):
            object.__setattr__(self, name, f"{self.prefix}jobs:{name}")

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def changes(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}:changes"

    def metrics(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}:metrics"

    def request(self, request_id: str) -> str:
        return f"{self.prefix}request:{request_id}"

    def of(self, job_id: str, request_id: str = "") -> list[str]:
        """KEYS of a script, in the order of `job_scripts.KEY_NAMES`."""
        return [
            self.job(job_id),
            self.changes(job_id),
            self.metrics(job_id),
            self.active,
            self.dead_letters,
            self.pending_runs,
            self.index,
            self.sequence,
            self.request(request_id),
        ]


class JobStore:
    """Reads and changes job records. Safe to share between threads.

    Every method raises BrokerUnavailableError when the broker does not answer.
    """

    def __init__(self, redis_url: str | None, *, retry: RetryPolicy | None = None) -> None:
        self.redis_url = check_redis_url(redis_url)
        self.retry = retry or RetryPolicy()
        self._redis = connect_broker(self.redis_url)
        self._keys = _Keys()
        self._scripts: dict[str, Any] = {}

    def close(self) -> None:
        self._redis.close()

    def ping(self) -> None:
        """Returns when the broker answers."""
        with broker_errors(self.redis_url):
            self._redis.ping()

    # Creating and reading

    def create(
        self,
        spec: Mapping[str, Any],
        *,
        queue: str,
        request_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Job:
        """Record a new job, or return the one that `request_id` made before.

        Raises:
            InvalidInputError: `request_id` was used for another body, or is too long.
        """
        if len(request_id) > _LONGEST_REQUEST_ID:
            raise InvalidInputError(
                f"request_id has {len(request_id)} characters; at most {_LONGEST_REQUEST_ID} "
                "are accepted",
                field="request_id",
            )
        job_id = uuid.uuid4().hex
        labels = dict(labels or {})
        digest = _body_digest(spec, labels)
        arguments = [
            job_id,
            request_id,
            digest,
            str(spec["stage"]),
            _canonical_json(spec),
            queue,
            _canonical_json(labels),
            labels.get("run_id", ""),
            SEND_GRACE_S,
        ]
        first_id, first_digest = self._run(
            job_scripts.CREATE, job_id, *arguments, request_id=request_id
        ).split(" ")
        if first_digest != digest:
            raise InvalidInputError(
                f"request_id={request_id!r} already made job {first_id} from another body; "
                "send the same body again or choose a new request_id",
                reason="REQUEST_ID_REUSED",
                field="request_id",
            )
        return self.get(first_id)

    def get(self, job_id: str) -> Job:
        """
        Raises:
            NotFoundError: no job has this id.
        """
        if not _JOB_ID.fullmatch(job_id):
            raise NotFoundError(f"no job {job_id!r}; a job id has 32 hexadecimal digits")
        with broker_errors(self.redis_url):
            record = self._redis.hgetall(self._keys.job(job_id))
        if not record:
            raise NotFoundError(f"no job {job_id}; `plumbline jobs` lists them")
        return _job(record)

    def list(
        self, *, page_size: int = 0, page_token: str = "", state: JobState | None = None
    ) -> tuple[Sequence[Job], str]:
        """Newest first; returns a page and the token of the next one, empty at the end.

        Raises:
            InvalidInputError: a negative page size, or a token that this call did not make.
        """
        below, size = page_bounds(page_size, page_token)
        jobs: list[Job] = []
        last = 0
        for sequence, job in self._newest_first(below):
            if state is not None and job.state is not state:
                continue
            if len(jobs) == size:
                return jobs, _token_below(last)
            jobs.append(job)
            last = sequence
        return jobs, ""

    def _newest_first(self, below: int) -> Iterator[tuple[int, Job]]:
        upper = f"({below}" if below else "+inf"
        while True:
            with broker_errors(self.redis_url):
                members = self._redis.zrevrangebyscore(
                    self._keys.index, upper, "-inf", start=0, num=_LIST_CHUNK, withscores=True
                )
                records = self._records([job_id for job_id, _ in members])
            for (_, score), record in zip(members, records, strict=True):
                if record:
                    yield int(score), _job(record)
            if len(members) < _LIST_CHUNK:
                return
            upper = f"({int(members[-1][1])}"

    def _records(self, job_ids: Sequence[str]) -> Sequence[Mapping[str, str]]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(self._keys.job(job_id))
        return list(pipeline.execute())

    def active(self) -> Sequence[Job]:
        """Every job that has not ended."""
        with broker_errors(self.redis_url):
            records = self._records(sorted(self._redis.smembers(self._keys.active)))
        return [_job(record) for record in records if record]

    def metrics(self, job_id: str, after: str = "0", *, count: int = 10_000) -> Sequence[MetricRow]:
        """Metric rows after a cursor, oldest first; the newest 100 000 or so are kept."""
        minimum = "-" if after == "0" else f"({after}"
        with broker_errors(self.redis_url):
            entries = self._redis.xrange(self._keys.metrics(job_id), min=minimum, count=count)
        return [
            MetricRow(cursor, int(entry["step"]), json.loads(entry["values"]))
            for cursor, entry in entries
        ]

    def dead_letters(self, *, count: int = 100) -> Sequence[DeadLetter]:
        """Jobs that were given up after their last attempt, newest first."""
        with broker_errors(self.redis_url):
            entries = self._redis.xrevrange(self._keys.dead_letters, count=count)
        return [DeadLetter(**entry) for _, entry in entries]

    # What a worker does

    def acquire(self, job_id: str, owner: str, ttl_s: float) -> Lease | None:
        """Take the lease of a job that waits, or whose owner's lease ran out.

        Args:
            owner: unique per delivery; what follows `#` is not shown to users.
        Returns:
            None when the job has ended, is held, is not due yet, or has no attempt left
            (it is then FAILED and in the dead letters).
        Raises:
            NotFoundError: no job has this id.
        """
        answer = self._run(job_scripts.ACQUIRE, job_id, owner, ttl_s, self.retry.attempt_cap)
        if answer[0] == "missing":
            raise NotFoundError(f"no job {job_id}; its record was deleted")
        if answer[0] != "acquired":
            return None
        return Lease(job_id, owner, int(answer[1]), int(answer[2]))

    def renew(self, lease: Lease, ttl_s: float) -> bool:
        """Keep the lease; returns whether cancellation was requested.

        Raises:
            ConflictError: the lease was lost.
        """
        return self._held(lease, job_scripts.RENEW, ttl_s)

    def follow(self, lease: Lease, name: str) -> bool:
        """Note what runs the attempt outside of its worker, so that it may outlive the lease.

        The next worker that acquires the job goes on with this attempt and is not charged.

        Args:
            name: of the Kubernetes Job; empty where the worker runs the attempt itself.
        Returns:
            whether cancellation was requested.
        Raises:
            ConflictError: the lease was lost.
        """
        return self._held(lease, job_scripts.FOLLOW, name)

    def explain(self, lease: Lease, why: str) -> bool:
        """Set a running job's reason; returns whether cancellation was requested.

        Raises:
            ConflictError: the lease was lost.
        """
        return self._held(lease, job_scripts.EXPLAIN, why)

    def report_progress(self, lease: Lease, done: int, total: int, message: str = "") -> bool:
        """Set the progress; returns whether cancellation was requested.

        Raises:
            ConflictError: the lease was lost.
        """
        return self._held(lease, job_scripts.PROGRESS, done, total, message)

    def append_metrics(self, lease: Lease, step: int, values: Mapping[str, float]) -> bool:
        """Add one row to the metric stream; returns whether cancellation was requested.

        Raises:
            ConflictError: the lease was lost.
        """
        return self.append_metric_rows(lease, [(step, values)])

    def append_metric_rows(
        self, lease: Lease, rows: Sequence[tuple[int, Mapping[str, float]]]
    ) -> bool:
        """The same for several rows in one round trip."""
        arguments: list[Any] = [METRIC_ROWS_KEPT, len(rows)]
        newest: dict[str, float] = {}
        for step, values in rows:
            plain = {name: float(value) for name, value in values.items()}
            arguments += [step, json.dumps(plain)]
            newest.update(plain)
        for name, value in newest.items():
            arguments += [name, repr(value)]
        return self._held(lease, job_scripts.APPEND_METRICS, *arguments)

    def succeed(self, lease: Lease, artifact_id: str, *, why: str = "Finished") -> None:
        """
        Raises:
            ConflictError: the lease was lost, or the job ended otherwise.
        """
        if not self._run(job_scripts.SUCCEED, lease.job_id, lease.fencing_token, artifact_id, why):
            raise _lease_lost(lease)

    def fail(self, lease: Lease, why: str, code: str) -> None:
        """
        Raises:
            ConflictError: the lease was lost, or the job ended otherwise.
        """
        if not self._run(job_scripts.FAIL, lease.job_id, lease.fencing_token, why, code):
            raise _lease_lost(lease)

    def release_for_retry(
        self, lease: Lease, why: str, *, code: str = "INTERNAL", cause: str = "crash"
    ) -> JobState:
        """Give the job back to its queue, or end it when no attempt is left.

        Args:
            cause: "crash" counts against the attempt cap; "unavailable" waits longer each time and
                counts against the unavailable cap; "stopped" (the worker shuts down) is free.
        Returns:
            QUEUED, or FAILED, or CANCELLED when that was requested. The caller sends the message of
            a job that is QUEUED after a crash or stop; the reconciler sends the delayed ones.
        Raises:
            ConflictError: the lease was lost.
        """
        policy = self.retry
        state = self._run(
            job_scripts.RELEASE,
            lease.job_id,
            lease.fencing_token,
            why,
            code,
            cause,
            policy.attempt_cap,
            policy.unavailable_cap,
            policy.longest_delay_s,
            SEND_GRACE_S,
            policy.long_attempt_s,
        )
        if not state:
            raise _lease_lost(lease)
        return JobState(state)

    def await_jobs(self, lease: Lease, job_ids: Sequence[str]) -> JobState:
        """Give the job back to its queue until other jobs, which do parts of it, have ended.

        Returns:
            QUEUED, or CANCELLED when that was requested. The caller wakes the job; see `parts`.
        Raises:
            ConflictError: the lease was lost.
        """
        state = self._run(
            job_scripts.AWAIT_JOBS,
            lease.job_id,
            lease.fencing_token,
            _canonical_json(list(job_ids)),
            len(job_ids),
            SEND_GRACE_S,
        )
        if not state:
            raise _lease_lost(lease)
        return JobState(state)

    def parts(self, job: Job) -> Parts:
        """How far the jobs that a job waits for are; the waiting job's record tells it too."""
        with broker_errors(self.redis_url):
            records = self._records(job.waiting_for)
        states = [JobState(record["state"]) for record in records if record]
        parts = Parts(
            # A part whose record is gone has ended.
            ended=len(records) - sum(not state.terminal for state in states),
            total=len(records),
            broken=JobState.FAILED in states or JobState.CANCELLED in states,
        )
        self._run(job_scripts.NOTE_PARTS, job.id, parts.ended, parts.total)
        return parts

    def confirm_cancelled(self, lease: Lease) -> None:
        """The owner's word that the cancelled work has stopped.

        Raises:
            ConflictError: the lease was lost, or nobody asked for the cancellation.
        """
        if not self._run(job_scripts.CONFIRM_CANCEL, lease.job_id, lease.fencing_token):
            raise _lease_lost(lease)

    # What a user does

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Cancel a waiting job at once, a running one as soon as its worker has stopped it.

        A job that has ended stays as it is.

        Raises:
            NotFoundError: no job has this id.
        """
        job = self.get(job_id)
        self._run(job_scripts.CANCEL, job_id, reason or "on request")
        self.cancel_parts(job, reason or "on request")
        return self.get(job_id)

    def cancel_parts(self, job: Job, reason: str) -> None:
        """Cancel the jobs that a job waits for; those that have ended stay as they are."""
        for part in job.waiting_for:
            with contextlib.suppress(NotFoundError):
                self.cancel(part, reason)

    def cancel_requested(self, job_id: str) -> bool:
        return self.get(job_id).cancel_requested

    def watch(self, job_id: str, timeout_s: float | None = None) -> Iterator[Job]:
        """The job now and after each change; ends after the terminal state or the timeout.

        Changes that come faster than they are read are merged. A broker that restarts is waited
        for; if it stays away, BrokerUnavailableError.

        Raises:
            NotFoundError: no job has this id.
        """
        watcher = _Watcher(self._keys.changes(job_id), timeout_s)
        while not watcher.finished:
            with watcher.riding_over_restarts():
                watcher.see(self.get(job_id))
                if watcher.is_new:
                    yield watcher.job
                if not watcher.finished:
                    with broker_errors(self.redis_url):
                        watcher.hear(self._redis.xread(watcher.streams, block=watcher.block_ms))
            if watcher.pause_s:
                time.sleep(watcher.pause_s)

    async def awatch(self, job_id: str, timeout_s: float | None = None) -> AsyncIterator[Job]:
        """`watch` for an event loop."""
        watcher = _Watcher(self._keys.changes(job_id), timeout_s)
        client = connect_broker_async(self.redis_url)
        try:
            while not watcher.finished:
                with watcher.riding_over_restarts():
                    watcher.see(await asyncio.to_thread(self.get, job_id))
                    if watcher.is_new:
                        yield watcher.job
                    if not watcher.finished:
                        with broker_errors(self.redis_url):
                            watcher.hear(
                                await client.xread(watcher.streams, block=watcher.block_ms)
                            )
                if watcher.pause_s:
                    await asyncio.sleep(watcher.pause_s)
        finally:
            await client.aclose()

    # What the reconciler does

    def requeue_expired(self, job_id: str) -> JobState | None:
        """Take a running job from an owner whose lease ran out; None when it is alive."""
        state = self._run(job_scripts.REQUEUE_EXPIRED, job_id, self.retry.attempt_cap, SEND_GRACE_S)
        return JobState(state) if state else None

    def expire_lease(self, job_id: str, owner: str) -> bool:
        """End the lease of an owner that is known to be dead."""
        return bool(self._run(job_scripts.EXPIRE_LEASE, job_id, owner))

    def adopt_result(self, job_id: str, artifact_id: str) -> bool:
        """End an unattended job whose artifact exists already."""
        return bool(self._run(job_scripts.ADOPT_RESULT, job_id, artifact_id))

    def take_due(self, job_id: str) -> bool:
        """Whether the caller shall send the job's message now."""
        return bool(self._run(job_scripts.TAKE_DUE, job_id, SEND_GRACE_S))

    def pending_runs(self, *, older_than_s: float = 0.0) -> dict[str, str]:
        """Runs with a job that ended, which nobody has advanced yet: id -> marker."""
        with broker_errors(self.redis_url):
            newest = self.now() - older_than_s
            return {
                run_id: repr(score)
                for run_id, score in self._redis.zrangebyscore(
                    self._keys.pending_runs, "-inf", newest, withscores=True
                )
            }

    def clear_pending_run(self, run_id: str, marker: str) -> bool:
        """Forget a run that was advanced, unless another of its jobs ended since `marker`."""
        with broker_errors(self.redis_url):
            script = self._script(job_scripts.CLEAR_PENDING_RUN)
            return bool(script(keys=[self._keys.pending_runs], args=[run_id, marker]))

    def now(self) -> float:
        """The broker's clock, Unix seconds."""
        with broker_errors(self.redis_url):
            seconds, microseconds = self._redis.time()
        return float(seconds) + float(microseconds) / 1e6

    def broker_uptime_s(self) -> float:
        with broker_errors(self.redis_url):
            return float(self._redis.info("server")["uptime_in_seconds"])

    def queued_job_ids(self, queue: str) -> set[str]:
        """Ids of the jobs whose message waits in a queue."""
        found: set[str] = set()
        start = 0
        with broker_errors(self.redis_url):
            while True:
                messages = self._redis.lrange(queue, start, start + 999)
                found.update(filter(None, map(_job_id_of_message, messages)))
                if len(messages) < 1000:
                    return found
                start += 1000

    def hold_lock(self, name: str, owner: str, ttl_s: float) -> bool:
        """Take or keep a lock among workers; it falls free when its holder stops renewing it."""
        key = f"{KEY_PREFIX}lock:{name}"
        ttl_ms = int(ttl_s * 1000)
        with broker_errors(self.redis_url):
            if self._redis.set(key, owner, nx=True, px=ttl_ms):
                return True
            if self._redis.get(key) != owner:
                return False
            return bool(self._redis.pexpire(key, ttl_ms))

    def prune(self, *, older_than_s: float) -> int:
        """Delete the records of jobs that ended long ago; returns how many."""
        newest = self.now() - older_than_s
        with broker_errors(self.redis_url):
            members = self._redis.zrange(self._keys.index, 0, _LIST_CHUNK - 1)
            old = [
                job
                for job in map(_job, filter(None, self._records(members)))
                if job.finished_at is not None and job.finished_at < newest
            ]
            for job in old:
                self._redis.delete(*self._keys.of(job.id, job.request_id)[:3])
                if job.request_id:
                    self._redis.delete(self._keys.request(job.request_id))
                self._redis.zrem(self._keys.index, job.id)
        return len(old)

    def _held(self, lease: Lease, source: str, *arguments: Any) -> bool:
        held, cancelling = self._run(source, lease.job_id, lease.fencing_token, *arguments)
        if not held:
            raise _lease_lost(lease)
        return bool(cancelling)

    def _run(self, source: str, job_id: str, *arguments: Any, request_id: str = "") -> Any:
        with broker_errors(self.redis_url):
            return self._script(source)(keys=self._keys.of(job_id, request_id), args=arguments)

    def _script(self, source: str) -> Any:
        if source not in self._scripts:
            self._scripts[source] = self._redis.register_script(source)
        return self._scripts[source]


class _Watcher:
    """What `watch` and `awatch` share: the position in the change stream and the deadlines."""

    def __init__(self, stream: str, timeout_s: float | None) -> None:
        self.streams: dict[Any, Any] = {stream: "0"}
        self.pause_s = 0.0
        self.is_new = False
        self.finished = False
        self._stream = stream
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._away_since: float | None = None
        self._seen: Job | None = None

    @property
    def job(self) -> Job:
        if self._seen is None:
            raise LookupError("no job was seen yet")
        return self._seen

    @property
    def block_ms(self) -> int:
        # 0 would block for ever. The poll finds a change whose notice was lost.
        return max(1, int(1000 * min(_POLL_S, self._remaining_s())))

    def see(self, job: Job) -> None:
        self._away_since, self.pause_s = None, 0.0
        self.is_new = self._seen is None or _visible(job) != _visible(self._seen)
        self._seen = job
        self.finished = job.terminal or self._remaining_s() <= 0

    def hear(self, answer: Any) -> None:
        if answer:
            entries = answer[0][1] if isinstance(answer, list) else answer[self._stream][0]
            self.streams[self._stream] = entries[-1][0]

    def riding_over_restarts(self) -> _RideOver:
        return _RideOver(self)

    def broker_away(self) -> bool:
        """Whether to go on waiting."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        self.pause_s = 0.5
        self.is_new = False
        return now - self._away_since < WATCH_PATIENCE_S and self._remaining_s() > 0

    def _remaining_s(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()


class _RideOver:
    """Swallows BrokerUnavailableError while the watcher still has patience."""

    def __init__(self, watcher: _Watcher) -> None:
        self._watcher = watcher

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is None or not issubclass(kind, BrokerUnavailableError):
            return False
        return self._watcher.broker_away()


def _visible(job: Job) -> Job:
    """The job without what changes at each renewal of the lease."""
    return dataclasses.replace(job, lease_expires_at=None)


def _job(record: Mapping[str, str]) -> Job:
    metrics = {
        name.removeprefix("metric:"): float(value)
        for name, value in record.items()
        if name.startswith("metric:")
    }
    return Job(
        id=record["id"],
        request_id=record["request_id"],
        kind=record["kind"],
        spec=json.loads(record["spec"]),
        queue=record["queue"],
        state=JobState(record["state"]),
        why=record["why"],
        code=record.get("code", ""),
        progress=Progress(
            int(record.get("done", 0)), int(record.get("total", 0)), record.get("message", "")
        ),
        attempts=int(record["attempts"]),
        created_at=float(record["created_at"]),
        started_at=_time(record, "started_at"),
        finished_at=_time(record, "finished_at"),
        result=record.get("result") or None,
        labels=json.loads(record["labels"]),
        metrics=metrics,
        fencing_token=int(record["fencing_token"]),
        lease_owner=record.get("lease_owner") or None,
        lease_expires_at=_time(record, "lease_expires_at"),
        cancel_requested=record.get("cancel_requested") == "1",
        charged_attempts=int(record.get("charged", 0)),
        waiting_for=tuple(json.loads(record.get("waiting_for") or "[]")),
        follows=record.get("follows", ""),
    )


def _time(record: Mapping[str, str], name: str) -> float | None:
    return float(record.get(name) or 0) or None


def _canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _body_digest(spec: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    return hashlib.sha256(_canonical_json([spec, labels]).encode()).hexdigest()


def _token_below(sequence: int) -> str:
    return page_token(sequence, sequence + 1)


def _lease_lost(lease: Lease) -> ConflictError:
    return ConflictError(
        f"{lease.owner.partition('#')[0]} no longer holds job {lease.job_id} (fencing token "
        f"{lease.fencing_token}); another worker took over, or the job ended",
        reason="LEASE_LOST",
    )


def _job_id_of_message(message: str) -> str | None:
    """The job that a queued Celery message is for; see `queue.send_job`."""
    job_id = json.loads(message).get("headers", {}).get("job_id")
    return job_id if isinstance(job_id, str) else None

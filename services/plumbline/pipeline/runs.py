"""Run records: what a pipeline run is, and where it is kept.

A run is one JSON document in Redis. Only the holder of the run's lock writes it; whoever wants a
run cancelled leaves a request beside it, which the next `advance` obeys.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import LockError

from plumbline.core.broker import KEY_PREFIX, broker_errors, check_redis_url, connect_broker
from plumbline.core.errors import ConflictError, InvalidInputError, NotFoundError
from plumbline.core.execution import Execution
from plumbline.core.jobs import JobState
from plumbline.core.paging import page_bounds, page_token

_PREFIX = f"{KEY_PREFIX}runs"
LOCK_TTL_S = 30.0
"""A crashed holder delays the run by at most this; no step of `advance` takes as long."""
LOCK_WAIT_S = 10.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageProgress(_Frozen):
    """Units of work; total is 0 while unknown."""

    done: int = 0
    total: int = 0
    message: str = ""


class StageRun(_Frozen):
    """One stage of a run."""

    name: str
    uses: str
    config: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, ...]]
    """`stage:<name>` or `artifact:<id>`; names were resolved when the run was made."""
    depends_on: tuple[str, ...]
    tags: tuple[str, ...] = ()
    execution: Execution = Execution()
    state: JobState = JobState.QUEUED
    why: str
    job_id: str = ""
    artifact: str = ""
    cached: bool = False
    duration_s: float = 0.0
    progress: StageProgress = StageProgress()

    @property
    def ended(self) -> bool:
        return self.state.terminal


class Run(_Frozen):
    """A pipeline run."""

    id: str
    request_id: str
    pipeline: str
    pipeline_yaml: str
    """As submitted, so that the run can be repeated."""
    params: Mapping[str, Any] = Field(default_factory=dict)
    state: JobState = JobState.QUEUED
    why: str
    stages: tuple[StageRun, ...]
    metrics: Mapping[str, float] = Field(default_factory=dict)
    created_at: float = 0.0
    """Unix seconds."""
    ended_at: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state.terminal

    def stage(self, name: str) -> StageRun:
        return next(stage for stage in self.stages if stage.name == name)


class RunStore:
    """Runs in Redis."""

    def __init__(self, redis_url: str | None) -> None:
        self._url = check_redis_url(redis_url)
        self._redis = connect_broker(self._url)

    def create(self, run: Run, digest: str) -> Run:
        """Keep a new run, or return the one that the same request made.

        Args:
            digest: of the request's body; the same request_id with another one is an error.
        Raises:
            InvalidInputError: the request_id was used for another body.
        """
        with broker_errors(self._url):
            if run.request_id:
                claim = f"{run.id} {digest}"
                key = f"{_PREFIX}:request:{run.request_id}"
                # The document comes first: a claim never points at nothing.
                self._redis.set(_document(run.id), run.model_dump_json())
                if not self._redis.set(key, claim, nx=True):
                    self._redis.delete(_document(run.id))
                    return self._first(str(self._redis.get(key)), digest, run.request_id)
            with self._redis.pipeline(transaction=True) as batch:
                batch.set(_document(run.id), run.model_dump_json())
                batch.zadd(f"{_PREFIX}:index", {run.id: run.created_at})
                batch.sadd(f"{_PREFIX}:active", run.id)
                batch.execute()
        return run

    def _first(self, claim: str, digest: str, request_id: str) -> Run:
        run_id, _, first_digest = claim.partition(" ")
        if first_digest != digest:
            raise InvalidInputError(
                f"request_id {request_id!r} was used for another pipeline or other params; "
                "a new request takes a new id",
                field="request_id",
                reason="REQUEST_ID_REUSED",
            )
        run = self.get(run_id)
        # The first caller may have died between its claim and the index.
        if not run.ended:
            self._redis.zadd(f"{_PREFIX}:index", {run.id: run.created_at})
            self._redis.sadd(f"{_PREFIX}:active", run.id)
        return run

    def get(self, run_id: str) -> Run:
        """Raises NotFoundError when there is no such run."""
        with broker_errors(self._url):
            document = self._redis.get(_document(run_id))
        if document is None:
            raise NotFoundError(f"no run {run_id!r}; `plumbline runs` lists them")
        return Run.model_validate_json(str(document))

    def save(self, run: Run) -> None:
        """Write a run; the caller holds its lock."""
        with broker_errors(self._url), self._redis.pipeline(transaction=True) as batch:
            batch.set(_document(run.id), run.model_dump_json())
            if run.ended:
                batch.srem(f"{_PREFIX}:active", run.id)
                batch.delete(_cancel_key(run.id))
            batch.execute()

    def list_runs(self, *, page_size: int = 0, token: str = "") -> tuple[list[Run], str]:
        """Newest first, and the token of the next page."""
        start, size = page_bounds(page_size, token)
        with broker_errors(self._url):
            ids = self._redis.zrevrange(f"{_PREFIX}:index", start, start + size - 1)
            total = self._redis.zcard(f"{_PREFIX}:index")
            documents = self._redis.mget([_document(run_id) for run_id in ids]) if ids else []
        runs = [Run.model_validate_json(document) for document in documents if document]
        return runs, page_token(start + len(ids), total)

    def active(self) -> list[str]:
        """Ids of the runs that have not ended."""
        with broker_errors(self._url):
            return sorted(self._redis.smembers(f"{_PREFIX}:active"))

    def request_cancel(self, run_id: str, reason: str) -> None:
        """Ask the next `advance` to cancel the run."""
        with broker_errors(self._url):
            self._redis.set(_cancel_key(run_id), reason or "on request")

    def cancel_reason(self, run_id: str) -> str | None:
        with broker_errors(self._url):
            reason = self._redis.get(_cancel_key(run_id))
        return None if reason is None else str(reason)

    @contextlib.contextmanager
    def locked(self, run_id: str) -> Iterator[None]:
        """Hold a run alone; waits for another holder.

        Raises:
            ConflictError: another holder did not finish in time; the sweep will try again.
        """
        lock = self._redis.lock(
            f"{_PREFIX}:lock:{run_id}", timeout=LOCK_TTL_S, blocking_timeout=LOCK_WAIT_S
        )
        with broker_errors(self._url):
            if not lock.acquire():
                raise ConflictError(f"run {run_id} is being advanced by another process")
        try:
            yield
        finally:
            # An expired lock is another's now; what was written is written idempotently.
            with broker_errors(self._url), contextlib.suppress(LockError):
                lock.release()

    def close(self) -> None:
        self._redis.close()


def now() -> float:
    return time.time()


def _document(run_id: str) -> str:
    return f"{_PREFIX}:run:{run_id}"


def _cancel_key(run_id: str) -> str:
    return f"{_PREFIX}:cancel:{run_id}"

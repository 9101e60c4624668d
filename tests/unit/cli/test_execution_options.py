"""Where a job runs, from the command line to the job's record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner, Result

from plumbline.catalogue import STAGES
from plumbline.cli.main import app
from plumbline.core.broker import connect_broker
from plumbline.core.errors import ConfigError, FailedPreconditionError
from plumbline.core.job_service import JobService
from plumbline.core.jobs import JobStore
from plumbline.core.queue import create_app
from plumbline.core.rpc import serve_in_thread
from plumbline.core.settings import Settings
from plumbline.v1 import jobs_pb2_grpc

SUBMIT = ("submit", "trainer.sft", "-i", "base=a/b@latest", "-i", "conversations=c/d@latest")


@pytest.fixture
def jobs(valkey: str) -> Iterator[JobStore]:
    url = valkey.rpartition("/")[0] + "/12"
    connect_broker(url).flushdb()
    made = JobStore(url)
    yield made
    made.close()


@pytest.fixture
def service(jobs: JobStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A job service that the command finds; nothing works on its queues."""
    settings = Settings(redis_url=jobs.redis_url)
    servicer = JobService(jobs, create_app(settings, STAGES), STAGES)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        jobs_pb2_grpc.add_JobServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.JobService"]

    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path))
    with serve_in_thread("jobs", register) as address:
        monkeypatch.setenv("PLUMBLINE_JOBS_TARGET", address)
        yield


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.usefixtures("service")
def test_options_reach_the_job_and_are_shown(jobs: JobStore) -> None:
    where = ("--executor=kubernetes", "--nodes=2", "--ranks-per-node=8", "--pool=a100")

    made = json.loads(invoke(*SUBMIT, *where, "--json").stdout)

    assert jobs.get(made["job_id"]).spec["execution"] == made["execution"]
    assert made["execution"] == {
        "executor": "kubernetes", "nodes": 2, "ranks_per_node": 8, "pool": "a100"
    }  # fmt: skip
    shown = invoke("jobs", made["job_id"])
    assert "runs as 2 x 8 ranks on kubernetes, pool a100" in shown.output


@pytest.mark.usefixtures("service")
def test_without_options_a_job_says_nothing(jobs: JobStore) -> None:
    made = json.loads(invoke(*SUBMIT, "--json").stdout)

    assert made["execution"] is None
    assert "execution" not in jobs.get(made["job_id"]).spec
    assert "runs as" not in invoke("jobs", made["job_id"]).output


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--nodes=0",), "nodes=0 is not accepted"),
        (("--executor=slurm",), "executor='slurm' is not accepted"),
        (("--nodes=2", "--set=neftune_alpha=5"), "works on one rank"),
    ],
)
def test_wrong_options_are_refused(jobs: JobStore, options: Sequence[str], message: str) -> None:
    refused = invoke(*SUBMIT, *options).exception

    assert isinstance(refused, ConfigError) and message in refused.message
    assert not jobs.list()[0]


def test_this_process_is_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path))
    for variable in ("PLUMBLINE_JOBS_TARGET", "PLUMBLINE_PIPELINE_TARGET"):
        monkeypatch.delenv(variable, raising=False)

    refused = invoke("train", "sft", "-i", "base=x", "-i", "conversations=y", "--ranks=2")

    assert isinstance(refused.exception, FailedPreconditionError)
    assert "plumbline up" in refused.exception.message

"""`plumbline check`: each part is asked through the doors that other clients use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from plumbline.cli.platform_checks import CheckOutcome, check_queue, check_services, check_store
from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import serve_in_thread, start_server
from plumbline.core.settings import Settings
from plumbline.v1 import jobs_pb2 as pb
from plumbline.v1 import jobs_pb2_grpc

CURATION = "plumbline.v1.CurationService"


def by_name(outcomes: Sequence[CheckOutcome]) -> dict[str, CheckOutcome]:
    return {outcome.check.removeprefix("service "): outcome for outcome in outcomes}


def serving(name: str) -> Any:
    """What a room's `register` does, with nothing behind it but health."""
    return lambda server: [name]


def settings_with(tmp_path: Path, **targets: str) -> Settings:
    return Settings(state_dir=tmp_path, targets=targets)


def test_a_service_that_answers_passes_and_one_without_address_is_absent(tmp_path: Path) -> None:
    with serve_in_thread("curation", serving(CURATION)) as address:
        found = by_name(check_services(settings_with(tmp_path, curation=address), timeout_s=10))

    assert (found["curation"].result, found["curation"].why) == ("passed", f"SERVING at {address}")
    absent = {name for name, outcome in found.items() if outcome.result == "absent"}
    assert absent == {
        "sampler",
        "reward",
        "trainer",
        "retriever",
        "evaluation",
        "pipeline",
        "openai-front",
    }


def test_another_service_at_the_address_fails(tmp_path: Path) -> None:
    with serve_in_thread("curation", serving(CURATION)) as address:
        found = by_name(check_services(settings_with(tmp_path, reward=address), timeout_s=10))

    assert found["reward"].result == "failed"
    assert "no service 'plumbline.v1.RewardService' here" in found["reward"].why


def test_a_service_out_of_rotation_fails(tmp_path: Path) -> None:
    async def ask() -> dict[str, CheckOutcome]:
        server = await start_server("curation", serving(CURATION), settings=Settings())
        await server.health.set(CURATION, health_pb2.HealthCheckResponse.NOT_SERVING)
        settings = settings_with(tmp_path, curation=server.address)
        try:
            return by_name(await asyncio.to_thread(check_services, settings, timeout_s=10))
        finally:
            await server.stop()

    found = asyncio.run(ask())

    assert found["curation"].result == "failed"
    assert "answers NOT_SERVING; SERVING is healthy" in found["curation"].why


def test_a_port_where_nobody_listens_fails_within_the_time(tmp_path: Path, free_port: Any) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = settings_with(tmp_path, sampler=address, openai_front=address)

    found = by_name(check_services(settings, timeout_s=1))

    assert found["sampler"].result == found["openai-front"].result == "failed"
    assert f"sampler at {address} did not answer" in found["sampler"].why
    assert "Connection refused" in found["openai-front"].why
    assert found["sampler"].duration_s < 5


def test_without_any_address_nothing_was_checked_so_it_fails(tmp_path: Path) -> None:
    (outcome,) = check_services(settings_with(tmp_path), timeout_s=1)

    assert (outcome.check, outcome.result) == ("services", "failed")
    assert "no address of any service is known" in outcome.why


def test_the_store_keeps_bytes_and_nothing_stays_behind(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, store=f"file://{tmp_path / 'store'}")

    outcome = check_store(settings)

    assert outcome.result == "passed"
    assert "1048576 bytes written, read back and removed" in outcome.why
    assert open_configured_store(settings).list().artifacts == ()


def test_a_store_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = check_store(Settings(state_dir=tmp_path, store=f"file://{tmp_path / 'file'}"))

    assert outcome.result == "failed"
    assert str(tmp_path / "file") in outcome.why


class ScriptedJobs(jobs_pb2_grpc.JobServiceServicer):
    """A job that takes the states it is told, and then no other."""

    def __init__(self, *states: pb.JobState) -> None:
        self._states = states
        self.asked: pb.CreateJobRequest | None = None
        self.cancelled = threading.Event()

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.CreateJobResponse:
        self.asked = request
        return pb.CreateJobResponse(job=pb.Job(id="j1", state=pb.JOB_STATE_QUEUED))

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchJobResponse]:
        for state in self._states:
            job = pb.Job(id="j1", state=state, why="as the script says", attempts=1)
            yield pb.WatchJobResponse(job=job)
        if self._states[-1] in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING):
            await asyncio.sleep(60)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        self.cancelled.set()
        return pb.CancelJobResponse()


@contextmanager
def answering(jobs: ScriptedJobs, tmp_path: Path) -> Iterator[Settings]:
    def register(server: grpc.aio.Server) -> list[str]:
        jobs_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
        return ["plumbline.v1.JobService"]

    with serve_in_thread("pipeline", register) as address:
        yield settings_with(tmp_path, pipeline=address)


def test_a_job_that_succeeds_passes(tmp_path: Path) -> None:
    jobs = ScriptedJobs(pb.JOB_STATE_RUNNING, pb.JOB_STATE_SUCCEEDED)
    with answering(jobs, tmp_path) as settings:
        outcome = check_queue(settings, timeout_s=10)

    assert (outcome.result, outcome.why) == ("passed", "job j1 SUCCEEDED on attempt 1")
    assert jobs.asked is not None
    assert jobs.asked.spec.stage == "curation.synthesize"
    assert not jobs.cancelled.is_set()


def test_a_job_that_fails_tells_why(tmp_path: Path) -> None:
    with answering(ScriptedJobs(pb.JOB_STATE_FAILED), tmp_path) as settings:
        outcome = check_queue(settings, timeout_s=10)

    assert outcome.result == "failed"
    assert outcome.why == "job j1 ended without a result: as the script says"


def test_a_job_that_nobody_takes_fails_in_time_and_is_cancelled(tmp_path: Path) -> None:
    jobs = ScriptedJobs(pb.JOB_STATE_QUEUED)
    with answering(jobs, tmp_path) as settings:
        outcome = check_queue(settings, timeout_s=1)

    assert outcome.result == "failed"
    assert "job j1 was QUEUED after 1 s" in outcome.why
    assert "check that a worker serves the queue 'curation'" in outcome.why
    assert jobs.cancelled.is_set()


def test_requests_differ_so_that_each_check_makes_a_job_of_its_own(tmp_path: Path) -> None:
    jobs = ScriptedJobs(pb.JOB_STATE_SUCCEEDED)
    asked = []
    with answering(jobs, tmp_path) as settings:
        for _ in range(2):
            check_queue(settings, timeout_s=10)
            assert jobs.asked is not None
            asked.append(jobs.asked.request_id)

    assert len(set(asked)) == 2


@pytest.mark.parametrize("status", [200, 503])
def test_the_front_is_asked_over_http(tmp_path: Path, status: int) -> None:
    with _http_server(status) as address:
        settings = settings_with(tmp_path, openai_front=address)
        found = by_name(check_services(settings, timeout_s=5))

    assert found["openai-front"].result == ("passed" if status == 200 else "failed")
    assert str(status) in found["openai-front"].why


@pytest.mark.parametrize(
    ("target", "more", "message"),
    [
        ("front:http", {}, "nonnumeric port: 'http'"),
        ("front..lab:80", {}, "front..lab:80"),
        ("front:80", {"tls_ca": Path("/nowhere/ca.pem")}, "/nowhere/ca.pem"),
    ],
)
def test_a_front_that_cannot_be_asked_leaves_the_other_results(
    tmp_path: Path, target: str, more: dict[str, Any], message: str
) -> None:
    settings = Settings(state_dir=tmp_path, targets={"openai_front": target}, **more)

    found = by_name(check_services(settings, timeout_s=5))

    assert found["curation"].result == "absent"
    assert found["openai-front"].result == "failed"
    assert message in found["openai-front"].why


@contextmanager
def _http_server(status: int) -> Iterator[str]:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

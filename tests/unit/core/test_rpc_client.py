"""The client bootstrap against real loopback servers: retries, deadlines, identity, TLS."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import threading
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

import plumbline
from plumbline.core.errors import (
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    PlumblineError,
    ServiceUnavailableError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from plumbline.core.rpc import run_blocking, serve_in_thread, start_server
from plumbline.core.settings import Settings
from plumbline.core.telemetry import bind_log_context
from plumbline.v1 import jobs_pb2, jobs_pb2_grpc, reward_pb2, reward_pb2_grpc

REPOSITORY = Path(__file__).parents[3]


class CountingJobs(jobs_pb2_grpc.JobServiceServicer):
    """Notes what arrives and fails the first `failures` calls."""

    def __init__(self, *, failures: int = 0, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or StorageUnavailableError("the store is away")
        self.request_ids: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.remaining_s: list[float] = []

    def note(self, context: grpc.aio.ServicerContext) -> None:
        self.headers.append(dict(context.invocation_metadata()))
        self.remaining_s.append(context.time_remaining())

    async def CreateJob(
        self, request: jobs_pb2.CreateJobRequest, context: grpc.aio.ServicerContext
    ) -> jobs_pb2.CreateJobResponse:
        self.note(context)
        self.request_ids.append(request.request_id)
        if len(self.request_ids) <= self.failures:
            raise self.error
        return jobs_pb2.CreateJobResponse()

    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        self.note(context)
        yield jobs_pb2.WatchJobResponse()


@contextmanager
def serving(servicer: CountingJobs, settings: Settings | None = None) -> Iterator[str]:
    with serve_in_thread("pipeline", register_for(servicer), settings=settings) as address:
        yield address


def register_for(servicer: CountingJobs) -> Callable[[grpc.aio.Server], Sequence[str]]:
    def register(server: grpc.aio.Server) -> Sequence[str]:
        jobs_pb2_grpc.add_JobServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.JobService"]

    return register


def test_unavailable_is_retried_and_never_creates_twice() -> None:
    servicer = CountingJobs(failures=2)
    request = jobs_pb2.CreateJobRequest()
    with serving(servicer) as address, plumbline.connect("jobs", target=address) as jobs:
        jobs.CreateJob(request)
        jobs.CreateJob(request)
    first, second, third, other = servicer.request_ids
    assert first == second == third != ""
    assert other not in (first, "")
    assert request.request_id == ""  # the caller's message is left alone


def test_other_errors_are_not_retried() -> None:
    servicer = CountingJobs(failures=9, error=InvalidInputError("no"))
    with (
        serving(servicer) as address,
        plumbline.connect("jobs", target=address) as jobs,
        pytest.raises(InvalidInputError),
    ):
        jobs.CreateJob(jobs_pb2.CreateJobRequest(request_id="mine"))
    assert servicer.request_ids == ["mine"]


def test_retries_end_and_raise_the_servers_class() -> None:
    servicer = CountingJobs(failures=99)
    with (
        serving(servicer) as address,
        plumbline.connect("jobs", target=address) as jobs,
        pytest.raises(StorageUnavailableError, match="the store is away"),
    ):
        jobs.CreateJob(jobs_pb2.CreateJobRequest())
    assert len(servicer.request_ids) == 5


def test_call_made_while_the_service_restarts_succeeds() -> None:
    with serving(CountingJobs()) as address:
        client = plumbline.connect("jobs", target=address, timeout_s=30)
        client.CreateJob(jobs_pb2.CreateJobRequest())
    later = CountingJobs()
    outcome: list[object] = []
    call = threading.Thread(
        target=lambda: outcome.append(client.CreateJob(jobs_pb2.CreateJobRequest()))
    )
    call.start()
    time.sleep(0.5)
    assert outcome == []
    with serving(later, Settings(listens={"pipeline": address})):
        call.join(timeout=20)
    client.close()
    assert outcome == [jobs_pb2.CreateJobResponse()]
    assert len(later.request_ids) == 1


@pytest.mark.integration
async def test_rolling_restart_under_load_fails_no_call() -> None:
    """Two servers in turn on one address, each drained under four callers without a pause."""
    failed: list[PlumblineError] = []
    answered: list[int] = []
    done = asyncio.Event()

    async def call_until_done(client: Any) -> None:
        while not done.is_set():
            try:
                await client.CreateJob(jobs_pb2.CreateJobRequest())
                answered.append(1)
            except PlumblineError as error:
                failed.append(error)

    server = await start_server("pipeline", register_for(CountingJobs()), settings=Settings())
    settings = Settings(listens={"pipeline": server.address})
    async with plumbline.aconnect("jobs", target=server.address, timeout_s=30) as client:
        callers = [asyncio.create_task(call_until_done(client)) for _ in range(4)]
        for _ in range(2):
            count = len(answered)
            while len(answered) < count + 100:
                await asyncio.sleep(0.01)
            await server.drain(drain_s=0.3, grace_s=5)
            server = await start_server("pipeline", register_for(CountingJobs()), settings=settings)
        done.set()
        await asyncio.gather(*callers)
    await server.stop()
    assert failed == []


def test_call_on_a_server_that_stops_without_grace_is_answered_by_the_next() -> None:
    """A server that stops without grace ends its calls with UNAVAILABLE; the next one answers."""
    entered = threading.Event()

    class Holding(CountingJobs):
        async def CreateJob(
            self, request: jobs_pb2.CreateJobRequest, context: grpc.aio.ServicerContext
        ) -> jobs_pb2.CreateJobResponse:
            self.request_ids.append(request.request_id)
            entered.set()
            await asyncio.sleep(60)
            return jobs_pb2.CreateJobResponse()

    first, second = Holding(), CountingJobs()
    with serving(first) as address:
        client = plumbline.connect("jobs", target=address, timeout_s=30)
        call = client.CreateJob.future(jobs_pb2.CreateJobRequest())
        assert entered.wait(timeout=10)
    with serving(second, Settings(listens={"pipeline": address})):
        assert call.result() == jobs_pb2.CreateJobResponse()
    client.close()
    assert first.request_ids == second.request_ids


@pytest.mark.parametrize("wait_for_ready", [True, False])
def test_absent_service_is_unavailable_and_named(wait_for_ready: bool) -> None:
    # Port 1 answers nobody. Without waiting, the retries end before the deadline.
    timeout_s = 0.5 if wait_for_ready else 20
    with (
        plumbline.connect(
            "jobs", target="127.0.0.1:1", timeout_s=timeout_s, wait_for_ready=wait_for_ready
        ) as jobs,
        pytest.raises(ServiceUnavailableError, match=r"jobs at 127\.0\.0\.1:1"),
    ):
        jobs.GetJob(jobs_pb2.GetJobRequest())


async def test_absent_service_is_unavailable_for_asyncio_too() -> None:
    async with plumbline.aconnect("jobs", target="127.0.0.1:1", timeout_s=0.5) as jobs:
        with pytest.raises(ServiceUnavailableError, match=r"jobs at 127\.0\.0\.1:1"):
            await jobs.GetJob(jobs_pb2.GetJobRequest())


def test_slow_service_is_a_deadline_error() -> None:
    class Slow(CountingJobs):
        async def CreateJob(
            self, request: jobs_pb2.CreateJobRequest, context: grpc.aio.ServicerContext
        ) -> jobs_pb2.CreateJobResponse:
            await run_blocking(time.sleep, 1.0)
            return jobs_pb2.CreateJobResponse()

    with (
        serving(Slow()) as address,
        plumbline.connect("jobs", target=address) as jobs,
        pytest.raises(DeadlineExceededError),
    ):
        jobs.CreateJob(jobs_pb2.CreateJobRequest(), timeout=0.3)


def test_calls_without_a_deadline_get_the_default_of_their_kind() -> None:
    servicer = CountingJobs()
    with (
        serving(servicer) as address,
        plumbline.connect("jobs", target=address, timeout_s=7, stream_timeout_s=70) as jobs,
    ):
        jobs.CreateJob(jobs_pb2.CreateJobRequest())
        list(jobs.WatchJob(jobs_pb2.WatchJobRequest()))
        jobs.CreateJob(jobs_pb2.CreateJobRequest(), timeout=3)
    assert [round(value) for value in servicer.remaining_s] == [7, 70, 3]


def test_nested_call_takes_deadline_and_request_id_of_the_outer_one() -> None:
    inner = CountingJobs()

    class Outer(reward_pb2_grpc.RewardServiceServicer):
        async def ScoreResponses(
            self, request: reward_pb2.ScoreResponsesRequest, context: grpc.aio.ServicerContext
        ) -> reward_pb2.ScoreResponsesResponse:
            await run_blocking(self.call_inner)
            return reward_pb2.ScoreResponsesResponse()

        def call_inner(self) -> None:
            with plumbline.connect("jobs", target=inner_address) as jobs:
                jobs.CreateJob(jobs_pb2.CreateJobRequest())

    def register(server: grpc.aio.Server) -> Sequence[str]:
        reward_pb2_grpc.add_RewardServiceServicer_to_server(Outer(), server)
        return ["plumbline.v1.RewardService"]

    with (
        serving(inner) as inner_address,
        serve_in_thread("reward", register) as address,
        plumbline.connect("reward", target=address) as reward,
        bind_log_context(request_id="outer-1"),
    ):
        reward.ScoreResponses(reward_pb2.ScoreResponsesRequest(), timeout=4)
    assert 0 < inner.remaining_s[0] <= 4
    assert inner.headers[0]["x-request-id"] == "outer-1"


def test_token_comes_from_settings_and_from_the_argument(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(
        json.dumps(
            {
                hashlib.sha256(b"good").hexdigest(): {"name": "a", "scopes": ["jobs.CreateJob"]},
                hashlib.sha256(b"other").hexdigest(): {"name": "b", "scopes": ["reward.*"]},
            }
        )
    )
    servicer = CountingJobs()
    with serving(servicer, Settings(tokens_file=tokens)) as address:
        with plumbline.connect(
            "jobs", target=address, settings=Settings(token=SecretStr("good"))
        ) as jobs:
            jobs.CreateJob(jobs_pb2.CreateJobRequest())
            with pytest.raises(PermissionDeniedError, match=r"jobs\.WatchJob"):
                list(jobs.WatchJob(jobs_pb2.WatchJobRequest()))
        with (
            plumbline.connect("jobs", target=address, token="other") as jobs,
            pytest.raises(PermissionDeniedError),
        ):
            jobs.CreateJob(jobs_pb2.CreateJobRequest())
        with (
            plumbline.connect("jobs", target=address, settings=Settings()) as jobs,
            pytest.raises(UnauthenticatedError),
        ):
            jobs.CreateJob(jobs_pb2.CreateJobRequest())
    assert len(servicer.request_ids) == 1


def test_unknown_service_and_missing_target_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="sampler"):
        plumbline.connect("rewards", target="127.0.0.1:1")
    with pytest.raises(ServiceUnavailableError, match="PLUMBLINE_REWARD_TARGET") as caught:
        plumbline.connect("reward", settings=Settings(state_dir=tmp_path))
    assert caught.value.reason == "NO_TARGET"


def test_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert plumbline.__version__ == project["version"]


# TLS: a CA, a server certificate for localhost, a client certificate, and one of a stranger's CA.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not installed")
    directory = tmp_path_factory.mktemp("tls")
    for authority in ("ca", "stranger-ca"):
        _openssl(
            directory,
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            f"-subj /CN={authority} -keyout {authority}.key -out {authority}.pem",
        )
    (directory / "names").write_text("subjectAltName=DNS:localhost\n")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "stranger-ca")):
        _openssl(
            directory,
            f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} "
            f"-keyout {name}.key -out {name}.csr",
        )
        _openssl(
            directory,
            f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key "
            f"-set_serial 1 -days 2 -extfile names -out {name}.pem",
        )
    return directory


def _openssl(directory: Path, arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True, timeout=30
    )


def tls(directory: Path, name: str | None, authority: str | None) -> Settings:
    return Settings(
        tls_cert=directory / f"{name}.pem" if name else None,
        tls_key=directory / f"{name}.key" if name else None,
        tls_ca=directory / f"{authority}.pem" if authority else None,
    )


def create_over_tls(address: str, settings: Settings, timeout_s: float = 20) -> None:
    target = f"localhost:{address.rpartition(':')[2]}"
    with plumbline.connect("jobs", target=target, settings=settings, timeout_s=timeout_s) as jobs:
        jobs.CreateJob(jobs_pb2.CreateJobRequest())


def test_mutual_tls_admits_only_certificates_of_its_authority(certificates: Path) -> None:
    servicer = CountingJobs()
    with serving(servicer, tls(certificates, "server", "ca")) as address:
        create_over_tls(address, tls(certificates, "client", "ca"))
        for refused in (
            tls(certificates, "stranger", "ca"),  # signed by somebody else
            tls(certificates, None, "ca"),  # no certificate
            tls(certificates, "client", "stranger-ca"),  # client trusts somebody else
            Settings(),  # plaintext
        ):
            with pytest.raises(ServiceUnavailableError):
                create_over_tls(address, refused, timeout_s=0.6)
    assert len(servicer.request_ids) == 1


def test_tls_without_client_certificates(certificates: Path) -> None:
    servicer = CountingJobs()
    with serving(servicer, tls(certificates, "server", None)) as address:
        create_over_tls(address, tls(certificates, None, "ca"))
    assert len(servicer.request_ids) == 1


def test_renewed_certificate_is_served_without_a_restart(
    certificates: Path, tmp_path: Path
) -> None:
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates / name, tmp_path)
    servicer = CountingJobs()
    with serving(servicer, tls(tmp_path, "server", None)) as address:
        create_over_tls(address, tls(certificates, None, "ca"))
        for suffix in ("pem", "key"):
            shutil.copy(certificates / f"stranger.{suffix}", tmp_path / f"server.{suffix}")
        create_over_tls(address, tls(certificates, None, "stranger-ca"))

    assert len(servicer.request_ids) == 2

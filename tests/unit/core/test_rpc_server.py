"""The server bootstrap on real loopback servers: limits, health, identity, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import prometheus_client
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import plumbline
from plumbline.core.errors import ConfigError, ResourceExhaustedError, ServiceUnavailableError
from plumbline.core.rpc import MAX_MESSAGE_BYTES, from_rpc_error, limits, serve_in_thread
from plumbline.core.rpc.health import Health
from plumbline.core.settings import Settings
from plumbline.v1 import jobs_pb2, jobs_pb2_grpc, reward_pb2, reward_pb2_grpc

REWARD = "plumbline.v1.RewardService"
SCORE = f"/{REWARD}/ScoreResponses"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GatedReward(reward_pb2_grpc.RewardServiceServicer):
    """ScoreResponses holds until the gate opens; ComparePairs answers with a large message."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.runs = 0

    async def ScoreResponses(
        self, request: reward_pb2.ScoreResponsesRequest, context: grpc.aio.ServicerContext
    ) -> reward_pb2.ScoreResponsesResponse:
        self.runs += 1
        self.entered.release()
        while not self.gate.is_set():
            await asyncio.sleep(0.01)
        return reward_pb2.ScoreResponsesResponse()

    async def ComparePairs(
        self, request: reward_pb2.ComparePairsRequest, context: grpc.aio.ServicerContext
    ) -> reward_pb2.ComparePairsResponse:
        large = "x" * MAX_MESSAGE_BYTES
        return reward_pb2.ComparePairsResponse(reward_model_ids={"safety": large})


@contextmanager
def serving(servicer: GatedReward, **options: int) -> Iterator[str]:
    def register(server: grpc.aio.Server) -> list[str]:
        reward_pb2_grpc.add_RewardServiceServicer_to_server(servicer, server)
        return [REWARD]

    with serve_in_thread("reward", register, **options) as address:
        yield address


def test_calls_above_the_cap_are_refused_at_once_and_health_still_answers() -> None:
    servicer = GatedReward()
    request = reward_pb2.ScoreResponsesRequest()
    with (
        serving(servicer, max_concurrent_rpcs=2) as address,
        plumbline.connect("reward", target=address, timeout_s=20) as reward,
        ThreadPoolExecutor() as threads,
    ):
        held = [threads.submit(reward.ScoreResponses, request) for _ in range(2)]
        for _ in held:
            assert servicer.entered.acquire(timeout=10)
        started = time.monotonic()
        with pytest.raises(ResourceExhaustedError, match="2 calls") as caught:
            reward.ScoreResponses(request)
        assert caught.value.reason == "TOO_MANY_CALLS"
        assert time.monotonic() - started < 2
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING
        servicer.gate.set()
        for call in held:
            call.result(timeout=10)
        reward.ScoreResponses(request)
    assert servicer.runs == 3


def test_messages_above_the_limit_are_refused_both_ways() -> None:
    servicer = GatedReward()
    servicer.gate.set()
    with serving(servicer) as address:
        with grpc.insecure_channel(address) as channel:
            bare = channel.unary_unary(SCORE)
            with pytest.raises(grpc.RpcError) as caught:
                bare(b"\0" * (MAX_MESSAGE_BYTES + 1), timeout=10)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with plumbline.connect("reward", target=address) as reward:
            # Above grpc's default of 4 MiB: the limit is ours, on purpose.
            reward.ScoreResponses(_request_of(5 * 2**20))
            with pytest.raises(ResourceExhaustedError):
                reward.ScoreResponses(_request_of(MAX_MESSAGE_BYTES))
            with pytest.raises(ResourceExhaustedError):
                reward.ComparePairs(reward_pb2.ComparePairsRequest())
            reward.ScoreResponses(_request_of(1))
    assert servicer.runs == 2


def _request_of(size: int) -> reward_pb2.ScoreResponsesRequest:
    models = reward_pb2.RewardModels(safety="x" * size)
    return reward_pb2.ScoreResponsesRequest(models=models)


def test_malformed_request_is_typed_and_the_connection_lives() -> None:
    servicer = GatedReward()
    servicer.gate.set()
    with serving(servicer) as address, grpc.insecure_channel(address) as channel:
        bare = channel.unary_unary(SCORE)
        with pytest.raises(grpc.RpcError) as caught:
            bare(b"\xff\xff\xff", timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert bare(b"", timeout=10) == b""
    assert servicer.runs == 1


@pytest.mark.parametrize(
    ("offered", "kept"), [("run-7:step.3", True), ("two words", False), ("x" * 129, False)]
)
def test_request_id_is_returned_when_safe_and_replaced_when_not(offered: str, kept: bool) -> None:
    servicer = GatedReward()
    servicer.gate.set()
    with serving(servicer) as address, grpc.insecure_channel(address) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        _, call = stub.ScoreResponses.with_call(
            reward_pb2.ScoreResponsesRequest(), timeout=10, metadata=[("x-request-id", offered)]
        )
        returned = dict(call.trailing_metadata())["x-request-id"]
    assert (returned == offered) is kept
    assert returned


def test_metrics_count_by_method_and_code_and_in_flight_returns_to_zero() -> None:
    def counted(code: str) -> float:
        labels = {"method": SCORE, "code": code}
        value = prometheus_client.REGISTRY.get_sample_value("plumbline_rpc_handled_total", labels)
        return value or 0.0

    before = counted("OK"), counted("INVALID_ARGUMENT")
    servicer = GatedReward()
    servicer.gate.set()
    with serving(servicer) as address, grpc.insecure_channel(address) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        stub.ScoreResponses(reward_pb2.ScoreResponsesRequest(), timeout=10)
        with pytest.raises(grpc.RpcError):
            stub.ScoreResponses(reward_pb2.ScoreResponsesRequest())
    assert (counted("OK"), counted("INVALID_ARGUMENT")) == (before[0] + 1, before[1] + 1)
    in_flight = prometheus_client.REGISTRY.get_sample_value(
        "plumbline_rpc_in_flight", {"method": SCORE}
    )
    assert in_flight == 0


def test_caller_that_leaves_frees_its_place() -> None:
    servicer = GatedReward()
    request = reward_pb2.ScoreResponsesRequest()
    with (
        serving(servicer, max_concurrent_rpcs=1) as address,
        plumbline.connect("reward", target=address, timeout_s=20) as reward,
        grpc.insecure_channel(address) as channel,
    ):
        leaving = reward_pb2_grpc.RewardServiceStub(channel).ScoreResponses.future(
            request, timeout=20
        )
        assert servicer.entered.acquire(timeout=10)
        leaving.cancel()
        servicer.gate.set()
        deadline = time.monotonic() + 10
        while True:
            try:
                reward.ScoreResponses(request)
                return
            except ResourceExhaustedError:
                assert time.monotonic() < deadline, "the cancelled call still holds its place"
                time.sleep(0.02)


def test_client_pings_less_often_than_the_server_allows() -> None:
    assert limits.CLIENT_KEEPALIVE_MS >= 2 * limits.MIN_PING_INTERVAL_MS


def test_taken_port_is_a_config_error() -> None:
    def register(server: grpc.aio.Server) -> list[str]:
        return []

    with serve_in_thread("reward", register) as address:
        settings = Settings(listens={"reward": address})
        with (
            pytest.raises(ConfigError, match=f"cannot listen on {address}"),
            serve_in_thread("reward", register, settings=settings),
        ):
            pass


def test_callers_that_leave_streams_leave_nothing_behind() -> None:
    class Endless(jobs_pb2_grpc.JobServiceServicer):
        async def WatchJob(
            self, request: jobs_pb2.WatchJobRequest, context: grpc.aio.ServicerContext
        ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
            while True:
                yield jobs_pb2.WatchJobResponse()
                await asyncio.sleep(0.005)

    def register(server: grpc.aio.Server) -> list[str]:
        jobs_pb2_grpc.add_JobServiceServicer_to_server(Endless(), server)
        return ["plumbline.v1.JobService"]

    def in_flight() -> float | None:
        return prometheus_client.REGISTRY.get_sample_value(
            "plumbline_rpc_in_flight", {"method": "/plumbline.v1.JobService/WatchJob"}
        )

    with (
        serve_in_thread("pipeline", register) as address,
        plumbline.connect("jobs", target=address) as jobs,
    ):
        # More than the cap of 128: a place that leaked would refuse the later ones.
        for _ in range(200):
            responses = jobs.WatchJob(jobs_pb2.WatchJobRequest())
            next(responses)
            responses.cancel()
        deadline = time.monotonic() + 10
        while in_flight() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert in_flight() == 0


PROGRAM = textwrap.dedent(
    """
    import sys, time
    from plumbline.core.rpc import run_blocking, serve
    from plumbline.core.settings import Settings
    from plumbline.v1 import reward_pb2, reward_pb2_grpc

    class SlowReward(reward_pb2_grpc.RewardServiceServicer):
        async def ScoreResponses(self, request, context):
            await run_blocking(time.sleep, float(request.models.safety or 0))
            return reward_pb2.ScoreResponsesResponse()

    def register(server):
        reward_pb2_grpc.add_RewardServiceServicer_to_server(SlowReward(), server)
        return ["plumbline.v1.RewardService"]

    serve("reward", register, settings=Settings.from_environment(),
          grace_s=float(sys.argv[1]), on_stop=lambda: print("on_stop", flush=True))
    """
)


@contextmanager
def server_process(
    tmp_path: Path, grace_s: float, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    address_file = tmp_path / "address"
    environment = {
        **os.environ,
        "PLUMBLINE_STATE_DIR": str(tmp_path),
        "PLUMBLINE_REWARD_ADDRESS_FILE": str(address_file),
        "PLUMBLINE_DRAIN_S": "0.6",
        **variables,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(grace_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        assert process.stdout is not None
        announced = json.loads(process.stdout.readline())
        assert announced["event"] == "listening"
        assert address_file.read_text() == announced["address"]
        yield process, announced["address"]
    finally:
        process.kill()
        process.communicate()


def _slow(seconds: float) -> reward_pb2.ScoreResponsesRequest:
    models = reward_pb2.RewardModels(safety=str(seconds))
    return reward_pb2.ScoreResponsesRequest(models=models)


async def test_every_health_watcher_learns_of_a_change_after_one_has_left() -> None:
    health = Health([REWARD])
    request = health_pb2.HealthCheckRequest(service=REWARD)
    leaving, staying = health.Watch(request, None), health.Watch(request, None)
    for watcher in (leaving, staying):
        assert (await anext(watcher)).status == SERVING
    gone = asyncio.ensure_future(anext(leaving))
    change = asyncio.ensure_future(anext(staying))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    await health.stop_serving()
    assert (await asyncio.wait_for(change, 5)).status == NOT_SERVING


@pytest.mark.integration
def test_sigterm_drains_without_failing_a_call(tmp_path: Path) -> None:
    with (
        server_process(tmp_path, grace_s=10) as (process, address),
        plumbline.connect("reward", target=address, timeout_s=20) as reward,
        grpc.insecure_channel(address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(service=REWARD), timeout=20)
        assert next(watched).status == SERVING
        slow = reward.ScoreResponses.future(_slow(1.5))
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert next(watched).status == NOT_SERVING
        # Clients that watch no health, and have not noticed, are still served.
        reward_pb2_grpc.RewardServiceStub(channel).ScoreResponses(_slow(0), timeout=10)
        slow.result(timeout=10)
        with pytest.raises(grpc.RpcError):
            next(watched)  # a health watcher does not hold the exit
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert out == "on_stop\n"
    messages = [json.loads(line)["message"] for line in err.splitlines()]
    assert messages[-1] == "stopped"
    assert "draining" in messages


@pytest.mark.integration
def test_abandoned_work_does_not_hold_the_exit(tmp_path: Path) -> None:
    with (
        server_process(tmp_path, grace_s=0.1) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        reward = reward_pb2_grpc.RewardServiceStub(channel)
        abandoned = reward.ScoreResponses.future(_slow(60), timeout=60)
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        error = from_rpc_error(abandoned.exception(timeout=20))
        _, err = process.communicate(timeout=20)
    # Retryable: the server went away, the caller did not.
    assert isinstance(error, ServiceUnavailableError)
    assert error.reason == "STOPPING"
    assert time.monotonic() - started < 10
    assert process.returncode == 0
    assert "abandoned work" in err.splitlines()[-1]


@pytest.mark.integration
def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    with (
        server_process(tmp_path, grace_s=60) as (process, address),
        plumbline.connect("reward", target=address, timeout_s=60, wait_for_ready=False) as reward,
    ):
        held = reward.ScoreResponses.future(_slow(60))
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
        held.cancel()


@pytest.mark.integration
def test_health_and_metrics_have_plain_ports_of_their_own(tmp_path: Path) -> None:
    health_port, metrics_port = _free_port(), _free_port()
    with server_process(
        tmp_path,
        1,
        PLUMBLINE_HEALTH_LISTEN=f"127.0.0.1:{health_port}",
        PLUMBLINE_METRICS_LISTEN=f"127.0.0.1:{metrics_port}",
    ):
        with grpc.insecure_channel(f"127.0.0.1:{health_port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(service=REWARD), timeout=10)
            assert answer.status == SERVING
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(SCORE)(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/", timeout=10) as page:
            assert b"plumbline_rpc_in_flight" in page.read()


@pytest.mark.integration
def test_a_server_that_drains_is_not_ready_but_alive(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{_free_port()}"
    with (
        server_process(tmp_path, 1, PLUMBLINE_HEALTH_LISTEN=listen, PLUMBLINE_DRAIN_S="3") as (
            process,
            _,
        ),
        grpc.insecure_channel(listen) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def status(service: str) -> int:
            return health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status

        assert (status(""), status("liveness")) == (SERVING, SERVING)
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 2
        while status("") == SERVING and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (status(""), status("liveness")) == (NOT_SERVING, SERVING)


@pytest.mark.integration
def test_server_that_cannot_start_says_why_and_exits(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "1"],
        env={
            **os.environ,
            "PLUMBLINE_STATE_DIR": str(tmp_path),
            "PLUMBLINE_TOKENS_FILE": "/absent",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["message"].startswith(
        "cannot read the tokens file /absent"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

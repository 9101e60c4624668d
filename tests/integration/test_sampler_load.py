"""One sampler process under load: many streams at once, callers that go away, policies that change.

A short form runs with the other integration tests; the long form is five minutes of streams and
ten thousand callers that leave.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.models.checkpoint import save_model
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc, types_pb2

pytestmark = pytest.mark.integration

WORDS = ("the", "cat", "dog", "house", "sea", "mat", "ran", "to")


@dataclass
class Sampler:
    """A running sampler process."""

    process: subprocess.Popen[str]
    address: str
    metrics_address: str

    def figure(self, name: str, **labels: str) -> float:
        """The sum of a Prometheus figure over what has these labels."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics") as reply:
            text = reply.read().decode()
        total = 0.0
        for line in text.splitlines():
            match = re.fullmatch(rf"{name}(\{{.*\}})? ([0-9.e+-]+)", line)
            if match and all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(match[2])
        return total

    def memory_mib(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def wait_until_idle(self) -> None:
        """Nothing is drawn, no cache block is held and no handler is alive."""
        deadline = time.monotonic() + 30
        names = ("plumbline_sampler_rows", "plumbline_sampler_cache_blocks_held")
        while any(self.figure(name) for name in names) or self.figure(
            "plumbline_rpc_in_flight", method="/plumbline.v1.SamplerService/Generate"
        ):
            assert time.monotonic() < deadline, "something is held after all callers have gone"
            time.sleep(0.1)


@pytest.fixture
def policies(
    tmp_path: Path, tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> tuple[Path, Path]:
    """Two policies with room for long prompts."""
    found = []
    for seed in (0, 1):
        model = tiny_llama(seed=seed, context_length=1024)
        save_model(model, tiny_tokenizer, tmp_path / f"policy{seed}")
        found.append(tmp_path / f"policy{seed}")
    return found[0], found[1]


@pytest.fixture
def sampler(tmp_path: Path) -> Iterator[Sampler]:
    port = _free_port()
    environment = {
        **os.environ,
        "PLUMBLINE_STATE_DIR": str(tmp_path / "state"),
        "PLUMBLINE_THREADS": "1",
        "PLUMBLINE_METRICS_LISTEN": f"127.0.0.1:{port}",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "plumbline.sampler.server"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        yield Sampler(process, address, f"127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def request_of(policy: Path | str, rng: random.Random, *, words: int, tokens: int) -> Any:
    text = " ".join(rng.choice(WORDS) for _ in range(words))
    return pb.GenerateRequest(
        policy=f"path:{policy}" if isinstance(policy, Path) else policy,
        prompt=prompt_to_wire((user(text),)),
        parameters=types_pb2.SamplingParameters(
            seed=rng.randrange(2**31), max_response_tokens=tokens, logit_bias={2: -100.0}
        ),
    )


@dataclass
class Seen:
    """What the callers saw."""

    codes: Counter[str] = field(default_factory=Counter)
    first_s: dict[str, list[float]] = field(default_factory=lambda: {"short": [], "long": []})


async def stream_for(stub: Any, policy: Path, seconds: float, seed: int, seen: Seen) -> None:
    """One caller: stream after stream, of which one in ten has a long prompt."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = "long" if rng.random() < 0.1 else "short"
        words = rng.randint(300, 400) if kind == "long" else rng.randint(2, 20)
        request = request_of(policy, rng, words=words, tokens=rng.randint(8, 32))
        started = time.monotonic()
        sequence = 0
        try:
            async for message in stub.Generate(request, timeout=120):
                if sequence == 0:
                    seen.first_s[kind].append(time.monotonic() - started)
                assert message.sequence == sequence
                sequence += 1
            assert message.usage.response_tokens == request.parameters.max_response_tokens
            seen.codes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            seen.codes[error.code().name] += 1
            await asyncio.sleep(1.0)  # as RetryInfo asks


async def leave_midway(stub: Any, policy: Path, times: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(times):
        call = stub.Generate(request_of(policy, rng, words=5, tokens=800), timeout=120)
        await call.read()
        call.cancel()


async def with_stub(address: str, work: Callable[[Any], Any]) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await work(sampler_pb2_grpc.SamplerServiceStub(channel))


@pytest.mark.parametrize(
    ("streams", "seconds"),
    [(500, 10.0), pytest.param(500, 300.0, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_many_streams_at_once_end_well_and_leak_nothing(
    sampler: Sampler, policies: tuple[Path, Path], streams: int, seconds: float
) -> None:
    seen = Seen()

    async def work(stub: Any) -> None:
        await asyncio.gather(
            *(stream_for(stub, policies[0], seconds / 3, seed, seen) for seed in range(streams))
        )
        memory.append(sampler.memory_mib())
        await asyncio.gather(
            *(stream_for(stub, policies[0], seconds * 2 / 3, seed, seen) for seed in range(streams))
        )
        memory.append(sampler.memory_mib())

    memory: list[float] = []
    asyncio.run(with_stub(sampler.address, work))

    sampler.wait_until_idle()
    firsts = {kind: sorted(times) for kind, times in seen.first_s.items()}
    medians = {kind: times[len(times) // 2] for kind, times in firsts.items()}
    print(f"{dict(seen.codes)}, median s to first token {medians}, memory MiB {memory}")
    assert set(seen.codes) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert seen.codes["OK"] >= streams
    assert memory[1] < memory[0] * 1.1 + 20
    # Short prompts do not queue behind the long ones that came before them.
    assert medians["short"] <= medians["long"]


@pytest.mark.parametrize(
    "callers",
    [400, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_callers_that_leave_midway_leave_nothing_behind(
    sampler: Sampler, policies: tuple[Path, Path], callers: int
) -> None:
    async def work(stub: Any) -> None:
        await asyncio.gather(
            *(leave_midway(stub, policies[0], callers // 20, seed) for seed in range(20))
        )

    before = sampler.figure("plumbline_sampler_response_tokens_total")
    asyncio.run(with_stub(sampler.address, work))

    sampler.wait_until_idle()
    drawn = sampler.figure("plumbline_sampler_response_tokens_total") - before
    assert callers <= drawn < callers * 400  # each asked for 800


def test_swaps_under_load_fail_no_request(sampler: Sampler, policies: tuple[Path, Path]) -> None:
    seen: Counter[str] = Counter()
    ids: set[str] = set()

    async def ask(stub: Any, seed: int, stop: asyncio.Event) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            call = stub.Generate(request_of("", rng, words=5, tokens=40), timeout=60)
            named = {message.policy_id async for message in call}
            assert len(named) == 1
            seen[named.pop()] += 1

    async def work(stub: Any) -> None:
        async def load(policy: Path) -> None:
            loaded = await stub.LoadPolicy(
                pb.LoadPolicyRequest(policy=f"path:{policy}"), timeout=60
            )
            ids.add(loaded.policy.id)

        await load(policies[0])
        stop = asyncio.Event()
        asking = [asyncio.create_task(ask(stub, seed, stop)) for seed in range(30)]
        for swap in range(10):
            await load(policies[1 - swap % 2])
            await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*asking)

    asyncio.run(with_stub(sampler.address, work))

    assert set(seen) == ids and len(ids) == 2
    sampler.wait_until_idle()

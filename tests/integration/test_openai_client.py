"""The openai client against real processes: a sampler that asks for tokens, the front before it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("uvicorn", reason="the extra `http` is not installed")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SCOPES = {"all": ["sampler.*"], "looks": ["sampler.GetPolicy", "sampler.ListPolicies"]}
QUESTION: list[Any] = [{"role": "user", "content": "the dog ran to the sea"}]
GENERATE = '{method="/plumbline.v1.SamplerService/Generate"}'


@dataclass(frozen=True)
class Running:
    """A server process."""

    process: subprocess.Popen[str]
    address: str
    metrics: str

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(directory: Path, *command: str, **variables: str) -> Iterator[Running]:
    """A server of the platform on a free port, until the end of the block."""
    metrics = f"127.0.0.1:{free_port()}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PLUMBLINE_")}
    own = {
        "PLUMBLINE_STATE_DIR": str(directory),
        "PLUMBLINE_THREADS": "1",
        "PLUMBLINE_METRICS_LISTEN": metrics,
        **variables,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**inherited, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Running(process, json.loads(process.stdout.readline())["address"], metrics)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("sampler")
    tokens = {
        hashlib.sha256(token.encode()).hexdigest(): {"name": token, "scopes": scopes}
        for token, scopes in SCOPES.items()
    }
    (directory / "tokens.json").write_text(json.dumps(tokens))
    file = str(directory / "tokens.json")
    with server(directory, "plumbline.sampler.server", PLUMBLINE_TOKENS_FILE=file) as running:
        yield running


@contextmanager
def fronted(directory: Path, sampler: Running) -> Iterator[Running]:
    module = "plumbline.openai_front.server"
    target = sampler.address
    with server(directory, module, PLUMBLINE_SAMPLER_TARGET=target) as running:
        yield running


@pytest.fixture(scope="module")
def front(sampler: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with fronted(tmp_path_factory.mktemp("front"), sampler) as running:
        yield running


@pytest.fixture(scope="module")
def model(tiny_policy: Path) -> str:
    return f"path:{tiny_policy}"


def client(front: Running, token: str, kind: Any = openai.OpenAI, **options: Any) -> Any:
    return kind(base_url=f"http://{front.address}/v1", api_key=token, max_retries=0, **options)


def test_the_callers_token_decides(front: Running, model: str) -> None:
    how: dict[str, Any] = {"model": model, "messages": QUESTION, "max_tokens": 4}
    with client(front, "nobody") as unknown, pytest.raises(openai.AuthenticationError) as caught:
        unknown.chat.completions.create(**how)
    assert caught.value.code == "invalid_api_key"
    with client(front, "looks") as looking:
        with pytest.raises(openai.PermissionDeniedError, match=r"sampler\.Generate"):
            looking.chat.completions.create(**how, stream=True)
        assert looking.models.retrieve(model).architecture == "llama"
    with client(front, "all") as allowed:
        reply = allowed.chat.completions.create(**how)
        assert reply.usage.completion_tokens == 4
        with pytest.raises(openai.NotFoundError) as missing:
            allowed.chat.completions.create(**{**how, "model": "policy/none@latest"})
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


async def test_callers_that_leave_free_the_sampler(
    sampler: Running, front: Running, model: str, wait_until: Callable[..., None]
) -> None:
    async with client(front, "all", openai.AsyncOpenAI) as asking:

        async def stream(seed: int) -> str:
            leaves = seed % 3 > 0
            how: dict[str, Any] = {"model": model, "messages": QUESTION}
            how |= {"max_tokens": 100 if leaves else 30}
            text = ""
            reply = await asking.chat.completions.create(**how, seed=seed, stream=True)
            async for chunk in reply:
                text += chunk.choices[0].delta.content or ""
                if leaves and len(text) > 2:
                    await reply.close()
                    break
            return text

        texts = await asyncio.gather(*(stream(seed) for seed in range(60)))
        again = await stream(0)

    assert texts[0] == again
    in_flight = f"plumbline_rpc_in_flight{GENERATE}"
    wait_until(lambda: sampler.metric(in_flight) == 0, within_s=20)
    cancelled = 'plumbline_rpc_handled_total{code="CANCELLED",method="%s"}'
    # How many leave before their answer is complete is up to the machine.
    assert sampler.metric(cancelled % "/plumbline.v1.SamplerService/Generate") >= 1
    assert front.metric("plumbline_http_in_flight") == 0


def test_a_front_that_is_stopped_finishes_its_streams(
    sampler: Running, model: str, tmp_path: Path
) -> None:
    with (
        fronted(tmp_path, sampler) as front,
        client(front, "all") as asking,
    ):
        chunks = iter(
            asking.completions.create(
                model=model, prompt="the cat", seed=1, max_tokens=60, stream=True
            )
        )
        next(chunks)
        front.process.send_signal(signal.SIGTERM)
        rest = list(chunks)
        started = time.monotonic()
        code = front.process.wait(timeout=20)

    assert rest[-1].choices[0].finish_reason in ("stop", "length")
    assert code == 0
    assert time.monotonic() - started < 9

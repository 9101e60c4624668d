"""`plumbline chat` as a process: piped, at a terminal, and from votes to a reward model."""

from __future__ import annotations

import asyncio
import itertools
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest

from plumbline.cli.chat_sampling import ChatSampler
from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import user
from plumbline.models.checkpoint import save_model
from plumbline.models.references import ModelReferences
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

BOUND = ("--seed", "3", "--max-response-tokens", "12")


@pytest.fixture(scope="module")
def policies(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Directories of two random policies."""
    directories = [tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")]
    for seed, directory in enumerate(directories):
        save_model(tiny_llama(seed=seed), tiny_tokenizer, directory)
    return [str(directory) for directory in directories]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a sampler."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"))
    engine = SamplerEngine(ModelReferences(open_configured_store(settings)), device="cpu")

    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(SamplerService(engine), server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as address:
        yield address


def chat(shell: Any, lines: list[str], *arguments: str) -> tuple[str, str]:
    """What a piped chat wrote to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", "chat", *arguments],
        input="".join(f"{line}\n" for line in lines),
        env=shell.environment,
        cwd=shell.directory,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_chat_is_scripted_with_and_without_a_running_sampler(
    shell: Any, policies: list[str], running: str
) -> None:
    lines = ["the cat", "/system by the sea", "the dog", "/policies", "/exit", "never read"]

    alone, told = chat(shell, lines, policies[0], *BOUND)
    served, _ = chat(shell, lines, policies[0], *BOUND, "--target", running)

    assert alone == served
    assert len(alone) > 10
    assert "the policy is loaded in this process" in told
    assert "system: by the sea" in told


def test_a_chat_goes_on_beyond_the_context(shell: Any, policies: list[str], running: str) -> None:
    """A turn takes some 40 of the 128 tokens, so that from the fourth on something is forgotten."""
    lines = [f"the cat sat on the mat by the sea {number}" for number in range(8)]

    answers, told = chat(shell, lines, policies[0], *BOUND, "--target", running)

    assert "outgrows the context of 128 tokens: the oldest exchange is forgotten" in told
    assert "accepted:" not in told
    assert answers


def test_the_sampler_counts_a_prompt_and_says_when_it_is_too_long(
    policies: list[str], running: str
) -> None:
    with connect("sampler", target=running) as stub:
        sampler = ChatSampler(stub)
        policy = sampler.policy(policies[0])
        counts = [
            sampler.prompt_tokens(policy, (user("x" * length),), "chat") for length in (1, 2, 200)
        ]

    # <|begin|> <|user|> x <|end|> <|assistant|>; a letter is a token of the fixture's vocabulary.
    assert counts == [5, 6, None]


def test_votes_train_a_reward_model(shell: Any, policies: list[str], running: str) -> None:
    lines = [line for n in range(6) for line in (f"the house {n}", "a 1 both", "/clear")]
    _, told = chat(
        shell, lines, policies[0], "--policy-b", policies[1], *BOUND, "--target", running
    )

    votes = shell.state_dir / "votes.jsonl"
    trained = shell.json(
        *("train", "reward_model", "-i", f"base={policies[0]}", "-i", f"preferences={votes}"),
        *("--set", "test_fraction=0", "--set", "head=helpfulness", "--set", "margin=large"),
    )

    assert told.count(f"A is significantly better; kept in {votes}") == 6
    assert trained["kind"] == "reward-model"
    assert trained["metrics"]["pairs.train"] == 6
    assert trained["metrics"]["records.refused"] == 0


_AT_ITS_TERMINAL = (
    "import fcntl, runpy, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('plumbline.cli.main', run_name='__main__')"
)
"""Makes stdin the controlling terminal, so that Ctrl-C reaches the process as a signal; tests that
run in the background hand down that it is ignored."""


class Terminal:
    """The command at a terminal of its own."""

    def __init__(self, shell: Any, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AT_ITS_TERMINAL, "chat", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**shell.environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            cwd=shell.directory,
            start_new_session=True,
        )
        os.close(slave)
        self._shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Returns once the text was shown; what came before is not looked at again."""
        deadline = time.monotonic() + 60
        while text not in self._shown:
            assert time.monotonic() < deadline, f"{text!r} is not in {self._shown[-2000:]!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                self._shown += os.read(self._master, 65536).decode("utf-8", "replace")
        self._shown = self._shown.partition(text)[2]

    def exit_code(self) -> int:
        return self._process.wait(timeout=30)


class EndlessSampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Answers until it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    async def GetPolicy(self, request: Any, context: Any) -> pb.GetPolicyResponse:
        return pb.GetPolicyResponse(policy=pb.Policy(id="id", context_length=100))

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        try:
            for number in itertools.count():
                yield pb.GenerateResponse(sequence=number, delta="and so on ", policy_id="id")
                await asyncio.sleep(0.01)
        finally:
            self.stopped.set()


def test_ctrl_c_stops_an_answer_and_ctrl_d_leaves(shell: Any) -> None:
    pytest.importorskip("prompt_toolkit", reason="the extra `chat` is not installed")
    endless = EndlessSampler()

    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(endless, server)
        return ["plumbline.v1.SamplerService"]

    with (
        serve_in_thread("sampler", register) as address,
        Terminal(shell, "policy/any@latest", "--target", address) as terminal,
    ):
        terminal.wait_for("/help lists commands")
        terminal.wait_for("you>")
        terminal.type("the cat\r")
        terminal.wait_for("and so on and so on")
        terminal.type("\x03")
        terminal.wait_for("stopped; what there is of the answer stays in the conversation")
        terminal.wait_for("you>")
        terminal.type("\x03")
        terminal.wait_for("Ctrl-D or /exit leaves")
        terminal.wait_for("you>")
        terminal.type("\x04")

        assert terminal.exit_code() == 0
        assert endless.stopped.wait(10)

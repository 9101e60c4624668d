"""What a user gets wrong ends in one clear line and an exit code, never in a stack trace."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.integration

UNKNOWN_KEY = """\
name: wrong
stages:
  world:
    uses: curation.synthesize
    with: {documents: 100, sed: 3}
"""
CYCLE = """\
name: wrong
stages:
  first:
    uses: curation.curate
    inputs: {corpus: second}
  second:
    uses: curation.curate
    inputs: {corpus: first}
"""
MISSING_INPUT = """\
name: wrong
stages:
  corpus:
    uses: curation.curate
"""
UNKNOWN_REFERENCE = """\
name: wrong
stages:
  corpus:
    uses: curation.curate
    inputs: {corpus: wrld}
"""


def complaint(shell: Any, *arguments: str, code: int) -> str:
    """The one line that the command ends with."""
    with shell.start(*arguments) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == code, f"{out}\n{err}"
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    return str(lines[0])


@pytest.mark.parametrize(
    ("pipeline", "line", "parts"),
    [
        (UNKNOWN_KEY, 5, ("sed", "did you mean 'seed'?")),
        (CYCLE, 5, ("wait for one another", "first -> second -> first")),
        (MISSING_INPUT, 4, ("misses its input 'corpus'",)),
        (UNKNOWN_REFERENCE, 5, ("wrld",)),
    ],
    ids=["unknown key", "cycle", "missing input", "unknown reference"],
)
def test_a_wrong_pipeline_is_refused_with_its_line(
    shell: Any, pipeline: str, line: int, parts: tuple[str, ...]
) -> None:
    (shell.directory / "wrong.yaml").write_text(pipeline)

    said = complaint(shell, "run", "wrong.yaml", code=2)

    assert f"wrong.yaml:{line}" in said
    assert all(part in said for part in parts), said
    assert not shell.state_dir.exists(), "nothing was started"


@pytest.mark.parametrize("command", [("jobs",), ("submit", "curation.synthesize")])
def test_without_a_platform_the_line_says_how_to_start_one(
    shell: Any, command: tuple[str, ...]
) -> None:
    assert "plumbline up" in complaint(shell, *command, code=1)


def test_a_broker_that_is_not_there_is_named_before_anything_starts(
    shell: Any, free_port: Callable[[], int]
) -> None:
    port = free_port()
    shell.environment["REDIS_URL"] = f"redis://user:hush@127.0.0.1:{port}/0"

    said = complaint(shell, "up", code=1)

    assert f"no broker answers at redis://user:***@127.0.0.1:{port}/0" in said
    assert shell.processes() == []


@pytest.fixture
def without_broker(shell: Any, free_port: Callable[[], int]) -> Iterator[str]:
    """A pipeline service whose broker is away; yields the broker's address."""
    broker, listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
    shell.environment["PLUMBLINE_PIPELINE_TARGET"] = listen
    environment = {
        **shell.environment,
        "PLUMBLINE_PIPELINE_LISTEN": listen,
        "REDIS_URL": f"redis://user:hush@{broker}/0",
    }
    command = [sys.executable, "-m", "plumbline.pipeline.server"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environment, **pipes) as server:
        assert server.stdout is not None
        while b'"listening"' not in (line := server.stdout.readline()):
            assert line, "the service ended"
        drain = threading.Thread(target=server.stdout.read)
        drain.start()
        yield broker
        server.kill()
        drain.join()


def test_a_service_whose_broker_is_away_says_so(shell: Any, without_broker: str) -> None:
    for command in (("jobs",), ("submit", "curation.synthesize")):
        said = complaint(shell, *command, code=1)

        assert "no broker answers at" in said
        assert without_broker in said
        assert "hush" not in said

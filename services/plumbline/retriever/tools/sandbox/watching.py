"""One process group in the sandbox: started, watched, ended, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import plumbline
from plumbline.retriever.tools.sandbox.config import SandboxConfig

PACKAGE_ROOT = str(Path(plumbline.__file__).parents[1])
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from plumbline.retriever.tools.sandbox.program import main; main()"
)
_POLL_S = 0.05
_MAX_RESULT_BYTES = 1 << 20


class Ending(StrEnum):
    """How a program ended."""

    FINISHED = "finished"
    RAISED = "raised"
    """An exception of its own, or a non-zero exit."""
    LIMIT = "limit"
    """It was ended because it used up time, output or disk."""
    CRASHED = "crashed"
    """By a signal that nobody sent on purpose."""
    REFUSED = "refused"
    """The kernel refuses a layer, so it never ran."""


@dataclass(frozen=True, slots=True)
class ExpressionValue:
    """What an expression came to."""

    value: str = ""
    """Python representation; empty where it raised or was not reached."""
    raised: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a program."""

    ending: Ending
    why: str
    stdout: str
    stderr: str
    values: tuple[ExpressionValue, ...]
    """One for each expression, in their order."""


class Watched:
    """One process group in the sandbox, and what it has written so far."""

    def __init__(
        self, job: Mapping[str, Any], folder: str, config: SandboxConfig, *, in_namespaces: bool
    ) -> None:
        self._config = config
        # In namespaces the folder is the kernel's to bound, and nothing of it is seen from here.
        self._folder = None if in_namespaces else folder
        job_read, job_write = os.pipe()
        results_read, results_write = os.pipe()
        with contextlib.ExitStack() as passed:
            for descriptor in (job_read, results_write):
                passed.callback(os.close, descriptor)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", _BOOT, PACKAGE_ROOT, str(job_read)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={"LANG": "C.UTF-8"},
                start_new_session=True,
                pass_fds=(job_read, results_write),
            )
        assert self._process.stdout and self._process.stderr
        with (
            contextlib.suppress(BrokenPipeError),
            os.fdopen(job_write, "w", encoding="utf-8", errors="replace") as file,
        ):
            json.dump({**job, "results": results_write}, file)
        self._results = os.fdopen(results_read, "rb", buffering=0)
        self._pipes: dict[Any, bytearray] = {
            stream: bytearray()
            for stream in (self._process.stdout, self._process.stderr, self._results)
        }

    def wait(self, until: float) -> str:
        """Collect output until the process ends or is ended; why it was ended, or nothing."""
        stopped = ""
        with selectors.DefaultSelector() as selector:
            for stream in self._pipes:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while not stopped and self._process.poll() is None:
                self._collect(selector, min(_POLL_S, max(0.0, until - time.monotonic())))
                stopped = self._overstepped(until)
            self._end()
            # What was written just before the end.
            while not self._too_much() and self._collect(selector, 0.0):
                continue
        for stream in self._pipes:
            stream.close()
        return stopped

    def _collect(self, selector: selectors.BaseSelector, timeout_s: float) -> bool:
        if not selector.get_map():
            time.sleep(timeout_s)
            return False
        ready = selector.select(timeout_s)
        for key, _ in ready:
            piece = os.read(key.fd, 1 << 16)
            if piece:
                self._pipes[key.fileobj] += piece
            else:
                selector.unregister(key.fileobj)
        return bool(ready)

    def _overstepped(self, until: float) -> str:
        if time.monotonic() >= until:
            return f"it ran for more than {self._config.wall_s:g} s"
        if self._too_much():
            return f"it wrote more than {self._config.output_bytes} bytes"
        if self._folder and _disk_usage(self._folder) > self._config.disk_bytes:
            return f"its files took more than {self._config.disk_bytes} bytes"
        return ""

    def _too_much(self) -> bool:
        written = sum(map(len, self._pipes.values())) - len(self._pipes[self._results])
        return (
            written > self._config.output_bytes
            or len(self._pipes[self._results]) > _MAX_RESULT_BYTES
        )

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def outcome(self, stopped: str, expressions: int) -> Outcome:
        """What came of it all."""
        results = [_parsed(line) for line in bytes(self._pipes[self._results]).splitlines()]
        ending, why = self._ending(stopped, results)
        by_index = {result.get("index"): result for result in results}
        values = tuple(
            ExpressionValue(
                str(by_index.get(index, {}).get("value", "")),
                str(by_index.get(index, {}).get("raised", "")),
            )
            for index in range(expressions)
        )
        stdout, stderr = (
            bytes(self._pipes[stream][: self._config.output_bytes]).decode("utf-8", "replace")
            for stream in (self._process.stdout, self._process.stderr)
        )
        return Outcome(ending, why, stdout, stderr, values)

    def _ending(self, stopped: str, results: Sequence[Mapping[str, Any]]) -> tuple[Ending, str]:
        if stopped:
            return Ending.LIMIT, stopped
        if not results or "started" not in results[0]:
            refusal = next((str(r["refused"]) for r in results if "refused" in r), "")
            return Ending.REFUSED, refusal or self._last_words()
        code = self._process.returncode
        if code in (-signal.SIGKILL, -signal.SIGXCPU):
            spent = f"it used more than {self._config.cpu_s} s of the processor"
            return Ending.LIMIT, f"{spent}, or the machine had no memory left for it"
        if code < 0:
            return Ending.CRASHED, f"signal {signal.Signals(-code).name} ended it"
        if code:
            raised = (str(r["raised"]) for r in results if "raised" in r and "index" not in r)
            return Ending.RAISED, next(raised, f"exit code {code}")
        return Ending.FINISHED, ""

    def _last_words(self) -> str:
        """The last line on standard error, for a process that failed before it could say more."""
        lines = bytes(self._pipes[self._process.stderr]).decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"


def _disk_usage(folder: str) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _parsed(line: bytes) -> Mapping[str, Any]:
    """A result line; the program can write to its pipe as well, so anything may come."""
    try:
        result = json.loads(line)
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}

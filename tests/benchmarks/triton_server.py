"""A real tritonserver over a model repository, for tests and measurements."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

STARTUP_S = 150.0
"""A model imports torch and transformers as it loads, on a machine that may be busy."""
_METRIC = re.compile(r'^(nv_\w+)\{.*model="([^"]+)".*\} ([0-9.e+]+)$', re.MULTILINE)


class TritonServer:
    """Starts tritonserver, kills it and starts it again at the same address.

    Args:
        program: the one that `.ci/servers` set up.
        repository: what `plumbline export-triton` wrote.
        directory: takes the server's log.
        arguments: more of them for the program.
    """

    def __init__(
        self, program: Path, repository: Path, directory: Path, arguments: Sequence[str] = ()
    ) -> None:
        self._program = program
        self._repository = repository
        self._arguments = arguments
        self._log_path = directory / "tritonserver.log"
        self._http, self._grpc, self._metrics = _free_ports(3)
        self._shared_memory = f"test-{os.getpid()}-{self._grpc}-"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._grpc}"

    def __enter__(self) -> Self:
        self.start()
        self.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Begin to start; it takes seconds until it answers."""
        command = [
            self._program,
            f"--model-repository={self._repository}",
            *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
            f"--http-port={self._http}",
            f"--grpc-port={self._grpc}",
            f"--metrics-port={self._metrics}",
            *self._arguments,
        ]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHON": sys.executable},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL to the server and to the processes of its models."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        # What a killed server shared with its models stays behind.
        for region in Path("/dev/shm").glob(f"{self._shared_memory}*"):
            region.unlink()

    def wait_until_ready(self) -> None:
        """
        Raises:
            RuntimeError: it ended, or took too long; with the end of its log.
        """
        deadline = time.monotonic() + STARTUP_S
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(self._url(self._http, "v2/health/ready"), timeout=5)
                return
            time.sleep(0.2)
        self.kill()
        raise RuntimeError(f"tritonserver did not start:\n{self._log_path.read_text()[-3000:]}")

    def counts(self, model: str) -> Mapping[str, float]:
        """Triton's own counters of a model: nv_inference_request_success and so on."""
        with urllib.request.urlopen(self._url(self._metrics, "metrics"), timeout=5) as answer:
            text = answer.read().decode()
        return {name: float(value) for name, of, value in _METRIC.findall(text) if of == model}

    def _url(self, port: int, path: str) -> str:
        return f"http://127.0.0.1:{port}/{path}"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]

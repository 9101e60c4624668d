"""The probe of workers: by the file of the last poll, holding still while the broker is away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plumbline.core.heartbeat import heartbeat_file
from plumbline.core.settings import Settings
from plumbline.core.worker import health_file
from plumbline.probe import find_fault, main


@contextmanager
def broker(reply: bytes) -> Iterator[str]:
    """URL of something that gives one reply to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(64)
                        connection.sendall(reply)
            except OSError:
                return  # the listener was closed

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"redis://:secret@127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def polled(state_dir: Path, worker: str, seconds_ago: float) -> None:
    path = heartbeat_file(state_dir, worker)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    moment = time.time() - seconds_ago
    os.utime(path, (moment, moment))


def fault(state_dir: Path, redis_url: str, **options: bool | str) -> str:
    environment = {"PLUMBLINE_STATE_DIR": str(state_dir), "REDIS_URL": redis_url}
    return find_fault(environment, older_than_s=60, **options)  # type: ignore[arg-type]


def test_the_probe_reads_what_workers_write(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)

    assert health_file(settings, "a/b") == heartbeat_file(tmp_path, "a/b")


def test_a_worker_that_polled_lately_is_well(tmp_path: Path) -> None:
    polled(tmp_path, "w", 30)

    assert fault(tmp_path, "redis://127.0.0.1:1") == ""


@pytest.mark.parametrize(
    "reply", [b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n", b"-NOPERM no\r\n"]
)
def test_a_late_poll_is_a_fault_while_the_broker_answers(tmp_path: Path, reply: bytes) -> None:
    polled(tmp_path, "w", 90)
    with broker(reply) as url:
        assert fault(tmp_path, url) == "worker-w last polled its queues 90 s ago; accepted: 60 s"


def test_a_late_poll_is_no_fault_while_the_broker_is_away(tmp_path: Path) -> None:
    polled(tmp_path, "w", 90)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert fault(tmp_path, f"redis://127.0.0.1:{port}/0") == ""
    with broker(b"-LOADING Redis is loading the dataset in memory\r\n") as url:
        assert fault(tmp_path, url) == ""


def test_a_worker_has_started_when_it_polled_once(tmp_path: Path) -> None:
    away = "redis://127.0.0.1:1"
    assert "no health file" in fault(tmp_path, away, startup=True)
    assert "worker-w has not polled" in fault(tmp_path, away, startup=True, worker="w")

    polled(tmp_path, "w", 0)

    assert fault(tmp_path, away, startup=True) == ""


def test_every_worker_of_a_state_directory_counts_unless_one_is_named(tmp_path: Path) -> None:
    polled(tmp_path, "late", 90)
    polled(tmp_path, "well", 0)
    with broker(b"+PONG\r\n") as url:
        assert fault(tmp_path, url).startswith("worker-late")
        assert fault(tmp_path, url, worker="well") == ""


def test_a_file_that_is_being_written_is_no_worker(tmp_path: Path) -> None:
    polled(tmp_path, "w.partial", 90)

    assert "no health file" in fault(tmp_path, "redis://127.0.0.1:1", startup=True)


def test_the_exit_status_and_stderr_tell_kubernetes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        main(["w", "--startup"])

    assert caught.value.code == 1
    assert capsys.readouterr().err == "worker-w has not polled its queues yet\n"


def test_the_probe_imports_nothing_heavy() -> None:
    code = "import sys, plumbline.probe; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    loaded = set(done.stdout.split())
    assert not loaded & {"pydantic", "grpc", "celery", "redis", "numpy", "yaml"}

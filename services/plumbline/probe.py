"""`python -m plumbline.probe [WORKER] [--older-than-s 60] [--startup]`: does a worker consume?

For Kubernetes' exec probes, and cheap. A worker may live and answer pings, yet have lost its place
at the broker; so the question is when it last polled its queues. While the broker itself does not
answer, no worker can poll and a restart would only end the jobs that run, so the answer is yes.

Exit status: 0 yes; 1 no, and stderr says why.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from plumbline.core.heartbeat import heartbeat_file, heartbeat_files

_BROKER_TIMEOUT_S = 1.0
_ALIVE = (b"+PONG", b"-NOAUTH", b"-ERR operation not permitted", b"-NOPERM")
"""Replies to PING of a broker that takes commands; one that still loads its data says so."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the process."""
    arguments = _parse(argv)
    fault = find_fault(
        os.environ,
        worker=arguments.worker,
        older_than_s=arguments.older_than_s,
        startup=arguments.startup,
    )
    if fault:
        print(fault, file=sys.stderr)
        raise SystemExit(1)


def find_fault(
    environment: Mapping[str, str],
    *,
    worker: str = "",
    older_than_s: float,
    startup: bool = False,
) -> str:
    """What is wrong with the workers of a state directory; empty where nothing is.

    Args:
        environment: its PLUMBLINE_STATE_DIR and REDIS_URL count.
        worker: by name; empty means every one that keeps its state here.
        older_than_s: a poll longer ago is a fault.
        startup: a worker that has not polled yet is at fault even while the broker is away.
    """
    state_dir = Path(environment.get("PLUMBLINE_STATE_DIR") or ".plumbline")
    files = [heartbeat_file(state_dir, worker)] if worker else heartbeat_files(state_dir)
    if not files:
        fault = f"no worker has polled its queues yet: {state_dir} holds no health file"
    else:
        faults = (_late(path, older_than_s) for path in files)
        fault = next(filter(None, faults), "")
    if fault and not startup and not _broker_answers(environment.get("REDIS_URL", "")):
        return ""
    return fault


def _late(path: Path, older_than_s: float) -> str:
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return f"{path.name} has not polled its queues yet"
    if age_s <= older_than_s:
        return ""
    return f"{path.name} last polled its queues {age_s:.0f} s ago; accepted: {older_than_s:g} s"


def _broker_answers(url: str) -> bool:
    """Whether something takes commands there; with TLS, whether something listens."""
    try:
        parts = urlsplit(url)
        address = parts.hostname or "127.0.0.1", parts.port or 6379
    except ValueError:
        return True  # the worker could not run with it: that is a fault, and not the broker's
    try:
        with socket.create_connection(address, timeout=_BROKER_TIMEOUT_S) as connection:
            if parts.scheme == "rediss":
                return True
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(_ALIVE)
    except OSError:
        return False


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plumbline.probe", description=__doc__)
    parser.add_argument("worker", nargs="?", default="", help="name; all of the state directory")
    parser.add_argument("--older-than-s", type=float, default=60.0, help="[60]")
    parser.add_argument("--startup", action="store_true", help="ask whether it has started")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

"""Starting, stopping and asking about the embedded stack from another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from plumbline.cli.embedded.state import (
    StackPaths,
    StackStatus,
    exclusive,
    holder,
    log_tail,
    read_status,
)
from plumbline.cli.embedded.supervisor import READY_TIMEOUT_S, STOP_GRACE_S
from plumbline.core.errors import FailedPreconditionError, UnavailableError

_POLL_INTERVAL_S = 0.1


def is_running(state_dir: Path) -> bool:
    """Whether a supervisor holds the state directory."""
    return holder(StackPaths(state_dir).supervisor_lock) is not None


def current_status(state_dir: Path) -> StackStatus | None:
    """What the running supervisor says; None when none runs."""
    return read_status(StackPaths(state_dir)) if is_running(state_dir) else None


def start(state_dir: Path, progress: Callable[[StackStatus], None]) -> tuple[StackStatus, bool]:
    """Start a stack and wait until all of it answers; safe to call twice at once.

    Returns:
        its status, and whether this call started it.
    Raises:
        FailedPreconditionError: a part did not come up; the message ends with its log.
    """
    paths = StackPaths(state_dir)
    paths.create()
    with exclusive(paths.start_lock):
        _let_stop(paths)
        if is_running(state_dir):
            return _await_ready(paths, progress), False
        paths.status.unlink(missing_ok=True)
        _spawn(paths)
        return _await_ready(paths, progress), True


def _let_stop(paths: StackPaths) -> None:
    """A stack on its way down is no stack to join."""
    deadline = time.time() + 3 * STOP_GRACE_S
    while time.time() < deadline:
        status = current_status(paths.state_dir)
        if status is None or status.state in ("starting", "ready"):
            return
        time.sleep(_POLL_INTERVAL_S)


def _spawn(paths: StackPaths) -> None:
    """Start a detached supervisor; when this returns, it holds the lock.

    Raises:
        FailedPreconditionError: it could not even begin.
    """
    command = (sys.executable, "-m", "plumbline.cli.embedded.supervisor", "--detach")
    with paths.log("supervisor").open("ab") as log:
        outcome = subprocess.run(
            [*command, "--state-dir", str(paths.state_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    if outcome.returncode != 0:
        raise _did_not_start(paths, "")


def _did_not_start(paths: StackPaths, why: str) -> FailedPreconditionError:
    log = paths.log("supervisor")
    return FailedPreconditionError(
        why or f"the supervisor ended; end of {log}:\n{log_tail(log)}",
        reason="STACK_DID_NOT_START",
    )


def _await_ready(paths: StackPaths, progress: Callable[[StackStatus], None]) -> StackStatus:
    deadline = time.time() + READY_TIMEOUT_S + STOP_GRACE_S
    last_pid = 0
    while time.time() < deadline:
        pid = holder(paths.supervisor_lock)
        last_pid = pid or last_pid
        status = read_status(paths)
        if status is not None:
            progress(status)
            if pid and status.state == "ready":
                return status
        # The lock is let go a moment before the process ends; nothing may stay behind.
        if not pid and not _runs(last_pid):
            raise _did_not_start(paths, status.why if status else "")
        time.sleep(_POLL_INTERVAL_S)
    raise UnavailableError(
        f"the stack under {paths.state_dir} is not ready after {READY_TIMEOUT_S:.0f} s; "
        "`plumbline status` shows which part"
    )


def stop(state_dir: Path) -> bool:
    """Stop the stack and wait for its last process; False when none ran.

    Raises:
        UnavailableError: the supervisor could not be stopped.
    """
    lock = StackPaths(state_dir).supervisor_lock
    signals = ((signal.SIGTERM, 3 * STOP_GRACE_S), (signal.SIGKILL, 5.0))
    pid = holder(lock)
    if pid is None:
        return False
    for number, patience_s in signals:
        deadline = time.time() + patience_s
        pid = holder(lock) or pid
        if pid and holder(lock) == pid:
            # The lock is held, so this pid is the supervisor's and nobody else's.
            os.kill(pid, number)
        while time.time() < deadline:
            # The lock is let go a moment before the process ends.
            if holder(lock) is None and not _runs(pid):
                StackPaths(state_dir).endpoints.unlink(missing_ok=True)
                return True
            time.sleep(_POLL_INTERVAL_S)
    raise UnavailableError(f"the supervisor (pid {pid}) under {state_dir} does not stop")


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

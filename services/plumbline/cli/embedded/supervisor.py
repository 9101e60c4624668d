"""The supervisor: starts the children, restarts those that crash, stops all of them.

It runs detached (`plumbline up`) or in the terminal (`plumbline up --foreground`), writes what it
knows to `<state>/run/status.json` after every change, and holds the lock that says a stack runs.
However it ends, no child stays: on a signal it stops them, and when it is killed the kernel does.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from plumbline.cli.embedded.stack import ChildSpec, Stack, plan_stack
from plumbline.cli.embedded.state import (
    ChildStatus,
    StackPaths,
    StackStatus,
    log_tail,
    try_hold,
    write_holder,
    write_json,
    write_status,
)
from plumbline.core.errors import PlumblineError
from plumbline.core.settings import Settings

POLL_INTERVAL_S = 0.1
READY_TIMEOUT_S = 120.0
STOP_GRACE_S = 8.0
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
STABLE_AFTER_S = 60.0
"""A child that lived this long starts again at the first backoff."""
STARTS_BEFORE_GIVING_UP = 3
"""A child that has never been ready and crashes this often will not work at all."""
LOG_KEPT_BYTES = 64 * 2**20

_LAUNCH = str(Path(__file__).with_name("launch.py"))

Report = Callable[[str], None]


class Child:
    """One child process over all its restarts."""

    def __init__(self, spec: ChildSpec, log_path: Path) -> None:
        self.spec = spec
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._starts = 0
        self._failures = 0
        self._restart_at = 0.0
        self._ready_ever = False
        self._probe: Future[bool] | None = None
        self._last_crash: dict[str, object] | None = None
        self.ready = False

    def start(self) -> None:
        """Start, in a process group of its own, bound to the life of this process."""
        _trim(self._log_path)
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, _LAUNCH, str(os.getpid()), *self.spec.command],
                env=dict(self.spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started_at = time.time()
        self._starts += 1
        self.ready = False
        self._probe = None

    def step(self, probes: ThreadPoolExecutor) -> str | None:
        """Notice what happened since the last step; text when something is worth telling."""
        if self._process is None:
            if time.time() >= self._restart_at:
                self.start()
            return None
        code = self._process.poll()
        if code is not None:
            return self._crashed(code)
        if not self.ready:
            return self._probed(probes)
        return None

    def _probed(self, probes: ThreadPoolExecutor) -> str | None:
        if self._probe is None:
            self._probe = probes.submit(self.spec.ready, self._started_at)
            return None
        if not self._probe.done():
            return None
        answered, self._probe = self._probe.result(), None
        if not answered:
            return None
        self.ready = self._ready_ever = True
        return f"{self.spec.name} is ready after {time.time() - self._started_at:.1f} s"

    def _crashed(self, code: int) -> str:
        lived_s = time.time() - self._started_at
        self._kill_group()
        self._process = None
        self.ready = False
        self._failures = 1 if lived_s >= STABLE_AFTER_S else self._failures + 1
        backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (self._failures - 1))
        self._restart_at = time.time() + backoff_s
        why = f"{_exit_text(code)} after {lived_s:.1f} s"
        tail = log_tail(self._log_path)
        self._last_crash = {"at": time.time(), "why": why, "log": tail}
        return (
            f"{self.spec.name} {why}; starting it again in {backoff_s:.1f} s. "
            f"End of its log:\n{tail}"
        )

    @property
    def hopeless(self) -> bool:
        return not self._ready_ever and self._failures >= STARTS_BEFORE_GIVING_UP

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, until: float) -> None:
        """Give the child until a time to end, then kill it and everything that it started."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until - time.time()))
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._process.wait()
        self._kill_group()
        self._process = None

    def _kill_group(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # nothing of the group is left

    def status(self) -> ChildStatus:
        running = self._process is not None
        state = "ready" if self.ready else "starting" if running else "backing off"
        return ChildStatus(
            name=self.spec.name,
            pid=self._process.pid if self._process is not None else None,
            address=self.spec.address,
            state=state,
            started_at=self._started_at,
            restarts=max(0, self._starts - 1),
            last_crash=self._last_crash,
        )


class Supervisor:
    """Runs a stack until it is told to stop."""

    def __init__(self, stack: Stack, paths: StackPaths, report: Report) -> None:
        self._stack = stack
        self._paths = paths
        self._report = report
        self._children = [Child(spec, paths.log(spec.name)) for spec in stack.children]
        self._stopping = False
        self._written: StackStatus | None = None

    def run(self) -> bool:
        """Start everything and stay until a signal; False when the stack did not come up."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        deadline = time.time() + READY_TIMEOUT_S
        failure = ""
        announced = False
        with ThreadPoolExecutor(len(self._children), thread_name_prefix="probe") as probes:
            try:
                for child in self._children:
                    child.start()
                while not self._stopping and not failure:
                    self._step(probes)
                    all_ready = all(child.ready for child in self._children)
                    if all_ready and not announced:
                        endpoints = {**self._stack.endpoints, "supervisor": os.getpid()}
                        write_json(self._paths.endpoints, endpoints, private=True)
                        announced = True
                        self._report("everything is ready")
                    failure = "" if announced else self._failure(deadline)
                    self._write("ready" if announced else "starting", "")
                    time.sleep(POLL_INTERVAL_S)
            finally:
                self._stop(failure)
        return not failure

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _step(self, probes: ThreadPoolExecutor) -> None:
        for child in self._children:
            message = child.step(probes)
            if message:
                self._report(message)

    def _failure(self, deadline: float) -> str:
        for child in self._children:
            if child.hopeless:
                crash = child.status().last_crash or {}
                return (
                    f"{child.spec.name} does not start: {crash.get('why')}; "
                    f"end of {self._paths.log(child.spec.name)}:\n{crash.get('log')}"
                )
        if time.time() > deadline:
            late = [child.spec.name for child in self._children if not child.ready]
            return f"not ready after {READY_TIMEOUT_S:.0f} s: {', '.join(late)}"
        return ""

    def _stop(self, failure: str) -> None:
        # First of all, so that no client finds addresses that are about to go.
        self._paths.endpoints.unlink(missing_ok=True)
        self._write("stopping", failure)
        until = time.time() + STOP_GRACE_S
        for last in (False, True):
            group = [child for child in self._children if child.spec.stop_last is last]
            for child in group:
                child.terminate()
            for child in group:
                child.wait(until)
            until = max(until, time.time() + 2.0)
        self._write("failed" if failure else "stopped", failure)
        if failure:
            self._report(failure)

    def _write(self, state: str, why: str) -> None:
        status = StackStatus(
            pid=os.getpid(),
            state=state,
            why=why,
            children=tuple(child.status() for child in self._children),
        )
        if status != self._written:
            write_status(self._paths, status)
            self._written = status


def supervise(state_dir: Path, report: Report, *, detach: bool = False) -> int:
    """Run a stack under a state directory; the exit code of the supervisor.

    Args:
        detach: return 0 as soon as the lock is held, and go on in a process of its own.
    Returns:
        0 after a stop on request, 1 when the stack did not come up, 3 when another one runs.
    """
    paths = StackPaths(state_dir)
    paths.create()
    lock = try_hold(paths.supervisor_lock)
    if lock is None:
        report(f"a stack already runs under {state_dir}")
        return 3
    with lock:
        # The lock belongs to the open file, which the fork shares: it is never free in between,
        # and whoever waited for the first process knows that the second one holds it.
        if detach and os.fork() != 0:
            return 0
        write_holder(lock)
        try:
            # What an earlier supervisor left when it was killed.
            paths.endpoints.unlink(missing_ok=True)
            environment = dict(os.environ)
            environment["PLUMBLINE_STATE_DIR"] = str(state_dir)
            settings = Settings.from_environment(environment)
            stack = plan_stack(paths, settings, environment)
        except PlumblineError as error:
            write_status(paths, StackStatus(pid=os.getpid(), state="failed", why=error.message))
            report(error.message)
            return 1
        return 0 if Supervisor(stack, paths, report).run() else 1


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _trim(log_path: Path) -> None:
    """A log that grew too long is begun anew; one older log is kept."""
    if log_path.exists() and log_path.stat().st_size > LOG_KEPT_BYTES:
        log_path.replace(log_path.with_suffix(".log.1"))


def main() -> None:
    """Entry of the detached supervisor."""
    parser = argparse.ArgumentParser(description="Runs the embedded stack.")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--detach", action="store_true")
    arguments = parser.parse_args()

    def report(message: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{stamp} {message}", flush=True)

    sys.exit(supervise(arguments.state_dir.absolute(), report, detach=arguments.detach))


if __name__ == "__main__":
    main()

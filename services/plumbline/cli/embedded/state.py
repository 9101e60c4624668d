"""Files that a running stack leaves in the state directory, and the lock that says it runs.

    <state>/endpoints.json           where everything answers; present only while all of it does
    <state>/run/supervisor.lock      held by the supervisor for its whole life; content: its pid
    <state>/run/status.json          each child: pid, address, restarts, last crash
    <state>/logs/<child>.log         output of each child, and supervisor.log

Whether a stack runs is decided by the lock alone: the kernel releases it however the supervisor
dies, so a stale pid file cannot mislead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from plumbline.core.errors import StorageUnavailableError

LOG_TAIL_LINES = 15
_LOCK_ATTEMPTS = 10
_LOCK_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class StackPaths:
    """Where a stack keeps its files."""

    state_dir: Path

    @property
    def endpoints(self) -> Path:
        return self.state_dir / "endpoints.json"

    @property
    def status(self) -> Path:
        return self.state_dir / "run" / "status.json"

    @property
    def supervisor_lock(self) -> Path:
        return self.state_dir / "run" / "supervisor.lock"

    @property
    def start_lock(self) -> Path:
        return self.state_dir / "run" / "start.lock"

    @property
    def secrets(self) -> Path:
        return self.state_dir / "run" / "redis-password"

    @property
    def redis_data(self) -> Path:
        return self.state_dir / "redis"

    @property
    def logs(self) -> Path:
        return self.state_dir / "logs"

    def log(self, child: str) -> Path:
        return self.logs / f"{child}.log"

    def create(self) -> None:
        """Raises StorageUnavailableError when the state directory cannot be written."""
        try:
            for directory in (self.state_dir / "run", self.logs, self.redis_data):
                directory.mkdir(parents=True, exist_ok=True)
            # Holds the broker's password and address.
            (self.state_dir / "run").chmod(0o700)
        except OSError as error:
            raise StorageUnavailableError(
                f"cannot write the state directory {self.state_dir}: {error}; "
                "PLUMBLINE_STATE_DIR names another"
            ) from error


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One child as `plumbline status` shows it."""

    name: str
    pid: int | None
    address: str
    """host:port; empty for workers."""
    state: str
    """starting, ready, backing off or stopped."""
    started_at: float
    """Unix seconds of the newest start; 0 before the first."""
    restarts: int = 0
    last_crash: Mapping[str, Any] | None = None
    """{"at": unix seconds, "why": text, "log": last lines}."""


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The whole stack as its supervisor last wrote it."""

    pid: int
    state: str
    """starting, ready, stopping or failed."""
    why: str
    children: tuple[ChildStatus, ...] = field(default_factory=tuple)


def write_json(path: Path, content: Any, *, private: bool = False) -> None:
    """Replace a file in one step: a reader sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8", opener=_private if private else None) as file:
        json.dump(content, file, indent=1)
    temporary.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_status(paths: StackPaths, status: StackStatus) -> None:
    write_json(paths.status, asdict(status))


def read_status(paths: StackPaths) -> StackStatus | None:
    """What the supervisor wrote last, or None; valid only while the lock is held."""
    try:
        content = json.loads(paths.status.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    children = tuple(ChildStatus(**child) for child in content.pop("children"))
    return StackStatus(**content, children=children)


def forget_killed_stack(paths: StackPaths) -> bool:
    """Remove the endpoints of a stack whose supervisor was killed; whether there were any.

    Endpoints that name no supervisor were written by hand and are left alone.
    """
    try:
        written = json.loads(paths.endpoints.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    if not isinstance(written, dict) or "supervisor" not in written:
        return False
    if holder(paths.supervisor_lock) is not None:
        return False
    paths.endpoints.unlink(missing_ok=True)
    return True


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for it."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_hold(path: Path) -> TextIO | None:
    """Take a lock file for as long as the returned file is open; None when another has it."""
    file = path.open("a+")
    # `holder` takes the lock for an instant; that must not look like a running supervisor.
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
            continue
        write_holder(file)
        return file
    file.close()
    return None


def write_holder(lock: TextIO) -> None:
    """Put this process's pid into a lock file that it holds."""
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()


def holder(path: Path) -> int | None:
    """Pid of the process that holds a lock file; None when nobody does."""
    try:
        file = path.open("r+")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = file.read().strip()
            # Empty for the instant between taking the lock and writing the pid.
            return int(content) if content.isdigit() else 0
    return None

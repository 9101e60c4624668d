"""Names a process so that another one on the same machine can tell whether it still lives.

A lease of a dead process need not run out before somebody takes over; one of a process elsewhere
must. Works where /proc does; elsewhere every process counts as alive.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot of one machine (or container)."""

    machine: str
    pid: int
    started_ticks: int

    @classmethod
    def current(cls) -> ProcessIdentity:
        pid = os.getpid()
        return cls(_machine(), pid, _started_ticks(pid) or 0)

    def is_gone(self) -> bool:
        """Whether this process is known to have ended."""
        if not self.machine or self.machine != _machine():
            return False
        return _started_ticks(self.pid) != self.started_ticks

    def __str__(self) -> str:
        return f"{self.machine}/{self.pid}/{self.started_ticks}"


def lease_owner(name: str) -> str:
    """`name#identity/nonce`: unique per call; users see the part before `#`."""
    return f"{name}#{ProcessIdentity.current()}/{uuid.uuid4().hex[:12]}"


def owner_is_gone(owner: str) -> bool:
    """Whether the process that took a lease under `owner` is known to have ended."""
    parts = owner.partition("#")[2].split("/")
    if len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        return False
    return ProcessIdentity(parts[0], int(parts[1]), int(parts[2])).is_gone()


@cache
def _machine() -> str:
    """Boot and process-id namespace, within which a pid means one process; empty if unknown."""
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        return f"{_BOOT_ID.read_text().strip()}.{namespace}"
    except OSError:
        return ""


def _started_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None once it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, the command in parentheses, may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    ended = fields[0] in ("Z", "X")
    return None if ended else int(fields[19])

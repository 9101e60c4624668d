"""The file with everything that a job's attempts wrote, on the machine of the worker."""

from __future__ import annotations

import json
from pathlib import Path

from plumbline.core.jobs import Lease
from plumbline.core.settings import Settings


def job_log_path(settings: Settings, job_id: str) -> Path:
    """Where a job's processes write, on the worker's machine; `plumbline logs` shows it."""
    return settings.state_dir / "logs" / "jobs" / f"{job_id}.log"


def attempt_header(lease: Lease) -> bytes:
    """The line that begins an attempt in the job's log."""
    header = {"event": "attempt", "job_id": lease.job_id, "attempt": lease.attempt}
    return json.dumps(header).encode() + b"\n"

"""What every measured program shares: one measured block, and its result as a line of JSON.

Standard library only, because the peers' environment imports it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

RESULT_MARK = "RESULT "


def arguments() -> dict[str, Any]:
    """The program's arguments, given as one JSON object."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


class Measured:
    """Time spent in a block of work; imports, models and tables are made before it."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Adds the block's wall and CPU time, threads of this process included."""
        wall, cpu = time.monotonic(), _cpu_s()
        try:
            yield
        finally:
            self.wall_s += time.monotonic() - wall
            self.cpu_s += _cpu_s() - cpu

    def report(self, *, documents: int, size_bytes: int, **facts: Any) -> None:
        """Write the result for the process that started this one."""
        result = {
            "documents": documents,
            "bytes": size_bytes,
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "load_average": os.getloadavg()[0],
            "facts": facts,
        }
        print(RESULT_MARK + json.dumps(result, ensure_ascii=False), flush=True)


def _cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime

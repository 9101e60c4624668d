"""Runs a command that cannot outlive its parent: `python launch.py PARENT_PID COMMAND...`.

The kernel is asked to kill this process when the supervisor dies, and the request survives the
exec. It is a program of its own because the alternative, a function between fork and exec, is
unsafe in a parent that has gRPC threads. Run as a file, not as a module: it imports nothing else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent_pid, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the request was made; then nobody would ever tell us.
    if os.getppid() != parent_pid:
        sys.exit("the supervisor ended before this process began")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])

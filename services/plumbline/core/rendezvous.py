"""Waits until a host's name resolves, then becomes the command that needs it.

    python -m plumbline.core.rendezvous [--patience-s 3600] HOST COMMAND [ARGUMENT ...]

The nodes of a job start in any order, and in a cluster the name of node 0 exists only once its pod
does. torchrun would try on as well, but fills the log with its own stacks meanwhile; here one line
now and then says what is waited for, and giving up is an outcome: the job waits, and is not to
blame.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from plumbline.core.stage_outcome import TERMINATION_LOG, Outcome, Verdict

_PERIOD_S = 1.0
_TOLD_EVERY_S = 30.0


def await_name(
    host: str,
    patience_s: float,
    *,
    resolve: Callable[[str], object] = lambda host: socket.getaddrinfo(host, None),
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Whether the host's name resolves within the patience; says on stderr that it waits."""
    tries = 0
    while True:
        try:
            resolve(host)
        except socket.gaierror as error:
            if tries * _PERIOD_S >= patience_s:
                print(f"{host} is unknown after {patience_s:.0f} s: {error}", file=sys.stderr)
                return False
            if tries % round(_TOLD_EVERY_S / _PERIOD_S) == 0:
                print(f"waiting for {host}: {error}", file=sys.stderr, flush=True)
            tries += 1
            sleep(_PERIOD_S)
        else:
            return True


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="plumbline.core.rendezvous", description=__doc__)
    parser.add_argument("--patience-s", type=float, default=3600.0)
    parser.add_argument("--outcome", type=Path, default=TERMINATION_LOG)
    parser.add_argument("host")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    if not given.command:
        parser.error("no command to start")
    if not await_name(given.host, given.patience_s):
        _outcome_of_waiting(given.host, given.patience_s).write_last_words(given.outcome)
        return 1
    # In place of this process, so that signals reach the command.
    os.execvp(given.command[0], given.command)


def _outcome_of_waiting(host: str, patience_s: float) -> Outcome:
    return Outcome(
        verdict=Verdict.UNAVAILABLE,
        why=f"the first node of the job did not start within {patience_s:.0f} s: {host} is unknown",
        code="UNAVAILABLE",
    )


if __name__ == "__main__":
    sys.exit(main())

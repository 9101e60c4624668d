"""What `plumbline chat` refuses before there is a chat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no policy is named and no sampler runs; accepted: `plumbline chat POLICY`"),
        (("--policy-b", "x"), "--policy-b needs a first policy"),
        (("x", "--temperature", "11"), "chat: temperature=11.0 is not accepted"),
        (("x", "--template", "chats"), "chat: template='chats' is not accepted"),
        (("x", "--seed", "-1"), "chat: seed=-1 is not accepted"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PLUMBLINE_", "REDIS"))}

    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", "chat", *arguments],
        cwd=tmp_path,
        env=inherited,
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1

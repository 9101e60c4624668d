"""How the HTTP front takes itself out of rotation before it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra `http` is not installed")


def status(address: str, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.integration
def test_a_front_that_drains_is_not_ready_but_alive_and_answers(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PLUMBLINE_STATE_DIR": str(tmp_path),
        "PLUMBLINE_SAMPLER_TARGET": "127.0.0.1:1",
        "PLUMBLINE_OPENAI_FRONT_LISTEN": "127.0.0.1:0",
        "PLUMBLINE_DRAIN_S": "3",
    }
    command = [sys.executable, "-m", "plumbline.openai_front.server"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        assert (status(address, "/readyz"), status(address, "/healthz")) == (200, 200)

        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 2
        while status(address, "/readyz") == 200 and time.monotonic() < deadline:
            time.sleep(0.02)

        assert (status(address, "/readyz"), status(address, "/healthz")) == (503, 200)
        # Callers that have not noticed are still answered: here, that no sampler is there.
        assert status(address, "/v1/models") == 503
        assert process.wait(timeout=20) == 0

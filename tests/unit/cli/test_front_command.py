"""`plumbline serve-openai` in a context: only the sampler is the context's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from object_stores import make_certificate

pytest.importorskip("uvicorn", reason="the extra plumbline[http] is not installed")


@pytest.fixture
def base_url(tmp_path: Path) -> Callable[..., str]:
    """The URL that the command prints, in a context with a certificate for its services."""
    made = make_certificate(tmp_path / "tls")
    tls = {"ca": str(made.ca), "cert": str(made.cert), "key": str(made.key)}
    context = {"services": {"sampler": "127.0.0.1:9"}, "tls": tls}
    (tmp_path / "contexts.yaml").write_text(yaml.safe_dump({"contexts": {"lab": context}}))

    def serve(**more: str) -> str:
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("PLUMBLINE_")}
        command = "-m plumbline.cli.main --context lab serve-openai --listen 127.0.0.1:0"
        with subprocess.Popen(
            [sys.executable, *command.split()],
            cwd=tmp_path,
            env={
                **inherited,
                "PLUMBLINE_CONTEXTS_FILE": str(tmp_path / "contexts.yaml"),
                "PLUMBLINE_DRAIN_S": "0",
                **more,
            },
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            said = next((line for line in process.stderr if "base_url" in line), "")
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
        return said

    return serve


def test_the_listener_does_not_take_the_contexts_certificate(base_url: Callable[..., str]) -> None:
    assert base_url().startswith("base_url is http://127.0.0.1:")


def test_the_listener_takes_the_certificate_of_the_environment(
    base_url: Callable[..., str], tmp_path: Path
) -> None:
    own = make_certificate(tmp_path / "own")

    said = base_url(PLUMBLINE_TLS_CERT=str(own.cert), PLUMBLINE_TLS_KEY=str(own.key))

    assert said.startswith("base_url is https://127.0.0.1:")

"""`plumbline serve-openai` as a user calls it, where no platform runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("uvicorn", reason="the extra `http` is not installed")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_a_directory_is_served_until_interrupted(shell: Any, tiny_policy: Path) -> None:
    with shell.start("serve-openai", str(tiny_policy), "--listen", "127.0.0.1:0") as process:
        try:
            told = next(line for line in process.stderr if line.startswith("base_url is "))
            base_url = told.removeprefix("base_url is ").strip()
            with openai.OpenAI(base_url=base_url, api_key="none") as client:
                question: list[Any] = [{"role": "user", "content": "the cat"}]
                reply = client.chat.completions.create(
                    model="default", messages=question, max_tokens=3
                )
                (choice,) = reply.choices
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        finally:
            process.kill()

    assert reply.model.startswith("dir:")
    assert choice.finish_reason == "length"
    assert process.returncode == 0


def test_a_wrong_address_is_one_line_and_exit_code_2(shell: Any) -> None:
    said = shell("serve-openai", "--target", "127.0.0.1:9", "--listen", "nowhere", code=2)

    assert said == (
        "plumbline: PLUMBLINE_OPENAI_FRONT_LISTEN='nowhere' is not an address; accepted: "
        "host:port\n"
    )

"""`to-instructions` as a process, and what the generating commands refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def plumbline(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PLUMBLINE_", "REDIS"))}
    return subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", *arguments],
        cwd=cwd,
        env=inherited,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_conversations_become_instruction_files(tmp_path: Path) -> None:
    talk = {
        "messages": [
            {"role": "user", "content": "Name a river."},
            {"role": "assistant", "content": "The Elbe."},
        ]
    }
    (tmp_path / "talks.jsonl").write_text(json.dumps(talk) + "\n")

    done = plumbline(
        "to-instructions",
        "talks.jsonl",
        "--out",
        "made",
        "--set",
        "turns=last",
        "--json",
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] == {"records": 1.0}
    (row,) = (tmp_path / "made" / "instructions.jsonl").read_text().splitlines()
    assert json.loads(row)["instruction"] == "Name a river."
    assert json.loads((tmp_path / "made" / "report.json").read_text())["funnel"]


def test_wrong_calls_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").write_text("{}\n")
    nothing = plumbline("to-instructions", cwd=tmp_path)
    misspelt = plumbline(
        "self-instruct", "seeds.jsonl", "--policy", "x", "--set", "targets=3", cwd=tmp_path
    )

    assert (nothing.returncode, misspelt.returncode) == (2, 2)
    assert "give conversations, --documents or both" in nothing.stderr
    assert "unknown key 'targets' (did you mean 'target'?)" in misspelt.stderr

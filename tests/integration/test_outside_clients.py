"""Programs that have nothing of this project reach it over Celery and over gRPC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent


def run_outside(program: str, given: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What a program says that is run in an isolated interpreter, in another directory."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")
    }
    finished = subprocess.run(
        [sys.executable, "-I", str(HERE / program), json.dumps(given)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    said: dict[str, Any] = json.loads(finished.stdout)
    return said


def test_a_script_with_only_celery_trains_a_policy(
    live: Any, tiny_policy: Path, tmp_path: Path
) -> None:
    demonstrations = tmp_path / "demonstrations.jsonl"
    turns = [
        {"role": "user", "content": "where sat the cat"},
        {"role": "assistant", "content": "on the mat"},
    ]
    demonstrations.write_text(f"{json.dumps({'messages': turns})}\n" * 4)
    given = {
        "broker": live.endpoints()["redis_url"],
        "config": {"max_steps": 2, "batch_size": 2, "max_length": 64, "learning_rate": 1e-3},
        "inputs": {
            "base": f"path:{tiny_policy}",
            "conversations": f"path:{demonstrations}",
        },
    }

    said = run_outside("outside_celery_client.py", given, tmp_path)

    assert said["job"]["state"] == "SUCCEEDED", said["job"]["why"]
    assert said["again"] == said["job_id"], "the same request_id is the same job"
    made = live.json("artifacts", "show", said["job"]["result"])
    assert made["kind"] == "policy"


def test_a_client_with_only_grpcio_and_the_protos_calls_every_service(
    live: Any,
    tiny_policy: Path,
    tiny_reward_models: dict[str, Path],
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    protos = pytestconfig.rootpath / "protos"
    generate = [sys.executable, "-I", "-m", "grpc_tools.protoc", f"-I{protos}"]
    outputs = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    subprocess.run([*generate, *outputs, *map(str, protos.rglob("*.proto"))], check=True)
    given = {
        "stubs": str(tmp_path),
        "services": live.endpoints()["services"],
        "policy": f"path:{tiny_policy}",
        "helpfulness": f"path:{tiny_reward_models['helpfulness']}",
        "safety": f"path:{tiny_reward_models['safety']}",
        "world": small_world(live),
    }

    said = run_outside("outside_grpc_client.py", given, tmp_path)

    assert "ann@example.org" not in said["anonymized"]
    assert said["anonymized"].startswith("Write to ")
    assert len(said["sampled"]) == 2
    assert all(1 <= tokens <= 4 for tokens in said["sampled"])
    assert set(said["scores"]) >= {"helpfulness", "safety", "combined"}
    assert "trainer.sft" in said["methods"] or "sft" in said["methods"]
    assert said["retrieved"] == ["tides"]
    assert said["evaluation"] in ("JOB_STATE_QUEUED", "JOB_STATE_RUNNING")
    assert said["job_is_listed"]
    assert said["runs"] >= 0


def small_world(live: Any) -> str:
    """Id of a world with few prompts."""
    job = live.json("submit", "curation.synthesize", "--set", "documents=60", "--wait")
    return str(job["artifact"])

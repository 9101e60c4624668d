"""Training killed with SIGKILL at random steps ends in the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plumbline.data.records import Conversation, Preference, Prompt, assistant, user
from plumbline.data.tables import write_records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).with_name("killed_training.py")
WORDS = ("cat", "dog", "house", "sea", "mat", "old house")
STEPS = 24
COMMON = {"learning_rate": 1e-3, "log_every": 1, "checkpoint_every": 2, "schedule": "cosine"}
METHODS: dict[str, dict[str, Any]] = {
    # Dropout makes the run depend on the state of torch's generator as well.
    "trainer.sft": {
        "batch_size": 4,
        "epochs": 9,
        "max_steps": STEPS,
        "lora": {"rank": 4, "dropout": 0.2},
    },
    "trainer.dpo": {"batch_size": 4, "epochs": 9, "max_steps": STEPS},
    "trainer.ppo": {
        "iterations": STEPS,
        "prompts_per_iteration": 8,
        "minibatch_size": 4,
        "max_response_tokens": 6,
        "kl_controller": "adaptive",
        "kl_horizon": 100,
        "max_kl": 500.0,
        "reward": {"kind": "length", "target_words": 3},
    },
}


@pytest.fixture
def inputs(tmp_path: Path, tiny_policy: Path) -> dict[str, dict[str, str]]:
    """Directories of each method's inputs."""
    prompts = [(user(f"the {a} or the {b}?"),) for a in WORDS for b in WORDS]
    records: dict[str, list[Any]] = {
        "demonstrations": [
            Conversation(str(i), (*p, assistant("the mat"))) for i, p in enumerate(prompts)
        ],
        "preferences": [
            Preference(str(i), p, "the mat by the sea", "dog") for i, p in enumerate(prompts)
        ],
        "prompts_rl": [Prompt(str(i), p) for i, p in enumerate(prompts)],
    }
    for name, rows in records.items():
        (tmp_path / name).mkdir()
        write_records(tmp_path / name / f"{name}.parquet", rows)
    base = str(tiny_policy)
    return {
        "trainer.sft": {"base": base, "conversations": str(tmp_path / "demonstrations")},
        "trainer.dpo": {"policy": base, "preferences": str(tmp_path / "preferences")},
        "trainer.ppo": {"policy": base, "prompts": str(tmp_path / "prompts_rl")},
    }


def train(directory: Path, method: str, inputs: dict[str, str], kills: list[int]) -> Any:
    """Files and metrics of the artifact, and how many attempts were killed."""
    rng = random.Random(len(kills))
    given = {
        "state_dir": str(directory),
        "method": method,
        "config": {**COMMON, **METHODS[method]},
        "inputs": inputs,
        "kills": kills,
        # A step takes some tens of milliseconds, part of it spent on writing checkpoints.
        "delay_s": [rng.uniform(0, 0.05) for _ in kills],
    }
    done = subprocess.run(
        [sys.executable, SCRIPT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# DPO goes through the same steps as fine-tuning does.
@pytest.mark.parametrize(
    "method", ["trainer.sft", pytest.param("trainer.dpo", marks=pytest.mark.slow), "trainer.ppo"]
)
@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_training_ends_in_the_same_bytes(
    tmp_path: Path, inputs: dict[str, dict[str, str]], method: str, times: int
) -> None:
    kills = sorted(random.Random(times).sample(range(1, STEPS - 2), times))

    whole = train(tmp_path / "whole", method, inputs[method], [])
    broken = train(tmp_path / "broken", method, inputs[method], kills)

    assert broken["kills"] >= times - 1
    assert {"training.json", "model.safetensors"} <= whole["files"].keys()
    assert broken["files"] == whole["files"]
    assert broken["metrics"] == whole["metrics"]

"""Two ranks that shard a policy train as one process does; torchrun starts them over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from plumbline.core.errors import ConfigError
from plumbline.data.records import Conversation, assistant, user
from plumbline.data.tables import write_records
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import load_causal_lm
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.directory_context import DirectoryContext
from plumbline.trainer.distributed import main, run_sharded_sft
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.recipes.sft import encode_conversations, plan_steps, train_sft

SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "epochs": 2,
    # The third step of an epoch has one example, which leaves nothing to the second rank.
    "batch_size": 4,
    "tokens_per_microbatch": 40,
    "activation_checkpointing": True,
    "checkpoint_every": 3,
    "log_every": 1,
    "device": "cpu",
}
WORDS = ("cat", "dog", "old house", "sea", "mat", "the cat by the sea", "ran", "sat", "to the dog")
CONVERSATIONS = [
    Conversation(str(i), (user(f"the {word}?"), assistant(f"the {word} sat on the mat")))
    for i, word in enumerate(WORDS)
]
PROGRAM = r"""
import sys
from pathlib import Path

import torch.distributed as dist

from plumbline.core.ranks import leave
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.directory_context import DirectoryContext
from plumbline.trainer.distributed import main, run_sharded_sft


class Stopped(Exception):
    pass


class StopsAfterFour:
    def __get__(self, context, kind):
        return self

    def __call__(self, done, total, message=""):
        if done > 4:
            raise Stopped


base, data, config, whole, resumed = map(Path, sys.argv[1:])
settings = SFTConfig.model_validate_json(config.read_text())
dist.init_process_group("gloo")
progress, DirectoryContext.progress = DirectoryContext.progress, StopsAfterFour()
try:
    run_sharded_sft(settings, base, data, resumed)
except Stopped:
    found = sorted(path.name for path in (resumed / "checkpoints").iterdir())
    # In one piece, as both ranks write to one pipe.
    sys.stdout.write(f"stopped with {found}\n")
DirectoryContext.progress = progress
run_sharded_sft(settings, base, data, resumed)
inputs = ["--base", base, "--conversations", data, "--config", config]
ended = main(list(map(str, [*inputs, "--output", whole])))
dist.destroy_process_group()
leave(ended)
"""


@pytest.fixture(scope="module")
def outputs(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What two ranks wrote: in an undisturbed run, and in one broken off and resumed."""
    data = tmp_path_factory.mktemp("distributed")
    write_records(data / "conversations.parquet", CONVERSATIONS)
    (data / "sft.yaml").write_text(json.dumps(SETTINGS))
    (data / "program.py").write_text(PROGRAM)
    whole, resumed = data / "whole", data / "resumed"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    paths = (data / "program.py", tiny_policy, data, data / "sft.yaml", whole, resumed)
    done = subprocess.run(
        [*launcher, *map(str, paths)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("stopped with ['3']") == 2
    return whole, resumed


def test_two_ranks_train_as_one_process_does(
    outputs: tuple[Path, Path], tiny_policy: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_causal_lm(tiny_policy)
    chat, config = ChatFormat(tokenizer), SFTConfig(**SETTINGS)
    examples = encode_conversations(CONVERSATIONS, chat, max_length=128).examples
    plan = plan_steps(examples, batch_size=4, epochs=2, seed=0)
    context = DirectoryContext(tmp_path, is_first=True)
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
    train_sft(model, examples, run, plan, pad_id=chat.pad_id)

    curves = json.loads((outputs[0] / "training.json").read_text())["curves"]

    assert [entry["step"] for entry in curves] == list(range(1, 7))
    for found, expected in zip(curves, run.curves, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5)
    assert curves[-1]["loss"] < curves[0]["loss"] - 0.1
    trained, _ = load_causal_lm(outputs[0])
    for name, parameter in trained.named_parameters():
        assert_close(parameter, model.get_parameter(name), atol=1e-5, rtol=1e-4)


def test_resumed_ranks_repeat_the_undisturbed_ones_to_the_bit(outputs: tuple[Path, Path]) -> None:
    whole, resumed = outputs

    weights = [load_file(directory / "model.safetensors") for directory in outputs]
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())
    assert (whole / "training.json").read_bytes() == (resumed / "training.json").read_bytes()
    assert not (whole / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("lora", {"rank": 2}), ("test_fraction", 0.1), ("compile", True)]
)
def test_what_sharding_lacks_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    config = SFTConfig(**SETTINGS, **{name: value})

    with pytest.raises(ConfigError, match=f"{name}=.*not accepted by sharded training") as refused:
        run_sharded_sft(config, tmp_path, tmp_path, tmp_path)
    assert refused.value.field == name


def test_without_ranks_it_says_how_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    path = str(tmp_path)

    with pytest.raises(SystemExit):
        main(["--base", path, "--conversations", path, "--config", path, "--output", path])
    assert "torchrun -m plumbline.trainer.distributed" in capsys.readouterr().err


def test_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    context = DirectoryContext(tmp_path, is_first=True)
    for step in (1, 2, 10):
        directory = tmp_path / "work" / "saving"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "state.json").write_text(str(step))
        context.save_checkpoint(directory, step, keep=2)

    assert context.newest_checkpoint() == (tmp_path / "checkpoints" / "10", 10)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "2"]

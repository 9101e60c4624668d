"""The stage trainer.sft on two ranks makes what it makes on one, and goes on where one stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import Artifact, open_configured_store
from plumbline.core.errors import CancelledError
from plumbline.core.settings import Settings
from plumbline.core.stages import NullReporter, run_stage
from plumbline.data.records import Conversation, assistant, user
from plumbline.data.tables import write_records
from plumbline.trainer.config import SFTConfig

CONFIG: dict[str, Any] = {
    "learning_rate": 1e-3,
    "epochs": 2,
    # An epoch's last step has one example, which leaves nothing to the second rank.
    "batch_size": 4,
    "tokens_per_microbatch": 40,
    "checkpoint_every": 3,
    "log_every": 1,
    "test_fraction": 0.3,
    "device": "cpu",
}
WORDS = (
    *("cat", "dog", "old house", "sea", "mat", "the cat by the sea", "ran", "sat", "to the dog"),
    *("the", "house", "the dog ran", "on the mat"),
)
CONVERSATIONS = [
    Conversation(str(i), (user(f"the {word}?"), assistant(f"the {word} sat on the mat")))
    for i, word in enumerate(WORDS)
]
PROGRAM = r"""
import json
import sys
from pathlib import Path

from torch.distributed import PrefixStore, init_process_group, rendezvous

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import open_configured_store
from plumbline.core.other_ranks import StoppableReporter, run_other_rank
from plumbline.core.ranks import Place, RankGroup
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage

config, inputs, *directories = sys.argv[1:]
place = Place.from_environment()
shared, _, _ = next(rendezvous("env://"))
# One group for both attempts, which are two processes elsewhere.
init_process_group(
    "gloo", store=PrefixStore("group", shared), rank=place.rank, world_size=place.world_size
)
for directory in directories:
    settings = Settings(state_dir=Path(directory), threads=1)
    store = open_configured_store(settings)
    group = RankGroup(place, PrefixStore(directory, shared))
    if place.is_first:
        made, cached = run_stage(
            STAGES["trainer.sft"], json.loads(config), json.loads(inputs),
            store=store, settings=settings, ranks=group,
        )
        assert not cached
        (Path(directory) / "made").write_text(made.id)
    else:
        run_other_rank(
            STAGES, group, store=store, settings=settings, reporter=StoppableReporter()
        )
"""


class StopsAfterFour(NullReporter):
    """Cancels the stage as a worker does."""

    def __init__(self) -> None:
        self._done = 0

    def progress(self, done: int, total: int, message: str) -> None:
        self._done = done

    def cancel_reason(self) -> str | None:
        return "enough" if self._done >= 4 else None


def run_alone(directory: Path, inputs: dict[str, list[str]], **options: Any) -> Artifact:
    settings = Settings(state_dir=directory, threads=1)
    store = open_configured_store(settings)
    made, _ = run_stage(
        STAGES["trainer.sft"], CONFIG, inputs, store=store, settings=settings, **options
    )
    return made


@pytest.fixture(scope="module")
def made(
    tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Artifact, Path]]:
    """Artifact and files of one rank, of two, and of two that went on where one was stopped."""
    root = tmp_path_factory.mktemp("ranks")
    (root / "data").mkdir()
    write_records(root / "data" / "conversations.parquet", CONVERSATIONS)
    inputs = {"base": [f"path:{tiny_policy}"], "conversations": [f"path:{root / 'data'}"]}
    ids = {"one": run_alone(root / "one", inputs).id}
    with pytest.raises(CancelledError):
        run_alone(root / "resumed", inputs, reporter=StopsAfterFour())
    (root / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(root / "program.py"), json.dumps(CONFIG), json.dumps(inputs)),
            *(str(root / name) for name in ("two", "resumed")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ids |= {name: (root / name / "made").read_text() for name in ("two", "resumed")}
    found = {}
    for name, artifact_id in ids.items():
        store = open_configured_store(Settings(state_dir=root / name))
        found[name] = (store.get(artifact_id), store.materialise(artifact_id))
    return found


@pytest.mark.parametrize("name", ["two", "resumed"])
def test_ranks_learn_what_one_rank_learns(
    made: dict[str, tuple[Artifact, Path]], name: str
) -> None:
    (one, files_of_one), (several, files) = made["one"], made[name]

    metrics = several.manifest.metrics
    assert metrics == pytest.approx(one.manifest.metrics, rel=1e-5)
    assert {"examples.test", "test.loss", "steps", "records.refused"} <= set(metrics)
    curves, expected = (
        json.loads((directory / "training.json").read_text())["curves"]
        for directory in (files, files_of_one)
    )
    assert [row["step"] for row in curves] == [row["step"] for row in expected]
    for row, row_of_one in zip(curves, expected, strict=True):
        assert row["loss"] == pytest.approx(row_of_one["loss"], rel=1e-5)
    # The steps are long enough that nothing but learning explains it.
    assert curves[-1]["loss"] < curves[0]["loss"] - 0.1
    weights, weights_of_one = (
        load_file(directory / "model.safetensors") for directory in (files, files_of_one)
    )
    for parameter, tensor in weights.items():
        assert_close(tensor, weights_of_one[parameter], atol=1e-5, rtol=1e-4)


def test_ranks_write_the_files_that_one_rank_writes(
    made: dict[str, tuple[Artifact, Path]],
) -> None:
    one, two = made["one"][0].manifest, made["two"][0].manifest

    assert [file.name for file in two.files] == [file.name for file in one.files]
    assert two.lineage == one.lineage


def test_settings_for_one_rank_exist() -> None:
    assert set(STAGES["trainer.sft"].one_rank_settings) <= set(SFTConfig.model_fields)

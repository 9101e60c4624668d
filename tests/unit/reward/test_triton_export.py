"""Triton's model repository: its files, what may be replaced, and the scores of its program."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from plumbline.core.errors import AlreadyExistsError, InvalidInputError
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.reward.config import TritonExportConfig
from plumbline.reward.triton_export import ExportedModel, export_repository
from plumbline.reward.triton_model.reward_scoring import RewardScorer


def digest(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def both(tiny_reward_models: dict[str, Path]) -> list[ExportedModel]:
    return [ExportedModel(f"id-of-{h}", tiny_reward_models[h]) for h in ("safety", "helpfulness")]


def test_a_repository_holds_a_model_for_each_head_and_the_ensemble(
    both: list[ExportedModel], tmp_path: Path
) -> None:
    written = export_repository(both, tmp_path / "repository")

    assert written == {"helpfulness": "id-of-helpfulness", "safety": "id-of-safety"}
    files = digest(tmp_path / "repository")
    assert {name.split("/")[0] for name in files if "/" in name} == {
        "helpfulness",
        "safety",
        "combine",
        "combined",
    }
    assert (tmp_path / "repository" / "combined" / "1").is_dir()
    config = files["helpfulness/config.pbtxt"].decode()
    for expected in (
        "preferred_batch_size: [ 8, 16, 32, 64 ]",
        "max_queue_delay_microseconds: 2000",
        'name: "input_ids" data_type: TYPE_INT32 dims: [ -1 ] allow_ragged_batch: true',
        "kind: KIND_CPU",
        'key: "reward_model_id" value: { string_value: "id-of-helpfulness" }',
        'key: "temperature" value: { string_value: "1.0" }',
    ):
        assert expected in config
    # Self-contained: nothing of this package runs in Triton, and no tokenizer is needed.
    programs = [text for name, text in files.items() if name.endswith(".py")]
    assert programs and not any(
        b"import plumbline" in p or b"from plumbline" in p for p in programs
    )
    assert "helpfulness/1/weights/model.safetensors" in files
    assert not any("tokenizer" in name for name in files)


def test_the_same_models_give_the_same_bytes(both: list[ExportedModel], tmp_path: Path) -> None:
    export_repository(both, tmp_path / "one")
    export_repository(both[::-1], tmp_path / "other")
    assert digest(tmp_path / "one") == digest(tmp_path / "other")


def test_options_reach_the_configuration(both: list[ExportedModel], tmp_path: Path) -> None:
    config = TritonExportConfig(
        device="gpu", instances=2, max_batch_size=1, dtype="bfloat16", max_queue_delay_us=0
    )
    export_repository(both[:1], tmp_path / "repository", config)

    text = (tmp_path / "repository" / "safety" / "config.pbtxt").read_text()

    assert "instance_group [ { count: 2 kind: KIND_GPU } ]" in text
    assert "preferred_batch_size" not in text
    assert 'key: "dtype" value: { string_value: "bfloat16" }' in text
    assert not (tmp_path / "repository" / "combined").exists()


def test_an_earlier_export_is_replaced_and_nothing_else(
    both: list[ExportedModel], tmp_path: Path
) -> None:
    export_repository(both, tmp_path)
    export_repository(both[:1], tmp_path)
    assert not (tmp_path / "helpfulness").exists()

    (tmp_path / "another-model").mkdir()

    with pytest.raises(AlreadyExistsError, match="another-model, which no export wrote"):
        export_repository(both, tmp_path)
    assert (tmp_path / "safety").is_dir()


def test_heads_must_be_clear(
    both: list[ExportedModel], tiny_reward_models: dict[str, Path], tmp_path: Path
) -> None:
    preference = ExportedModel("id", tiny_reward_models["preference"])
    with pytest.raises(InvalidInputError, match="name one: helpfulness or safety"):
        export_repository([preference], tmp_path)
    with pytest.raises(InvalidInputError, match="both for head 'safety'"):
        export_repository(
            [both[0], ExportedModel("id", tiny_reward_models["preference"], "safety")], tmp_path
        )
    with pytest.raises(InvalidInputError, match="trained for head 'safety'"):
        export_repository([ExportedModel("id", both[0].path, "helpfulness")], tmp_path)
    with pytest.raises(InvalidInputError, match="no reward model"):
        export_repository([], tmp_path)


@pytest.mark.parametrize("pooling", ["last", "cls", "mean", "response"])
def test_the_program_in_triton_scores_as_the_reward_model_does(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, pooling: Any
) -> None:
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=70,
    )
    backbone = tiny_llama().model if pooling == "last" else BertModel(config).eval()
    card = RewardModelCard(head="safety", pooling=pooling, max_length=70)
    model = RewardModel.create(backbone, tiny_tokenizer, card, seed=1).eval()
    model.save(tmp_path / "model")
    export_repository([ExportedModel("id", tmp_path / "model")], tmp_path / "repository")
    generator = random.Random(0)
    texts = [[generator.randrange(6, 290) for _ in range(n)] for n in (1, 5, 70, 33, 34, 16, 69)]
    lengths = [generator.randint(1, len(text)) for text in texts]
    scorer = RewardScorer(
        tmp_path / "repository" / "safety" / "1" / "weights",
        dtype="float32",
        pad_id=0,
        device="cpu",
        length_multiple=16,
        tokens_per_batch=64,
    )

    found = scorer.score(texts, lengths)

    expected = model.score_encoded(texts, response_lengths=lengths)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    alone = torch.cat([scorer.score([t], [n]) for t, n in zip(texts, lengths, strict=True)])
    assert torch.equal(alone, found)


def test_the_command_exports_and_names_what_it_wrote(
    tiny_reward_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plumbline.cli.main import app

    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    output = tmp_path / "repository"
    arguments = ["export-triton", str(tiny_reward_models["preference"]), "--output", str(output)]

    done = CliRunner().invoke(
        app,
        [*arguments, "--head", "safety", "--set", "threads=1", "--json"],
        catch_exceptions=False,
    )

    assert json.loads(done.stdout)["reward_models"]["safety"].startswith("dir:")
    assert (
        'key: "threads" value: { string_value: "1" }'
        in (output / "safety" / "config.pbtxt").read_text()
    )

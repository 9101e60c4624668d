"""Model directories: same bytes out, and damage that is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from plumbline.core.errors import CheckpointError
from plumbline.models.checkpoint import (
    check_model_directory,
    load_bare_tokenizer,
    load_causal_lm,
    load_encoder_or_decoder,
    save_model,
)


@pytest.fixture
def directory(tiny_policy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_policy, tmp_path / "model"))


def test_saving_twice_gives_the_same_bytes(tiny_policy: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_model(*load_causal_lm(tiny_policy), tmp_path / name)

    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "model.safetensors" in files
    for name in files:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        assert str(tiny_policy).encode() not in content


def test_loaded_model_computes_what_was_saved(
    tiny_policy: Path, tiny_llama: Callable[..., Any]
) -> None:
    model, tokenizer = load_causal_lm(tiny_policy)
    ids = torch.tensor([tokenizer.encode("the cat sat")])

    assert torch.equal(model(ids).logits, tiny_llama()(ids).logits)


def test_backbone_loads_without_its_head(tiny_policy: Path) -> None:
    backbone, _ = load_encoder_or_decoder(tiny_policy)

    assert backbone.get_output_embeddings() is None


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "model.safetensors is missing"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_missing_files_are_named(directory: Path, file: str, message: str) -> None:
    (directory / file).unlink()

    with pytest.raises(CheckpointError, match=message) as refused:
        load_causal_lm(directory)
    assert refused.value.reason == "CHECKPOINT_INCOMPLETE"


def test_missing_shard_is_named(directory: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}
    (directory / "model.safetensors").rename(directory / "model-2.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(CheckpointError, match=r"model-00001-of-00002\.safetensors is missing"):
        check_model_directory(directory)


def test_pickled_weights_are_refused(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle") as refused:
        check_model_directory(directory)
    assert refused.value.reason == "CHECKPOINT_PICKLE"


def test_weights_cut_short_are_refused(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])

    with pytest.raises(CheckpointError, match="its header declares"):
        check_model_directory(directory)


def test_another_models_tokenizer_is_refused(directory: Path) -> None:
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 5000, "content": "<|x|>"})
    path.write_text(json.dumps(content))

    with pytest.raises(CheckpointError, match="token id 5000") as refused:
        check_model_directory(directory)
    assert refused.value.reason == "TOKENIZER_MISMATCH"


def test_vocabulary_size_must_match_the_embeddings(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": 999}))

    with pytest.raises(CheckpointError, match="vocab_size=999"):
        check_model_directory(directory)


def test_unknown_directory_and_dtype_are_refused(tiny_policy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a directory"):
        load_causal_lm(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="accepted: float32"):
        load_causal_lm(tiny_policy, dtype="int4")


def test_a_tokenizer_needs_no_model_beside_it(tiny_tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer in"):
        load_bare_tokenizer(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert load_bare_tokenizer(tmp_path).encode("the cat") == tiny_tokenizer.encode("the cat")

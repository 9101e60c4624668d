from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import CheckpointError, FailedPreconditionError
from plumbline.retriever.search.config import SearchConfig
from plumbline.retriever.search.rerank import CrossEncoder, configured_reranker

QUERY = "the cat sat"
TEXTS = ["on the mat", "the dog ran to the old house by the sea", "sea", "the cat sat"]


@pytest.fixture(scope="module")
def cross_encoder(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random sequence classifier with one label."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from plumbline.models.checkpoint import save_model

    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_labels=1,
        max_position_embeddings=512,
        initializer_range=0.5,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    directory = tmp_path_factory.mktemp("reranker")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(BertForSequenceClassification(config).eval(), tiny_tokenizer, directory)
    return directory


def test_scores_are_the_models_logits_in_the_order_of_the_texts(cross_encoder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder).eval()
    with torch.inference_mode():
        expected = [
            float(model(**tokenizer(QUERY, text, return_tensors="pt")).logits[0, 0])
            for text in TEXTS
        ]

    assert CrossEncoder(cross_encoder).score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == len(TEXTS)


def test_the_same_call_gives_the_same_bits(cross_encoder: Path) -> None:
    reranker = configured_reranker(SearchConfig(reranker=str(cross_encoder)))

    assert reranker.score(QUERY, TEXTS) == reranker.score(QUERY, TEXTS)
    assert reranker is configured_reranker(SearchConfig(reranker=str(cross_encoder)))
    assert reranker.score(QUERY, []) == []


def test_without_a_configured_model_the_message_names_the_setting() -> None:
    with pytest.raises(FailedPreconditionError, match=r"search\.reranker"):
        configured_reranker(SearchConfig())


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="sequence-classification"):
        CrossEncoder(tmp_path / "none")


def test_without_torch_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(FailedPreconditionError, match=r"plumbline\[models\]"):
        CrossEncoder(tmp_path)

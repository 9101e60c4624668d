from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.core.errors import CorruptArtifactError
from plumbline.retriever.search.hashed import HashedEmbedder
from plumbline.retriever.search.ngrams import NgramIndex
from plumbline.retriever.search.questions import Question, read_question

TEXTS = ["cat", "cat dog", "个人信息", "", "dog"]


def ask(text: str) -> list[float]:
    scores: list[float] = NgramIndex.of(TEXTS).scores(Question(text, text, "")).tolist()
    return scores


def test_a_score_is_the_pivoted_cosine_worked_by_hand() -> None:
    """`cat` has two features, the word and its trigram, both in the same texts and so of one
    weight: the query is (1, 1) / sqrt(2). Text 0 is (1, 1) / (sqrt(2) + 5.5), which gives
    2 / sqrt(2) / 6.9142136 = 0.2045372; text 1 has four features, which gives
    2 / sqrt(2) / (2 + 5.5) = 0.1885618."""
    assert ask("cat") == pytest.approx([0.2045372, 0.1885618, 0, 0, 0])


def test_features_that_no_text_has_do_not_count() -> None:
    assert ask("cat unheard") == ask("cat")
    assert ask("unheard") == [0] * 5
    assert ask("") == [0] * 5


def test_wide_folding_comes_near_to_what_is_not_folded() -> None:
    texts = [f"第{i}条 个人信息 {i % 7} 处理者应当 {'保护' * (i % 3)} 用户" for i in range(200)]
    question = read_question("个人信息处理者怎么保护用户 3")
    folded = HashedEmbedder(8192)

    exact = NgramIndex.of(texts).scores(question)
    near = folded.embed(texts) @ folded.embed_query(question, folded.feature_weights(texts))

    assert near.tolist() == pytest.approx(exact.tolist(), abs=0.06)


def test_related_words_are_found_too() -> None:
    index = NgramIndex.of(["解除劳动合同的，应当支付经济补偿", "船舶吨税"])

    assert index.scores(read_question("被炒鱿鱼了"))[0] > 0


def test_postings_come_back_from_their_files(tmp_path: Path) -> None:
    index = NgramIndex.of(TEXTS)
    index.write(tmp_path / "ngrams")

    again = NgramIndex.read(tmp_path / "ngrams", len(TEXTS))

    question = read_question("cat 个人信息")
    assert again.scores(question).tobytes() == index.scores(question).tobytes()
    (tmp_path / "ngrams" / "starts.npy").unlink()
    with pytest.raises(CorruptArtifactError, match="n-grams"):
        NgramIndex.read(tmp_path / "ngrams", len(TEXTS))


def test_no_texts_are_no_error() -> None:
    assert NgramIndex.of([]).scores(read_question("cat")).tolist() == []

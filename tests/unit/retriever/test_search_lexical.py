from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bm25s
import numpy as np
import pytest

from plumbline.core.errors import CorruptArtifactError
from plumbline.retriever.search.lexical import LexicalIndex
from plumbline.retriever.search.tokens import normalise, tokenise

DOCUMENTS = ["the oven is hot", "bread and bread", "个人信息不得公开", "", "hot bread"]


def index() -> LexicalIndex:
    return LexicalIndex.of([tokenise(text) for text in DOCUMENTS])


def test_han_is_split_into_characters_and_bigrams() -> None:
    assert tokenise("Ovens 公开！") == ["ovens", "公", "开", "公开"]


def test_bigrams_do_not_reach_across_a_mark() -> None:
    assert tokenise("公，开") == ["公", "开"]


def test_other_scripts_are_words_and_kana_has_bigrams_too() -> None:
    assert tokenise("Café, Привет 2025年") == ["café", "привет", "2025", "年"]
    assert tokenise("かな") == ["か", "な", "かな"]


def test_width_and_case_do_not_matter() -> None:
    assert tokenise("ＡＢＣ１２３") == ["abc123"]
    assert normalise("Ｓtraße") == "strasse"


def test_a_score_is_bm25_worked_by_hand() -> None:
    """`oven` is in 1 of 5 documents: idf = ln(1 + 4.5 / 1.5) = 1.3862944. Document 0 has 4
    tokens; the mean is (4 + 3 + 15 + 1 + 2) / 5 = 5, the empty one counting as one token.
    tf / (tf + 1.5 * (1 - 0.75 + 0.75 * 4 / 5)) = 1 / 2.275 = 0.4395604, times idf: 0.6093602."""
    scores = index().scores(["oven"])

    assert scores.tolist() == pytest.approx([0.6093602, 0, 0, 0, 0])


def test_scores_agree_with_those_of_the_library() -> None:
    library = bm25s.BM25()
    tokens = [tokenise(text) or [""] for text in DOCUMENTS]
    library.index(tokens, show_progress=False)

    for query in ("hot bread", "个人信息", "bread bread hot"):
        asked = tokenise(query)
        assert index().scores(asked) == pytest.approx(library.get_scores(asked), abs=1e-6)


def test_the_order_of_words_changes_no_bit() -> None:
    words = tokenise("the hot bread is 个人信息")

    assert index().scores(words).tobytes() == index().scores(words[::-1]).tobytes()


def test_only_admitted_rows_that_share_a_word_are_ranked() -> None:
    scores = index().scores(["bread", "hot", "unheard"])

    rows, _ = LexicalIndex.rank(scores, np.array([0, 2, 4]), 10)

    assert rows.tolist() == [4, 0]
    assert not index().scores(["unheard"]).any()


def test_an_index_comes_back_from_its_files(tmp_path: Path) -> None:
    index().write(tmp_path)

    again = LexicalIndex.read(tmp_path)

    assert again.scores(["bread"]).tobytes() == index().scores(["bread"]).tobytes()
    (tmp_path / "data.csc.index.npy").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifactError, match="lexical"):
        LexicalIndex.read(tmp_path)


def test_every_process_writes_the_same_bytes(tmp_path: Path) -> None:
    """Sets of strings iterate in another order under another hash seed."""
    program = (
        "import sys; from pathlib import Path\n"
        "from plumbline.retriever.search.lexical import LexicalIndex\n"
        "LexicalIndex.of([list('qwertyuiop'), list('asdfghjkl')]).write(Path(sys.argv[1]))"
    )
    contents = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", program, folder],
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        )
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})

    assert contents[0] == contents[1]
    assert len(contents[0]) == 5

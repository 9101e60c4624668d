"""Real amendments: the day before, on and after, each article answers in the text of that day.

The public statutes hold amendments that quote both texts, or the whole new one, so that the older
edition can be set up from the amendment's own words. The texts are read where they lie and are
not part of the repository.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline.core.artifacts import open_configured_store
from plumbline.core.settings import Settings
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.readers.folders import read_values
from plumbline.retriever.search.filters import ValueQuery

LAWS = "cn_laws_kb/laws.jsonl.gz"
_REPLACED = re.compile(r"^第\S+条 宪法第(\S+?)条第\S+款“([^”]+)”修改为：“([^”]+)”$", re.MULTILINE)


@pytest.fixture(scope="module")
def laws(public_data: Callable[[str], Path]) -> dict[str, str]:
    """The text of each statute; of copies in two folders the first."""
    texts: dict[str, str] = {}
    with gzip.open(public_data(LAWS), "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts.setdefault(row["title"], row["text"])
    return texts


@pytest.fixture
def engine(tmp_path: Path) -> RetrieverEngine:
    store = open_configured_store(Settings(state_dir=tmp_path / "state"))
    return RetrieverEngine(store, RetrieverConfig())


def text_on(engine: RetrieverEngine, article: str, day: str) -> str | None:
    """What an article said on a day; None where it did not hold."""
    values, _ = engine.values_in_force("law", ValueQuery(as_of=day))
    return next((value.text for value in values if value.id == article), None)


def constitution_before_2018(laws: dict[str, str]) -> tuple[str, dict[int, tuple[str, str]]]:
    """The edition of 2004 as far as whole clauses go, and each clause before and after."""
    text, clauses = laws["宪法"], {}
    for number, old, new in _REPLACED.findall(laws["宪法修正案（2018年）"]):
        if text.count(new) == 1:
            text = text.replace(new, old)
            clauses[_NUMBERS[number]] = (old, new)
    return text, clauses


_NUMBERS = {"三": 3, "六十五": 65, "七十九": 79, "一百零三": 103, "一百零七": 107}
"""Articles whose amendment quotes one whole clause before and after."""


def test_the_constitution_before_on_and_after_its_amendment(
    laws: dict[str, str], engine: RetrieverEngine, tmp_path: Path
) -> None:
    before, clauses = constitution_before_2018(laws)
    (tmp_path / "宪法_2004-03-14.md").write_text(before, encoding="utf-8")
    (tmp_path / "宪法_2018-03-11.md").write_text(laws["宪法"], encoding="utf-8")
    assert set(clauses) == set(_NUMBERS.values())

    engine.import_values("law", read_values(sorted(tmp_path.glob("*.md"))))

    for number, (old, new) in clauses.items():
        article = f"宪法:{number}"
        assert old in (text_on(engine, article, "2018-03-10") or ""), article
        for day in ("2018-03-11", "2018-03-12", "2026-01-01"):
            text = text_on(engine, article, day) or ""
            assert new in text and old not in text, (article, day)
        assert text_on(engine, article, "2004-03-13") is None
        assert {v.version for v in engine.list_values("law") if v.id == article} == {1, 2}


def test_search_answers_in_the_text_of_the_day(
    laws: dict[str, str], engine: RetrieverEngine, tmp_path: Path
) -> None:
    """The term of the presidency, which the amendment of 2018 took away."""
    before, clauses = constitution_before_2018(laws)
    (tmp_path / "宪法_2004-03-14.md").write_text(before, encoding="utf-8")
    (tmp_path / "宪法_2018-03-11.md").write_text(laws["宪法"], encoding="utf-8")
    engine.import_values("law", read_values(sorted(tmp_path.glob("*.md"))))
    query = "国家主席、副主席的任期"

    def answer(day: str) -> tuple[str, int]:
        hits, _ = engine.retrieve("law", query, ValueQuery(as_of=day), k=20)
        found = [hit.value for hit in hits if hit.value.id == "宪法:79"]
        assert len(found) == 1, "exactly one version of an article answers"
        return found[0].text, found[0].version

    old, new = clauses[79]
    text, version = answer("2018-03-10")
    assert old in text and version == 1
    for day in ("2018-03-11", "2018-03-12"):
        text, version = answer(day)
        assert new in text and old not in text and version == 2


def test_an_article_of_the_criminal_law_in_two_editions(
    laws: dict[str, str], engine: RetrieverEngine, tmp_path: Path
) -> None:
    """The sixth amendment wrote article 134 anew on 29 June 2006; the eleventh, in force from
    1 March 2021, added those who go on in spite of a known danger."""
    sixth = re.search(
        r"将刑法第一百三十四条修改为：(“.*?”)\n\n二、", laws["刑法修正案（六）"], re.DOTALL
    )
    assert sixth is not None
    clauses = [line.strip("“” ") for line in sixth[1].splitlines() if line.strip()]
    older = "# 刑法\n\n第一百三十四条 " + "\n\n".join(clauses) + "\n"
    (tmp_path / "刑法_2006-06-29.md").write_text(older, encoding="utf-8")
    newer = re.search(
        r"^第一百三十四条 .*?(?=^第一百三十四条之一)", laws["刑法"], re.DOTALL | re.MULTILINE
    )
    assert newer is not None
    (tmp_path / "刑法_2021-03-01.md").write_text(f"# 刑法\n\n{newer[0]}", encoding="utf-8")

    # The newer edition comes first: history may be filled in afterwards.
    engine.import_values("law", read_values([tmp_path / "刑法_2021-03-01.md"]))
    engine.import_values("law", read_values([tmp_path / "刑法_2006-06-29.md"]))

    assert text_on(engine, "刑法:134", "2006-06-28") is None
    for day in ("2006-06-29", "2021-02-28"):
        text = text_on(engine, "刑法:134", day) or ""
        assert clauses[0] in text and "冒险组织作业" not in text, day
    for day in ("2021-03-01", "2021-03-02"):
        assert "冒险组织作业" in (text_on(engine, "刑法:134", day) or ""), day


def test_a_repealed_law_gives_way_to_the_one_that_repeals_it(
    laws: dict[str, str], engine: RetrieverEngine, tmp_path: Path
) -> None:
    """The noise law of 2021 says itself that it is in force from 5 June 2022, and that the older
    one is repealed on that day."""
    old, new = "环境噪声污染防治法", "噪声污染防治法"
    assert "自2022年6月5日起施行" in laws[new] and "同时废止" in laws[new]
    (tmp_path / f"{old}_2018-12-29.md").write_text(
        f"---\neffective_to: 2022-06-05\n---\n{laws[old]}", encoding="utf-8"
    )
    (tmp_path / f"{new}_2021-12-24.md").write_text(laws[new], encoding="utf-8")

    engine.import_values("law", read_values(sorted(tmp_path.glob("*.md"))))

    def sources(day: str) -> set[str]:
        hits, _ = engine.retrieve("law", "室内装修噪声", ValueQuery(as_of=day), k=50)
        return {hit.value.source for hit in hits}

    assert sources("2022-06-04") == {old}
    assert sources("2022-06-05") == {new}
    assert sources("2022-06-06") == {new}

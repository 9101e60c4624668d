"""Real statutes: every article is found, and can be addressed."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from plumbline.data.records import ValueSpec
from plumbline.retriever.readers.folders import read_values
from plumbline.retriever.values.importing import ValueSet, plan_import

BEGINS = re.compile(
    r"^第[零一二三四五六七八九十百千]+(?:条(?:之[一二三四五六七八九十]+)?\s|\s条)", re.MULTILINE
)
ITEM = re.compile(r"^[一二三四五六七八九十]+、")
NUMBERED = re.compile(r":\d+(-\d+)?$")


@pytest.fixture(scope="module")
def laws(public_data: Any) -> list[dict[str, Any]]:
    with gzip.open(public_data("cn_laws_kb") / "laws.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def values(public_data: Any) -> tuple[ValueSpec, ...]:
    started = time.monotonic()
    found = read_values([public_data("cn_laws_kb")])
    assert time.monotonic() - started < 10, "hundreds of laws are a matter of seconds"
    return found


def test_as_many_articles_as_lines_that_begin_one(
    laws: list[dict[str, Any]], values: tuple[ValueSpec, ...]
) -> None:
    found = Counter(value.source for value in values if NUMBERED.search(value.id))
    others = Counter(value.source for value in values if not NUMBERED.search(value.id))
    exceptions = []
    for law in {law["title"]: law for law in laws}.values():
        body = law["text"].partition("<!-- INFO END -->")[2]
        expected = len(BEGINS.findall(body))
        if expected and (found[law["title"]], others[law["title"]]) != (expected, 0):
            exceptions.append(
                f"{law['title']}: {expected} articles begin, {found[law['title']]} found, and "
                f"{others[law['title']]} preambles, annexes and sections"
            )
        assert not expected or found[law["title"]] == expected, law["title"]
    print(*exceptions, sep="\n")
    assert sum(found.values()) > 25_000
    assert len(exceptions) < 20


def test_ids_are_unique_and_articles_hold_their_own_text(
    laws: list[dict[str, Any]], values: tuple[ValueSpec, ...]
) -> None:
    by_id = {value.id: value for value in values}
    assert len(by_id) == len(values)
    # Read by hand from the statute.
    article = by_id["居民身份证法:14"]
    assert article.title.startswith("居民身份证法 第三章 使用和查验 第十四条")
    assert article.text.startswith("有下列情形之一的，公民应当出示居民身份证证明身份：\n（一）")
    assert article.effective_from == "2011-10-29"
    # Its line begins with a misplaced space: 第一百二十八 条侦查人员.
    assert by_id["刑事诉讼法:128"].text.startswith("侦查人员对于与犯罪有关的场所")
    assert by_id["刑法:120-1"].title.endswith("第一百二十条之一")
    assert by_id["反垄断法:1"].effective_from == "2008-08-01"
    text_of = {law["title"]: law["text"] for law in laws}
    for value in values[::97]:
        for line in value.text.splitlines():
            assert line in text_of[value.source], value.id


def test_nothing_of_a_law_is_lost(
    laws: list[dict[str, Any]], values: tuple[ValueSpec, ...]
) -> None:
    """Every line below the header stands in a text, or in a title where a heading was broken."""
    texts: defaultdict[str, set[str]] = defaultdict(set)
    titles: defaultdict[str, set[str]] = defaultdict(set)
    for value in values:
        texts[value.source] |= set(value.text.splitlines())
        titles[value.source].add(value.title)
    lost = []
    for law in {law["title"]: law for law in laws}.values():
        body = law["text"].partition("<!-- INFO END -->")[2]
        for raw in body.split("\n"):
            line = re.sub(r"<!--.*?-->", "", raw).strip().strip("\u200b")
            said = {line, BEGINS.sub("", line).strip(), ITEM.sub("", line)}
            if not line or line.startswith("#") or said & texts[law["title"]]:
                continue
            if not any(line in title for title in titles[law["title"]]):
                lost.append(f"{law['title']}: {line}")
    assert not lost


def test_an_older_edition_gives_versions_of_the_same_articles(
    laws: list[dict[str, Any]], values: tuple[ValueSpec, ...], tmp_path: Path
) -> None:
    (current, *_) = [law for law in laws if law["title"] == "反垄断法"]
    older = current["text"].replace("第五十七条 ", "第五十六条之一 ")
    folder = tmp_path / "经济法"
    folder.mkdir()
    (folder / "反垄断法(2006-01-01).md").write_text(
        older.replace("2008年8月1日起施行", "2006年8月1日起施行"), encoding="utf-8"
    )
    (folder / "反垄断法(2007-08-30).md").write_text(current["text"], encoding="utf-8")

    plan = plan_import(ValueSet(), read_values([tmp_path]), complete_sources=["反垄断法"])

    kept = {(v.id, v.version): (v.effective_from, v.effective_to) for v in plan.values}
    assert kept["反垄断法:14", 1] == ("2006-08-01", "")
    assert kept["反垄断法:14", 2] == ("2008-08-01", "")
    assert kept["反垄断法:56-1", 1] == ("2006-08-01", "2008-08-01")
    assert kept["反垄断法:57", 1] == ("2008-08-01", "")

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.records import ValueSpec
from plumbline.data.tables import write_records
from plumbline.retriever.readers.folders import read_values


def laughs() -> str:
    """A hundred million times one word, as YAML aliases."""
    text = "[ha]"
    for name in "abcdefgh":
        text = f"[&{name} {text}{f', *{name}' * 9}]"
    return text


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_json_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    value = ValueSpec(
        id="oven",
        text="Mind the oven.",
        triggers=("baking", "bread"),
        priority=3,
        effective_from="2024-01-01",
        supersedes=("stove",),
        checkers=("max_words: 80", "avoids: a, b"),
        tenant="acme",
    )
    write(tmp_path / "a.jsonl", json.dumps(value.to_row()) + "\n")
    write(
        tmp_path / "b.csv",
        "id,text,triggers,priority,effective_from,supersedes,checkers,tenant,title\n"
        "oven,Mind the oven.,baking | bread,3,2024-01-01,stove,"
        '"max_words: 80|avoids: a, b",acme,\n',
    )
    write_records(tmp_path / "c.parquet", [value])

    for name in ("a.jsonl", "b.csv", "c.parquet"):
        assert read_values([tmp_path / name]) == (value,), name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: broken JSON"),
        ("[1]", ":2: the row is a list"),
        ('{"id": "x", "text": "t", "colour": 1}', ":2: a value has no field 'colour'"),
        ('{"id": "x"}', ":2: a value needs 'text'"),
        ('{"text": "t"}', ":2: a value needs 'id'"),
        ('{"id": "x", "text": "t", "priority": 1.5}', ":2: 'priority' is 1.5"),
        ('{"id": "x", "text": "t", "priority": true}', ":2: 'priority' is True"),
        ('{"id": "x", "text": "t", "triggers": [1]}', ":2: 'triggers' is a list"),
        ('{"id": "x", "text": ["t"]}', ":2: 'text' is a list"),
        ('{"id": "x", "text": "\\ud800"}', ":2: value 'x' has the control character"),
        ('{"id": "a/b", "text": "t"}', ":2: value id 'a/b'"),
        ('{"id": "x", "text": "t", "effective_from": "soon"}', ":2: effective_from='soon'"),
        ('{"title": "Law", "text": "Article 1"}', ":2: 'Law Article 1' has no text"),
        ('{"title": "Law", "text": "Be kind.", "date": "soon"}', ":2: date='soon'"),
    ],
)
def test_a_broken_row_names_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "rules.jsonl", '{"id": "ok", "text": "fine"}\n' + line + "\n")

    with pytest.raises(InvalidInputError, match=f"rules.jsonl{message}"):
        read_values([path])


def test_an_empty_file_and_a_wrong_encoding_are_refused(tmp_path: Path) -> None:
    for name in ("empty.jsonl", "empty.md"):
        with pytest.raises(InvalidInputError, match="is empty"):
            read_values([write(tmp_path / name, "\n")])
    for name, data in (("latin.jsonl", '{"id": "x", "text": "é"}'), ("latin.md", "one\né")):
        (tmp_path / name).write_bytes(data.encode("latin-1"))
        with pytest.raises(InvalidInputError, match="not UTF-8"):
            read_values([tmp_path / name])


def test_rows_of_laws_are_split_into_articles(tmp_path: Path) -> None:
    rows = [
        {"doc_id": "x", "title": "示例法", "category": "行政法", "date": "2020-01-01", "text": text}
        for text in ("第一条 甲。\n\n第二条 乙。",)
    ]
    path = tmp_path / "laws.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))

    values = read_values([path])

    assert [(v.id, v.text, v.category, v.effective_from) for v in values] == [
        ("示例法:1", "甲。", "行政法", "2020-01-01"),
        ("示例法:2", "乙。", "行政法", "2020-01-01"),
    ]


def test_front_matter_with_an_id_makes_one_value(tmp_path: Path) -> None:
    path = write(
        tmp_path / "refunds.md",
        "---\nid: refunds\ntriggers: [refund, money back]\nsupersedes: returns | swaps\n"
        "effective_from: 2024-03-01\npriority: 2\n---\n"
        "# Refunds\n\nPaid within 14 days.\n\n- Always.\n",
    )

    (value,) = read_values([path])

    assert value == ValueSpec(
        id="refunds",
        title="Refunds",
        text="Paid within 14 days.\n\n- Always.",
        triggers=("refund", "money back"),
        supersedes=("returns", "swaps"),
        effective_from="2024-03-01",
        priority=2,
    )


def test_headings_make_values_that_share_the_front_matter(tmp_path: Path) -> None:
    path = write(
        tmp_path / "house.md",
        "---\nkind: customisable\ntenant: acme\n---\n"
        "# House style\n\n## Be brief\nAt most 80 words.\n\n## Be kind\nNo irony.\n",
    )

    values = read_values([path])

    assert [(v.id, v.title, v.text) for v in values] == [
        ("House-style:Be-brief", "House style Be brief", "At most 80 words."),
        ("House-style:Be-kind", "House style Be kind", "No irony."),
    ]
    assert {(v.kind, v.tenant, v.source) for v in values} == {
        ("customisable", "acme", "House style")
    }


def test_the_date_in_a_file_s_name_is_an_edition_s(tmp_path: Path) -> None:
    for day, text in (("2003-06-28", "旧。"), ("2011-10-29", "新。")):
        write(
            tmp_path / "宪法相关法" / f"身份证法({day}).md",
            f"# 中华人民共和国身份证法\n\n第一条 {text}\n",
        )

    values = read_values([tmp_path])

    assert [(v.id, v.text, v.effective_from, v.category) for v in values] == [
        ("身份证法:1", "旧。", "2003-06-28", "宪法相关法"),
        ("身份证法:1", "新。", "2011-10-29", "宪法相关法"),
    ]


def test_front_matter_outranks_the_text_and_the_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "示例法(2020-01-01).md",
        "---\ntitle: 示例法\neffective_from: 2021-05-01\njurisdiction: CN-11\n---\n"
        "第一条 本法自2020年6月1日起施行。\n",
    )

    (value,) = read_values([path])

    assert (value.effective_from, value.jurisdiction) == ("2021-05-01", "CN-11")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("---\nid: [\n---\ntext", "rule.md:3: the front matter is not YAML"),
        ("---\n- a\n---\ntext", "rule.md:1: the front matter is a list"),
        ("---\ncolour: red\n---\ntext", "rule.md:1: a value has no field 'colour'"),
        ("---\nid: a\n---\n\n", "rule.md:4: a value needs 'text'"),
        (f"---\ntitle: {laughs()}\n---\ntext", "rule.md:1: 'title' is a list"),
        ("---\ndate: soon\n---\ntext", "rule.md: date='soon'"),
        ("---\nkind: eternal\n---\n## A\ntext", "rule.md:4: value 'rule:A' has kind 'eternal'"),
    ],
)
def test_broken_markdown_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_values([write(tmp_path / "rule.md", text)])


def test_folders_are_read_in_order_and_what_is_no_value_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "b" / "two.md", "---\nid: two\n---\nTwo.")
    write(tmp_path / "a" / "deep" / "one.jsonl", '{"id": "one", "text": "One."}\n')
    for name in ("README.md", "SOURCE.md", ".git/config.md", "logo.png", "manifest.json"):
        write(tmp_path / name, "not a value")

    values = read_values([tmp_path])

    assert [(v.id, v.category) for v in values] == [("one", ""), ("two", "b")]


def test_a_document_filed_twice_counts_once(tmp_path: Path) -> None:
    for folder in ("甲", "乙"):
        write(tmp_path / folder / "法.md", "# 法\n\n第一条 同。\n")

    (value,) = read_values([tmp_path])

    assert value.category == "乙"


def test_two_texts_for_one_day_name_both_places(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", '{"id": "a", "text": "one"}\n')
    two = write(tmp_path / "two.jsonl", '{"id": "b", "text": "x"}\n{"id": "a", "text": "two"}\n')

    with pytest.raises(InvalidInputError, match=r"two\.jsonl:2: .*'a' .*one\.jsonl:1"):
        read_values([one, two])


def test_paths_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file or folder"):
        read_values([tmp_path / "none"])
    with pytest.raises(InvalidInputError, match="holds no files of values"):
        read_values([tmp_path])
    with pytest.raises(InvalidInputError, match="does not say what the file holds"):
        read_values([write(tmp_path / "rules.docx", "x")])

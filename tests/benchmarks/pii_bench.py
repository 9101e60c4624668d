"""`make bench PART=pii`: personal data found by ours and by presidio-analyzer, type by type.

Both get the same labelled records in the same run, and their rates are compared in turn.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from framework import (
    NO_PEERS,
    OURS_PYTHON,
    PEER_PYTHON,
    Row,
    Run,
    compared_rows,
    has_peers,
    in_turn,
    rows_alone,
    run_program,
    show_rows,
    write_rows,
)
from public_data import VARIABLE, json_lines, public_data
from span_quality import Labelled, load_labelled, score

PRESIDIO = "presidio-analyzer"
MIN_SCORE = 0.35
"""Presidio's results below it are left out, as its own evaluation (presidio-research) does."""
Found = dict[str, list[dict[str, Any]]]


class Programs:
    """Both detectors over one file of records."""

    def __init__(self, records: Sequence[dict[str, str]], scratch: Path) -> None:
        self._source = scratch / "records.jsonl"
        self._output = scratch / "found.jsonl"
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        self._source.write_text("".join(lines), encoding="utf-8")

    def ours(self, *, names: bool = True) -> Run:
        return run_program(OURS_PYTHON, "ours/pii.py", {**self._arguments(), "names": names})

    def presidio(self) -> Run:
        return run_program(PEER_PYTHON, "peers/presidio_pii.py", self._arguments())

    def found(self) -> Found:
        """What the last program wrote."""
        return {line["id"]: line["spans"] for line in json_lines(self._output)}

    def _arguments(self) -> dict[str, Any]:
        paths = {"source": str(self._source), "output": str(self._output)}
        return {**paths, "min_score": MIN_SCORE}


def quality_rows(
    records: Sequence[Labelled], ours: Found, peer: Found | None, peer_name: str
) -> Iterator[Row]:
    """Four rows for each corpus and type that has labels."""
    for corpus in dict.fromkeys(record.corpus for record in records):
        chosen = [record for record in records if record.corpus == corpus]
        for type_ in sorted({type_ for record in chosen for type_ in record.places}):
            own = score(chosen, ours, type_)
            other = score(chosen, peer, type_).figures() if peer is not None else {}
            for unit, value in own.figures().items():
                theirs = other.get(unit)
                ratio = value / theirs if value is not None and theirs else None
                yield Row(
                    f"{corpus} {type_}",
                    f"{own.labelled} spans in {len(chosen)} records",
                    unit,
                    value,
                    theirs,
                    peer_name,
                    ratio,
                    ratio,
                    ratio,
                    1,
                    "every record answered by both; spans in characters of the original text",
                )


def show_quality(rows: Sequence[Row]) -> None:
    """One line for each corpus and type: ours / peer."""
    units = list(dict.fromkeys(row.unit for row in rows))
    by_work: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        by_work.setdefault((row.work, row.shape), {})[row.unit] = row
    print(f"\ndetection, ours / {rows[0].peer_name or 'no peer'}")
    print(f"  {'':<42}{'':<30}" + "".join(f"{unit:>20}" for unit in units))
    for (work, shape), found in by_work.items():
        cells = (f"{_share(found[unit].ours)} / {_share(found[unit].peer)}" for unit in units)
        print(f"  {work:<42}{shape:<30}" + "".join(f"{cell:>20}" for cell in cells))


def rate_rows(
    programs: Programs, *, work: str, shape: str, pairs: int, with_peers: bool
) -> Iterator[Row]:
    """Rates of both detectors over the records of `programs`, detection only.

    Ours twice: without names and addresses, which the peer's blank pipeline does not look for
    either, and with them.
    """
    gate = "every record answered by both"
    for what, names in (("patterns", False), ("patterns, names, addresses", True)):
        ours = functools.partial(programs.ours, names=names)
        if not with_peers:
            yield from rows_alone(
                [ours()],
                work=f"{work}: {what}",
                shape=shape,
                peer_name="",
                gate=gate,
                note="no peer",
            )
            continue
        runs = in_turn(ours, programs.presidio, pairs)
        counts = f"pieces: {runs[0][0].facts['pieces']} and {runs[0][1].facts['pieces']}"
        note = f"detection only; {runs[0][1].facts['pipeline']} English spaCy pipeline; {counts}"
        yield from compared_rows(
            runs, work=f"{work}: {what}", shape=shape, peer_name=PRESIDIO, gate=gate, note=note
        )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=1, help="Neighbouring runs for the rates.")
    parser.add_argument("--without-peers", action="store_true")
    arguments = parser.parse_args(argv)
    root = public_data()
    if root is None:
        print(f"no public data sets; set {VARIABLE} to their directory")
        return 1
    with_peers = has_peers() and not arguments.without_peers
    labelled = load_labelled(root)
    records = [{"id": r.id, "language": r.language, "text": r.text} for r in labelled]
    with tempfile.TemporaryDirectory(prefix="bench-pii-") as scratch:
        programs = Programs(records, Path(scratch))
        programs.ours()
        ours = programs.found()
        peer, name = None, ""
        if with_peers:
            pipeline = programs.presidio().facts["pipeline"]
            peer, name = programs.found(), f"{PRESIDIO} ({pipeline} spaCy)"
        quality = list(quality_rows(labelled, ours, peer, name))
        shape = f"{len(records):,} records"
        rates = list(
            rate_rows(
                programs,
                work="presidio_pii and multipriv_pii",
                shape=shape,
                pairs=arguments.pairs,
                with_peers=with_peers,
            )
        )
    show_quality(quality)
    show_rows("rates", rates)
    print(f"written to {write_rows('pii', [*quality, *rates])}")
    if not with_peers and not arguments.without_peers:
        print(NO_PEERS)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

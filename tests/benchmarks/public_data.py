"""Public data sets, where they are on this machine, cut into documents for the benchmarks."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLE = "PLUMBLINE_PUBLIC_DATA"
DOCUMENT_BYTES = 1000


def public_data() -> Path | None:
    """The directory of the public data sets; None where there is none."""
    root = Path(os.environ.get(VARIABLE, REPOSITORY.parent / "shared" / "data"))
    return root if root.is_dir() else None


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON lines file, which may be compressed."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)


def prose(language: str, count: int) -> list[str]:
    """Texts of 1 kB each of web pages (en) or laws (zh), from the start again when they run out.

    Raises:
        FileNotFoundError: the public data sets are not on this machine.
    """
    root = public_data()
    if root is None:
        raise FileNotFoundError(f"no public data sets; set {VARIABLE} to their directory")
    names = {"en": "llama_factory_demo/c4_demo.jsonl", "zh": "cn_laws_kb/laws.jsonl.gz"}
    pieces = [
        piece
        for record in json_lines(root / names[language])
        for piece in cut(str(record["text"]), DOCUMENT_BYTES)
    ]
    return list(itertools.islice(itertools.cycle(pieces), count))


def mixed(count: int) -> list[str]:
    """The first texts of the mixed corpus, whole: tweets, web pages, code, laws, conversations.

    Raises:
        FileNotFoundError: the public data sets are not on this machine.
    """
    root = public_data()
    if root is None:
        raise FileNotFoundError(f"no public data sets; set {VARIABLE} to their directory")
    records = json_lines(root / "curation_mix" / "docs.jsonl.gz")
    return [str(record["text"]) for record in itertools.islice(records, count)]


def cut(text: str, size_bytes: int) -> Iterator[str]:
    """Consecutive pieces of so many bytes in UTF-8; what remains at the end is left out."""
    encoded = text.encode()
    for start in range(0, len(encoded) - size_bytes + 1, size_bytes):
        yield encoded[start : start + size_bytes].decode(errors="ignore")

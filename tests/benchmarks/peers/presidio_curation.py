"""presidio-analyzer's rate over the documents of a Parquet file."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import presidio
import pyarrow.parquet as pq
from measured_run import Measured, arguments


def main() -> None:
    given = arguments()
    pipeline, engine = presidio.analyzer()
    for language in presidio.LANGUAGES:
        presidio.analyze(engine, ["Call 212-555-0143. 电话13812345678。"], language)
    measured = Measured()
    documents = size = 0
    found: Counter[str] = Counter()
    with measured.block():
        for language, path in given["sources"].items():
            texts = pq.read_table(path, columns=["text"]).column("text").to_pylist()
            texts = texts[: given["limit"]]
            documents += len(texts)
            size += sum(len(text.encode()) for text in texts)
            for results in presidio.analyze(engine, texts, language):
                found.update(result.entity_type for result in results)
    measured.report(
        documents=documents, size_bytes=size, pipeline=pipeline, found=dict(sorted(found.items()))
    )


if __name__ == "__main__":
    main()

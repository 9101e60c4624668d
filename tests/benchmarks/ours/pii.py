"""Plumbline's detector over JSON lines {id, language, text}; spans as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measured_run import Measured, arguments
from public_data import json_lines

from plumbline.curation.pii.config import AnonymizeConfig
from plumbline.curation.pii.detector import PiiDetector
from plumbline.curation.pii.names.config import NamesConfig

BATCH = 256


def main() -> None:
    given = arguments()
    records = list(json_lines(Path(given["source"])))
    texts = [str(record["text"]) for record in records]
    names = NamesConfig(enabled=given["names"])
    detector = PiiDetector(AnonymizeConfig(names=names))
    detector.find_all(["Call 212-555-0143. 电话13812345678。"])
    measured = Measured()
    with measured.block():
        found = [
            spans
            for start in range(0, len(texts), BATCH)
            for spans in detector.find_all(texts[start : start + BATCH])
        ]
    with Path(given["output"]).open("w", encoding="utf-8") as file:
        for record, spans in zip(records, found, strict=True):
            rows = [{"start": s.start, "end": s.end, "type": s.type} for s in spans]
            file.write(json.dumps({"id": record["id"], "spans": rows}) + "\n")
    size = sum(len(text.encode()) for text in texts)
    measured.report(documents=len(texts), size_bytes=size, pieces=sum(map(len, found)))


if __name__ == "__main__":
    main()

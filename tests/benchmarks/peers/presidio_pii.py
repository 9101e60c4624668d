"""presidio-analyzer over JSON lines {id, language, text}; spans as JSON lines, in our types."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import presidio
from measured_run import Measured, arguments
from public_data import json_lines

TYPES = {
    "CREDIT_CARD": "BANK_CARD",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP_ADDRESS",
    "LOCATION": "ADDRESS",
    "MAC_ADDRESS": "MAC_ADDRESS",
    "PERSON": "PERSON",
    "PHONE_NUMBER": "PHONE",
    "US_PASSPORT": "PASSPORT",
    "US_SSN": "US_SSN",
}
"""Our types by Presidio's; it has none for Chinese identity numbers."""


def main() -> None:
    given = arguments()
    records = list(json_lines(Path(given["source"])))
    pipeline, engine = presidio.analyzer()
    for language in presidio.LANGUAGES:
        presidio.analyze(engine, ["Call 212-555-0143. 电话13812345678。"], language)
    measured = Measured()
    with measured.block():
        found = [
            presidio.analyze(engine, [record["text"]], record["language"])[0] for record in records
        ]
    with Path(given["output"]).open("w", encoding="utf-8") as file:
        for record, results in zip(records, found, strict=True):
            rows = [
                {"start": result.start, "end": result.end, "type": TYPES[result.entity_type]}
                for result in results
                if result.entity_type in TYPES and result.score >= given["min_score"]
            ]
            file.write(json.dumps({"id": record["id"], "spans": rows}) + "\n")
    measured.report(
        documents=len(records),
        size_bytes=sum(len(record["text"].encode()) for record in records),
        pieces=sum(map(len, found)),
        pipeline=pipeline,
    )


if __name__ == "__main__":
    main()

"""Plumbline's default pipeline over a Parquet corpus, as one worker does it: read, judge,
anonymize, compare, write.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as pq
from measured_run import Measured, arguments

from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.copies import find_copies
from plumbline.curation.corpus.merge import merge_shards
from plumbline.curation.corpus.shard import curate_shard, plan_shards
from plumbline.curation.engine import open_engine


def main() -> None:
    given = arguments()
    source, work = Path(given["source"]), Path(given["work"])
    config = CurationConfig()
    engine = open_engine(config, [Path(given["filter"])] if given["filter"] else [])
    engine.process(["A few words to build the tables. 几句话用来准备词表。138 1234 5678"])
    bands = (0, config.near_duplicates.bands)
    shards: list[Path] = []
    measured = Measured()
    with measured.block():
        for number, rows in enumerate(plan_shards(source, config.sharding.shard_documents)):
            shards.append(work / f"shard-{number}")
            shards[-1].mkdir()
            curate_shard(source, rows, engine, shards[-1], config, progress=_no_progress)
        copies = find_copies(shards, bands, config, progress=_no_progress)
        steps = [(rule.id, rule.version) for rule in engine.rules]
        report = merge_shards(shards, copies, work, config, steps)
    texts = pq.read_table(source, columns=["text"]).column("text").to_pylist()
    measured.report(
        documents=report["documents_in"],
        size_bytes=sum(len(text.encode()) for text in texts),
        kept=report["documents_out"],
        removed={rule["id"]: rule["removed"] for rule in report["rules"]},
        pii=report["pii"],
    )


def _no_progress(_done: int, _total: int) -> None:
    return None


if __name__ == "__main__":
    main()

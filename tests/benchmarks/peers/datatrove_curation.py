"""datatrove's filters, PII formatter and MinHash over the documents of each language.

Its steps are chained as its local executor chains them, in this process, without the executor's
manager process and log files, which would cost more than the work on a small corpus. Its rules and
tokenizers are for one language each, so the documents come in one file for each language; for
Chinese, the thresholds and lists that hold for English only are given Chinese values (below).

The language model that datatrove would download is replaced by the smaller one of the same kind
(fastText lid.176) that Plumbline uses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.text import split_into_sentences, split_into_words
from datatrove.utils.typeshelper import Languages
from loguru import logger
from measured_run import Measured, arguments

LANGUAGES = {"en": Languages.english, "zh": Languages.mandarin_chinese}
CHINESE_STOP_WORDS = ["的", "了", "是", "在", "和", "不", "有", "我", "他", "这", "也", "就"]


def language_filter(model: str) -> LanguageFilter:
    """English and Chinese pass, as they do in Plumbline's default."""
    from fasttext.FastText import _FastText

    found = LanguageFilter(languages=["en", "zh"])
    found.model._model = _FastText(model)
    return found


def filters(language: str, language_model: str) -> list[PipelineStep]:
    """The comparable filters, in the order in which FineWeb applied them."""
    tokenizer = LANGUAGES[language]
    gopher: dict[str, Any] = {"language": tokenizer}
    c4: dict[str, Any] = {"language": tokenizer}
    if language == "zh":
        # Chinese words have 1.6 characters on average; lines end in 。 and hold no spaces.
        gopher |= {"min_avg_word_length": 1, "stop_words": CHINESE_STOP_WORDS}
        c4 |= {"filter_no_terminal_punct": False, "min_words_per_line": -1}
    return [
        language_filter(language_model),
        GopherRepetitionFilter(language=tokenizer),
        GopherQualityFilter(**gopher),
        C4QualityFilter(**c4),
        FineWebQualityFilter(language=tokenizer),
        PIIFormatter(),
    ]


def run(steps: Iterable[PipelineStep], rank: int = 0, world_size: int = 1) -> int:
    """Chain steps as the executor does; the documents that came out at the end."""
    stream: Iterable[Document] = ()
    for step in steps:
        stream = step.run(stream, rank, world_size)
    return sum(1 for _ in stream or ())


def curate(language: str, source: Path, work: Path, steps: list[PipelineStep]) -> int:
    """Everything for one language; the documents that are kept."""
    config = MinhashConfig()
    written = str(work / "filtered")
    run([reader(source), *steps, ParquetWriter(written, output_filename="${rank}.parquet")])
    signatures, buckets, removed = (str(work / name) for name in ("sigs", "buckets", "remove"))
    tokenizer = LANGUAGES[language]
    read = ParquetReader(written)
    run_step = MinhashDedupSignature(signatures, config=config, language=tokenizer)
    run_step.run(read.run(None, 0, 1), 0, 1)
    for bucket in range(config.num_buckets):
        step = MinhashDedupBuckets(signatures, buckets, config=config)
        step.run(None, bucket, config.num_buckets)
    MinhashDedupCluster(buckets, removed, config=config).run(None, 0, 1)
    writer = ParquetWriter(str(work / "kept"), output_filename="${rank}.parquet")
    return run([ParquetReader(written), MinhashDedupFilter(removed), writer])


def reader(source: Path) -> ParquetReader:
    return ParquetReader(str(source.parent), glob_pattern=source.name, read_metadata=False)


def warm_up(language: str) -> None:
    """Load the tokenizer, which takes seconds for Chinese."""
    text = {"en": "A few words. And a few more.", "zh": "先说几句话。再说几句话。"}[language]
    split_into_words(text, LANGUAGES[language])
    split_into_sentences(text, LANGUAGES[language])


def main() -> None:
    # datatrove sets its logger up when it is imported.
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    given = arguments()
    work = Path(given["work"])
    sources = {language: Path(path) for language, path in given["sources"].items()}
    steps = {language: filters(language, given["language_model"]) for language in sources}
    for language in sources:
        warm_up(language)
    measured = Measured()
    kept = {}
    with measured.block():
        for language, source in sources.items():
            kept[language] = curate(language, source, work / language, steps[language])
    measured.report(
        documents=given["documents"], size_bytes=given["bytes"], kept=kept, work=str(work)
    )


if __name__ == "__main__":
    main()

"""One document that breaks its batch costs no other document."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import ServiceUnavailableError
from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.careful import ATTEMPTS, Quarantined, process_carefully
from plumbline.curation.corpus.isolated import IsolatedProcessor, engine_command
from plumbline.curation.engine import CurationEngine, Processed
from plumbline.data.records import Document

CONFIG = CurationConfig()
GOOD = [f"A plain sentence number {i} about boats and bread and the river." for i in range(20)]


class Touchy:
    """An engine that does something to texts with a mark in them."""

    def __init__(self, provoke: Callable[[], None]) -> None:
        self._engine = CurationEngine(CONFIG)
        self._provoke = provoke
        self.alone = 0

    def process(self, texts: Sequence[str]) -> list[Processed]:
        if any("POISON" in text for text in texts):
            self.alone += len(texts) == 1
            self._provoke()
        return self._engine.process(texts)


def fail() -> None:
    raise ValueError("cannot read this")


def test_a_poisoned_document_is_bisected_out_and_tried_three_times() -> None:
    touchy = Touchy(fail)
    texts = [*GOOD[:7], "POISON", *GOOD[7:]]

    judged = process_carefully(touchy, texts, timeout_s=10)

    assert judged[7] == Quarantined("PROCESSING_FAILED", "ValueError: cannot read this")
    assert touchy.alone == ATTEMPTS == 3
    others = [item for i, item in enumerate(judged) if i != 7]
    assert [getattr(item, "text", None) for item in others] == GOOD


def test_a_document_that_takes_for_ever_does_not_stall_the_others() -> None:
    judged = process_carefully(
        Touchy(lambda: time.sleep(30)), [*GOOD[:3], "POISON"], timeout_s=0.05
    )

    assert isinstance(judged[3], Quarantined)
    assert judged[3].code == "TOOK_TOO_LONG"
    assert all(isinstance(item, Processed) for item in judged[:3])


def test_a_passing_fault_quarantines_nothing() -> None:
    faults = iter([True, True])

    def fail_twice() -> None:
        if next(faults, False):
            fail()

    judged = process_carefully(Touchy(fail_twice), ["POISON but a sentence of words"], timeout_s=10)

    assert isinstance(judged[0], Processed)


def test_what_the_platform_reports_is_no_documents_fault() -> None:
    def unavailable() -> None:
        raise ServiceUnavailableError("the model does not answer")

    with pytest.raises(ServiceUnavailableError):
        process_carefully(Touchy(unavailable), ["POISON", *GOOD], timeout_s=10)


def test_another_process_gives_the_same_answers() -> None:
    texts = [*GOOD, "call 13812345678 now please, my dear friend", "嗯", "x" * 40]
    with IsolatedProcessor(engine_command(CONFIG, [])) as isolated:
        answers = isolated.process(texts)

    for answer, expected in zip(answers, CurationEngine(CONFIG).process(texts), strict=True):
        assert (answer.text, answer.language, answer.rule, answer.objection) == (
            expected.text, expected.language, expected.rule, expected.objection,
        )  # fmt: skip
        assert (answer.pii, answer.digest) == (expected.pii, expected.digest)
        assert (answer.sketch is None) == (expected.sketch is None)
        if answer.sketch and expected.sketch:
            assert (answer.sketch.bands == expected.sketch.bands).all()
            assert (answer.sketch.shingles == expected.sketch.shingles).all()
            assert answer.sketch.shingles.dtype == expected.sketch.shingles.dtype


def test_a_document_that_takes_the_process_down_is_set_aside(tmp_path: Path) -> None:
    program = tmp_path / "aborts.py"
    program.write_text(
        "import os, sys\n"
        "from plumbline.curation.config import CurationConfig\n"
        "from plumbline.curation.corpus.isolated import serve\n"
        "from plumbline.curation.engine import CurationEngine\n"
        "class Aborting(CurationEngine):\n"
        "    def process(self, texts):\n"
        "        if any('POISON' in text for text in texts):\n"
        "            os._exit(134)\n"
        "        return super().process(texts)\n"
        "serve(Aborting(CurationConfig()), sys.stdin, sys.stdout)\n"
    )
    with IsolatedProcessor([sys.executable, str(program)]) as isolated:
        judged = process_carefully(isolated, [GOOD[0], "POISON"], timeout_s=60)

    assert isinstance(judged[0], Processed)
    assert judged[1] == Quarantined(
        "PROCESS_CRASHED", "ProcessCrashedError: the process ended with status 134"
    )


def test_quarantined_documents_are_accounted_for_without_their_text(
    curate_corpus: Callable[..., Any],
) -> None:
    documents = [Document(str(i), text) for i, text in enumerate(GOOD)]
    documents[4] = Document("4", "POISON of somebody@example.net", source="here")
    result = curate_corpus(documents, CONFIG, processor=Touchy(fail), shard_documents=6)

    quarantined = (result.directory / "quarantined.jsonl").read_text()
    assert '"id": "4"' in quarantined
    assert '"position": 4' in quarantined
    assert "somebody" not in quarantined
    assert result.report["quarantined"] == 1
    assert result.report["documents_in"] == 20
    assert result.report["rules"][0]["documents_in"] == 19
    kept_and_removed = {d.id for d in [*result.kept, *result.removed]}
    assert kept_and_removed == {str(i) for i in range(20)} - {"4"}

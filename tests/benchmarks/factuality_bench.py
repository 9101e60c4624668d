"""How often the verdicts on claims are those of people, on public data; no policy is asked.

    python tests/benchmarks/factuality_bench.py

Arithmetic: FacTool's math set. Once on the calculations that its annotators cut out, once on whole
responses, from which ours are found; a response is taken as right when nothing in it is refuted.

Knowledge: FacTool's data holds claims and labels and no evidence (its evidence came from a web
search), so no verdict can be given on them; the sets below do carry evidence.
- TruthfulQA: a correct and an incorrect answer of each question against its other correct answers.
  Every second question was used to set thresholds; those are reported apart.
- Statutes: sentences of Chinese laws, as they are and with one number or one 应当/不得 changed,
  against a knowledge base of the laws. The labels are made by the change.
- Chinese FacTool responses against the responses of the other models: agreement, not truth.

Abstaining counts as wrong in `accuracy`, and is left out in `accuracy where decided`.

FacTool's published leaderboard (75.60 % of claims, 43.33 % of responses for GPT-4) says how much of
what a chatbot wrote FacTool took for factual; it is no accuracy of verdicts, and stands beside for
orientation alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from framework import REPOSITORY
from public_data import VARIABLE, json_lines, public_data

from plumbline.core.artifacts import open_configured_store
from plumbline.core.settings import Settings
from plumbline.core.statistics import proportion
from plumbline.data.records import ValueSpec
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.readers.statutes import Law, split_law
from plumbline.retriever.tools.config import ToolsConfig
from plumbline.retriever.tools.corpora import StoredCorpora
from plumbline.retriever.tools.engine import FactualityEngine
from plumbline.retriever.tools.records import ClaimKind, ClaimVerdict, Document

SUPPORTED, REFUTED = ClaimVerdict.SUPPORTED, ClaimVerdict.REFUTED
LAWS = 30
SENTENCES = 200
PUBLISHED = "FacTool leaderboard, GPT-4 as chatbot: 75.60 % of claims, 43.33 % of responses factual"


@dataclass
class Score:
    """Verdicts beside labels."""

    work: str
    supported: list[int] = field(default_factory=lambda: [0, 0])
    """Of those labelled false, and of those labelled true."""
    refuted: list[int] = field(default_factory=lambda: [0, 0])
    open: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, label: bool, verdict: ClaimVerdict) -> None:
        counts = {SUPPORTED: self.supported, REFUTED: self.refuted}.get(verdict, self.open)
        counts[label] += 1

    @property
    def right(self) -> int:
        return self.supported[True] + self.refuted[False]

    @property
    def decided(self) -> int:
        return sum(self.supported) + sum(self.refuted)

    @property
    def total(self) -> int:
        return self.decided + sum(self.open)

    def line(self) -> str:
        accuracy = proportion(self.right, self.total)
        decided = proportion(self.right, self.decided)
        return (
            f"{self.work:<58}{self.total:>6}{self.decided:>9}"
            f"{accuracy.value:>10.1%} ({accuracy.low:.0%}-{accuracy.high:.0%})"
            f"{decided.value:>10.1%} ({decided.low:.0%}-{decided.high:.0%})"
        )


def arithmetic(root: Path, engine: FactualityEngine) -> Iterator[Score]:
    """Calculations as cut out by annotators, and whole responses."""
    given = Score("FacTool math: calculations, as given")
    calculated = Score("FacTool math: responses, are all calculations right?")
    answered = Score("FacTool math: responses, is the answer right?")
    kinds = [ClaimKind.ARITHMETIC]
    for row in json_lines(root / "factool" / "math.jsonl"):
        labelled = [claim for claim in row["claims"] if isinstance(claim["label"], bool)]
        for claim in labelled:
            said = claim["claim"]
            text = f"{said['math_calculation']} = {said['calculated_answer']}"
            given.add(claim["label"], engine.check("", claims=[text], kinds=kinds)[0].verdict)
        checks = engine.check(row["response"], kinds=kinds)
        verdict = REFUTED if any(c.verdict is REFUTED for c in checks) else SUPPORTED
        calculated.add(all(claim["label"] for claim in labelled), verdict)
        answered.add(row["label"], verdict)
    yield from (given, calculated, answered)


def truthful_answers(root: Path, engine: FactualityEngine) -> Iterator[Score]:
    """Answers against the other correct answers of their question."""
    scores = [
        Score("TruthfulQA answers, questions that set thresholds"),
        Score("TruthfulQA answers, unseen questions"),
    ]
    with (root / "truthfulqa" / "TruthfulQA.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for position, row in enumerate(rows):
        correct, incorrect = (
            [answer.strip() for answer in row[name].split(";") if answer.strip()]
            for name in ("Correct Answers", "Incorrect Answers")
        )
        best = row["Best Answer"].strip()
        held_back = next((answer for answer in correct if answer != best), None)
        if held_back is None or not incorrect:
            continue
        evidence = [
            Document(str(number), f"{answer.rstrip('.')}.")
            for number, answer in enumerate(dict.fromkeys([best, *correct]))
            if answer != held_back
        ]
        for label, answer in ((True, held_back), (False, incorrect[0])):
            check = engine.check(
                "", claims=[answer], kinds=[ClaimKind.KNOWLEDGE], documents=evidence
            )[0]
            scores[position >= len(rows) // 2].add(label, check.verdict)
    yield from scores


def statutes(root: Path) -> Iterator[Score]:
    """Sentences of laws, as they are and altered, against a knowledge base of the laws."""
    laws = list(json_lines(root / "cn_laws_kb" / "laws.jsonl.gz"))
    values: list[ValueSpec] = []
    for law in laws[:: max(1, len(laws) // LAWS)][:LAWS]:
        values += split_law(Law(title=law["title"], text=law["text"], where=law["doc_id"]))
    as_is = Score("Statute sentences, as they are")
    altered = Score("Statute sentences, one number or 应当/不得 changed")
    with tempfile.TemporaryDirectory() as state:
        store = open_configured_store(Settings(state_dir=Path(state)))
        retriever = RetrieverEngine(store, RetrieverConfig())
        unique = {value.id: value for value in values}
        retriever.import_values("laws", list(unique.values()))
        config = ToolsConfig()
        corpora = StoredCorpora(store, retriever, config)
        engine = FactualityEngine(config, corpora=corpora)
        for sentence, wrong in _alterable(list(unique.values())):
            for label, claim, score in ((True, sentence, as_is), (False, wrong, altered)):
                check = engine.check(
                    "", claims=[claim], kinds=[ClaimKind.KNOWLEDGE], corpus="laws"
                )[0]
                score.add(label, check.verdict)
    yield from (as_is, altered)


def _alterable(values: Sequence[ValueSpec]) -> Iterator[tuple[str, str]]:
    """Sentences with something in them that can be made wrong, and the wrong ones."""
    made = 0
    for value in values:
        for sentence in re.split(r"[。；\n]", value.text):
            wrong = _altered(sentence)
            if 15 <= len(sentence) <= 120 and wrong is not None:
                yield sentence, wrong
                made += 1
                break
        if made == SENTENCES:
            return


def _altered(sentence: str) -> str | None:
    number = re.search(
        r"(?<![第零一二三四五六七八九十百千])[二三四五六七八](?=[日年个倍名人])", sentence
    )
    if number:
        return sentence[: number.start()] + "九" + sentence[number.end() :]
    if "不得" in sentence:
        return sentence.replace("不得", "可以", 1)
    return sentence.replace("应当", "不得", 1) if "应当" in sentence else None


def other_models(root: Path, engine: FactualityEngine) -> Iterator[Score]:
    """Chinese responses against what the other models said to the same prompt."""
    score = Score("FacTool Chinese: responses against other models'")
    for row in json_lines(root / "factool" / "dataset_chinese.jsonl"):
        responses = [
            item
            for item in row["responses_and_factuality"]
            if isinstance(item["response"], str)
            and item["response"].strip()
            and isinstance(item["factuality"], bool)
        ]
        for item in responses:
            others = [
                Document(other["model_name"], other["response"])
                for other in responses
                if other is not item
            ]
            checks = engine.check(
                item["response"],
                prompt=row["prompt"],
                kinds=[ClaimKind.KNOWLEDGE],
                documents=others,
            )
            balance = sum(
                (check.verdict is SUPPORTED) - (check.verdict is REFUTED) for check in checks
            )
            verdict = SUPPORTED if balance > 0 else REFUTED if balance < 0 else None
            score.add(item["factuality"], verdict or ClaimVerdict.NOT_ENOUGH_EVIDENCE)
    yield score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.parse_args()
    root = public_data()
    if root is None:
        raise SystemExit(f"no public data sets; set {VARIABLE} to their directory")
    engine = FactualityEngine(ToolsConfig())
    began = time.monotonic()
    header = f"{'':<58}{'claims':>6}{'decided':>9}{'accuracy':>18}{'where decided':>20}"
    print(header)
    scores = []
    for part in (
        arithmetic(root, engine),
        truthful_answers(root, engine),
        statutes(root),
        other_models(root, engine),
    ):
        for score in part:
            print(score.line(), flush=True)
            scores.append(score)
    print(PUBLISHED)
    print(f"{time.monotonic() - began:.0f} s")
    target = REPOSITORY / ".plumbline" / "bench" / "factuality.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps([asdict(score) for score in scores], ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()

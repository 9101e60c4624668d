"""Instructions for texts that exist: the request that a text would answer, and how well it does.

Source: Li et al. 2023, Self-Alignment with Instruction Backtranslation, arXiv:2308.06259: the
self-augmentation of section 2.2 and the self-curation of section 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError
from plumbline.curation.synthesis.config import BacktranslateConfig
from plumbline.curation.synthesis.generator import Generation, Generator, ask
from plumbline.curation.synthesis.judgement import (
    exact_key,
    instance_fault,
    instruction_fault,
    matchable,
)
from plumbline.curation.synthesis.parsing import Instance, parse_rating, parse_single
from plumbline.curation.synthesis.progress import AfterRound, Ending, SynthesisState
from plumbline.curation.synthesis.records import (
    Provenance,
    Task,
    text_language,
    to_conversation,
)
from plumbline.curation.synthesis.rouge import RougeIndex
from plumbline.curation.synthesis.templates import Language, templates
from plumbline.data.records import Document

STAGE = "curation.backtranslate"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A text with the request that it is taken to answer."""

    document: Document
    instruction: str
    language: Language
    seed: int


class Backtranslation:
    """Finds instructions for documents.

    Args:
        state: where to go on from; a new one unless given.
    Raises:
        InvalidInputError: there is no document.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        generator: Generator,
        config: BacktranslateConfig,
        state: SynthesisState | None = None,
    ) -> None:
        if not documents:
            raise InvalidInputError("there is no document", field="documents")
        self.state = state or SynthesisState()
        self._generator = generator
        self._config = config
        size = config.texts_per_round
        self._chunks = [documents[i : i + size] for i in range(0, len(documents), size)]
        self._index = RougeIndex()
        for record in self.state.records:
            self._index.add(record.id, matchable(record.metadata["instruction"]))

    @property
    def rounds(self) -> int:
        """Rounds that all documents take."""
        return len(self._chunks)

    def run(self, after_round: AfterRound) -> Ending:
        """All documents, or as many as the target needs.

        Args:
            after_round: called with the state after each round; what it raises ends the work.
        """
        while self.state.round < self.rounds and not self._is_full:
            self._round(self._chunks[self.state.round])
            self.state.round += 1
            after_round(self.state)
        target = self._config.target
        if self._is_full:
            return Ending("target_reached", f"the target of {target} records is reached")
        if target:
            return Ending("max_rounds", f"all documents brought less than {target} records")
        return Ending("exhausted", "every document was tried")

    @property
    def _is_full(self) -> bool:
        return 0 < self._config.target <= len(self.state.records)

    def _round(self, documents: Sequence[Document]) -> None:
        before = len(self.state.records)
        usable = [document for document in documents if self._is_usable(document)]
        pairs = self._instructed(usable)
        for pair, rating in self._rated(pairs):
            self._keep(pair, rating)
        self.state.yields.append((len(documents), len(self.state.records) - before))

    def _is_usable(self, document: Document) -> bool:
        units = len(matchable(document.text))
        self.state.funnel.count("documents")
        if self._config.min_text_units <= units <= self._config.max_text_units:
            return True
        short = units < self._config.min_text_units
        self.state.funnel.drop("documents", "too_short" if short else "too_long")
        return False

    def _instructed(self, documents: Sequence[Document]) -> list[_Pair]:
        requests = [
            ask(
                templates(text_language(document.text)).fill(
                    "backtranslate.instruction", text=document.text
                ),
                self._config.seed,
                "instruction",
                document.id,
            )
            for document in documents
        ]
        answers = self._generator.generate(requests)
        pairs = []
        for document, request, answer in zip(documents, requests, answers, strict=True):
            pair = _Pair(
                document, parse_single(answer.text), text_language(document.text), request.seed
            )
            fault = self._fault(pair, answer)
            if fault:
                self.state.funnel.drop("instructions", fault)
            else:
                pairs.append(pair)
        self.state.funnel.count("instructions", len(pairs))
        return pairs

    def _fault(self, pair: _Pair, answer: Generation) -> str:
        if not answer.fitted:
            return "prompt_too_long"
        if not answer.finished:
            return "cut_off"
        words = matchable(pair.instruction)
        fault = instruction_fault(
            pair.instruction, words, self._config.instructions, language=pair.language
        )
        if fault:
            return fault
        if exact_key(pair.instruction) in exact_key(pair.document.text):
            return "copied_from_text"
        return instance_fault(
            pair.instruction, Instance("", pair.document.text), self._config.outputs
        )

    def _rated(self, pairs: Sequence[_Pair]) -> list[tuple[_Pair, int | None]]:
        """Pairs that the policy rates well enough; unclear ratings are dropped."""
        if not self._config.min_rating:
            return [(pair, None) for pair in pairs]
        requests = [
            ask(
                templates(pair.language).fill(
                    "backtranslate.rating",
                    instruction=pair.instruction,
                    text=pair.document.text,
                ),
                self._config.seed,
                "rating",
                pair.document.id,
            )
            for pair in pairs
        ]
        answers = self._generator.generate(requests, temperature=0.0)
        rated: list[tuple[_Pair, int | None]] = []
        for pair, answer in zip(pairs, answers, strict=True):
            rating = parse_rating(answer.text)
            if rating is None:
                self.state.funnel.drop("ratings", "unclear")
            elif rating < self._config.min_rating:
                self.state.funnel.drop("ratings", f"rated_{rating}")
            else:
                rated.append((pair, rating))
        return rated

    def _keep(self, pair: _Pair, rating: int | None) -> None:
        config, funnel = self._config, self.state.funnel
        if self._is_full:
            funnel.drop("records", "beyond_target")
            return
        words = matchable(pair.instruction)
        if self._index.nearest(words, at_least=config.instructions.max_rouge_l) is not None:
            funnel.drop("records", "similar")
            return
        provenance = Provenance(
            stage=STAGE,
            operator="backtranslation",
            policy=self._generator.policy_id,
            parents=(pair.document.id,),
            seed=pair.seed,
            template=templates(pair.language).version,
            round=self.state.round,
        )
        task = Task("", pair.instruction, "", pair.document.text.strip(), pair.language)
        labels = {} if rating is None else {"rating": str(rating)}
        record = to_conversation(task, provenance, source=STAGE, labels=labels)
        self._index.add(record.id, words)
        self.state.records.append(record)
        funnel.count("kept")

"""New tasks from a few: instructions, what kind they are, then inputs and outputs.

A round asks for instructions from examples drawn of the seeds and of what was kept before, drops
what is not fit or not new, asks of each whether it is a classification, and asks for its instances:
the input first, except for classifications, whose label comes first so that labels are balanced.

Source: Wang et al. 2022, Self-Instruct, arXiv:2212.10560, section 2.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError
from plumbline.curation.synthesis.config import SelfInstructConfig
from plumbline.curation.synthesis.generator import (
    Generation,
    GenerationRequest,
    Generator,
    ask,
    derive_seed,
)
from plumbline.curation.synthesis.judgement import (
    exact_key,
    instance_fault,
    instruction_fault,
    matchable,
)
from plumbline.curation.synthesis.parsing import (
    Instance,
    parse_instances,
    parse_instructions,
    parse_yes_no,
)
from plumbline.curation.synthesis.progress import AfterRound, Ending, Stop, SynthesisState
from plumbline.curation.synthesis.records import Provenance, Task, to_conversation
from plumbline.curation.synthesis.rouge import RougeIndex
from plumbline.curation.synthesis.templates import Language, templates
from plumbline.data.records import Conversation

STAGE = "curation.self_instruct"


@dataclass(frozen=True, slots=True)
class _Example:
    """What a prompt shows: a seed or a kept record."""

    id: str
    instruction: str


@dataclass(frozen=True, slots=True)
class _Ask:
    """A prompt for instructions with the examples that it shows."""

    request: GenerationRequest
    examples: tuple[_Example, ...]
    language: Language


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A new instruction that passed the filters."""

    key: str
    instruction: str
    language: Language
    parents: tuple[str, ...]
    seed: int


class SelfInstruct:
    """Generates records from seed tasks.

    Args:
        seeds: tasks written by people.
        state: where to go on from; a new one unless given.
    Raises:
        InvalidInputError: no seed is in a configured language.
    """

    def __init__(
        self,
        seeds: Sequence[Task],
        generator: Generator,
        config: SelfInstructConfig,
        state: SynthesisState | None = None,
    ) -> None:
        self.state = state or SynthesisState()
        self._generator = generator
        self._config = config
        self._seeds = {
            language: [_Example(s.id, s.instruction) for s in seeds if s.language == language]
            for language in config.languages
        }
        self._languages = [name for name in config.languages if self._seeds[name]]
        if not self._languages:
            raise InvalidInputError(
                f"none of {len(seeds)} seed tasks is in {', '.join(config.languages)}",
                field="seeds",
            )
        self._index = RougeIndex()
        self._texts: set[str] = set()
        for task in seeds:
            self._remember(f"seed {task.id}", task.instruction)
        for record in self.state.records:
            self._remember(record.id, record.metadata["instruction"])

    def run(self, after_round: AfterRound) -> Ending:
        """Rounds until the target is reached or the yield is too low.

        Args:
            after_round: called with the state after each round; what it raises ends the work.
        """
        while (ending := self._ending()) is None:
            self._round()
            self.state.round += 1
            after_round(self.state)
        return ending

    def _ending(self) -> Ending | None:
        config, state = self._config, self.state
        code: Stop
        if len(state.records) >= config.target:
            code, why = "target_reached", f"the target of {config.target} records is reached"
            return Ending(code, why)
        recent = state.yields[-config.yield_rounds :]
        candidates, records = (sum(pair[i] for pair in recent) for i in (0, 1))
        if len(recent) == config.yield_rounds and records < config.min_yield * max(candidates, 1):
            why = (
                f"the yield is too low: {records} records of {candidates} candidate instructions "
                f"in {len(recent)} rounds; min_yield is {config.min_yield:g}"
            )
            return Ending("low_yield", why)
        if state.round >= config.max_rounds:
            why = f"max_rounds={config.max_rounds} rounds brought less than {config.target} records"
            return Ending("max_rounds", why)
        return None

    def _round(self) -> None:
        funnel = self.state.funnel
        before = len(self.state.records)
        kept = {language: self._kept(language) for language in self._languages}
        asks = [self._ask(number, kept) for number in range(self._config.prompts_per_round)]
        answers = self._generator.generate([one.request for one in asks])
        funnel.count("prompts", len(asks))
        seen = funnel.counts["candidates"]
        admitted = [
            candidate
            for one, answer in zip(asks, answers, strict=True)
            for candidate in self._admitted(one, answer)
        ]
        funnel.count("instructions", len(admitted))
        made = self._made(admitted)
        self._keep(made)
        # Instructions that led to nothing may come again with better instances.
        failed = {candidate.key for candidate in admitted} - {c.key for c, _ in made}
        for candidate in admitted:
            if candidate.key in failed:
                self._index.discard(candidate.key)
                self._texts.discard(exact_key(candidate.instruction))
        self.state.yields.append(
            (funnel.counts["candidates"] - seen, len(self.state.records) - before)
        )

    def _ask(self, number: int, kept: Mapping[Language, Sequence[_Example]]) -> _Ask:
        """The prompt `number` of this round.

        Args:
            kept: by language, what earlier rounds kept.
        """
        config, place = self._config, (self.state.round, number)
        turn = self.state.round * config.prompts_per_round + number
        language = self._languages[turn % len(self._languages)]
        rng = random.Random(derive_seed(config.seed, "examples", *place))
        own = kept[language]
        generated = rng.sample(own, min(config.generated_examples, len(own)))
        wanted = config.seed_examples + config.generated_examples - len(generated)
        seeds = self._seeds[language]
        examples = [*rng.sample(seeds, min(wanted, len(seeds))), *generated]
        rng.shuffle(examples)
        prompts = templates(language)
        shown = "\n".join(
            prompts.fill(
                "self_instruct.example",
                number=position,
                instruction=" ".join(example.instruction.split()),
            )
            for position, example in enumerate(examples, start=1)
        )
        text = prompts.fill(
            "self_instruct.instructions",
            count=config.instructions_per_prompt,
            examples=shown,
            next=len(examples) + 1,
        )
        request = ask(text, config.seed, "instructions", *place)
        return _Ask(request, tuple(examples), language)

    def _kept(self, language: Language) -> list[_Example]:
        """Kept instructions of a language, each once."""
        first: dict[str, _Example] = {}
        for record in self.state.records:
            if record.metadata["language"] == language:
                instruction = record.metadata["instruction"]
                first.setdefault(instruction, _Example(record.id, instruction))
        return list(first.values())

    def _admitted(self, one: _Ask, answer: Generation) -> list[_Candidate]:
        """The new instructions of an answer; they are remembered at once."""
        funnel = self.state.funnel
        if not answer.fitted:
            funnel.drop("prompts", "prompt_too_long")
            return []
        texts = parse_instructions(answer.text, finished=answer.finished)
        if not texts:
            funnel.drop("prompts", "unparseable")
        if len(texts) > self._config.instructions_per_prompt:
            extra = len(texts) - self._config.instructions_per_prompt
            funnel.drop("prompts", "more_than_asked", extra)
            texts = texts[: self._config.instructions_per_prompt]
        funnel.count("candidates", len(texts))
        admitted: list[_Candidate] = []
        for text in texts:
            fault = self._fault(text, one.language)
            if fault:
                funnel.drop("instructions", fault)
                continue
            key = f"{self.state.round}-{one.request.seed}-{len(admitted)}"
            self._remember(key, text)
            parents = tuple(example.id for example in one.examples)
            admitted.append(_Candidate(key, text, one.language, parents, one.request.seed))
        return admitted

    def _fault(self, text: str, language: Language) -> str:
        words = matchable(text)
        limits = self._config.instructions
        fault = instruction_fault(text, words, limits, language=language)
        if fault:
            return fault
        if exact_key(text) in self._texts:
            return "exact_duplicate"
        near = self._index.nearest(words, at_least=limits.max_rouge_l)
        return "similar" if near is not None else ""

    def _remember(self, key: str, instruction: str) -> None:
        self._texts.add(exact_key(instruction))
        self._index.add(key, matchable(instruction))

    def _made(
        self, candidates: Sequence[_Candidate]
    ) -> list[tuple[_Candidate, list[Conversation]]]:
        """Candidates with the records of their instances; those without any are left out."""
        kinds = self._task_types(candidates)
        requests = [
            self._instances_request(candidate, kind)
            for candidate, kind in zip(candidates, kinds, strict=True)
        ]
        answers = self._generator.generate(requests)
        made = []
        for candidate, kind, answer in zip(candidates, kinds, answers, strict=True):
            instances = self._instances(candidate, kind, answer)
            if instances:
                made.append((candidate, [self._record(candidate, kind, one) for one in instances]))
        return made

    def _task_types(self, candidates: Sequence[_Candidate]) -> list[bool]:
        """Whether each candidate is a classification; unclear answers count as no."""
        requests = [
            ask(
                templates(c.language).fill("self_instruct.task_type", instruction=c.instruction),
                self._config.seed,
                "task_type",
                c.key,
            )
            for c in candidates
        ]
        answers = self._generator.generate(requests, temperature=0.0)
        found = [parse_yes_no(answer.text) for answer in answers]
        self.state.funnel.count("task_type_unclear", sum(one is None for one in found))
        return [one is True for one in found]

    def _instances_request(
        self, candidate: _Candidate, is_classification: bool
    ) -> GenerationRequest:
        name = "labelled_instances" if is_classification else "instances"
        text = templates(candidate.language).fill(
            f"self_instruct.{name}",
            instruction=candidate.instruction,
            count=self._config.max_instances,
        )
        return ask(text, self._config.seed, "instances", candidate.key)

    def _instances(
        self, candidate: _Candidate, is_classification: bool, answer: Generation
    ) -> list[Instance]:
        funnel = self.state.funnel
        if not answer.fitted:
            funnel.drop("instances", "prompt_too_long")
            return []
        first_field = "label" if is_classification else "input"
        found = parse_instances(answer.text, first_field, finished=answer.finished)
        if not found:
            funnel.drop("instances", "unparseable" if answer.finished else "cut_off")
        funnel.count("instances", len(found))
        kept: dict[str, Instance] = {}
        for instance in found[: self._config.max_instances]:
            fault = self._instance_fault(candidate, instance, kept)
            if fault:
                funnel.drop("instances", fault)
            else:
                kept[exact_key(instance.input)] = instance
        if len(found) > self._config.max_instances:
            funnel.drop("instances", "more_than_asked", len(found) - self._config.max_instances)
        return list(kept.values())

    def _instance_fault(
        self, candidate: _Candidate, instance: Instance, kept: dict[str, Instance]
    ) -> str:
        same_input = kept.get(exact_key(instance.input))
        if same_input is not None:
            same = exact_key(same_input.output) == exact_key(instance.output)
            return "exact_duplicate" if same else "conflicting_output"
        return instance_fault(candidate.instruction, instance, self._config.outputs)

    def _record(
        self, candidate: _Candidate, is_classification: bool, instance: Instance
    ) -> Conversation:
        provenance = Provenance(
            stage=STAGE,
            operator="labelled_instances" if is_classification else "instances",
            policy=self._generator.policy_id,
            parents=candidate.parents,
            seed=candidate.seed,
            template=templates(candidate.language).version,
            round=self.state.round,
        )
        task = Task("", candidate.instruction, instance.input, instance.output, candidate.language)
        kind = "classification" if is_classification else "generation"
        return to_conversation(task, provenance, source=STAGE, labels={"task_type": kind})

    def _keep(self, made: Sequence[tuple[_Candidate, list[Conversation]]]) -> None:
        """Add records up to the target."""
        records = [record for _, found in made for record in found]
        room = self._config.target - len(self.state.records)
        self.state.records += records[:room]
        self.state.funnel.count("kept", len(records[:room]))
        if len(records) > room:
            self.state.funnel.drop("records", "beyond_target", len(records) - room)

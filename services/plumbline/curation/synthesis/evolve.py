"""Instructions made harder or rarer, generation by generation.

Each parent gets one operator in each generation. What fails an elimination rule leaves its parent
in place, to be tried again with another draw; what passes takes its parent's place, and stays in
the result beside it.

Source: Xu et al. 2023, WizardLM, arXiv:2304.12244, section 3.2.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from plumbline.core.errors import InvalidInputError
from plumbline.curation.synthesis.config import EvolveConfig, Operator
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
    is_refusal,
    leaks_template,
    matchable,
    says_nothing,
)
from plumbline.curation.synthesis.parsing import Instance, parse_equal, parse_single
from plumbline.curation.synthesis.progress import AfterRound, Ending, SynthesisState
from plumbline.curation.synthesis.records import Provenance, Task, to_conversation
from plumbline.curation.synthesis.rouge import rouge_l
from plumbline.curation.synthesis.templates import Language, templates

STAGE = "curation.evolve"


@dataclass(frozen=True, slots=True)
class _Parent:
    """What stands at a place of the pool."""

    id: str
    root: str
    """Id of the first ancestor, a record of the input."""
    instruction: str
    language: Language


@dataclass(frozen=True, slots=True)
class _Child:
    """An evolved instruction that passed the rules so far."""

    place: int
    parent: _Parent
    operator: Operator
    instruction: str
    seed: int


class Evolution:
    """Evolves tasks.

    Args:
        tasks: the first parents.
        state: where to go on from; a new one unless given.
    Raises:
        InvalidInputError: there is no task.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        generator: Generator,
        config: EvolveConfig,
        state: SynthesisState | None = None,
    ) -> None:
        if not tasks:
            raise InvalidInputError("there is no task to evolve", field="conversations")
        self.state = state or SynthesisState()
        self._generator = generator
        self._config = config
        self._pool = [_Parent(t.id, t.id, t.request, t.language) for t in tasks]
        for place, row in self.state.pool.items():
            self._pool[int(place)] = _Parent(**row)
        self._texts = {exact_key(task.request) for task in tasks}
        self._texts |= {exact_key(r.metadata["instruction"]) for r in self.state.records}
        size = config.parents_per_round
        self._chunks = [range(s, min(s + size, len(tasks))) for s in range(0, len(tasks), size)]

    @property
    def rounds(self) -> int:
        """Rounds that all generations take."""
        return self._config.generations * len(self._chunks)

    def run(self, after_round: AfterRound) -> Ending:
        """All generations, or as many as the target needs.

        Args:
            after_round: called with the state after each round; what it raises ends the work.
        """
        while self.state.round < self.rounds and not self._is_full:
            self._round()
            self.state.round += 1
            after_round(self.state)
        target, generations = self._config.target, self._config.generations
        if self._is_full:
            return Ending("target_reached", f"the target of {target} records is reached")
        if target:
            why = f"{generations} generations brought less than {target} records"
            return Ending("max_rounds", why)
        return Ending("exhausted", f"{generations} generations are done")

    @property
    def _is_full(self) -> bool:
        return 0 < self._config.target <= len(self.state.records)

    def _round(self) -> None:
        generation, chunk = divmod(self.state.round, len(self._chunks))
        places = self._chunks[chunk]
        drawn = [self._draw(generation, place) for place in places]
        answers = self._generator.generate([request for _, request in drawn])
        self.state.funnel.count("prompts", len(drawn))
        evolved = []
        for place, (operator, request), answer in zip(places, drawn, answers, strict=True):
            child = self._evolved(place, operator, request, answer)
            if child is not None:
                evolved.append(child)
        gained = self._gained(generation, evolved)
        kept = self._answered(generation, gained)
        # Children that failed later may be thought of again.
        for child in evolved:
            if child.place not in kept:
                self._texts.discard(exact_key(child.instruction))
        self.state.yields.append((len(drawn), len(kept)))

    def _draw(self, generation: int, place: int) -> tuple[Operator, GenerationRequest]:
        """The operator of a place, and the prompt that applies it."""
        config, parent = self._config, self._pool[place]
        rng = random.Random(derive_seed(config.seed, "operator", generation, place))
        operator = rng.choice(config.operators)
        prompts = templates(parent.language)
        if operator == "breadth":
            text = prompts.fill("evolve.breadth", instruction=parent.instruction)
        else:
            data = rng.choice(prompts.entry("evolve.data"))
            method = prompts.fill(f"evolve.methods.{operator}", data=data)
            text = prompts.fill("evolve.rewrite", method=method, instruction=parent.instruction)
        return operator, ask(text, config.seed, "evolve", generation, place)

    def _evolved(
        self, place: int, operator: Operator, request: GenerationRequest, answer: Generation
    ) -> _Child | None:
        parent = self._pool[place]
        instruction = parse_single(answer.text)
        fault = self._instruction_fault(parent, instruction, answer)
        if fault:
            self.state.funnel.drop("instructions", fault)
            return None
        self._texts.add(exact_key(instruction))
        self.state.funnel.count("instructions")
        return _Child(place, parent, operator, instruction, request.seed)

    def _instruction_fault(self, parent: _Parent, instruction: str, answer: Generation) -> str:
        """Reason code; the codes name the rules of section 3.2, "Elimination Evolving"."""
        if not answer.fitted:
            return "prompt_too_long"
        if not answer.finished:
            return "cut_off"
        if leaks_template(instruction, rewriting=True):
            return "prompt_echo"
        words = matchable(instruction)
        limits = self._config.instructions
        fault = instruction_fault(instruction, words, limits, language=parent.language)
        if fault:
            return fault
        if rouge_l(matchable(parent.instruction), words) >= self._config.max_parent_rouge_l:
            return "unchanged"
        return "exact_duplicate" if exact_key(instruction) in self._texts else ""

    def _gained(self, generation: int, children: Sequence[_Child]) -> list[_Child]:
        """Children that the policy finds different from their parents; unclear answers pass."""
        if not self._config.judge_gain or not children:
            return list(children)
        requests = [
            ask(
                templates(child.parent.language).fill(
                    "evolve.gain",
                    parent=child.parent.instruction,
                    instruction=child.instruction,
                ),
                self._config.seed,
                "gain",
                generation,
                child.place,
            )
            for child in children
        ]
        answers = self._generator.generate(requests, temperature=0.0)
        gained = []
        for child, answer in zip(children, answers, strict=True):
            equal = parse_equal(answer.text)
            if equal:
                self.state.funnel.drop("instructions", "no_gain")
                continue
            self.state.funnel.count("gain_unclear", int(equal is None))
            gained.append(child)
        return gained

    def _answered(self, generation: int, children: Sequence[_Child]) -> set[int]:
        """Keep the children that get an answer; the places that they took."""
        requests = [
            ask(
                templates(child.parent.language).fill(
                    "evolve.answer", instruction=child.instruction
                ),
                self._config.seed,
                "answer",
                generation,
                child.place,
            )
            for child in children
        ]
        answers = self._generator.generate(requests)
        self.state.funnel.count("answers", len(answers))
        kept = set()
        for child, answer in zip(children, answers, strict=True):
            fault = self._answer_fault(child.instruction, answer)
            if fault:
                self.state.funnel.drop("answers", fault)
            elif self._is_full:
                self.state.funnel.drop("answers", "beyond_target")
            else:
                self._keep(generation, child, answer.text.strip())
                kept.add(child.place)
        return kept

    def _answer_fault(self, instruction: str, answer: Generation) -> str:
        if not answer.fitted:
            return "prompt_too_long"
        if not answer.finished:
            return "cut_off"
        if says_nothing(answer.text):
            return "says_nothing"
        outputs = self._config.outputs
        if outputs.drop_refusals and is_refusal(answer.text, max_units=self._config.refusal_units):
            return "refusal"
        return instance_fault(instruction, Instance("", answer.text.strip()), outputs)

    def _keep(self, generation: int, child: _Child, output: str) -> None:
        parent = child.parent
        provenance = Provenance(
            stage=STAGE,
            operator=child.operator,
            policy=self._generator.policy_id,
            parents=(parent.id,),
            seed=child.seed,
            template=templates(parent.language).version,
            round=generation,
        )
        task = Task("", child.instruction, "", output, parent.language)
        record = to_conversation(task, provenance, source=STAGE, labels={"root": parent.root})
        self.state.records.append(record)
        self.state.funnel.count("kept")
        heir = _Parent(record.id, parent.root, child.instruction, parent.language)
        self._pool[child.place] = heir
        self.state.pool[str(child.place)] = asdict(heir)

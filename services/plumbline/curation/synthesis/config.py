"""Configuration of the synthesis stages. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig
from plumbline.data.template import Template

Language = Literal["en", "zh"]
"""Languages that there are prompt templates for."""
Operator = Literal[
    "constraints", "deepening", "concretizing", "reasoning", "complicate_input", "breadth"
]
"""Source: WizardLM, arXiv:2304.12244, section 3.2: five operators in depth and one in breadth."""


class SamplingConfig(FrozenConfig):
    """How the policy is asked."""

    temperature: float = Field(default=0.7, ge=0, le=10)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 keeps all tokens."""
    max_response_tokens: int = Field(default=1024, ge=1)
    template: Template = "chat"
    """Layout of prompts; base models that only continue text need `plain`."""
    prompts_per_call: int = Field(default=64, ge=1, le=4096)
    """Prompts in one call to the sampler; progress and cancellation come between."""
    timeout_s: float = Field(default=900.0, gt=0)
    """Deadline of one call."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Tries of a prompt whose deadline passes; a call of several prompts is halved instead."""


class InstructionFilterConfig(FrozenConfig):
    """Which generated instructions are kept.

    Source: Wang et al. 2022, Self-Instruct, arXiv:2212.10560, section 2.2.
    """

    max_rouge_l: float = Field(default=0.7, gt=0, le=1)
    """An instruction at or above this ROUGE-L F to a seed or a kept one is dropped."""
    min_units: int = Field(default=3, ge=1)
    """Words, where each Han character counts as one."""
    max_units: int = Field(default=150, ge=1)
    banned: tuple[str, ...] = ()
    """Further words or phrases, in lower case, that rule an instruction out."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        if self.min_units > self.max_units:
            raise ValueError(
                f"min_units={self.min_units} must not be above max_units={self.max_units}, "
                "or no instruction is kept"
            )
        return self


class OutputFilterConfig(FrozenConfig):
    """Which inputs and outputs are kept."""

    min_output_units: int = Field(default=1, ge=1)
    """Words, where each Han character counts as one."""
    max_output_units: int = Field(default=2000, ge=1)
    max_input_units: int = Field(default=1000, ge=0)
    drop_refusals: bool = True
    """Drops short answers that decline, such as "I'm sorry, but"."""
    max_prompt_echo: float = Field(default=0.8, gt=0, le=1)
    """An output at or above this ROUGE-L F to the instruction, without a word of its own, repeats
    it."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        if self.min_output_units > self.max_output_units:
            raise ValueError(
                f"min_output_units={self.min_output_units} must not be above "
                f"max_output_units={self.max_output_units}, or no output is kept"
            )
        return self


class SynthesisConfig(FrozenConfig):
    """What every stage that asks a policy has."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    sampling: SamplingConfig = SamplingConfig()
    instructions: InstructionFilterConfig = InstructionFilterConfig()
    outputs: OutputFilterConfig = OutputFilterConfig()
    on_shortfall: Literal["fail", "partial"] = "fail"
    """Whether fewer records than asked for are an error or a smaller result; none is an error."""
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to broken records of an imported data file."""


class SelfInstructConfig(SynthesisConfig):
    """Stage `curation.self_instruct`."""

    target: int = Field(default=1000, ge=1)
    """Records wanted; the last round may bring a few less or is cut to this."""
    languages: tuple[Language, ...] = Field(default=("en", "zh"), min_length=1)
    """Languages asked for, among those that the seeds are in."""
    seed_examples: int = Field(default=6, ge=1, le=32)
    """Examples in a prompt that are drawn from the seeds."""
    generated_examples: int = Field(default=2, ge=0, le=32)
    """Examples drawn from what was kept in earlier rounds, once there is any."""
    instructions_per_prompt: int = Field(default=8, ge=1, le=32)
    """New instructions asked for in one prompt."""
    prompts_per_round: int = Field(default=16, ge=1, le=4096)
    max_instances: int = Field(default=2, ge=1, le=16)
    """Inputs with outputs kept for one instruction."""
    max_rounds: int = Field(default=200, ge=1)
    min_yield: float = Field(default=0.02, ge=0, le=1)
    """Share of the candidate instructions of `yield_rounds` rounds that must lead to a record."""
    yield_rounds: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=1, ge=1)
    """Rounds."""

    @model_validator(mode="after")
    def _languages_differ(self) -> Self:
        if len(set(self.languages)) != len(self.languages):
            raise ValueError(f"languages={list(self.languages)} names one twice")
        return self


class EvolveConfig(SynthesisConfig):
    """Stage `curation.evolve`."""

    generations: int = Field(default=3, ge=1, le=20)
    operators: tuple[Operator, ...] = Field(
        default=(
            "constraints",
            "deepening",
            "concretizing",
            "reasoning",
            "complicate_input",
            "breadth",
        ),
        min_length=1,
    )
    """Each parent gets one of these in each generation, drawn with equal chance."""
    limit: int = Field(default=0, ge=0)
    """First parents only; 0 takes all."""
    target: int = Field(default=0, ge=0)
    """Records wanted; 0 takes what comes."""
    judge_gain: bool = True
    """Ask the policy whether an evolved instruction differs from its parent in substance."""
    max_parent_rouge_l: float = Field(default=0.95, gt=0, le=1)
    """At or above this ROUGE-L F to its parent an instruction counts as unchanged."""
    refusal_units: int = Field(default=80, ge=1)
    """An answer with an apology and fewer words than this is a refusal."""
    parents_per_round: int = Field(default=64, ge=1, le=4096)
    """Parents evolved between two checkpoints."""
    instructions: InstructionFilterConfig = InstructionFilterConfig(max_units=600)

    @model_validator(mode="after")
    def _operators_differ(self) -> Self:
        if len(set(self.operators)) != len(self.operators):
            raise ValueError(f"operators={list(self.operators)} names one twice")
        return self


class BacktranslateConfig(SynthesisConfig):
    """Stage `curation.backtranslate`.

    Source: Li et al. 2023, Self-Alignment with Instruction Backtranslation, arXiv:2308.06259.
    """

    min_rating: int = Field(default=4, ge=0, le=5)
    """Pairs that the policy itself rates lower, out of 5, are dropped; 0 asks for no rating."""
    min_text_units: int = Field(default=20, ge=1)
    """Words, where each Han character counts as one."""
    max_text_units: int = Field(default=1500, ge=1)
    limit: int = Field(default=0, ge=0)
    """First documents only; 0 takes all."""
    target: int = Field(default=0, ge=0)
    """Records wanted; 0 takes what comes."""
    texts_per_round: int = Field(default=64, ge=1, le=4096)
    """Texts between two checkpoints."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        if self.min_text_units > self.max_text_units:
            raise ValueError(
                f"min_text_units={self.min_text_units} must not be above "
                f"max_text_units={self.max_text_units}, or no text is used"
            )
        return self


class ToInstructionsConfig(FrozenConfig):
    """Stage `curation.to_instructions`: no policy is asked."""

    turns: Literal["each", "last"] = "each"
    """Make a record of each assistant turn or of the last one."""
    context: Literal["history", "alone"] = "history"
    """Keep what was said before a turn, or make a record of the exchange alone; then turns that
    lean on what was said before are dropped."""
    max_context_messages: int = Field(default=20, ge=0)
    """Messages of history kept, the latest ones, whole exchanges only."""
    system: Literal["keep", "drop", "fold"] = "keep"
    """What becomes of a system prompt; `fold` puts it before the first instruction."""
    split_input: bool = True
    """Tell an instruction from the material that it is about."""
    strip_chatter: bool = True
    """Drop an answer's opening such as "Here is the translation:" and its closing offers."""
    tools: Literal["drop", "keep"] = "drop"
    """What becomes of conversations with tool results."""
    documents: tuple[Literal["questions", "titles"], ...] = ("questions", "titles")
    """Patterns that are looked for in documents."""
    layout: Literal["instructions", "conversations"] = "instructions"
    """`conversations` puts records of one conversation together again and drops their overlap."""
    outputs: OutputFilterConfig = OutputFilterConfig(max_output_units=4000, max_input_units=4000)
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to broken records of an imported data file."""

"""Ghost Attention: conversations sampled under an instruction, which only the first turn keeps.

While sampling, every user turn carries the instruction. Training sees it once, at the beginning,
and counts the last reply alone: the earlier ones were given to prompts that read differently.

Source: Llama 2, arXiv:2307.09288, section 3.3.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import (
    COUNTED_TURNS,
    LAST_TURN,
    Conversation,
    Message,
    Prompt,
    Role,
    assistant,
    system,
    user,
)
from plumbline.models.chat import ChatFormat
from plumbline.trainer.config.ghost_attention import Constraint, GhostAttentionConfig
from plumbline.trainer.rollout import FINISHED, Sampler, draw_rollouts

SOURCE = "ghost_attention"


@dataclass(frozen=True, slots=True)
class Instruction:
    """What holds for a whole conversation."""

    full: str
    """As sampling says it, with every user turn."""
    seen: str
    """As training says it, once."""
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GhostAttentionData:
    """What came of the dialogues."""

    conversations: list[Conversation]
    dialogues: int
    """Taken up: at least two user turns."""
    cut_short: int
    """Left out, because a reply had no end or the context was full."""


def draw_instruction(
    constraints: Sequence[Constraint], config: GhostAttentionConfig, rng: random.Random
) -> Instruction:
    """One instruction of up to `max_combined` constraints of different kinds."""
    count = rng.randint(1, min(config.max_combined, len(constraints)))
    chosen = [(c, rng.choice(c.values)) for c in rng.sample(list(constraints), count)]
    full = " ".join(c.instruction.replace("{value}", value) for c, value in chosen)
    short = " ".join(c.short.replace("{value}", value) for c, value in chosen)
    seen = short if rng.random() < config.short_share else full
    return Instruction(full, seen, tuple(c.kind for c, _ in chosen))


def make_ghost_attention(
    dialogues: Sequence[Conversation],
    sampler: Sampler,
    chat: ChatFormat,
    config: GhostAttentionConfig,
    *,
    max_tokens: int,
    progress: Callable[[int, int, str], None],
) -> GhostAttentionData:
    """Sample the replies of all dialogues, turn by turn.

    Args:
        dialogues: their user turns are asked again; their replies are not used.
        max_tokens: the policy's context length.
    Raises:
        InvalidInputError: no dialogue has two user turns.
    """
    questions = [
        [m.content for m in d.messages if m.role == Role.USER][: config.max_turns]
        for d in dialogues
    ]
    used = [index for index, turns in enumerate(questions) if len(turns) > 1]
    if not used:
        raise InvalidInputError(
            f"none of {len(dialogues)} dialogues has two user turns; Ghost Attention needs them"
        )
    rng = random.Random(config.seed)
    instructions = {i: draw_instruction(config.constraints, config, rng) for i in used}
    replies: dict[int, list[str]] = {index: [] for index in used}
    turns = max(len(questions[index]) for index in used)
    for turn in range(turns):
        asked = {
            index: _asked(questions[index][: turn + 1], replies[index], instructions[index].full)
            for index in used
            if turn < len(questions[index]) and len(replies[index]) == turn
        }
        room = max_tokens - config.max_response_tokens
        asked = {i: m for i, m in asked.items() if len(chat.encode_prompt(m)) <= room}
        for index, reply in _replies(asked, sampler, chat, config, turn).items():
            replies[index].append(reply)
        progress(turn + 1, turns, f"turn {turn + 1}: {len(asked)} dialogues")
    made = [
        _training_view(dialogues[i], questions[i], replies[i], instructions[i], config.placement)
        for i in used
        if len(replies[i]) == len(questions[i])
    ]
    return GhostAttentionData(made, len(used), len(used) - len(made))


def _asked(questions: Sequence[str], replies: Sequence[str], full: str) -> tuple[Message, ...]:
    """The conversation so far, the instruction with every user turn."""
    messages: list[Message] = []
    for index, question in enumerate(questions):
        messages.append(user(f"{full}\n\n{question}"))
        if index < len(replies):
            messages.append(assistant(replies[index]))
    return tuple(messages)


def _replies(
    asked: dict[int, tuple[Message, ...]],
    sampler: Sampler,
    chat: ChatFormat,
    config: GhostAttentionConfig,
    turn: int,
) -> dict[int, str]:
    """Replies that came to an end, by dialogue."""
    if not asked:
        return {}
    rollouts = draw_rollouts(
        sampler,
        [Prompt(str(index), messages) for index, messages in asked.items()],
        chat=chat,
        k=1,
        temperatures=(config.temperature,),
        top_p=config.top_p,
        max_response_tokens=config.max_response_tokens,
        rows_per_batch=config.rows_per_batch,
        seed=config.seed,
        iteration=turn,
    )
    return {
        index: rollout.response
        for index, rollout in zip(asked, rollouts, strict=True)
        if rollout.finish_reason == FINISHED and rollout.response.strip()
    }


def _training_view(
    dialogue: Conversation,
    questions: Sequence[str],
    replies: Sequence[str],
    instruction: Instruction,
    placement: str,
) -> Conversation:
    """The instruction at the beginning only, the last reply alone to be learned."""
    messages: list[Message] = []
    first = questions[0]
    if placement == "system":
        messages.append(system(instruction.seen))
    else:
        first = f"{instruction.seen}\n\n{first}"
    for question, reply in zip([first, *questions[1:]], replies, strict=True):
        messages += [user(question), assistant(reply)]
    return Conversation(
        f"{dialogue.id}-gatt",
        tuple(messages),
        source=SOURCE,
        metadata={COUNTED_TURNS: LAST_TURN, "constraints": "+".join(instruction.kinds)},
    )

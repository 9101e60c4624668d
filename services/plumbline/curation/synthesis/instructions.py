"""Conversations and documents turned into instruction records, and back; no policy is asked.

A conversation log holds more than lessons: requests to reformat the log itself, answers about
files that did not come along, openings such as "Here is the translation:". Each assistant turn is
looked at by itself, and what is dropped is counted by reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from plumbline.curation.synthesis.chatter import strip_answer
from plumbline.curation.synthesis.config import ToInstructionsConfig
from plumbline.curation.synthesis.judgement import exact_key, instance_fault
from plumbline.curation.synthesis.parsing import Instance
from plumbline.curation.synthesis.progress import Funnel
from plumbline.curation.synthesis.records import (
    Provenance,
    Task,
    split_known,
    text_language,
)
from plumbline.data.records import Conversation, Message, Role, assistant, content_id, system, user

STAGE = "curation.to_instructions"

_META = re.compile(
    r"(?:convert|turn|transform|format|rewrite)\b.{0,60}\b(?:fine-?tuning|training|instruction)\b"
    r".{0,20}\b(?:data|dataset|json|examples?)\b|"
    r"(?:转化|转换|转成|整理|改写).{0,20}(?:微调|训练|指令).{0,10}(?:数据|数据集)",
    re.IGNORECASE,
)
_ATTACHMENT = re.compile(
    r"\b[\w.-]+\.(?:pdf|docx?|xlsx?|pptx?|png|jpe?g|gif|mp[34]|wav|zip)\b|"
    r"\b(?:attached|uploaded)\b|\battachment\b|附件|上传的|\[(?:图片|文件|语音|视频)\]",
    re.IGNORECASE,
)
_MEDIA = re.compile(r"<(?:image|video|audio|img)\b[^>]*>|\[(?:image|video|audio)\]", re.IGNORECASE)
_LEANS_BACK = re.compile(
    r"^\s*(?:continue|go on|keep going|more|again|another one|why|how so|what about|and\b|also\b|"
    r"yes\b|no\b|ok(?:ay)?\b|thanks?\b|thank you|"
    r"继续|接着|再|然后|为什么|还有|那|好的?|谢谢|是的|不是|换一个)"
    r"|\b(?:it|that|they|them|those|this|the (?:previous|last|first|second) (?:one|answer))\b"
    r"|(?:上面|刚才|前面|之前|这个|那个|它|他们|她们)",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}")


@dataclass(slots=True)
class Conversion:
    """Records with the account of how they came about."""

    records: list[Conversation] = field(default_factory=list)
    funnel: Funnel = field(default_factory=Funnel)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One exchange with what was said before it."""

    opening: str
    """The system prompt, or an empty string."""
    history: tuple[Message, ...]
    """User and assistant in turn; the part that is kept."""
    is_first: bool
    """Whether nothing was said before it."""
    request: str
    """As it was said."""
    instruction: str
    material: str
    """What the instruction is about; empty where the request does not tell them apart."""
    answer: str


def convert_conversations(
    conversations: Iterable[Conversation], config: ToInstructionsConfig
) -> Conversion:
    """Instruction records of conversations, in order, each text once."""
    conversion = Conversion()
    seen: set[str] = set()
    for conversation in conversations:
        conversion.funnel.count("conversations")
        for number, turn in _turns(conversation, config, conversion.funnel):
            conversion.funnel.count("turns")
            fault = _turn_fault(turn, config)
            if fault:
                conversion.funnel.drop("turns", fault)
                continue
            record = _record(conversation, number, turn, config)
            key = exact_key("\n".join(f"{m.role}: {m.content}" for m in record.messages))
            if key in seen:
                conversion.funnel.drop("turns", "exact_duplicate")
                continue
            seen.add(key)
            conversion.records.append(record)
            conversion.funnel.count("kept")
    return conversion


def _turns(
    conversation: Conversation, config: ToInstructionsConfig, funnel: Funnel
) -> list[tuple[int, _Turn]]:
    """Numbered exchanges of a conversation whose roles are put in order."""
    if any(message.role is Role.TOOL for message in conversation.messages):
        if config.tools == "drop":
            funnel.drop("conversations", "tool_results")
            return []
        funnel.count("conversations_with_tools")
    opening, messages = tidy(conversation.messages)
    if config.strip_chatter:
        messages = [
            Message(m.role, strip_answer(m.content)) if m.role is Role.ASSISTANT else m
            for m in messages
        ]
    known = conversation.metadata.get("instruction", "")
    answered = [p for p, message in enumerate(messages) if message.role is Role.ASSISTANT]
    found = []
    for number, position in enumerate(answered):
        request = messages[position - 1].content
        instruction, material = split_known(request, known) if config.split_input else (request, "")
        history = _window(messages[: position - 1], config.max_context_messages)
        turn = _Turn(
            opening=opening,
            history=history,
            is_first=number == 0,
            request=request,
            instruction=instruction,
            material=material,
            answer=messages[position].content,
        )
        found.append((number, turn))
    if not found:
        funnel.drop("conversations", "no_exchange")
    return found if config.turns == "each" else found[-1:]


def tidy(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """A system prompt, then user and assistant in turn, beginning with the user.

    System prompts are joined wherever they stand; neighbours of one role are joined; tool results
    count as what the user adds; an assistant's opening words and blank messages are left out.
    """
    opening = "\n".join(m.content.strip() for m in messages if m.role is Role.SYSTEM)
    tidied: list[Message] = []
    for message in messages:
        content = message.content.strip()
        if message.role is Role.SYSTEM or not content:
            continue
        role = Role.ASSISTANT if message.role is Role.ASSISTANT else Role.USER
        if tidied and tidied[-1].role is role:
            tidied[-1] = Message(role, f"{tidied[-1].content}\n{content}")
        elif tidied or role is Role.USER:
            tidied.append(Message(role, content))
    return opening.strip(), tidied


def _window(history: Sequence[Message], most: int) -> tuple[Message, ...]:
    """The latest whole exchanges that fit."""
    kept = most // 2 * 2
    return tuple(history[max(len(history) - kept, 0) :])


def _turn_fault(turn: _Turn, config: ToInstructionsConfig) -> str:
    """Reason code, or an empty string."""
    said = f"{turn.request}\n{turn.answer}"
    if _META.search(turn.request):
        return "about_the_log"
    if _MEDIA.search(said):
        return "media"
    if _ATTACHMENT.search(turn.request):
        return "attachment"
    if _PLACEHOLDER.search(said):
        return "placeholder"
    if config.context == "alone" and not turn.is_first and _LEANS_BACK.search(turn.request):
        return "leans_on_context"
    return instance_fault(turn.instruction, Instance(turn.material, turn.answer), config.outputs)


def _record(
    conversation: Conversation, number: int, turn: _Turn, config: ToInstructionsConfig
) -> Conversation:
    request, instruction = turn.request, turn.instruction
    history = turn.history if config.context == "history" else ()
    if turn.opening and config.system == "fold":
        if history:
            history = (user(f"{turn.opening}\n{history[0].content}"), *history[1:])
        else:
            request = f"{turn.opening}\n{request}"
            instruction = f"{turn.opening}\n{instruction}"
    messages = (
        *([system(turn.opening)] if turn.opening and config.system == "keep" else []),
        *history,
        user(request),
        assistant(turn.answer),
    )
    return Conversation(
        id=content_id(STAGE, [message.to_row() for message in messages]),
        messages=messages,
        source=conversation.source,
        metadata={
            **conversation.metadata,
            **_provenance("turn", conversation.id).to_metadata(),
            "synthetic": "false",
            "turn": str(number),
            "instruction": instruction,
            "input": turn.material,
            "language": text_language(request),
        },
    )


def task_record(task: Task, operator: str, source: str) -> Conversation:
    """A record of a task that was found in a document."""
    messages = (user(task.request), assistant(task.output))
    return Conversation(
        id=content_id(STAGE, [message.to_row() for message in messages]),
        messages=messages,
        source=source,
        metadata={
            **_provenance(operator, task.id).to_metadata(),
            "synthetic": "false",
            "instruction": task.instruction,
            "input": task.input,
            "language": task.language,
        },
    )


def _provenance(operator: str, parent: str) -> Provenance:
    return Provenance(
        stage=STAGE, operator=operator, policy="", parents=(parent,), seed=0, template="", round=0
    )


def to_conversations(records: Sequence[Conversation]) -> list[Conversation]:
    """Records of one conversation put together again, in the order of their first turn.

    Where records carry their history, the one that holds all others' messages stands for them; of
    records without history the exchanges follow each other.
    """
    groups: dict[str, list[Conversation]] = {}
    for record in records:
        groups.setdefault(record.metadata["parents"], []).append(record)
    return [_together(group) for group in groups.values()]


def _together(records: Sequence[Conversation]) -> Conversation:
    messages: tuple[Message, ...] = ()
    for record in records:
        if record.messages[: len(messages)] == messages:
            messages = record.messages
            continue
        opening = record.messages[0]
        repeated = opening.role is Role.SYSTEM and opening in messages[:1]
        further = record.messages[1:] if repeated else record.messages
        messages = (*messages, *further[-2:])
    first = records[0]
    return replace(
        first,
        id=content_id(STAGE, [message.to_row() for message in messages]),
        messages=messages,
        metadata={
            name: value
            for name, value in first.metadata.items()
            if name not in ("turn", "instruction", "input")
        },
    )

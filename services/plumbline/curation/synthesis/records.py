"""Tasks as synthesis sees them, and the records that come of it with their provenance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from plumbline.core.characters import HAN
from plumbline.curation.synthesis.requests import split_request
from plumbline.curation.synthesis.templates import Language
from plumbline.data.records import Conversation, Role, assistant, content_id, user

_HAN = re.compile(f"[{HAN}]")
_WORD = re.compile(rf"[^\W\d_{HAN}]+")
_HAN_PER_WORD = 2
"""About as many Han characters say what a word says."""


@dataclass(frozen=True, slots=True)
class Task:
    """An instruction with the material that it is about, and the expected answer."""

    id: str
    instruction: str
    input: str
    output: str
    language: Language

    @property
    def request(self) -> str:
        """What the user says: instruction and input, joined as Alpaca's users join them."""
        return join_request(self.instruction, self.input)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a synthetic record comes from."""

    stage: str
    operator: str
    policy: str
    """Artifact id of the policy that wrote it; empty where none was asked."""
    parents: tuple[str, ...]
    """Ids of the records that it was made from."""
    seed: int
    template: str
    """Version of the prompts, for example `en.1`; empty where there were none."""
    round: int

    def to_metadata(self) -> dict[str, str]:
        return {
            "synthetic": "true",
            "stage": self.stage,
            "operator": self.operator,
            "policy": self.policy,
            "parents": json.dumps(list(self.parents), ensure_ascii=False),
            "seed": str(self.seed),
            "template": self.template,
            "round": str(self.round),
        }


def join_request(instruction: str, material: str) -> str:
    """Instruction and input as one user message."""
    return "\n".join(part for part in (instruction, material) if part.strip())


def text_language(text: str) -> Language:
    """Which templates suit a text: Chinese where Han characters outweigh words."""
    return "zh" if len(_HAN.findall(text)) > _HAN_PER_WORD * len(_WORD.findall(text)) else "en"


def tasks_of(conversations: Iterable[Conversation]) -> Iterator[Task]:
    """The first exchange of each conversation that has one.

    Those of several exchanges are taken by their first.
    """
    for conversation in conversations:
        requests = [m for m in conversation.messages if m.role is Role.USER]
        replied = next((m for m in conversation.messages if m.role is Role.ASSISTANT), None)
        if not requests or replied is None:
            continue
        asked = requests[0].content
        # What metadata says of an instruction is about the last exchange.
        is_last = len(requests) == 1
        instruction, material = _split(conversation, asked) if is_last else split_request(asked)
        yield Task(conversation.id, instruction, material, replied.content, text_language(asked))


def split_known(request: str, known: str) -> tuple[str, str]:
    """Instruction and input of a request.

    Args:
        known: the instruction where the source tells it, as seed tasks do; otherwise the request's
            own layout decides.
    """
    if known and request.startswith(known):
        return known, request[len(known) :].strip("\n")
    return split_request(request)


def _split(conversation: Conversation, request: str) -> tuple[str, str]:
    known, material = (conversation.metadata.get(name) for name in ("instruction", "input"))
    if known is not None and material is not None:
        return known, material
    return split_known(request, known or "")


def to_conversation(
    task: Task,
    provenance: Provenance,
    *,
    source: str,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Conversation:
    """A record of one exchange; its id follows from its text.

    Args:
        labels: further metadata.
    """
    messages = (user(task.request), assistant(task.output))
    return Conversation(
        id=content_id(provenance.stage, [message.to_row() for message in messages]),
        messages=messages,
        source=source,
        metadata={
            **provenance.to_metadata(),
            "instruction": task.instruction,
            "language": task.language,
            **labels,
        },
    )


def alpaca_row(conversation: Conversation) -> dict[str, object]:
    """The last exchange as `instruction`, `input`, `output`, with what was said before it."""
    *before, asked, replied = conversation.messages
    system = before[0].content if before and before[0].role is Role.SYSTEM else ""
    history = before[1:] if system else before
    instruction, material = _split(conversation, asked.content)
    row: dict[str, object] = {
        "id": conversation.id,
        "instruction": instruction,
        "input": material,
        "output": replied.content,
    }
    if system:
        row["system"] = system
    if history:
        row["history"] = _pairs([message.content for message in history])
    return row


def _pairs(texts: Sequence[str]) -> list[list[str]]:
    return [list(texts[i : i + 2]) for i in range(0, len(texts), 2)]

"""How messages are laid out as a model's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from plumbline.data.records import Message

Template = Literal["chat", "plain", "transcript"]
"""`chat`: the tokenizer's own template. `plain`: contents joined by line breaks, for models that
continue text. `transcript`: `Human:` and `Assistant:` lines, for models without a template."""

_TRANSCRIPT_NAMES: Mapping[str, str] = {
    "system": "System",
    "user": "Human",
    "assistant": "Assistant",
    "tool": "Tool",
}


def plain_text(messages: Sequence[Message]) -> str:
    """The layout `plain`."""
    return "\n".join(message.content for message in messages)


def transcript_text(messages: Sequence[Message]) -> str:
    """The layout `transcript`, up to where the assistant goes on."""
    turns = (f"\n\n{_TRANSCRIPT_NAMES[m.role]}: {m.content.strip()}" for m in messages)
    return "".join(turns) + "\n\nAssistant:"

"""What was said in a chat, and how much of it a policy can still read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from plumbline.data.records import Conversation, Message, assistant, content_id, system, user

SOURCE = "plumbline chat"
"""The `source` of records that come from chats."""
_TEMPLATE_TOKENS = 64
"""What a chat template may add of its own, such as a default system message."""
_TEMPLATE_TOKENS_PER_MESSAGE = 16


@dataclass(slots=True)
class Dialogue:
    """A system message and exchanges of a question and its answer, oldest first."""

    system: str = ""
    """Empty means none."""
    exchanges: list[tuple[str, str]] = field(default_factory=list)

    def prompt(self, question: str) -> tuple[Message, ...]:
        """The messages that lead up to the next answer."""
        return (*self._messages(), user(question))

    def add(self, question: str, answer: str) -> None:
        self.exchanges.append((question, answer))

    def drop_oldest(self) -> None:
        """Forget the oldest exchange; the system message stays."""
        del self.exchanges[0]

    def record(self) -> Conversation:
        """The dialogue as a demonstration."""
        messages = tuple(self._messages())
        rows = [message.to_row() for message in messages]
        return Conversation(id=content_id("Conversation", rows), messages=messages, source=SOURCE)

    def _messages(self) -> Iterator[Message]:
        if self.system:
            yield system(self.system)
        for question, answer in self.exchanges:
            yield user(question)
            yield assistant(answer)


def most_tokens(messages: tuple[Message, ...]) -> int:
    """A bound on a prompt's tokens that needs no tokenizer: none holds less than a byte of text."""
    text_bytes = sum(len(message.content.encode()) for message in messages)
    return text_bytes + _TEMPLATE_TOKENS + _TEMPLATE_TOKENS_PER_MESSAGE * (len(messages) + 1)


def room_for_prompt(context_length: int, max_response_tokens: int) -> int:
    """Tokens that a prompt may have so that an answer has room: its bound, or a quarter of all."""
    return context_length - min(max_response_tokens, context_length // 4)

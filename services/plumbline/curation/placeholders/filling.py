"""Fills placeholders in one pass: what a value holds is never taken for a placeholder."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from plumbline.curation.placeholders.config import NAME_PATTERN
from plumbline.data.records import Conversation, Message

PLACEHOLDER = re.compile(r"\{\{\s*(" + NAME_PATTERN + r")\s*\}\}")


@dataclass(slots=True)
class PlaceholderFilling:
    """Fills the placeholders of conversations, and counts them.

    Args:
        values: by name.
    """

    values: Mapping[str, str]
    filled: Counter[str] = field(default_factory=Counter)
    """Placeholders that got their value, by name."""
    unfilled: Counter[str] = field(default_factory=Counter)
    """Placeholders without a value, which stay as they are."""
    changed: int = 0
    """Conversations with a placeholder that was filled."""
    first_unfilled: str = ""
    """Id of the first conversation with a placeholder that has no value."""

    def apply(self, conversations: Iterable[Conversation]) -> Iterator[Conversation]:
        """The conversations with values in the text of every message, in order.

        Ids stay, so that a record can be traced to the one that it was made from.
        """
        for conversation in conversations:
            before = self.unfilled.total()
            messages = tuple(
                Message(message.role, self._fill(message.content))
                for message in conversation.messages
            )
            if self.unfilled.total() > before and not self.first_unfilled:
                self.first_unfilled = conversation.id
            self.changed += messages != conversation.messages
            yield dataclasses.replace(conversation, messages=messages)

    def _fill(self, text: str) -> str:
        return PLACEHOLDER.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in self.values:
            self.unfilled[name] += 1
            return match.group()
        self.filled[name] += 1
        return self.values[name]

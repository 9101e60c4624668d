"""Prompts as text, for servers that tokenise by themselves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from plumbline.core.errors import FailedPreconditionError
from plumbline.data.records import Message
from plumbline.data.template import Template, plain_text, transcript_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROMPTS_KEPT = 256


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt as a server takes it."""

    text: str
    token_ids: tuple[int, ...] = ()
    """Empty where the tokenizer is not known."""


class Prompts(Protocol):
    """Lays messages out, and knows what tokens stand for. Safe to use from many threads."""

    def prompt(self, messages: Sequence[Message], template: Template) -> PromptText:
        """
        Raises:
            InvalidInputError: no messages, or a control token within one.
            FailedPreconditionError: the layout cannot be had.
        """
        ...

    def token_bytes(self, token_id: int, shown: str) -> bytes:
        """Bytes of a token, for which the server shows a text."""
        ...


class TextPrompts:
    """Layouts that need no tokenizer; the bytes of a token are those of the text shown for it."""

    def prompt(self, messages: Sequence[Message], template: Template) -> PromptText:
        if template == "chat":
            raise FailedPreconditionError(
                "a chat template needs the tokenizer of the served model; set "
                "PLUMBLINE_TRITON_TOKENIZER to its directory or artifact, or choose template "
                "'plain' (text to continue) or 'transcript' (Human: / Assistant: lines)",
                reason="NO_CHAT_TEMPLATE",
            )
        layout = plain_text if template == "plain" else transcript_text
        return PromptText(layout(messages))

    def token_bytes(self, token_id: int, shown: str) -> bytes:
        return shown.encode()


class TokenizerPrompts:
    """Layouts as the native engine has them, by the tokenizer of the served model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # Tokenizers are not safe to be used by several threads.
        self._lock = threading.Lock()
        # The responses to one prompt ask for it one by one.
        self._laid_out = lru_cache(maxsize=_PROMPTS_KEPT)(self._lay_out)

    def prompt(self, messages: Sequence[Message], template: Template) -> PromptText:
        with self._lock:
            return self._laid_out(tuple(messages), template)

    def _lay_out(self, messages: tuple[Message, ...], template: Template) -> PromptText:
        from plumbline.models.chat import ChatFormat

        chat = ChatFormat(self._tokenizer, template=template)
        return PromptText(chat.prompt_text(messages), tuple(chat.encode_prompt(messages)))

    def token_bytes(self, token_id: int, shown: str) -> bytes:
        from plumbline.sampler.token_text import token_bytes

        return token_bytes(self._tokenizer, token_id)

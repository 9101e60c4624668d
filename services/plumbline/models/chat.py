"""From messages to token ids and back, the same way in training, sampling and scoring.

Prompt and response are tokenised apart and joined, so a prompt's ids are always a prefix of the
ids of prompt and response together, and what a policy is trained on is what it is asked.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.data.records import Message, Role
from plumbline.data.template import Template, plain_text, transcript_text

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SPECIAL_TOKENS = (PAD, BEGIN, END, "<|system|>", "<|user|>", "<|assistant|>")
"""Control tokens of the models that `trainer.pretrain` makes; their ids are 0 to 5."""
CHAT_TEMPLATE = (
    "<|begin|>{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{{ message['content'] }}{{ '' if loop.last else '\\n' }}{% endfor %}"
)
"""The layout `plain` as a chat template, for models that are saved after training with it."""


@dataclass(frozen=True, slots=True)
class EncodedConversation:
    """Token ids with the positions that training counts."""

    token_ids: list[int]
    response_mask: list[bool]
    """True at the tokens of counted assistant turns, their end-of-sequence token included."""


class ChatFormat:
    """A tokenizer together with the way that it lays out messages.

    Args:
        template: see `Template`. A tokenizer without a chat template needs another layout to be
            chosen by name, because a silent fallback would train and serve different prompts.
    Raises:
        FailedPreconditionError: `chat` was asked of a tokenizer that has no template, or the
            tokenizer has no end-of-sequence token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, template: Template = "chat") -> None:
        if template == "chat" and not tokenizer.chat_template:
            raise FailedPreconditionError(
                "the tokenizer has no chat template; choose template 'plain' (text to continue) "
                "or 'transcript' (Human: / Assistant: lines)",
                reason="NO_CHAT_TEMPLATE",
            )
        end_id = tokenizer.eos_token_id
        if end_id is None:
            end_id = tokenizer.sep_token_id
        if end_id is None:
            raise FailedPreconditionError(
                "the tokenizer has no end-of-sequence token (eos_token or sep_token)",
                reason="NO_END_TOKEN",
            )
        self.tokenizer = tokenizer
        self.template: Template = template
        self.eos_id = int(end_id)
        pad_id = tokenizer.pad_token_id
        self.pad_id = self.eos_id if pad_id is None else int(pad_id)
        self._control_tokens = tuple(
            token for token in dict.fromkeys(tokenizer.all_special_tokens) if len(token) > 1
        )

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the messages and of whatever opens the assistant's turn.

        Raises:
            InvalidInputError: no messages, a control token within a message, or messages that the
                template refuses.
        """
        ids = self._encode(self._laid_out(messages))
        opening = self._opening_id
        return ids if opening is None else [opening, *ids]

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Text of which a server with the same tokenizer makes the ids of `encode_prompt`.

        Such a server puts around every text what its tokenizer does, mostly an opening token, and
        reads control tokens within it.

        Raises:
            InvalidInputError: as `encode_prompt`.
            FailedPreconditionError: no text gives those ids.
        """
        ids, text = self.encode_prompt(messages), self._laid_out(messages)
        if self._opening_id is not None:
            text = str(self.tokenizer.convert_ids_to_tokens(self._opening_id)) + text
        first = str(self.tokenizer.convert_ids_to_tokens(ids[0])) if ids else ""
        for candidate in (text, text.removeprefix(first)):
            if list(self.tokenizer.encode(candidate, verbose=False)) == ids:
                return candidate
        raise FailedPreconditionError(
            f"the tokenizer adds tokens to every text that layout {self.template!r} lacks, "
            "so no text gives this prompt; choose another template, or a server that takes tokens",
            reason="NO_PROMPT_TEXT",
        )

    def encode_response(self, text: str, end: bool = True, *, literal: bool = False) -> list[int]:
        """Ids of a response with exactly one end-of-sequence token when `end`, else none.

        Args:
            literal: take a control token that is spelled out within the text for ordinary
                characters, as a policy may sample them one by one; else such text is refused.
        Raises:
            InvalidInputError: a control token within the text, unless `literal`.
        """
        end_token = str(self.tokenizer.convert_ids_to_tokens(self.eos_id))
        while text.endswith(end_token):
            text = text.removesuffix(end_token)
        if not literal:
            self._refuse_control_tokens(text)
        if self.template == "transcript":
            # The layout puts one space after "Assistant:".
            text = " " + text.strip()
        spelled_out = any(token in text for token in self._control_tokens)
        ids = self._encode_literally(text) if spelled_out else self._encode(text)
        return [*ids, self.eos_id] if end else ids

    def encode_conversation(
        self, messages: Sequence[Message], *, last_only: bool = False
    ) -> list[EncodedConversation]:
        """Training examples of a conversation: every assistant turn is counted exactly once.

        Args:
            last_only: count the last assistant turn alone; the earlier ones are its context.

        Turns share one example where the layout lets a later prompt begin with the ids of the
        earlier turns; where it does not (templates that rewrite history), the next turn opens
        another example, so the model is always trained on the ids that it will be asked with.
        """
        examples: list[EncodedConversation] = []
        turns = [i for i, message in enumerate(messages) if message.role == Role.ASSISTANT and i]
        for index in turns[-1:] if last_only else turns:
            prompt = self.encode_prompt(messages[:index])
            response = self.encode_response(messages[index].content)
            last = examples[-1] if examples else None
            if last is not None and prompt[: len(last.token_ids)] == last.token_ids:
                gap = len(prompt) - len(last.token_ids)
                last.token_ids.extend(prompt[len(last.token_ids) :] + response)
                last.response_mask.extend([False] * gap + [True] * len(response))
            else:
                mask = [False] * len(prompt) + [True] * len(response)
                examples.append(EncodedConversation(prompt + response, mask))
        return examples

    def is_plain(self, text: str) -> bool:
        """Whether a text spells no control token, so that it may be part of a message."""
        return not any(token in text for token in self._control_tokens)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without control tokens."""
        return str(
            self.tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _encode(self, text: str) -> list[int]:
        # Whether ids fit is for the caller to say, so the tokenizer need not warn.
        return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _encode_literally(self, text: str) -> list[int]:
        return list(
            self._literal_tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=True, verbose=False
            )
        )

    @functools.cached_property
    def _literal_tokenizer(self) -> PreTrainedTokenizerBase:
        # A copy, because the option is a state of the tokenizer that other threads would see.
        return copy.deepcopy(self.tokenizer)

    @property
    def _opening_id(self) -> int | None:
        """Of the token before layouts other than `chat`, which brings its own."""
        if self.template == "chat":
            return None
        opening = self.tokenizer.bos_token_id
        if opening is None:
            opening = self.tokenizer.cls_token_id
        return None if opening is None else int(opening)

    def _laid_out(self, messages: Sequence[Message]) -> str:
        if not messages:
            raise InvalidInputError("the prompt has no messages; at least one is needed")
        for message in messages:
            self._refuse_control_tokens(message.content)
        if self.template == "plain":
            return plain_text(messages)
        if self.template == "transcript":
            return transcript_text(messages)
        rows = [{"role": message.role.value, "content": message.content} for message in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(rows, add_generation_prompt=True, tokenize=False)
            )
        except TemplateError as error:
            raise InvalidInputError(f"the chat template refuses the prompt: {error}") from error

    def _refuse_control_tokens(self, text: str) -> None:
        for token in self._control_tokens:
            if token in text:
                raise InvalidInputError(
                    f"the text holds the control token {token!r}, which only the chat format may "
                    "set",
                    reason="CONTROL_TOKEN",
                )

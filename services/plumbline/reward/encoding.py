"""Token ids of prompts with their responses, as a reward model reads them."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plumbline.data.records import Message
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import load_tokenizer
from plumbline.models.reward import RewardModelCard, join_parts, read_card
from plumbline.reward.backends import EncodedText, ModelFiles


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """A response to be scored."""

    prompt: tuple[Message, ...]
    response: str
    risky: bool = False
    """The prompt is known to be risky: the combined head uses the safety score."""


@dataclass(frozen=True, slots=True)
class RewardEncoder:
    """Everything of a reward model but its weights."""

    files: ModelFiles
    card: RewardModelCard
    chat: ChatFormat
    architecture: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    """A tokenizer may be used by one thread at a time."""

    @classmethod
    def load(cls, model_id: str, path: Path) -> RewardEncoder:
        card = read_card(path)
        chat = ChatFormat(load_tokenizer(path), template=card.template)
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        architecture = str(config.get("model_type", ""))
        return cls(ModelFiles(model_id, path), card, chat, architecture)

    def encode(self, items: Sequence[ScoredItem]) -> list[EncodedText]:
        """Token ids of the items; a prompt is tokenised once for all its responses."""
        prompts: dict[tuple[Message, ...], list[int]] = {}
        texts = []
        with self.lock:
            for item in items:
                prompt = prompts.get(item.prompt)
                if prompt is None:
                    prompt = prompts[item.prompt] = self.chat.encode_prompt(item.prompt)
                # A policy may have sampled a control token's characters one by one, and one odd
                # response must not fail all.
                response = self.chat.encode_response(item.response, literal=True)
                texts.append(EncodedText(*join_parts(self.card, self.chat, prompt, response)))
        return texts

"""Supervised fine-tuning on conversations about images: cross entropy on the assistant turns.

Prompt and response are tokenised apart, and the response ends with one end-of-sequence token, as
for text. Loss only where the assistant speaks; the tokens of images never count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from transformers import PreTrainedModel

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.data.image_conversations import IMAGE_MARK, ImageConversation
from plumbline.data.records import Role
from plumbline.models.projection import projected_cross_entropy
from plumbline.trainer.batches import step_batches
from plumbline.trainer.config.vision_sft import VisionSFTConfig
from plumbline.trainer.engine import TrainingRun, check_finite

_TEXT_FEATURES = ("input_ids", "attention_mask")


@dataclass(frozen=True, slots=True)
class Turn:
    """An assistant turn that is learned, with all that stands before it."""

    conversation: ImageConversation
    index: int
    """Of the message."""


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """What the model takes: token ids [1, T], and the features of the images."""

    inputs: dict[str, Tensor]
    prompt_tokens: int

    @property
    def response_tokens(self) -> int:
        return int(self.inputs["input_ids"].shape[1]) - self.prompt_tokens


class VisionFormat:
    """A processor together with the way that it lays out messages and images.

    Raises:
        FailedPreconditionError: no chat template, or no end-of-sequence token.
    """

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        if not (getattr(processor, "chat_template", None) or self.tokenizer.chat_template):
            raise FailedPreconditionError(
                "the processor has no chat template", reason="NO_CHAT_TEMPLATE"
            )
        if self.tokenizer.eos_token_id is None:
            raise FailedPreconditionError(
                "the tokenizer has no end-of-sequence token", reason="NO_END_TOKEN"
            )

    def encode(self, turn: Turn) -> EncodedTurn:
        """Token ids and images of a turn.

        Raises:
            InvalidInputError: a file that is no image.
        """
        before = turn.conversation.messages[: turn.index]
        shown = sum(message.content.count(IMAGE_MARK) for message in before)
        images = [_open(path) for path in turn.conversation.images[:shown]]
        rows = [{"role": m.role.value, "content": _parts(m.content)} for m in before]
        text = self.processor.apply_chat_template(rows, add_generation_prompt=True, tokenize=False)
        found = self.processor(text=text, images=images or None, return_tensors="pt")
        response = self._response(turn.conversation.messages[turn.index].content)
        prompt = found["input_ids"]
        # What goes token by token, types for example, goes on with zeros over the response.
        inputs = {
            name: torch.cat([value, value.new_zeros(1, len(response))], dim=1)
            if value.shape == prompt.shape
            else value
            for name, value in found.items()
            if name not in _TEXT_FEATURES
        }
        inputs["input_ids"] = torch.cat([prompt, torch.tensor([response])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return EncodedTurn(inputs, int(prompt.shape[1]))

    def _response(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return [*ids, int(self.tokenizer.eos_token_id)]


def turns_of(
    conversations: Sequence[ImageConversation], layout: VisionFormat, *, max_length: int
) -> tuple[list[Turn], list[int], int]:
    """Assistant turns that fit, their lengths in tokens, and how many do not.

    Raises:
        InvalidInputError: none fits.
    """
    turns = [
        Turn(conversation, index)
        for conversation in conversations
        for index, message in enumerate(conversation.messages)
        if message.role == Role.ASSISTANT and index
    ]
    lengths = [int(layout.encode(turn).inputs["input_ids"].shape[1]) for turn in turns]
    fitting = [i for i, length in enumerate(lengths) if length <= max_length]
    if not fitting:
        raise InvalidInputError(
            f"none of {len(turns)} assistant turns fits max_length={max_length} tokens",
            field="max_length",
        )
    left_out = len(turns) - len(fitting)
    return [turns[i] for i in fitting], [lengths[i] for i in fitting], left_out


def train_vision_sft(
    model: PreTrainedModel,
    layout: VisionFormat,
    turns: Sequence[Turn],
    run: TrainingRun,
    plan: Sequence[Sequence[int]],
) -> None:
    """Train on every step of a plan.

    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    start = run.resume()
    model.train()
    for step in range(start, len(plan)):
        loss = _train_step(model, [layout.encode(turns[i]) for i in plan[step]], step)
        norm = run.apply_gradients()
        metrics = {"loss": loss, "learning_rate": run.learning_rate, "gradient_norm": norm}
        run.end_unit(step + 1, len(plan), metrics)
    model.eval()


def plan_steps(lengths: Sequence[int], config: VisionSFTConfig) -> list[list[int]]:
    """Indices of each step's turns."""
    return step_batches(
        lengths,
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        max_steps=config.max_steps,
    )


def response_loss(model: PreTrainedModel, turn: EncodedTurn, *, denominator: float) -> Tensor:
    """Cross entropy of a turn's response tokens, summed and divided by the step's denominator."""
    device = model.get_input_embeddings().weight.device
    inputs = {name: value.to(device) for name, value in turn.inputs.items()}
    states = model.base_model(**inputs, use_cache=False).last_hidden_state[0]
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        raise FailedPreconditionError(
            f"the head of {type(model).__name__} is no plain projection; it is not supported"
        )
    first = turn.prompt_tokens
    return projected_cross_entropy(
        states[first - 1 : -1],
        head.weight,
        inputs["input_ids"][0, first:],
        denominator=denominator,
    )


def _train_step(model: PreTrainedModel, turns: Sequence[EncodedTurn], step: int) -> float:
    counted = sum(turn.response_tokens for turn in turns)
    total = 0.0
    for number, turn in enumerate(turns):
        loss = response_loss(model, turn, denominator=counted)
        total += loss.item()
        check_finite(total, step=step, batch=f"turn {number} of the step")
        loss.backward()
    return total


def _parts(content: str) -> list[dict[str, str]]:
    """The text and image parts of a message, in order."""
    parts: list[dict[str, str]] = []
    for number, text in enumerate(content.split(IMAGE_MARK)):
        if number:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts


def _open(path: Any) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise InvalidInputError(f"{path.name} is no image that can be read: {error}") from error

"""Reward models: a backbone with a scalar head, and the files that hold one.

Legend: B batch, T tokens, H hidden size.

A reward-model directory is the backbone in the Hugging Face layout plus `reward_head.safetensors`
(`weight` [1, H], `bias` [1]) and `reward_model.json` (`RewardModelCard`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plumbline.core.errors import CheckpointError, FailedPreconditionError, InvalidInputError
from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.models.batching import length_sorted_batches, pad_right
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import is_decoder, load_encoder_or_decoder, save_model
from plumbline.models.packing import PromptGroup, pack_groups, packed_states, supports_packing

HEAD_FILE = "reward_head.safetensors"
CARD_FILE = "reward_model.json"
EXACT_ROWS = 8
"""Matrix products on a CPU give a row the same bits in any number of rows that is a multiple of
this; they do not in others."""

Pooling = Literal["last", "cls", "mean", "response"]


class RewardModelCard(BaseModel):
    """What a reward model judges and how its input is laid out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Literal["helpfulness", "safety", "preference"] = "preference"
    pooling: Pooling = "last"
    """`last`: the last token, for decoders. `cls`, `mean` and `response`, the mean of the
    response's tokens: for encoders."""
    max_length: int = Field(512, gt=0)
    """Tokens; longer input loses its beginning, since the response stands at the end."""
    template: Template = "chat"
    temperature: float = Field(1.0, gt=0)
    """What differences of scores are divided by to read them as probabilities, as held-out pairs
    say; 1 where there were too few of them."""
    score_deciles: tuple[float, ...] | None = Field(None, min_length=9, max_length=9)
    """The bounds between the tenths of held-out scores, rising; what a model in service scores is
    compared with them. None where there were too few."""


class RewardModel(nn.Module):
    """Scores a prompt with a response.

    The score is a logit: the sigmoid of the difference of two scores, divided by the card's
    temperature, is the probability that the first response is preferred (Bradley-Terry).
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        card: RewardModelCard,
    ) -> None:
        super().__init__()
        if card.pooling == "last" and not is_decoder(backbone):
            raise FailedPreconditionError(
                f"pooling 'last' needs a decoder; {backbone.config.model_type} is an encoder: "
                "choose 'cls', 'mean' or 'response'"
            )
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.card = card
        self.format = ChatFormat(tokenizer, template=card.template)
        # In half precision a score would keep three digits, and near ones would tie.
        dtype = torch.promote_types(backbone.dtype, torch.float32)
        self.head = nn.Linear(backbone.config.hidden_size, 1, dtype=dtype)

    @classmethod
    def create(
        cls,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        card: RewardModelCard,
        *,
        seed: int,
        zero_head: bool = False,
    ) -> Self:
        """A reward model with a fresh head: weights N(0, 1 / (H + 1)) or 0, bias 0.

        Source: Stiennon et al. 2020, arXiv:2009.01325, appendix B.1, for the normal weights.
        """
        model = cls(backbone, tokenizer, card)
        generator = torch.Generator().manual_seed(seed)
        std = 0.0 if zero_head else (backbone.config.hidden_size + 1) ** -0.5
        nn.init.normal_(model.head.weight, std=std, generator=generator)
        nn.init.zeros_(model.head.bias)
        return model

    @classmethod
    def load(cls, directory: Path, dtype: str = "float32") -> Self:
        """Load a directory that `save` wrote, in evaluation mode.

        Raises:
            CheckpointError: a file is missing, damaged or of another shape.
        """
        directory = Path(directory)
        card = read_card(directory)
        if not (directory / HEAD_FILE).is_file():
            raise CheckpointError(
                f"{HEAD_FILE} is missing from {directory.name}", reason="CHECKPOINT_INCOMPLETE"
            )
        backbone, tokenizer = load_encoder_or_decoder(directory, dtype)
        model = cls(backbone, tokenizer, card)
        try:
            model.head.load_state_dict(load_file(directory / HEAD_FILE))
        except (RuntimeError, ValueError, OSError) as error:
            raise CheckpointError(f"{HEAD_FILE} does not fit the backbone: {error}") from error
        return model.eval()

    def save(self, directory: Path) -> None:
        """Write backbone, tokenizer, head and card; same model, same bytes."""
        directory = Path(directory)
        save_model(self.backbone, self.tokenizer, directory)
        head = {name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}
        save_file(head, directory / HEAD_FILE, metadata={"format": "pt"})
        card = json.dumps(self.card.model_dump(exclude_none=True), indent=2, sort_keys=True) + "\n"
        (directory / CARD_FILE).write_text(card, encoding="utf-8")

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        response_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Scores [B] of token ids.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], True at tokens, which may be padded on either side.
            response_lengths: B counts of each row's last tokens that are its response; what
                pooling 'response' needs, and others do not read.
        Raises:
            InvalidInputError: they are needed and missing.
        """
        mask = attention_mask.bool()
        options: dict[str, Any] = {}
        padded_left = not bool(mask[:, 0].all())
        if padded_left:
            options["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp_min(0)
        # No token of a decoder sees padding on the right; without a mask the kernel is faster.
        if padded_left or self.card.pooling != "last":
            options["attention_mask"] = mask.long()
        if self.card.pooling == "last":
            options["use_cache"] = False
        hidden = self.backbone(input_ids=input_ids, **options).last_hidden_state
        counted = self._response_mask(mask, response_lengths)
        return self._head_scores(_pool(hidden, counted, self.card.pooling))

    def score_groups(
        self, groups: Sequence[PromptGroup], *, response_lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Scores [B] of the responses, group by group; with gradients.

        A prompt is computed once for all its responses where the backbone lets it.

        Args:
            response_lengths: see `forward`.
        """
        device = self.head.weight.device
        if self.card.pooling != "last" or not supports_packing(self.backbone):
            texts = [[*group.prompt, *response] for group in groups for response in group.responses]
            ids, mask = pad_right(texts, self.format.pad_id)
            padded: Tensor = self(ids.to(device), mask.to(device), response_lengths)
            return padded
        row = pack_groups(groups).to(device)
        ends = row.layout.ends[row.layout.continuing].to(device)
        return self._head_scores(packed_states(self.backbone, row)[ends])

    @torch.no_grad()
    def score(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`forward` without gradients."""
        scores: Tensor = self(input_ids, attention_mask)
        return scores

    def encode(
        self, prompt: Sequence[Message], response: str, *, literal: bool = False
    ) -> list[int]:
        """Token ids of a prompt with its response, at most `max_length`, the end kept.

        Args:
            literal: see `ChatFormat.encode_response`.
        """
        return self.encode_parts(prompt, response, literal=literal)[0]

    def encode_parts(
        self, prompt: Sequence[Message], response: str, *, literal: bool = False
    ) -> tuple[list[int], int]:
        """`encode`, and how many of the last tokens are the response."""
        end = self.format.encode_response(response, literal=literal)
        return join_parts(self.card, self.format, self.format.encode_prompt(prompt), end)

    @torch.no_grad()
    def score_responses(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        *,
        tokens_per_batch: int = 8192,
    ) -> Tensor:
        """Scores [N] of N prompts with one response each, in their order.

        A control token that is spelled out in a response counts as ordinary text: a policy may
        have sampled its characters, and one odd response must not fail all.
        """
        parts = [
            self.encode_parts(prompt, response, literal=True)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        return self.score_encoded(
            [ids for ids, _ in parts],
            response_lengths=[length for _, length in parts],
            tokens_per_batch=tokens_per_batch,
        )

    @torch.no_grad()
    def score_encoded(
        self,
        encoded: Sequence[Sequence[int]],
        *,
        response_lengths: Sequence[int] | None = None,
        tokens_per_batch: int = 8192,
    ) -> Tensor:
        """Scores [N] of N sequences that `encode_parts` made, with their response lengths."""
        scores = torch.zeros(len(encoded))
        device = self.head.weight.device
        lengths = [len(ids) for ids in encoded]
        for batch in length_sorted_batches(lengths, tokens_per_batch=tokens_per_batch):
            ids, mask = pad_right([encoded[i] for i in batch], self.format.pad_id)
            own = None if response_lengths is None else [response_lengths[i] for i in batch]
            scores[batch] = self(ids.to(device), mask.to(device), own).cpu()
        return scores

    def _head_scores(self, pooled: Tensor) -> Tensor:
        """Scores [B] of pooled states [B, H], in the head's precision."""
        rows = len(pooled)
        # A linear layer on a CPU gives a row the same bits among any such number of rows.
        pooled = nn.functional.pad(pooled, (0, 0, 0, -rows % EXACT_ROWS))
        with torch.autocast(pooled.device.type, enabled=False):
            scores: Tensor = self.head(pooled.to(self.head.weight.dtype)).squeeze(-1)
        return scores[:rows].float()

    def _response_mask(self, mask: Tensor, response_lengths: Sequence[int] | None) -> Tensor:
        """[B, T], True at the tokens that pooling looks at."""
        if self.card.pooling != "response":
            return mask
        if response_lengths is None:
            raise InvalidInputError(
                "pooling 'response' was given no response_lengths; accepted: one count a row, "
                "as encode_parts returns them"
            )
        lengths = torch.tensor(response_lengths, device=mask.device)
        # Counted from the end, so that padding may stand on either side.
        left_to_come = mask.flip(1).cumsum(dim=1).flip(1)
        return mask & (left_to_come <= lengths[:, None])


def join_parts(
    card: RewardModelCard,
    chat: ChatFormat,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
) -> tuple[list[int], int]:
    """What a reward model reads, and how many of its last tokens are the response.

    Args:
        prompt_ids: of `ChatFormat.encode_prompt`; response_ids of `encode_response`.
    Returns:
        At most `card.max_length` token ids, the end kept.
    """
    ids = [*prompt_ids, *response_ids]
    opening = chat.tokenizer.cls_token_id
    most = card.max_length
    if len(ids) > most and card.pooling != "last" and opening is not None:
        # Encoders were trained with their class token in front.
        return [opening, *ids[len(ids) - most + 1 :]], min(len(response_ids), most - 1)
    return ids[-most:], min(len(response_ids), most)


def read_card(directory: Path) -> RewardModelCard:
    """The card of a reward-model directory.

    Raises:
        CheckpointError: the directory holds none, or a damaged one.
    """
    path = Path(directory) / CARD_FILE
    try:
        return RewardModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{CARD_FILE} is missing from {path.parent.name}; it is no reward model",
            reason="NOT_A_REWARD_MODEL",
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{CARD_FILE} is damaged: {error}") from error


def _pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector [B, H] for each sequence of hidden states [B, T, H] under a mask [B, T]."""
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    if pooling in ("mean", "response"):
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)
    columns = torch.arange(hidden.shape[1], device=hidden.device).expand(mask.shape)
    if pooling == "cls":
        return hidden[rows, columns.masked_fill(~mask, hidden.shape[1]).amin(dim=1)]
    # By mask, not by pad id: pad and end-of-sequence may be the same token.
    return hidden[rows, columns.masked_fill(~mask, -1).amax(dim=1)]

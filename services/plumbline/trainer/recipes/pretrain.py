"""Pre-training from nothing: a byte-level BPE tokenizer and a small Llama.

Legend: S sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Conversation, Document
from plumbline.models.chat import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, ChatFormat
from plumbline.trainer.batches import cyclic_indices
from plumbline.trainer.config import PretrainConfig
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import counted_loss


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, context_length: int
) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with the platform's control tokens and chat template.

    Raises:
        InvalidInputError: the texts hold too few distinct pairs for the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise InvalidInputError(
            f"the texts give only {tokenizer.get_vocab_size()} tokens; vocab_size={vocab_size} "
            "needs more text",
            field="vocab_size",
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (BEGIN, END, PAD)],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )


def new_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A freshly initialised Llama of the configured shape; weights follow the torch seed."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=config.context_length,
            initializer_range=config.initializer_range,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return model


def encode_documents(
    documents: Sequence[Document],
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
) -> list[list[int]]:
    """Token ids of every text: documents between <|begin|> and <|end|>, conversations in chat form.

    Control tokens that a document spells out are taken as plain characters.
    """
    begin, end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    encoded = [
        [begin, *tokenizer.encode(d.text, add_special_tokens=False, split_special_tokens=True), end]
        for d in documents
    ]
    chat = ChatFormat(tokenizer)
    for conversation in conversations:
        encoded += [e.token_ids for e in chat.encode_conversation(conversation.messages)]
    return encoded


def pack_sequences(
    encoded: Sequence[Sequence[int]], *, length: int, seed: int, epoch: int
) -> Tensor:
    """Texts in the epoch's order, joined and cut into sequences [S, T]; a last part is left out.

    Raises:
        InvalidInputError: the texts together are shorter than one sequence.
    """
    stream = [token for text in epoch_order(encoded, seed=seed, epoch=epoch) for token in text]
    count = len(stream) // length
    if count == 0:
        raise InvalidInputError(
            f"the corpus has {len(stream)} tokens; at least sequence_length={length} are needed",
            field="sequence_length",
        )
    return torch.tensor(stream[: count * length], dtype=torch.long).view(count, length)


def epoch_order(
    encoded: Sequence[Sequence[int]], *, seed: int, epoch: int
) -> Iterable[Sequence[int]]:
    """The texts in the order of one pass over them."""
    order = cyclic_indices(len(encoded), start=epoch * len(encoded), size=len(encoded), seed=seed)
    return (encoded[index] for index in order)


def train_language_model(
    model: PreTrainedModel,
    encoded: Sequence[Sequence[int]],
    run: TrainingRun,
    config: PretrainConfig,
) -> None:
    """Next-token prediction on packed sequences.

    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    model.train()
    source = _PackedSource(encoded, config)
    for step in range(run.resume(), config.steps):
        batch = source.batch(step)
        rows = max(config.tokens_per_microbatch // batch.shape[1], 1)
        denominator = batch.shape[0] * (batch.shape[1] - 1)
        total = 0.0
        for part in batch.split(rows):
            counted = torch.ones_like(part, dtype=torch.bool).tolist()
            loss = counted_loss(
                model, part.tolist(), counted, denominator=denominator, pad_id=_NO_PADDING
            )
            total += loss.item()
            check_finite(total, step=step, batch=f"packed sequences of step {step}")
            loss.backward()
        norm = run.apply_gradients()
        metrics = {"loss": total, "learning_rate": run.learning_rate, "gradient_norm": norm}
        run.end_unit(step + 1, config.steps, metrics)
    model.eval()


_NO_PADDING = 0
"""Packed sequences are of one length."""


class _PackedSource:
    """Batches by step number; one epoch's packing is held at a time."""

    def __init__(self, encoded: Sequence[Sequence[int]], config: PretrainConfig) -> None:
        self._encoded, self._config = encoded, config
        self._epoch, self._packed = 0, self._pack(0)

    def batch(self, step: int) -> Tensor:
        """Sequences [S, T] of a step. Epochs hold equally many, because they hold equal tokens."""
        size = self._config.batch_size
        rows = []
        for position in range(step * size, (step + 1) * size):
            epoch, offset = divmod(position, len(self._packed))
            if epoch != self._epoch:
                self._epoch, self._packed = epoch, self._pack(epoch)
            rows.append(self._packed[offset])
        return torch.stack(rows)

    def _pack(self, epoch: int) -> Tensor:
        config = self._config
        return pack_sequences(
            self._encoded, length=config.sequence_length, seed=config.seed, epoch=epoch
        )

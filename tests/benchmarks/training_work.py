"""Random Llamas and token ids to measure training on, and a context that takes the time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from plumbline.models.chat import EncodedConversation
from plumbline.models.packing import PromptGroup


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's sizes."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool = True

    @property
    def matrix_parameters(self) -> int:
        """Parameters that every token is multiplied with: layers and the head, tied or not."""
        width = self.hidden // self.heads
        attention = self.hidden * width * 2 * (self.heads + self.key_heads)
        mlp = 3 * self.hidden * self.intermediate
        return self.layers * (attention + mlp) + self.vocabulary * self.hidden

    def training_operations(self, length: int) -> float:
        """Floating-point operations to train on one token of a text of so many tokens.

        Six for each parameter of a matrix, and causal attention over half the text on average:
        two products of 2 * hidden * length / 2 operations forwards, twice as many backwards.
        Recomputed activations do not count. Source: Chowdhery et al. 2022, arXiv:2204.02311,
        appendix B, which counts the whole square.
        """
        return 6.0 * self.matrix_parameters + 6.0 * self.layers * self.hidden * length


LLAMA_1B = Shape("Llama-3.2-1B", 2048, 8192, 16, 32, 8, 128_256)
SMALL = Shape("hidden 512, 8 layers", 512, 1365, 8, 8, 8, 8_000, tied=False)
TINY = Shape("tiny", 32, 64, 2, 4, 2, 128)


def new_model(shape: Shape, *, context_length: int) -> Any:
    """Random weights, 32-bit."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_heads,
            max_position_embeddings=context_length,
            tie_word_embeddings=shape.tied,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def new_tokenizer(shape: Shape) -> Any:
    """One word for each token id, so that any sampled ids have a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<begin>", "<end>", "<unknown>"]
    names += [f"t{i}" for i in range(len(names), shape.vocabulary)]
    words = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<begin>", eos_token="<end>"
    )


def new_texts(shape: Shape, count: int, length: int) -> list[EncodedConversation]:
    """Texts of one length, all of whose tokens count but the first."""
    rng = random.Random(0)
    return [
        EncodedConversation(
            [rng.randrange(4, shape.vocabulary) for _ in range(length)],
            [False] + [True] * (length - 1),
        )
        for _ in range(count)
    ]


def new_pairs(shape: Shape, count: int, length: int) -> list[PromptGroup]:
    """Pairs whose prompt and responses have half the length each."""
    rng = random.Random(0)
    texts = [[rng.randrange(4, shape.vocabulary) for _ in range(length // 2)] for _ in range(3)]
    return [PromptGroup(texts[0], (texts[1], texts[2])) for _ in range(count)]


@dataclass
class TimedContext:
    """A stage's context that keeps nothing but the time at which each unit ended.

    Args:
        synchronize: waits for the device.
    """

    synchronize: Callable[[], None] = lambda: None
    work_dir: Path = Path()
    ends: list[float] = field(default_factory=list)

    def progress(self, done: int, total: int, message: str = "") -> None:
        self.synchronize()
        self.ends.append(time.perf_counter())

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        return None

    def save_checkpoint(self, directory: Path, step: int, *, keep: int) -> None:
        return None

    def newest_checkpoint(self) -> None:
        return None

    def durations(self, *, warm_up: int) -> list[float]:
        """Seconds of each unit after the first ones."""
        kept = self.ends[warm_up - 1 :]
        return [end - start for start, end in pairwise(kept)]

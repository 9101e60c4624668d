"""Bytes of tokens join to the bytes of a text, whatever kind of tokenizer made them."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from plumbline.sampler.token_text import token_bytes

TEXT = "Zürich 漢字 costs 3 €\n"


def byte_level() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def byte_fallback() -> PreTrainedTokenizerFast:
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", *"Zrichosts3"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_the_bytes_of_a_texts_tokens_are_its_own(make: Any) -> None:
    tokenizer = make()
    ids = tokenizer.encode(TEXT, add_special_tokens=False)

    assert b"".join(token_bytes(tokenizer, one) for one in ids) == TEXT.encode()
    assert token_bytes(tokenizer, tokenizer.eos_token_id) == b"<end>"

"""The bytes that a token stands for."""

from __future__ import annotations

from functools import lru_cache

from transformers import PreTrainedTokenizerBase

_BYTE_TOKEN_LENGTH = 6
"""Of `<0x0A>`, as SentencePiece spells a byte that no piece holds."""


def token_bytes(tokenizer: PreTrainedTokenizerBase, token_id: int) -> bytes:
    """A token's bytes; a character may spread over several tokens."""
    piece = str(tokenizer.convert_ids_to_tokens(token_id))
    if token_id in tokenizer.all_special_ids:
        return piece.encode()
    if len(piece) == _BYTE_TOKEN_LENGTH and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    alphabet = _byte_alphabet()
    if _is_byte_level(tokenizer) and all(character in alphabet for character in piece):
        return bytes(alphabet[character] for character in piece)
    return piece.replace("\u2581", " ").encode()


@lru_cache(maxsize=16)
def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in str(backend.decoder)


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """Characters that byte-level tokenizers write for bytes.

    Source: Radford et al. 2019 (GPT-2): printable bytes stand for themselves, others for the
    characters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}

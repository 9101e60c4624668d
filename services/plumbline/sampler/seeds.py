"""Seeds of responses. Every response has one of its own and can be drawn again alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

MAX_SEED = 2**63 - 1
"""Seeds travel in signed 64-bit columns."""


def derive_seed(seed: int, sample_index: int) -> int:
    """Seed of response `sample_index` to a prompt with `seed`; response 0 keeps the prompt's own.

    So that any response can be drawn again alone. Mixing is SplitMix64 (Steele et al. 2014,
    "Fast splittable pseudorandom number generators").
    """
    if sample_index == 0:
        return seed
    mask = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15 * sample_index) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) & MAX_SEED


def prompt_seeds(seed: int, prompt_ids: Sequence[str]) -> list[int]:
    """A seed for each prompt, from its id: the same in whatever order or company it comes.

    A repeated id gets another seed each time, so that its responses differ.
    """
    seen: Counter[str] = Counter()
    seeds = []
    for prompt_id in prompt_ids:
        key = f"{seed}\0{prompt_id}\0{seen[prompt_id]}".encode()
        seeds.append(int.from_bytes(hashlib.sha256(key).digest()[:8]) & MAX_SEED)
        seen[prompt_id] += 1
    return seeds

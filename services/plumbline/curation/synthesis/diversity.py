"""How varied a set of instructions is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from plumbline.curation.synthesis.judgement import matchable
from plumbline.curation.synthesis.rouge import RougeIndex
from plumbline.data.records import Conversation


def distinct_n(sequences: Iterable[Sequence[str]], n: int) -> float:
    """Share of n-grams that are different ones; 0 where there is no n-gram.

    Source: Li et al. 2016, A diversity-promoting objective function, arXiv:1510.03055.
    """
    total = 0
    seen: set[tuple[str, ...]] = set()
    for words in sequences:
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total else 0.0


def diversity_report(
    records: Sequence[Conversation], seed_instructions: Iterable[str] = ()
) -> dict[str, Any]:
    """Figures over the distinct instructions of records.

    Args:
        seed_instructions: what the instructions are compared with beside each other.
    """
    instructions = list(dict.fromkeys(record.metadata["instruction"] for record in records))
    words = [matchable(instruction) for instruction in instructions]
    index = RougeIndex()
    for number, instruction in enumerate(dict.fromkeys(seed_instructions)):
        index.add(f"seed-{number}", matchable(instruction))
    for number, tokens in enumerate(words):
        index.add(str(number), tokens)
    nearest = [
        found.score if (found := index.nearest(tokens, other_than=str(number))) else 0.0
        for number, tokens in enumerate(words)
    ]
    return {
        "instructions": len(instructions),
        "distinct_1": round(distinct_n(words, 1), 6),
        "distinct_2": round(distinct_n(words, 2), 6),
        "nearest_rouge_l_mean": round(sum(nearest) / len(nearest), 6) if nearest else 0.0,
        "nearest_rouge_l_max": round(max(nearest, default=0.0), 6),
        "instruction_units_mean": _mean([len(tokens) for tokens in words]),
        "output_units_mean": _mean([len(matchable(r.messages[-1].content)) for r in records]),
        "language": shares(record.metadata.get("language", "und") for record in records),
        "task_type": shares(record.metadata.get("task_type", "unknown") for record in records),
        "operator": shares(record.metadata.get("operator", "none") for record in records),
    }


def shares(labels: Iterable[str]) -> dict[str, float]:
    """Share of each label, by name."""
    counts = Counter(labels)
    total = counts.total()
    return {label: round(count / total, 6) for label, count in sorted(counts.items())}


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 3) if values else 0.0

"""Self-BLEU: how much the responses to one prompt repeat each other.

Each response is a hypothesis and the others are its references; the mean of the BLEU scores is 1
where all are the same and near 0 where they share nothing. More responses share more, so only
equal numbers of them compare.

BLEU is the sentence's, with n-grams up to 4 weighted alike, counts clipped by the highest of any
reference, and the brevity penalty from the reference nearest in length. Precisions without a match
count as 0.1 matches (method 1 of Chen and Cherry 2014, with NLTK's epsilon, which Texygen uses). In
one thing it departs from NLTK: orders that a hypothesis is too short to have are left out, or else
equal responses of one word would come out as different.

Shapes: K responses to one prompt.

Source: Zhu et al. 2018, Texygen, arXiv:1802.01886; Papineni et al. 2002, BLEU: a method for
automatic evaluation of machine translation.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError

MAX_ORDER = 4
_EPSILON = 0.1
_ONE_BY_ONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Kana and Han, which are written without spaces."""
_TOKEN = re.compile(rf"[{_ONE_BY_ONE}]|[^\W{_ONE_BY_ONE}]+|[^\w\s]")

Gram = tuple[str, ...]


def bleu_tokens(text: str) -> list[str]:
    """Words, Han characters and kana one by one, and each mark of punctuation; case counts."""
    return _TOKEN.findall(text)


def self_bleu(responses: Sequence[str]) -> float:
    """Mean BLEU of each response against the others, 0 to 1; low means diverse.

    Args:
        responses: [K], at least 2.
    Raises:
        InvalidInputError: there are fewer.
    """
    if len(responses) < 2:
        raise InvalidInputError(
            f"Self-BLEU of {len(responses)} responses; accepted: 2 or more to each prompt"
        )
    tokens = [bleu_tokens(response) for response in responses]
    lengths = Counter(len(words) for words in tokens)
    counts = [[_gram_counts(words, n + 1) for words in tokens] for n in range(MAX_ORDER)]
    highest = [_highest_counts(of_order) for of_order in counts]
    scores = []
    for index, words in enumerate(tokens):
        matches = [
            sum(min(count, highest[n][gram].without(index)) for gram, count in own[index].items())
            for n, own in enumerate(counts)
        ]
        others = lengths - Counter([len(words)])
        scores.append(_bleu(len(words), matches, nearest=_nearest(len(words), others)))
    return math.fsum(scores) / len(scores)


@dataclass(slots=True)
class _Highest:
    """The two highest counts of an n-gram in any response, and who has the first.

    They give the highest count among the others of each response, in one pass over all.
    """

    first: int = 0
    second: int = 0
    owner: int = -1

    def add(self, count: int, owner: int) -> None:
        if count > self.first:
            self.first, self.second, self.owner = count, self.first, owner
        else:
            self.second = max(self.second, count)

    def without(self, response: int) -> int:
        return self.second if response == self.owner else self.first


def _gram_counts(words: Sequence[str], n: int) -> Counter[Gram]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _highest_counts(responses: Iterable[Counter[Gram]]) -> dict[Gram, _Highest]:
    highest: dict[Gram, _Highest] = {}
    for index, grams in enumerate(responses):
        for gram, count in grams.items():
            highest.setdefault(gram, _Highest()).add(count, index)
    return highest


def _nearest(length: int, lengths: Iterable[int]) -> int:
    """The length nearest to a hypothesis's; of two the shorter."""
    return min(lengths, key=lambda other: (abs(other - length), other))


def _bleu(length: int, matches: Sequence[int], *, nearest: int) -> float:
    """BLEU of a hypothesis of `length` tokens from its clipped matches of each order.

    An empty hypothesis scores 1 beside an empty reference and 0 beside others alone.
    """
    if length == 0:
        return float(nearest == 0)
    if matches[0] == 0:
        return 0.0
    orders = range(1, min(MAX_ORDER, length) + 1)
    logs = [math.log((matches[n - 1] or _EPSILON) / (length - n + 1)) for n in orders]
    brevity = min(0.0, 1 - nearest / length)
    return math.exp(brevity + math.fsum(logs) / len(logs))

"""Generates corpora of about 1 kB a document, half English and half Chinese, with known contents.

Sentences are frames whose slots are filled from word lists by Zipf's law. Of every thousand
documents 20 are exact copies of earlier ones (in other spacing), 30 are near copies (a few words
exchanged, Jaccard about 0.9), 100 hold personal data and 50 are junk; `metadata["planted"]` says
which. Rules never see metadata. The same seed gives the same bytes, and a corpus is the beginning
of every longer one; memory does not grow with its length.

    .venv/bin/python tests/benchmarks/generate.py --documents 50000 --output corpus.parquet
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import vocabulary
from numpy.random import Generator
from numpy.typing import NDArray

from plumbline.data.records import Document
from plumbline.data.tables import RowGroupWriter

CHUNK = 1000
"""Documents made at a time; shares of planted contents hold in each chunk exactly."""
PLANTED = {"exact_copy": 20, "near_copy": 30, "pii": 100, "junk": 50}
"""Of a thousand documents."""
DOCUMENT_BYTES = 1000
_REMEMBERED = 8192
"""Originals that copies are made of: the plain documents at the beginning, to bound memory."""
_QUANTILES = 1 << 14
_ZIPF_SHIFT = 2.7
"""Zipf-Mandelbrot: the word of rank r has weight 1 / (r + 2.7)."""
_SENTENCES_PER_PARAGRAPH = 4


class Prose:
    """Fills the frames of one language."""

    def __init__(self, frames: Sequence[str], classes: dict[str, tuple[str, ...]], gap: str):
        """
        Args:
            gap: what stands between sentences.
        """
        words: list[str] = []
        tables: dict[str, NDArray[np.int32]] = {}
        for name, listed in classes.items():
            tables[name] = len(words) + _zipf_quantiles(len(listed))
            words.extend(listed)
        self._nouns = tables["noun"]
        rows: list[NDArray[np.int32]] = []
        numbers: dict[str, int] = {}
        self._frames: list[NDArray[np.int32]] = []
        for frame in frames:
            pieces = [piece for piece in re.split(r"(\{\w+\})", frame + gap) if piece]
            for piece in pieces:
                if piece not in numbers:
                    numbers[piece] = len(rows)
                    if piece[0] == "{":
                        rows.append(tables[piece[1:-1]])
                    else:
                        rows.append(np.full(_QUANTILES, len(words), dtype=np.int32))
                        words.append(piece)
            self._frames.append(np.array([numbers[piece] for piece in pieces], dtype=np.int32))
        self._words = np.array(words, dtype=object)
        self._tables = np.stack(rows)
        self._lengths = np.array([len(frame) for frame in self._frames])
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._slots = np.concatenate(self._frames)
        self._sentence_bytes = self._mean_sentence_bytes()

    def texts(self, count: int, random: Generator) -> list[str]:
        """Documents of 1 kB on average."""
        mean = DOCUMENT_BYTES / self._sentence_bytes
        sentences = np.maximum(random.normal(mean, mean / 8, count).round().astype(int), 3)
        chosen = random.integers(0, len(self._frames), int(sentences.sum()))
        filled = self._fill(chosen, random)
        ends = np.cumsum(self._lengths[chosen])[np.cumsum(sentences) - 1].tolist()
        texts = []
        begin = 0
        for end in ends:
            texts.append("".join(filled[begin:end]).rstrip())
            begin = end
        return [_paragraphs(text) for text in texts]

    def noun(self, random: Generator) -> str:
        return str(self._words[self._nouns[random.integers(_QUANTILES)]])

    def _fill(self, chosen: NDArray[np.int64], random: Generator) -> list[str]:
        lengths = self._lengths[chosen]
        ends = np.cumsum(lengths)
        offsets = np.repeat(self._starts[chosen] - ends + lengths, lengths)
        slots = self._slots[offsets + np.arange(int(ends[-1]))]
        words = self._tables[slots, random.integers(0, _QUANTILES, len(slots))]
        filled: list[str] = self._words[words].tolist()
        return filled

    def _mean_sentence_bytes(self) -> float:
        random = np.random.default_rng(0)
        chosen = random.integers(0, len(self._frames), 2000)
        return len("".join(self._fill(chosen, random)).encode()) / len(chosen)


def _zipf_quantiles(size: int) -> NDArray[np.int32]:
    """Ranks such that a uniform choice among them follows the Zipf-Mandelbrot law."""
    weights = 1 / (np.arange(size) + _ZIPF_SHIFT)
    shares = np.cumsum(weights / weights.sum())
    quantiles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.minimum(np.searchsorted(shares, quantiles), size - 1).astype(np.int32)


def _paragraphs(text: str) -> str:
    """Lines of a few sentences each."""
    parts = re.split(r"(?<=[.] )|(?<=。)", text)
    step = _SENTENCES_PER_PARAGRAPH
    lines = ("".join(parts[i : i + step]).rstrip() for i in range(0, len(parts), step))
    return "\n".join(line for line in lines if line)


def english() -> Prose:
    return Prose(vocabulary.EN_FRAMES, vocabulary.english_classes(), " ")


def chinese() -> Prose:
    return Prose(vocabulary.ZH_FRAMES, vocabulary.chinese_classes(), "")


@dataclass(frozen=True, slots=True)
class _Original:
    id: str
    text: str
    language: str


class CorpusGenerator:
    """Makes the documents of one seed, chunk after chunk."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._prose = {"en": english(), "zh": chinese()}
        self._originals: list[_Original] = []

    def chunks(self, documents: int) -> Iterator[pa.Table]:
        """Tables of `Document` rows, `documents` in all."""
        for number in range(-(-documents // CHUNK)):
            table = self._chunk(number)
            yield table.slice(0, min(CHUNK, documents - number * CHUNK))

    def _chunk(self, number: int) -> pa.Table:
        random = np.random.default_rng([self._seed, number])
        kinds = [kind for kind, share in PLANTED.items() for _ in range(share)]
        kinds = [*[""] * (CHUNK - len(kinds)), *kinds]
        kinds = [kinds[place] for place in random.permutation(CHUNK)]
        languages = ["zh" if zh else "en" for zh in random.permutation(CHUNK) % 2]
        ids = [f"g{number * CHUNK + row:09d}" for row in range(CHUNK)]
        texts = self._texts(languages, random)
        self._remember(ids, texts, languages, kinds)
        metadata: list[list[tuple[str, str]]] = [[] for _ in ids]
        for row, kind in enumerate(kinds):
            if kind:
                texts[row], languages[row], metadata[row] = self._planted(
                    kind, texts[row], languages[row], random
                )
        columns = [ids, texts, ["generated"] * CHUNK, languages, metadata]
        arrays = [
            pa.array(column, type=field.type)
            for column, field in zip(columns, Document.schema, strict=True)
        ]
        return pa.table(arrays, schema=Document.schema)

    def _texts(self, languages: Sequence[str], random: Generator) -> list[str]:
        made = {
            language: iter(prose.texts(languages.count(language), random))
            for language, prose in self._prose.items()
        }
        return [next(made[language]) for language in languages]

    def _remember(
        self, ids: list[str], texts: list[str], languages: list[str], kinds: list[str]
    ) -> None:
        """Keep plain documents of the first chunks, from which all copies are made."""
        for row, kind in enumerate(kinds):
            if len(self._originals) >= _REMEMBERED:
                return
            if not kind:
                self._originals.append(_Original(ids[row], texts[row], languages[row]))

    def _planted(
        self, kind: str, text: str, language: str, random: Generator
    ) -> tuple[str, str, list[tuple[str, str]]]:
        """The document's text, language and metadata."""
        if kind == "junk":
            name, make = _JUNK[int(random.integers(len(_JUNK)))]
            return make(random), "und", [("junk", name), ("planted", kind)]
        if kind == "pii":
            name, value, sentence = personal_data(language, random)
            return f"{text}\n{sentence}", language, [("pii", f"{name} {value}"), ("planted", kind)]
        original = self._originals[int(random.integers(len(self._originals)))]
        labels = [("original", original.id), ("planted", kind)]
        if kind == "exact_copy":
            return original.text.replace("\n", "\n\n") + "\n", original.language, labels
        return self._near_copy(original, random), original.language, labels

    def _near_copy(self, original: _Original, random: Generator) -> str:
        """The original with a word or two exchanged."""
        prose = self._prose[original.language]
        if original.language == "en":
            words = original.text.split(" ")
            for place in random.integers(0, len(words), 2).tolist():
                end = "\n" if "\n" in words[place] else ""
                words[place] = prose.noun(random) + end
            return " ".join(words)
        place = int(random.integers(0, len(original.text) - 4))
        return original.text[:place] + prose.noun(random) + original.text[place + 2 :]


def _random_letters(random: Generator) -> str:
    letters = random.integers(ord("a"), ord("z") + 1, 700).astype(np.uint8).tobytes().decode()
    return " ".join(letters[i : i + 9] for i in range(0, len(letters), 9))


def _symbols(random: Generator) -> str:
    marks = np.array(list("#$%^&*=+~|\\/<>{}[]@_"))
    return "".join(marks[random.integers(0, len(marks), 600)])


def _one_line_again(random: Generator) -> str:
    lines = ("Click here to subscribe now", "点击这里立即领取优惠", "Home About Contact Sitemap")
    return "\n".join([lines[int(random.integers(len(lines)))]] * 40)


def _too_short(random: Generator) -> str:
    return ("ok", "好", "...", "n/a", "yes it is")[int(random.integers(5))]


_JUNK: tuple[tuple[str, Callable[[Generator], str]], ...] = (
    ("random_letters", _random_letters),
    ("symbols", _symbols),
    ("one_line_again", _one_line_again),
    ("too_short", _too_short),
)

_EN_CARRIERS = {
    "EMAIL": "If anything is unclear, please write to {} before Friday.",
    "PHONE": "The office answers questions by telephone at {} on weekdays.",
    "BANK_CARD": "The deposit was paid with the credit card {} last week.",
    "IBAN": "Please transfer the amount to the account {} within a month.",
    "IP_ADDRESS": "The request came from the address {} shortly after midnight.",
    "US_SSN": "His social security number {} was printed on the form.",
}
_ZH_CARRIERS = {
    "EMAIL": "如有疑问，请在周五之前发邮件到{}联系我们。",
    "PHONE": "需要预约的居民可以拨打手机{}咨询工作人员。",
    "NATIONAL_ID": "登记表上写着身份证号{}和家庭情况。",
    "BANK_CARD": "押金已经转入银行卡{}，请及时查收。",
    "IP_ADDRESS": "系统记录显示请求来自地址{}的服务器。",
}


def personal_data(language: str, random: Generator) -> tuple[str, str, str]:
    """A made-up piece of personal data: its type, the value, and a sentence that holds it."""
    carriers = _EN_CARRIERS if language == "en" else _ZH_CARRIERS
    name = list(carriers)[int(random.integers(len(carriers)))]
    value = _VALUES[name](random, language)
    return name, value, carriers[name].format(value)


def _digits(random: Generator, count: int) -> str:
    return "".join(map(str, random.integers(0, 10, count).tolist()))


def _email(random: Generator, _language: str) -> str:
    name = vocabulary.english_names()[int(random.integers(154))].lower().replace(" ", ".")
    return f"{name}{_digits(random, 2)}@example.{('com', 'org', 'net')[int(random.integers(3))]}"


def _phone(random: Generator, language: str) -> str:
    if language == "zh":
        prefix = ("138", "139", "150", "159", "186", "188")[int(random.integers(6))]
        return prefix + _digits(random, 8)
    area = ("212", "312", "415", "617", "206")[int(random.integers(5))]
    return f"({area}) {random.integers(200, 999)}-{_digits(random, 4)}"


def _resident_id(random: Generator, _language: str) -> str:
    """Source: GB 11643-1999; ISO 7064 MOD 11-2."""
    region = ("110105", "310104", "440106", "510107", "330102")[int(random.integers(5))]
    born = f"{random.integers(1950, 2005)}{random.integers(1, 13):02}{random.integers(1, 29):02}"
    body = region + born + _digits(random, 3)
    weighted = sum(int(digit) * 2 ** (17 - i) for i, digit in enumerate(body))
    return body + "10X98765432"[weighted % 11]


def _card(random: Generator, _language: str) -> str:
    """Source: ISO/IEC 7812-1, Luhn's check digit."""
    body = "4" + _digits(random, 14)
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(body)]
    total = sum(value - 9 if value > 9 else value for value in doubled)
    return body + str(-total % 10)


def _iban(random: Generator, _language: str) -> str:
    """Source: ISO 13616, MOD 97-10."""
    account = _digits(random, 18)
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02}{account}"


def _ip(random: Generator, _language: str) -> str:
    return f"93.184.{random.integers(1, 255)}.{random.integers(1, 255)}"


def _ssn(random: Generator, _language: str) -> str:
    return f"{random.integers(100, 666)}-{random.integers(10, 99)}-{random.integers(1000, 9999)}"


_VALUES: dict[str, Callable[[Generator, str], str]] = {
    "EMAIL": _email,
    "PHONE": _phone,
    "NATIONAL_ID": _resident_id,
    "BANK_CARD": _card,
    "IBAN": _iban,
    "IP_ADDRESS": _ip,
    "US_SSN": _ssn,
}


def write_corpus(path: Path, documents: int, seed: int = 0) -> None:
    """Write a corpus as a Parquet file of `Document` records; it appears whole or not at all."""
    with RowGroupWriter(path, Document) as writer:
        for table in CorpusGenerator(seed).chunks(documents):
            writer.write(table)


def planted_counts(documents: int) -> dict[str, int]:
    """How many documents of each planted kind a corpus of whole chunks holds."""
    return {kind: documents // CHUNK * share for kind, share in PLANTED.items()}


def labelled_texts(count: int, seed: int = 1) -> Iterator[tuple[str, int]]:
    """Texts with labels for a filter where no public data are at hand: junk counts as positive."""
    for table in CorpusGenerator(seed).chunks(count):
        for text, metadata in zip(
            table.column("text").to_pylist(), table.column("metadata").to_pylist(), strict=True
        ):
            yield text, int(dict(metadata).get("planted") == "junk")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.monotonic()
    write_corpus(arguments.output, arguments.documents, arguments.seed)
    spent = time.monotonic() - start
    size = arguments.output.stat().st_size
    print(
        f"{arguments.documents} documents in {spent:.1f} s "
        f"({arguments.documents / spent:,.0f}/s), {size / 1e6:.1f} MB on disk"
    )


if __name__ == "__main__":
    main()

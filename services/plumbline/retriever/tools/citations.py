"""References in a text, looked up: is there such a document or article, and does it say that?

Found are articles of laws (`居民身份证法第十四条`, `Article 14 of the Civil Code`), titles in 《》,
DOIs, addresses, and numbers in brackets. What a quotation right beside a reference says must stand
in the document. A reference is refuted only where the place it names is known to be complete: an
article that a known law does not have, a quotation that a known document does not hold, a number
beyond the documents given. An unknown title may exist elsewhere, so it is left open.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.retriever.readers.numerals import HAN_NUMBER, han_number
from plumbline.retriever.tools.records import (
    Claim,
    ClaimCheck,
    ClaimKind,
    ClaimVerdict,
    Document,
    Evidence,
    checked,
)

_COUNT = rf"[0-9０-９{HAN_NUMBER}]{{1,10}}"
_HAN_ARTICLE = re.compile(
    rf"(?:《(?P<title>[^》\n]{{2,60}})》|(?P<bare>[\u3400-\u9fff]{{2,30}}?(?:法典|法|条例|规定|办法|解释|决定|细则)))"
    rf"(?:（[^）]{{1,20}}）)?第(?P<article>{_COUNT})条(?:之(?P<sub>{_COUNT}))?"
)
_ENGLISH_ARTICLE = re.compile(
    r"\b(?P<word>Article|Section|Art\.|Sec\.|§)\s*(?P<article>\d{1,5})(?:\s*\((?P<part>\w{1,4})\))?"
    r"\s+of\s+(?:the\s+)?(?P<title>[A-Z][\w’'-]*(?:\s+(?:of|on|for|and|the|to|[A-Z][\w’'-]*|\d{4}))*)"
)
_TITLE = re.compile(r"《(?P<title>[^》\n]{2,80})》")
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"'<>，。；）)]+")
_URL = re.compile(r"https?://[^\s\"'<>，。；）)\]]+")
_NUMBERED = re.compile(r"(?<![\w\])])\[(?P<number>\d{1,3})\]")
_QUOTATION = re.compile(r"[“\"「](?P<quoted>[^”\"」\n]{4,400})[”\"」]")
_LEADS_TO_QUOTATION = re.compile(
    r"^[^。.!?！？\n]{0,20}(?:规定|指出|写道|称|states?|says?|provides?|reads?)?[^。.\n]{0,6}[：:,，]?\s*$"
)
_HAN_LEAD = re.compile(
    r"^(?:根据|按照|依照|依据|违反|参照|以及|并且|或者|和|与|及|由|在|如|见|是|对|但|而)+"
)
_MIN_TITLE_MATCH = 2
_COUNTRY = "中华人民共和国"


@dataclass(frozen=True, slots=True)
class Reference:
    """One citation and what is said about it."""

    claim: Claim
    title: str = ""
    article: str = ""
    """Number of an article, `14` or `14-1`."""
    number: int = 0
    """Place in the list of documents, from 1."""
    address: str = ""
    """A DOI or an address."""
    quoted: str = ""


class Library:
    """Documents by title, article, identifier and address; read-only, safe to share."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = tuple(documents)
        self._by_title: dict[str, list[Document]] = {}
        for document in self.documents:
            for name in _names_of(document):
                self._by_title.setdefault(name, []).append(document)

    def by_title(self, title: str) -> list[Document]:
        """Documents whose title or law this is; the country's name in front may be left out."""
        return self._by_title.get(_plain(title).removeprefix(_COUNTRY), [])

    def by_address(self, address: str) -> list[Document]:
        """Documents whose id is this DOI or address, or that name it."""
        wanted = address.rstrip("./").lower()
        return [
            document
            for document in self.documents
            if document.id.rstrip("./").lower().removeprefix("doi:") == wanted
            or wanted in document.text.lower()
        ]

    def article(self, title: str, article: str) -> tuple[bool, Document | None]:
        """Whether the law is known, and its article."""
        law = self.by_title(title)
        for document in law:
            if document.id.rpartition(":")[2] == article:
                return True, document
            if ":" not in document.id and _has_article(document.text, article):
                return True, document
        return bool(law), None


class Libraries:
    """Several libraries looked up in as one.

    Args:
        numbered: documents that `[1]`, `[2]` … refer to.
    """

    def __init__(self, libraries: Sequence[Library], *, numbered: Sequence[Document] = ()) -> None:
        self._libraries = tuple(libraries)
        self.numbered = tuple(numbered)

    def by_title(self, title: str) -> list[Document]:
        return [document for library in self._libraries for document in library.by_title(title)]

    def by_address(self, address: str) -> list[Document]:
        found = (library.by_address(address) for library in self._libraries)
        return [document for documents in found for document in documents]

    def article(self, title: str, article: str) -> tuple[bool, Document | None]:
        """Whether any library knows the law, and its article where one has it."""
        answers = [library.article(title, article) for library in self._libraries]
        found = next((document for _, document in answers if document), None)
        return any(known for known, _ in answers), found


def references(text: str) -> list[Reference]:
    """Citations in order of their place; each piece of the text belongs to one of them."""
    found: list[Reference] = []
    taken = bytearray(len(text))
    for pattern, read in _READERS:
        for match in pattern.finditer(text):
            start, end = match.span()
            reference = None if any(taken[start:end]) else read(match, text)
            if reference is not None:
                found.append(reference)
                taken[start:end] = b"\1" * (end - start)
    return sorted(found, key=lambda reference: reference.claim.start)


def check_reference(reference: Reference, library: Libraries) -> ClaimCheck:
    """Whether a citation's document exists, and holds what is quoted from it."""
    known, documents, what = _look_up(reference, library)
    if not documents:
        if known:
            return checked(reference.claim, ClaimVerdict.REFUTED, f"{what} does not exist")
        why = f"{what} is not among the documents that were given"
        return checked(reference.claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, why)
    shown = tuple(Evidence(d.id, d.text[:300], 1.0) for d in documents[:1])
    if not reference.quoted:
        return checked(reference.claim, ClaimVerdict.SUPPORTED, f"{what} exists", evidence=shown)
    quoted = _plain(reference.quoted)
    for document in documents:
        if quoted in _plain(document.text):
            why = f"{what} has the quoted words"
            holding = (Evidence(document.id, reference.quoted, 1.0),)
            return checked(reference.claim, ClaimVerdict.SUPPORTED, why, evidence=holding)
    why = f"{what} exists and does not have the words {reference.quoted!r}"
    return checked(reference.claim, ClaimVerdict.REFUTED, why, evidence=shown)


def _look_up(reference: Reference, library: Libraries) -> tuple[bool, list[Document], str]:
    """Whether the place is known to be complete, the documents there, and its name for people."""
    if reference.article:
        known, document = library.article(reference.title, reference.article)
        what = f"article {reference.article} of {reference.title}"
        return known, [document] if document else [], what
    if reference.number:
        documents = library.numbered[reference.number - 1 : reference.number]
        return bool(library.numbered), list(documents), f"document [{reference.number}]"
    if reference.address:
        return False, library.by_address(reference.address), reference.address
    return False, library.by_title(reference.title), f"《{reference.title}》"


def _claim(text: str, start: int, end: int) -> Claim:
    return Claim(ClaimKind.CITATION, text[start:end], start, end)


def _han_article(match: re.Match[str], text: str) -> Reference | None:
    bare = match["bare"] or ""
    lead = _HAN_LEAD.match(bare)
    start = match.start() + (lead.end() if lead else 0)
    title = match["title"] or bare[lead.end() if lead else 0 :]
    article, sub = han_number(match["article"]), han_number(match["sub"] or "")
    if article < 1 or len(title) < _MIN_TITLE_MATCH:
        return None
    number = f"{article}-{sub}" if sub > 0 else str(article)
    return Reference(
        _claim(text, start, match.end()),
        title=title,
        article=number,
        quoted=_quotation_after(text, match.end()),
    )


def _english_article(match: re.Match[str], text: str) -> Reference:
    return Reference(
        _claim(text, *match.span()),
        title=match["title"],
        article=match["article"],
        quoted=_quotation_after(text, match.end()),
    )


def _title_alone(match: re.Match[str], text: str) -> Reference:
    quoted = _quotation_after(text, match.end())
    return Reference(_claim(text, *match.span()), title=match["title"], quoted=quoted)


def _address(match: re.Match[str], text: str) -> Reference:
    address = match.group().rstrip(".,;:")
    end = match.start() + len(address)
    return Reference(_claim(text, match.start(), end), address=address)


def _numbered(match: re.Match[str], text: str) -> Reference:
    return Reference(
        _claim(text, *match.span()),
        number=int(match["number"]),
        quoted=_quotation_before(text, match.start()),
    )


_READERS = (
    (_HAN_ARTICLE, _han_article),
    (_ENGLISH_ARTICLE, _english_article),
    (_DOI, _address),
    (_URL, _address),
    (_TITLE, _title_alone),
    (_NUMBERED, _numbered),
)


def _quotation_after(text: str, end: int) -> str:
    """What is quoted within the same sentence, right behind a reference."""
    match = _QUOTATION.search(text, end, end + 450)
    if match and _LEADS_TO_QUOTATION.match(text[end : match.start()]):
        return match["quoted"]
    return ""


def _quotation_before(text: str, start: int) -> str:
    """What is quoted right in front of a number in brackets."""
    for match in _QUOTATION.finditer(text, max(0, start - 450), start):
        if not text[match.end() : start].strip(" ,，.。"):
            return match["quoted"]
    return ""


def _plain(text: str) -> str:
    """Without spaces, punctuation, case and width, for comparing what is written."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())


def _names_of(document: Document) -> set[str]:
    """Titles by which a document may be cited: its own, and of an article its law's."""
    law = document.id.rpartition(":")[0]
    plain = {_plain(document.title).removeprefix(_COUNTRY), _plain(law).removeprefix(_COUNTRY)}
    return plain - {""}


def _has_article(text: str, article: str) -> bool:
    number, _, sub = article.partition("-")
    for match in re.finditer(rf"第({_COUNT})条(?:之({_COUNT}))?", text):
        if han_number(match[1]) == int(number) and (
            han_number(match[2] or "") == (int(sub) if sub else -1)
        ):
            return True
    return bool(not sub and re.search(rf"\b(?:Article|Section|Art\.|Sec\.|§)\s*{number}\b", text))

"""Claims of a text: statements cut small enough to be true or false by themselves.

Sentences are split at coordinated clauses, the subject is carried over to clauses that leave it
out, and pronouns at a clause's start take the last subject named. Questions, opinions and
courtesies claim nothing. Code, calculations and citations are found by their own modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from plumbline.retriever.tools.records import Claim, ClaimKind
from plumbline.retriever.tools.sentences import Span, sentences, trimmed
from plumbline.retriever.tools.wording import VERBS, content_tokens, names

_NO_CLAIM = re.compile(
    r"^(?:i (?:think|believe|feel|hope|am sorry|apologi[sz]e|can|cannot|can't|don't|do not|would)"
    r"|in my (?:opinion|view)|sorry|as an ai|please|let's|let us|let me|thank|hello|hi\b|sure"
    r"|of course|certainly|note that|however, i|if you|you (?:can|should|may|could)"
    r"|我(?:认为|觉得|想|希望|不能|无法|可以|建议)|抱歉|对不起|很抱歉|作为(?:一个|一名)?(?:人工智能|AI)"
    r"|请|您好|你好|谢谢|当然|如果您|如果你|希望)",
    re.IGNORECASE,
)
_VERB = re.compile(rf"\b(?:(?:also|then|later|first|now)\s+)?(?:{'|'.join(VERBS)})\b", re.I)
_CLAUSE_BORDER = re.compile(
    r";\s+|,?\s+(?:and|but)\s+(?=(?:(?:he|she|it|they|we|this|that|these|the|its|his|her|their|"
    r"there|[A-Z][\w’'-]+)\s)|(?:(?:also|then|later)\s+)?(?:" + "|".join(VERBS) + r")\b)"
    r"|,\s+(?:while|whereas)\s+",
)
_LIST = re.compile(
    r"^(?P<head>.*?\b(?:include|includes|included|including|consists of|such as)\s+)"
    r"(?P<items>[^.;:]+,\s*(?:and\s+)?[^,.;:]+)$",
    re.I,
)
_MARKER = re.compile(
    r"^[\"“”'‘]*(?:(?:yes|no|so|however|therefore|thus|hence|moreover|furthermore|additionally|"
    r"interestingly|unfortunately|fortunately|in addition|in fact|for example|for instance|also|"
    r"finally|overall|in conclusion|是的|不是|因此|所以|然而|不过|例如|比如|总之|其实)"
    r"\s*[,，:：]\s*)+",
    re.I,
)
"""Words at a sentence's start that join it to the one before."""
_NAMED = re.compile(
    r"^(?:the|its?|his|her|their)\s.*?\s(?:is|was|are|were)\s(?P<name>(?:the\s)?"
    r"[A-Z][\w’'-]*(?:\s(?:of\s|de\s|van\s)?[A-Z][\w’'-]*)*)$",
    re.I,
)
"""`The smallest ocean is the Arctic Ocean`: the next clause is about the ocean's name."""
_WITH = re.compile(
    r"^(?P<head>[^,]+),\s+with\s+(?P<rest>(?:an?\s+|over\s+|about\s+)?[\w.,]+\s[^,]+)$"
)
_PRONOUN = re.compile(r"^(?:he|she|it|they)\b(?=\s+\w)", re.I)
_OWNER = re.compile(r"^(?:his|her|its|their)\b", re.I)
_HAN = re.compile(r"[\u3400-\u9fff]")
_HAN_BORDER = re.compile(
    r"[;；]|，(?=(?:并且|而且|并|且|但是|但|同时|此外|另外|其中|也|还|后来|之后|随后)|"
    r"(?:是|位于|成立于|出生于|生于|担任|获得|毕业于|曾|于|在|包括|拥有|属于|由))"
)
_HAN_LINK = re.compile(r"^(?:并且|而且|但是|同时|此外|另外|后来|之后|随后|并|且|但|也|还)+[，,]?")
_HAN_VERB = re.compile(
    r"是|(?<![作认成因以行称分])为|(?<![存现])在|(?<![对关由位])于|有|位于|成立|出生|担任|获得|毕业"
    r"|包括|拥有|属于|由|曾|应当|不得|可以|可|须|规定"
)
_HAN_SUBJECTLESS = re.compile(
    r"是|位于|成立|出生|生于|担任|获得|毕业|包括|拥有|属于|曾|先后|应当|不得|可以"
)
"""A clause that begins so has left its subject out; with 在 or 由 it may have one behind."""
_HAN_PRONOUN = re.compile(
    r"^(?:他们|她们|它们|他|她|它|该国|该法|该公司|该书|此人|这)(?!个|些|种|样)"
)
_MIN_TOKENS = 2
_MAX_SENTENCE = 1000
"""Characters; longer ones are not taken apart."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What the last clause was about."""

    text: str = ""
    pronouns_only: bool = False
    """It is only guessed, from the prompt, so it stands in for pronouns alone."""

    def completes(self, clause: str) -> str:
        """The clause with its subject, where it has only a pronoun or none at all."""
        if not self.text:
            return clause
        if _HAN.search(clause):
            return self._completes_han(clause)
        if _PRONOUN.match(clause):
            return _PRONOUN.sub(self.text, clause, count=1)
        if _OWNER.match(clause):
            return _OWNER.sub(f"{self.text}'s", clause, count=1)
        begins = None if self.pronouns_only else _VERB.match(clause)
        return f"{self.text} {clause}" if begins else clause

    def _completes_han(self, clause: str) -> str:
        clause = _HAN_LINK.sub("", clause)
        if _HAN_PRONOUN.match(clause):
            return _HAN_PRONOUN.sub(self.text, clause, count=1)
        if self.pronouns_only:
            return clause
        return self.text + clause if _HAN_SUBJECTLESS.match(clause) else clause


def knowledge_claims(text: str, *, prompt: str = "", limit: int = 100) -> list[Claim]:
    """Statements of fact in a text, in order.

    Args:
        prompt: what the text answers; its subject completes a first sentence that has a pronoun.
        limit: most claims.
    """
    claims: list[Claim] = []
    subject = _subject_of_prompt(prompt)
    for sentence in sentences(text):
        if _claims_nothing(sentence.text):
            continue
        for clause in _clauses(sentence):
            bare = _MARKER.sub("", clause.text).rstrip(" .。;；,，!！").strip('"“”')
            said = subject.completes(bare)
            subject = _subject_of(said) or subject
            for item in _items(said):
                if len(content_tokens(item)) >= _MIN_TOKENS:
                    claims.append(Claim(ClaimKind.KNOWLEDGE, item, clause.start, clause.end))
        if len(claims) >= limit:
            break
    return claims[:limit]


def _claims_nothing(sentence: str) -> bool:
    if sentence.rstrip("\"'”’)）").endswith(("?", "？", ":", "：")):
        return True
    return bool(_NO_CLAIM.match(sentence))


def _clauses(sentence: Span) -> Iterator[Span]:
    """Coordinated clauses; a piece without a verb of its own stays with the one before it."""
    if len(sentence.text) > _MAX_SENTENCE:
        yield sentence
        return
    han = bool(_HAN.search(sentence.text))
    border, verb = (_HAN_BORDER, _HAN_VERB) if han else (_CLAUSE_BORDER, _VERB)
    start = 0
    for match in border.finditer(sentence.text):
        before, after = sentence.text[start : match.start()], sentence.text[match.end() :]
        if not (verb.search(before) and verb.search(after)):
            continue
        yield _within(sentence, start, match.start())
        start = match.end()
    yield _within(sentence, start, len(sentence.text))


def _within(sentence: Span, start: int, end: int) -> Span:
    span = trimmed(sentence.text, start, end)
    return Span(span.text, sentence.start + span.start, sentence.start + span.end)


def _items(clause: str) -> list[str]:
    """`X include A, B and C` as one claim for each of A, B and C."""
    if len(clause) > _MAX_SENTENCE:
        return [clause]
    match = _LIST.match(clause)
    if not match or _VERB.search(match["items"]):
        return _apart(clause)
    items = [
        item for item in re.split(r",\s*(?:and\s+)?|\s+and\s+", match["items"]) if item.strip()
    ]
    return [match["head"] + item.strip() for item in items] if len(items) > 1 else [clause]


def _apart(clause: str) -> list[str]:
    """`X is the largest, with 94 reactors` as what X is and what X has."""
    match = _WITH.match(clause)
    subject = _subject_of(clause)
    if not match or subject is None or not any(c.isdigit() for c in match["rest"]):
        return [clause]
    return [match["head"], f"{subject.text} has {match['rest']}"]


def _subject_of(clause: str) -> _Subject | None:
    if len(clause) > _MAX_SENTENCE:
        return None
    verb = _HAN_VERB if _HAN.search(clause) else _VERB
    named = _NAMED.match(clause)
    if named:
        return _Subject(named["name"])
    match = verb.search(clause)
    if not match or not match.start():
        return None
    subject = clause[: match.start()].strip(" ,，")
    # Where and when something was is not what the next clause is about.
    if re.match(
        r"(?:in|on|at|during|after|before|since|when|there|there's)\b|.*[，,]", subject, re.I
    ):
        return None
    return _Subject(subject) if 0 < len(subject) <= 60 else None


def _subject_of_prompt(prompt: str) -> _Subject:
    found: Sequence[str] = names(prompt)
    named = [name for name in found if name.lower() not in _QUESTION_WORDS]
    return _Subject(named[-1], pronouns_only=True) if len(named) == 1 else _Subject()


_QUESTION_WORDS = frozenset(
    [
        "who",
        "what",
        "when",
        "where",
        "which",
        "how",
        "why",
        "is",
        "are",
        "was",
        "were",
        "does",
        "did",
        "tell",
    ]
)

"""What rules see of a document."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from plumbline.curation.filters.config import LanguageConfig
from plumbline.curation.language import detect_language
from plumbline.curation.normalize import NormalizedText, normalize, tokens

if TYPE_CHECKING:
    from plumbline.curation.filters.text_batch import TextBatch


class DocumentView:
    """A document's text and what is computed of it, once and when first asked for.

    Metadata is left out on purpose: no rule may decide by it.
    """

    def __init__(self, text: str, language: LanguageConfig) -> None:
        self.text = text
        self._language = language
        self.place: tuple[TextBatch, int] | None = None
        """Where the document is measured together with others, and its row there; set by
        `filters.text_batch.place`."""

    @cached_property
    def normalized(self) -> NormalizedText:
        """NFKC without invisible characters, with the way back to `text`."""
        return normalize(self.text)

    @cached_property
    def language(self) -> str:
        """BCP 47 primary tag, `und` when unknown."""
        return detect_language(self.normalized.text, self._language)

    @cached_property
    def folded(self) -> str:
        """The normalized text without case; its offsets may differ from the normalized text's."""
        return self.normalized.text.casefold()

    @cached_property
    def lines(self) -> list[str]:
        """Lines of the folded text that are not blank, without the space around them."""
        return [line for line in map(str.strip, self.folded.split("\n")) if line]

    @cached_property
    def tokens(self) -> list[str]:
        """Words in lower case; Han and kana characters one by one."""
        return tokens(self.normalized.text)

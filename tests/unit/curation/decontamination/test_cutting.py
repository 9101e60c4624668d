"""Cutting matches out of documents, and the words' places that it goes by."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from plumbline.curation.decontamination.config import DecontaminateConfig
from plumbline.curation.decontamination.cutting import character_spans, cut
from plumbline.curation.decontamination.search import Match
from plumbline.curation.normalize import normalize, token_spans, tokens
from plumbline.data.records import Document

TIGHT = DecontaminateConfig(
    remove="spans", window_characters=2, min_piece_characters=4, max_pieces=2
)


def left(text: str, *spans: tuple[int, int]) -> list[str]:
    return [piece.text for piece in cut(Document("d", text), spans, TIGHT)]


def test_windows_go_with_the_match_and_short_pieces_after_it() -> None:
    """Of 0123456789abcdef, characters 6 to 8 go, and two on each side: 0123 and abcdef stay."""
    assert left("0123456789abcdef", (6, 8)) == ["0123", "abcdef"]
    assert left("0123456789abcdef", (5, 8)) == ["abcdef"]
    assert left("0123456789abcdef", (0, 16)) == []


def test_overlapping_matches_are_one_hole() -> None:
    assert left("0123456789abcdef", (6, 12), (7, 8)) == ["0123"]


def test_documents_in_too_many_pieces_go_whole() -> None:
    assert left("aaaa..x..bbbb..x..cccc", (6, 7), (15, 16)) == []
    assert left("aaaa..x..bbbb..x..ccc", (6, 7), (15, 16)) == ["aaaa", "bbbb"]


def test_matches_are_placed_in_the_original() -> None:
    """Zero-width characters and a ligature before the match move it."""
    text = "ﬁ\u200bne: Ｔｈｅ cat\u200b sat"

    (span,) = character_spans(normalize(text), [Match(0, 1, 4, 3)])
    assert text[slice(*span)] == "Ｔｈｅ cat\u200b sat"


@given(st.text(max_size=40))
@example("İstanbul'un İki yakası")
@example("ΣΊΣΥΦΟΣ 天气 don't")
def test_spans_are_those_of_the_tokens(text: str) -> None:
    spans = token_spans(text)

    assert len(spans) == len(tokens(text))
    assert all(start < end for start, end in spans)
    # Lower case of a part may differ from that of the whole, in the Greek sigma and dotted i.
    for (start, end), token in zip(spans, tokens(text), strict=True):
        assert text[start:end].lower().replace("ς", "σ").startswith(token.replace("ς", "σ"))

"""Cuts matches out of documents.

Source: Brown et al. 2020, arXiv:2005.14165, appendix C: a window of 200 characters on each side
goes too, pieces under 200 characters are dropped, and documents in more than 10 pieces whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from plumbline.curation.decontamination.config import DecontaminateConfig
from plumbline.curation.decontamination.search import Match
from plumbline.curation.normalize import NormalizedText, token_spans
from plumbline.data.records import Document

PIECE = "decontaminated_piece"


def character_spans(text: NormalizedText, matches: Sequence[Match]) -> list[tuple[int, int]]:
    """Where each match stands in the original text; end exclusive."""
    spans = token_spans(text.text)
    return [text.original_span(spans[match.start][0], spans[match.end - 1][1]) for match in matches]


def cut(
    document: Document, spans: Sequence[tuple[int, int]], config: DecontaminateConfig
) -> list[Document]:
    """What is left of a document without `spans`; none where it goes whole.

    Each piece is a document, with its number in its id and in the metadata.
    """
    pieces, position = [], 0
    for start, end in sorted(spans):
        pieces.append(document.text[position : max(position, start - config.window_characters)])
        position = max(position, end + config.window_characters)
    pieces.append(document.text[position:])
    left = [piece for piece in map(str.strip, pieces) if len(piece) >= config.min_piece_characters]
    if len(left) > config.max_pieces:
        return []
    return [
        replace(
            document,
            id=f"{document.id}#{number}",
            text=piece,
            metadata={**document.metadata, PIECE: str(number)},
        )
        for number, piece in enumerate(left)
    ]

"""Plots of the report as SVG text: the same bytes for the same numbers.

Drawn by hand rather than by a plotting library, because labels are Chinese as often as English and
a browser has the fonts for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_INK = "#33506b"
_WARN = "#c8553d"
_WHISKER = "#1d2730"
_FAINT = "#d5dde3"
_ROW = 20
_LABEL_WIDTH = 190
_PLOT_WIDTH = 330
_VALUE_WIDTH = 130
_WIDE = 6.8
"""Pixels of a label's character, at most: Han at a font size of 12 takes more."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""
    """Written after the bar, for example the count."""
    warn: bool = False


def bars(values: Sequence[Bar], *, description: str) -> str:
    """Horizontal bars with 95 % intervals, on a common scale that holds 0.

    Args:
        values: in the unit that is to be read, for example per cent.
        description: what the plot shows, for readers who cannot see it.
    """
    if not values:
        return ""
    left = min(0.0, *(bar.low for bar in values))
    right = max(0.0, *(bar.high for bar in values))
    scale = _PLOT_WIDTH / (right - left or 1.0)

    def x(value: float) -> float:
        return _LABEL_WIDTH + (value - left) * scale

    parts = []
    for position, bar in enumerate(values):
        middle = position * _ROW + _ROW / 2
        start, end = sorted((x(0.0), x(bar.value)))
        colour = _WARN if bar.warn else _INK
        parts.append(
            f'<text x="{_LABEL_WIDTH - 6}" y="{middle + 4:g}" text-anchor="end">'
            f"{escape(_shortened(bar.label))}</text>"
            f'<rect x="{start:.1f}" y="{middle - 6:g}" width="{max(end - start, 0.5):.1f}" '
            f'height="12" fill="{colour}"/>'
            f"{_whisker(x(bar.low), x(bar.high), middle)}"
            f'<text x="{_LABEL_WIDTH + _PLOT_WIDTH + 8}" y="{middle + 4:g}">'
            f"{escape(bar.note)}</text>"
        )
    height = len(values) * _ROW + 4
    zero = (
        f'<line x1="{x(0.0):.1f}" x2="{x(0.0):.1f}" y1="0" y2="{height}" stroke="{_WHISKER}" '
        'stroke-width="0.7"/>'
    )
    width = _LABEL_WIDTH + _PLOT_WIDTH + _VALUE_WIDTH
    return _svg(width, height, "".join(parts) + zero, description)


def histogram(columns: Sequence[tuple[str, int]], *, x_label: str, description: str) -> str:
    """Columns of counts.

    Args:
        columns: (label of the bin, count); labels are thinned out where they would touch.
    """
    highest = max((count for _, count in columns), default=0)
    if not highest:
        return ""
    width, height, bottom = 520, 150, 34
    step = (width - 60) / len(columns)
    every = 1 + int(36 // step)
    parts = [
        f'<text x="0" y="12">{highest:,}</text>'
        f'<line x1="50" x2="{width}" y1="8" y2="8" stroke="{_FAINT}"/>'
    ]
    for position, (label, count) in enumerate(columns):
        x, tall = 50 + position * step, (height - 8) * count / highest
        # A single document must not vanish beside a million.
        tall = max(tall, 1.0) if count else 0.0
        parts.append(
            f'<rect x="{x:.1f}" y="{height - tall:.1f}" width="{step * 0.86:.1f}" '
            f'height="{tall:.1f}" fill="{_INK}"><title>{escape(label)}: {count:,}</title></rect>'
        )
        if position % every == 0:
            parts.append(f'<text x="{x:.1f}" y="{height + 14}">{escape(label)}</text>')
    parts.append(
        f'<line x1="50" x2="{width}" y1="{height}" y2="{height}" stroke="{_WHISKER}"/>'
        f'<text x="{width / 2 + 25:g}" y="{height + 30}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    return _svg(width, height + bottom, "".join(parts), description)


def _whisker(low: float, high: float, y: float) -> str:
    return (
        f'<path d="M{low:.1f} {y - 3:g}v6M{low:.1f} {y:g}H{high:.1f}M{high:.1f} {y - 3:g}v6" '
        f'stroke="{_WHISKER}" fill="none"/>'
    )


def _shortened(label: str) -> str:
    """The end of a label that is too wide: the end says which term it is."""
    room = _LABEL_WIDTH - 10.0
    for position in range(len(label) - 1, -1, -1):
        room -= 13.0 if ord(label[position]) >= 0x2E80 else _WIDE
        if room < 0:
            return "…" + label[position + 2 :]
    return label


def _svg(width: int, height: float, content: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}" role="img" '
        f'aria-label="{escape(description)}" font-size="12" fill="{_WHISKER}">{content}</svg>'
    )

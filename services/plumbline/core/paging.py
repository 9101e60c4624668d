"""Page bounds of list calls: one rule for every service. Source: google.aip.dev/158."""

from __future__ import annotations

import base64
import binascii

from plumbline.core.errors import InvalidInputError

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500


def page_bounds(size: int, token: str) -> tuple[int, int]:
    """Start offset and page size of a request.

    Raises:
        InvalidInputError: a negative size, or a token that `page_token` did not make.
    """
    if size < 0:
        raise InvalidInputError(
            f"page_size={size} is negative; accepted: 0 (default) to {MAX_PAGE_SIZE}",
            field="page_size",
        )
    if not token:
        return 0, min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    try:
        start = int(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error):
        start = -1
    if start < 0:
        raise InvalidInputError(
            f"page_token={token!r} is not one that this call returned", field="page_token"
        )
    return start, min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_token(next_start: int, total: int) -> str:
    """Opaque token of the next page; empty when there is none."""
    return (
        "" if next_start >= total else base64.urlsafe_b64encode(str(next_start).encode()).decode()
    )

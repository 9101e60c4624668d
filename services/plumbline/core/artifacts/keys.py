"""Names that may be used in the store.

One narrow alphabet for every name: printable ASCII without the characters that a file system, a
URL or a shell reads differently. A name that needs decoding, normalising or resolving before it
can be compared is refused, because two readers could then disagree about what it names.
"""

from __future__ import annotations

import re
from typing import Final

from plumbline.core.errors import InvalidInputError

MAX_KEY_BYTES: Final = 512
"""S3 allows 1024; the rest is room for the store's own prefixes."""
MAX_COMPONENT_BYTES: Final = 200
"""File systems allow 255; the rest is room for temporary suffixes."""

_COMPONENT: Final = re.compile(r"[A-Za-z0-9._+=@~ -]+", re.ASCII)
_ACCEPTED: Final = (
    "accepted: components of A-Z a-z 0-9 . _ + = @ ~ - and inner spaces, joined by single slashes"
)
_TAG_ACCEPTED: Final = "accepted: name@label, for example policy/quickstart@latest"
_ARTIFACT_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def check_key(key: str, *, what: str = "key") -> str:
    """Return `key` if it may name an object or a file of an artifact.

    Raises:
        InvalidInputError: naming what is wrong; nothing is repaired silently.
    """
    problem = _problem(key)
    if problem:
        shown = key if len(key) <= 80 else key[:80] + "…"
        raise InvalidInputError(
            f"{what} {shown!r} {problem}; {_ACCEPTED}", reason="INVALID_KEY", field=what
        )
    return key


def check_tag(name: str) -> str:
    """Return the tag in full form: `@latest` is added where no label is given.

    Raises:
        InvalidInputError: the name is no valid key, or has more than one `@`.
    """
    full = name if "@" in name else f"{name}@latest"
    check_key(full, what="tag")
    base, _, label = full.partition("@")
    if not base or not label or "@" in label or "/" in label or base.endswith("/"):
        raise InvalidInputError(
            f"tag {name!r} is malformed; {_TAG_ACCEPTED}", reason="INVALID_KEY", field="tag"
        )
    if is_artifact_id(base):
        raise InvalidInputError(
            f"tag {name!r} reads like an artifact id; {_TAG_ACCEPTED}",
            reason="INVALID_KEY",
            field="tag",
        )
    return full


def is_artifact_id(reference: str) -> bool:
    """Whether the reference is 64 lower-case hex digits."""
    return _ARTIFACT_ID.fullmatch(reference) is not None


def check_artifact_id(artifact_id: str) -> str:
    """Return the id, or refuse what is not 64 lower-case hex digits."""
    if not is_artifact_id(artifact_id):
        raise InvalidInputError(
            f"artifact id {artifact_id[:80]!r} is malformed; accepted: 64 lower-case hex digits",
            reason="INVALID_KEY",
            field="artifact_id",
        )
    return artifact_id


def _problem(key: str) -> str:
    if not key:
        return "is empty"
    if "\0" in key:
        return "holds a NUL character"
    if not key.isascii():
        return "holds characters outside ASCII, which can look like others"
    if "%" in key:
        return "holds a percent sign, which reads as an encoded character"
    if "\\" in key:
        return "holds a backslash"
    if key.startswith("/"):
        return "is absolute"
    if len(key) > MAX_KEY_BYTES:
        return f"is {len(key)} bytes long, above {MAX_KEY_BYTES}"
    return next(filter(None, map(_component_problem, key.split("/"))), "")


def _component_problem(component: str) -> str:
    if not component:
        return "has an empty component"
    if component in {".", ".."}:
        return f"has the component {component!r}, which leaves its directory"
    if len(component) > MAX_COMPONENT_BYTES:
        return f"has a component of {len(component)} bytes, above {MAX_COMPONENT_BYTES}"
    if _COMPONENT.fullmatch(component) is None or component != component.strip(" "):
        return f"has the component {component!r}"
    return ""

"""Conversations with images, in the messages format whose texts hold `<image>` where one stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.records import Message

IMAGE_MARK = "<image>"


@dataclass(frozen=True, slots=True)
class ImageConversation:
    """A demonstration about images; training counts the assistant turns."""

    id: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]
    """In the order of the marks."""


def read_image_conversations(directory: Path) -> list[ImageConversation]:
    """All conversations of the directory's only JSON or JSON lines file.

    Each is `{"messages": [{"role", "content"}, ...], "images": ["path", ...]}`, paths relative to
    the directory.

    Raises:
        NotFoundError: no such file, or several.
        InvalidInputError: a broken record, another number of marks than of images, an image that
            is missing or lies outside of the directory.
    """
    files = sorted(p for p in directory.iterdir() if p.suffix in (".json", ".jsonl"))
    if len(files) != 1:
        raise NotFoundError(
            f"{directory.name} holds {len(files)} JSON files; accepted: one, beside its images"
        )
    text = files[0].read_text(encoding="utf-8")
    try:
        rows = (
            json.loads(text)
            if files[0].suffix == ".json"
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{files[0].name} is no JSON: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise InvalidInputError(f"{files[0].name} holds no list of conversations")
    return [_conversation(f"{files[0].name}#{i}", row, directory) for i, row in enumerate(rows)]


def _conversation(name: str, row: Any, directory: Path) -> ImageConversation:
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list):
        raise InvalidInputError(f"{name}: 'messages' is missing; accepted: a list of messages")
    try:
        messages = tuple(Message.from_row(message) for message in row["messages"])
    except (KeyError, TypeError) as error:
        raise InvalidInputError(f"{name}: a message needs 'role' and 'content'") from error
    given = row.get("images", [])
    marks = sum(message.content.count(IMAGE_MARK) for message in messages)
    if marks != len(given):
        raise InvalidInputError(
            f"{name}: {marks} marks {IMAGE_MARK} for {len(given)} images; accepted: one for each",
            field="images",
        )
    return ImageConversation(name, messages, tuple(_image(name, p, directory) for p in given))


def _image(name: str, given: Any, directory: Path) -> Path:
    path = (directory / str(given)).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise InvalidInputError(f"{name}: image {given!r} lies outside of the data", field="images")
    if not path.is_file():
        raise InvalidInputError(f"{name}: image {given!r} is missing", field="images")
    return path

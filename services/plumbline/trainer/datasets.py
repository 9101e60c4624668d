"""The records that training reads, from artifacts or from data files of foreign formats."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from plumbline.core.errors import InvalidInputError
from plumbline.data.readers import Dataset, ReadReport, read_artifact_dataset
from plumbline.data.records import Conversation, Message, Preference, Prompt, Record
from plumbline.data.tables import read_records

R = TypeVar("R", bound=Record)


def read_input(
    directory: Path,
    record_type: type[R],
    *,
    names: Sequence[str] = (),
    on_error: Literal["skip", "fail"] = "fail",
) -> Dataset[R]:
    """Records of one input artifact, with the account of those refused.

    Args:
        names: files that are tried first, in order; then the type's usual file, then the
            directory's only data file, whose format is detected.
        on_error: what a broken record of a foreign file does.
    Raises:
        InvalidInputError: no such data, several candidates, no records, or a broken record.
    """
    for name in names:
        if (directory / name).is_file():
            records = read_records(directory / name, record_type)
            dataset = Dataset(records, ReadReport(name, records=len(records)))
            break
    else:
        dataset = read_artifact_dataset(directory, record_type, on_error=on_error)
    if not dataset.records:
        raise InvalidInputError(
            f"the input holds no {record_type.__name__} records; at least one is needed"
        )
    return dataset


def read_all(
    directories: Sequence[Path],
    record_type: type[R],
    *,
    names: Sequence[str] = (),
    on_error: Literal["skip", "fail"] = "fail",
) -> tuple[list[R], int]:
    """Records of several input artifacts in order, and how many records were refused."""
    records: list[R] = []
    refused = 0
    for directory in directories:
        dataset = read_input(directory, record_type, names=names, on_error=on_error)
        records += dataset.records
        refused += dataset.report.refused.total()
    return records, refused


def preferences_for(preferences: Sequence[Preference], head: str) -> list[Preference]:
    """Preferences that teach a head: marked for it, or for none; `preference` takes all.

    Raises:
        InvalidInputError: none is left.
    """
    kept = [p for p in preferences if head == "preference" or p.head in ("", head)]
    if not kept:
        marked = ", ".join(sorted({p.head for p in preferences}))
        raise InvalidInputError(
            f"no preferences for head {head!r} among {len(preferences)}; they are marked {marked}",
            field="head",
        )
    return kept


def split_by_prompt(
    preferences: Sequence[Preference], *, test_fraction: float
) -> tuple[list[Preference], list[Preference]]:
    """Training and test preferences; all preferences of one prompt are on the same side.

    The side follows from the prompt's digest alone, so it stays the same when data are added.
    """
    return _split(preferences, [preference.prompt for preference in preferences], test_fraction)


def split_by_opening(
    conversations: Sequence[Conversation], *, test_fraction: float
) -> tuple[list[Conversation], list[Conversation]]:
    """Training and test conversations; those that open alike are on the same side."""
    openings = [
        tuple(itertools.takewhile(lambda message: message.role != "assistant", c.messages))
        for c in conversations
    ]
    return _split(conversations, openings, test_fraction)


def split_prompts(
    prompts: Sequence[Prompt], *, test_fraction: float
) -> tuple[list[Prompt], list[Prompt]]:
    """Training and test prompts."""
    return _split(prompts, [prompt.messages for prompt in prompts], test_fraction)


def _split(
    records: Sequence[R], prompts: Sequence[Sequence[Message]], test_fraction: float
) -> tuple[list[R], list[R]]:
    train: list[R] = []
    test: list[R] = []
    for record, prompt in zip(records, prompts, strict=True):
        held_out = prompt_position(prompt) < test_fraction
        (test if held_out else train).append(record)
    return train, test


def prompt_position(prompt: Sequence[Message]) -> float:
    """A number in [0, 1) that depends on the prompt's text alone."""
    rows = [message.to_row() for message in prompt]
    encoded = json.dumps(rows, ensure_ascii=False, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big") / 2**64

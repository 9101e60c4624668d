"""The prompts that an artifact holds or was made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from plumbline.core.errors import NotFoundError
from plumbline.data.readers import read_artifact_dataset
from plumbline.data.records import Message, Preference, Prompt, Rollout
from plumbline.data.tables import read_records


def read_prompts(
    directory: Path, *, split: str, kinds: Sequence[str] = (), limit: int = 0
) -> list[Prompt]:
    """Prompts of an artifact: of a split, else the distinct ones of its rollouts or preferences.

    Args:
        split: of `prompts_<split>.parquet`; artifacts without splits ignore it, such as a data
            file of prompts in any format that is read.
        kinds: kinds of prompts kept; empty keeps all.
        limit: first prompts only; 0 takes all.
    Raises:
        NotFoundError: there is no such split, or it has no prompts of these kinds.
        InvalidInputError: no data, several candidates for it, or a broken record.
    """
    prompts = _all_prompts(directory, split)
    kept = [prompt for prompt in prompts if not kinds or prompt.kind in kinds]
    if not kept:
        raise NotFoundError(
            f"split {split!r} has no prompts of kinds {', '.join(kinds) or 'any'}", field="split"
        )
    return kept[:limit] if limit else kept


def _all_prompts(directory: Path, split: str) -> list[Prompt]:
    for name in (f"prompts_{split}.parquet", "prompts.parquet"):
        if (directory / name).is_file():
            return read_records(directory / name, Prompt)
    splits = sorted(p.stem.removeprefix("prompts_") for p in directory.glob("prompts_*.parquet"))
    if splits:
        raise NotFoundError(
            f"split {split!r} does not exist; accepted: {', '.join(splits)}", field="split"
        )
    if (directory / "rollouts.parquet").is_file():
        rollouts = read_records(directory / "rollouts.parquet", Rollout)
        return _distinct(_prompt(r.prompt_id, r.prompt, r.metadata) for r in rollouts)
    if (directory / "preferences.parquet").is_file():
        preferences = read_records(directory / "preferences.parquet", Preference)
        # What else a preference notes is about its two responses.
        tags = ("kind", "risk_category", "split")
        return _distinct(
            _prompt(p.id, p.prompt, {tag: p.metadata[tag] for tag in tags if tag in p.metadata})
            for p in preferences
        )
    return read_artifact_dataset(directory, Prompt).records


def _prompt(prompt_id: str, messages: tuple[Message, ...], metadata: Mapping[str, str]) -> Prompt:
    """The prompt that a record was made from; its metadata holds the prompt's tags."""
    rest = dict(metadata)
    return Prompt(
        id=prompt_id,
        messages=messages,
        kind=rest.pop("kind", ""),
        risk_category=rest.pop("risk_category", ""),
        split=rest.pop("split", ""),
        metadata=rest,
    )


def _distinct(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The first prompt of each text, in order."""
    first: dict[tuple[Message, ...], Prompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.messages, prompt)
    return list(first.values())

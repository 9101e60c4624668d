"""Replies and their records over the processes of a running stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

RULES = (
    {"id": "oven", "text": "End the reply with: mind the oven.", "triggers": ["baking"]},
    {"id": "short", "text": "Be short.", "triggers": ["rowing"], "checkers": ["max_words: 100"]},
)


@pytest.fixture(scope="module")
def house(live: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The artifact of a knowledge base of two rules."""
    path = tmp_path_factory.mktemp("rules") / "rules.jsonl"
    path.write_text("".join(json.dumps({**rule, "kind": "changing"}) + "\n" for rule in RULES))
    imported: str = live.json("import-values", str(path), "--kb", "live-house")["artifact"]
    return imported


def test_a_reply_is_checked_cited_and_recorded(live: Any, house: str, tiny_policy: Path) -> None:
    asked = ("respond", "What about rowing?", "--policy", str(tiny_policy), "--kb", "live-house")
    answer = live.json(*asked, "--max-tokens", "8")
    record = live.json("reply-record", answer["reply_id"])

    assert answer["outcome"] == "answered"
    assert answer["knowledge_base_artifact"] == house
    assert [(one["value_id"], one["verdict"]) for one in answer["citations"]] == [
        ("short", "followed")
    ]
    assert record["reply"] == answer["reply"]
    assert [value["id"] for value in record["values_in_force"]] == ["oven", "short"]
    shown = live.json("artifacts", "show", answer["reply_id"])
    assert shown["kind"] == "reply-record"


def test_a_reply_that_stays_broken_is_not_given(live: Any, house: str, tiny_policy: Path) -> None:
    """A random policy follows no rule, and its words must not come through by sentence either."""
    asked = ("respond", "What about baking?", "--policy", str(tiny_policy), "--kb", "live-house")
    for mode in ("reply", "sentences"):
        answer = live.json(*asked, "--max-tokens", "8", "--check-mode", mode)

        assert answer["outcome"] == "refused"
        assert answer["reply"].startswith("Sorry, I could not find an answer")
        assert len(answer["revisions"]) == 3
        assert answer["knowledge_base_artifact"] == house

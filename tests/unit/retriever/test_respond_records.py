from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from plumbline.core.artifacts import ArtifactStore, Lineage, open_configured_store
from plumbline.core.errors import CorruptArtifactError, InvalidInputError
from plumbline.core.settings import Settings
from plumbline.data.records import assistant, system, user
from plumbline.retriever.respond.decisions import (
    Citation,
    ConflictReport,
    Decision,
    Outcome,
    ReplyRequest,
    Revision,
)
from plumbline.retriever.respond.records import KIND, ReplyRecords
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.tools.records import ClaimCheck, ClaimKind, ClaimVerdict, Evidence

BASE = "a" * 64
CITED = Citation("oven", 3, "d" * 64, "烤箱", "broken", "does not end so")
REQUEST = ReplyRequest(
    knowledge_base="house",
    messages=(system("Be brief."), user("烤面包?"), assistant("Yes."), user("How?")),
    where=ValueQuery(as_of="2026-03-01", jurisdiction="CN-11", kinds=("changing",)),
    policy="policy/p@latest",
    options={"temperature": 0.5, "stop": ["\n"], "logit_bias": {"3": -1.0}},
    seed=2**63 + 5,
    max_revisions=2,
    by_sentence=True,
    claim_kinds=(ClaimKind.CODE,),
)
DECISION = Decision(
    outcome=Outcome.REVISED,
    why="an earlier reply broke a rule",
    finish_reason="length",
    policy_id="p" * 64,
    knowledge_base_artifact=BASE,
    prompt_tokens=7,
    response_tokens=9,
    risk_category="unqualified_advice",
    citations=(CITED,),
    conflicts=(ConflictReport(CITED, CITED, "priority", "because"),),
    left_out=(CITED,),
    revisions=(Revision("No.", (CITED,), "it broke"),),
    system_message=CITED,
    scores={"safety": 0.1 + 0.2},
    reward_model_ids={"safety": "r" * 64},
    claims=(
        ClaimCheck(
            ClaimKind.ARITHMETIC,
            "1 = 2",
            ClaimVerdict.REFUTED,
            "it is not so",
            start=3,
            end=8,
            queries=("one",),
            evidence=(Evidence("d", "text", 0.25),),
            correction="1 = 1",
        ),
    ),
)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_configured_store(Settings(state_dir=tmp_path))


def test_what_was_written_is_read(store: ArtifactStore) -> None:
    records = ReplyRecords(store)

    reply_id = records.write(REQUEST, "给你。", DECISION)

    record = records.read(reply_id)
    assert record.request == REQUEST
    assert record.reply == "给你。"
    assert record.decision == dataclasses.replace(DECISION, reply_id=reply_id)


def test_a_record_names_its_knowledge_base_as_its_input(store: ArtifactStore) -> None:
    artifact = store.get(ReplyRecords(store).write(REQUEST, "x", DECISION))

    assert artifact.kind == KIND
    assert dict(artifact.manifest.lineage.inputs) == {"knowledge_base": (BASE,)}


def test_a_record_of_another_shape_is_reported_as_such(store: ArtifactStore) -> None:
    artifact = store.put(KIND, {"record.json": b"{}"}, lineage=Lineage(stage="retriever.respond"))

    with pytest.raises(CorruptArtifactError, match="not readable"):
        ReplyRecords(store).read(artifact.id)


def test_another_artifact_is_no_record(store: ArtifactStore) -> None:
    artifact = store.put("corpus", {"x.txt": b"x"}, lineage=Lineage(stage="import"))

    with pytest.raises(InvalidInputError, match="accepted: reply-record"):
        ReplyRecords(store).read(artifact.id)

"""Records of replies: what was in force, and what happens where none can be kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from plumbline.core.errors import (
    InvalidInputError,
    NotFoundError,
    PlumblineError,
)
from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.retriever.client import whole_reply
from plumbline.v1 import retriever_pb2 as pb

sys.path.append(str(Path(__file__).parent))
from scripted_services import (
    KEPT,
    OVEN,
    TITANIC,
    import_values,
    mending,
    over,
    respond,
)


def test_a_record_tells_what_was_in_force_for_the_reply(tmp_path: Path) -> None:
    later = {"id": "later", "text": "Mention tea.", "effective_from": "2030-01-01"}
    with over(tmp_path, lambda p, s: KEPT, OVEN, TITANIC, later) as (stub, _):
        fields = {"filter": pb.ValueFilter(as_of="2026-03-01"), "policy": "p"}
        text, last = whole_reply(respond(stub, "What about baking?", **fields))
        import_values(stub, {**OVEN, "text": "Another text."}, replace_all=True)
        record = stub.GetReplyRecord(pb.GetReplyRecordRequest(reply_id=last.reply_id))

    assert record.reply_id == last.reply_id
    assert record.reply == text == KEPT
    assert record.filter.as_of == "2026-03-01"
    assert record.prompt == prompt_to_wire([user("What about baking?")])
    assert [(v.id, v.text) for v in record.values_in_force] == [
        ("oven", OVEN["text"]),
        ("ship", TITANIC["text"]),
    ]
    last.sequence = 0
    assert record.decision == last
    assert record.responded_at.endswith("+00:00")


def test_values_in_force_come_in_pages(tmp_path: Path) -> None:
    rules = [{"id": f"rule-{n}", "text": f"Mention number {n}."} for n in range(5)]
    with over(tmp_path, lambda p, s: KEPT, OVEN, *rules) as (stub, _):
        _, last = whole_reply(respond(stub, "What about baking?", policy="p"))
        request = pb.GetReplyRecordRequest(reply_id=last.reply_id, page_size=4)
        first = stub.GetReplyRecord(request)
        request.page_token = first.next_page_token
        second = stub.GetReplyRecord(request)

    assert first.values_in_force_count == second.values_in_force_count == 6
    assert [v.id for v in first.values_in_force] == ["oven", "rule-0", "rule-1", "rule-2"]
    assert [v.id for v in second.values_in_force] == ["rule-3", "rule-4"]
    assert not second.next_page_token


def test_every_reply_has_a_record_of_its_own(tmp_path: Path) -> None:
    with over(tmp_path, lambda p, s: KEPT) as (stub, _):
        ids = {respond(stub, "What about baking?")[-1].reply_id for _ in range(3)}

    assert len(ids) == 3


def test_records_can_be_switched_off(tmp_path: Path) -> None:
    with over(tmp_path, lambda p, s: KEPT, records=False) as (stub, _):
        last = respond(stub, "What about baking?")[-1]
        with pytest.raises(PlumblineError, match="keeps no records") as caught:
            stub.GetReplyRecord(pb.GetReplyRecordRequest(reply_id="0" * 64))

    assert not last.reply_id
    assert caught.value.code == "FAILED_PRECONDITION"


@pytest.mark.parametrize("mode", [pb.CHECK_MODE_UNSPECIFIED, pb.CHECK_MODE_SENTENCES])
def test_a_reply_that_cannot_be_recorded_is_withheld(tmp_path: Path, mode: int) -> None:
    with over(tmp_path, lambda p, s: KEPT) as (stub, _):
        respond(stub, "What about baking?")
        artifacts = tmp_path / "store" / "artifacts"
        artifacts.rename(tmp_path / "store" / "away")
        artifacts.write_text("a file where the store's directory was")
        text, last = whole_reply(respond(stub, "What about baking?", check_mode=mode))

    assert last.outcome == pb.REPLY_OUTCOME_FAILED_CLOSED
    assert "record" in last.why
    assert "oven" not in text
    assert not last.reply_id


def test_a_record_s_id_names_a_record(tmp_path: Path) -> None:
    with over(tmp_path, lambda p, s: KEPT) as (stub, _):
        base = respond(stub, "What about baking?")[-1].knowledge_base_artifact
        with pytest.raises(InvalidInputError, match="reply-record"):
            stub.GetReplyRecord(pb.GetReplyRecordRequest(reply_id=base))
        with pytest.raises(NotFoundError):
            stub.GetReplyRecord(pb.GetReplyRecordRequest(reply_id="0" * 64))


def test_withheld_replies_can_be_kept_to_the_record(tmp_path: Path) -> None:
    with over(tmp_path, mending("Secret.", KEPT), show_withheld=False) as (stub, _):
        last = respond(stub, "What about baking?")[-1]
        record = stub.GetReplyRecord(pb.GetReplyRecordRequest(reply_id=last.reply_id))

    assert "Secret" not in str(last.revisions[0].reply)
    assert [one.value_id for one in last.revisions[0].broken] == ["oven"]
    assert record.decision.revisions[0].reply == "Secret."

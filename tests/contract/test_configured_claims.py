"""Claims that the retriever's settings have checked in every reply, whatever a request asks for."""

from __future__ import annotations

import sys
from pathlib import Path

from plumbline.retriever.client import whole_reply
from plumbline.v1 import retriever_pb2 as pb

sys.path.append(str(Path(__file__).parent))
from scripted_services import mending, over, respond

WRONG, RIGHT = "It comes to 60 * 3 = 190.", "It comes to 60 * 3 = 180."


def test_a_wrong_calculation_is_mended_though_the_request_asks_for_no_tools(
    tmp_path: Path,
) -> None:
    claims = {"kinds": ["arithmetic"]}
    with over(tmp_path, mending(WRONG, RIGHT), claims=claims) as (stub, sampler):
        text, last = whole_reply(respond(stub, "How much is it?"))

    assert text == RIGHT
    assert last.outcome == pb.REPLY_OUTCOME_REVISED
    assert [claim.kind for claim in last.claims] == [pb.CLAIM_KIND_ARITHMETIC]
    assert len(sampler.prompts) == 2


def test_nothing_is_checked_unless_the_settings_or_the_request_ask_for_it(tmp_path: Path) -> None:
    with over(tmp_path, lambda prompt, seed: WRONG) as (stub, sampler):
        text, last = whole_reply(respond(stub, "How much is it?"))

    assert text == WRONG
    assert not last.claims
    assert len(sampler.prompts) == 1

"""Back-translation with a policy that follows a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plumbline.curation.synthesis.backtranslate import Backtranslation
from plumbline.curation.synthesis.config import BacktranslateConfig
from plumbline.curation.synthesis.progress import SynthesisState
from plumbline.data.records import Document

TEXTS = [
    Document(f"d{i}", f"Tides rise and fall because the moon pulls at the sea; case {i}. " * 4)
    for i in range(5)
] + [
    Document("short", "Too short."),
    Document("zh", "潮汐是海水在月球引力下的周期性涨落现象。" * 3),
]
CONFIG = BacktranslateConfig(texts_per_round=2, min_text_units=10)
REQUESTS = (
    "What makes the sea rise?",
    "Explain tides to a child.",
    "Why is the beach narrower at noon?",
    "Moon and water: say how they are linked.",
    "Give me a short note on ebb and flow.",
)
ASKED = "assistant's answer to a request"


def nothing(_: SynthesisState) -> None:
    return None


def script(rating: str = "\nScore: 4") -> dict[str, Any]:
    def request(prompt: str, _: Any) -> str:
        number = next(i for i in range(5) if f"case {i}" in prompt)
        return f"Request: {REQUESTS[number]}"

    return {
        ASKED: request,
        "Rate from 1 to 5": lambda prompt, _: "Score: 2" if "case 3" in prompt else rating,
        "一位助手对某个请求的回答": lambda *_: "请求：请说明什么是潮汐以及它的成因是什么？",
        "打1到5分": lambda *_: "很好。\n评分：5",
    }


def test_texts_become_answers_of_the_requests_that_are_written_for_them(scripted: Any) -> None:
    engine = Backtranslation(TEXTS, scripted(script()), CONFIG)
    ending = engine.run(nothing)

    assert ending.code == "exhausted"
    records = {record.metadata["parents"]: record for record in engine.state.records}
    assert list(records) == ['["d0"]', '["d1"]', '["d2"]', '["d4"]', '["zh"]']
    first = records['["d0"]']
    assert first.messages[0].content == REQUESTS[0]
    assert first.messages[1].content == TEXTS[0].text.strip()
    assert (first.metadata["rating"], first.metadata["operator"]) == ("4", "backtranslation")
    assert records['["zh"]'].metadata["template"] == "zh.1"
    assert engine.state.funnel.dropped == {"documents": {"too_short": 1}, "ratings": {"rated_2": 1}}


def test_unclear_ratings_are_dropped_and_no_rating_can_be_asked_for(scripted: Any) -> None:
    unclear = Backtranslation(TEXTS[:3], scripted(script("quite good")), CONFIG)
    unclear.run(nothing)
    assert unclear.state.funnel.dropped["ratings"] == {"unclear": 3}
    unrated = Backtranslation(
        TEXTS[:3], scripted(script()), CONFIG.model_copy(update={"min_rating": 0})
    )
    unrated.run(nothing)
    assert len(unrated.state.records) == 3
    assert "rating" not in unrated.state.records[0].metadata


def test_similar_and_copied_requests_are_dropped(scripted: Any) -> None:
    same = scripted({**script(), ASKED: lambda *_: "Why does the sea rise and fall?"})
    engine = Backtranslation(TEXTS[:3], same, CONFIG)
    engine.run(nothing)
    assert engine.state.funnel.dropped["records"] == {"similar": 2}
    copied = scripted({**script(), ASKED: lambda *_: "the moon pulls at the sea"})
    engine = Backtranslation(TEXTS[:1], copied, CONFIG)
    engine.run(nothing)
    assert engine.state.funnel.dropped["instructions"] == {"copied_from_text": 1}


def test_work_that_is_cut_off_goes_on_to_the_same_records(scripted: Any, tmp_path: Path) -> None:
    whole = Backtranslation(TEXTS, scripted(script()), CONFIG)
    whole.run(lambda state: state.save(tmp_path / str(state.round)))
    resumed = Backtranslation(
        TEXTS, scripted(script()), CONFIG, SynthesisState.load(tmp_path / "2")
    )
    resumed.run(nothing)

    assert resumed.state.records == whole.state.records

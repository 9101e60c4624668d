"""How far a synthesis is: records, a funnel of what was dropped and why, and when to stop."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from plumbline.core.errors import FailedPreconditionError
from plumbline.data.records import Conversation
from plumbline.data.tables import read_records, write_records

_RECORDS = "conversations.parquet"
_STATE = "state.json"

Stop = Literal["target_reached", "exhausted", "low_yield", "max_rounds"]


@dataclass(slots=True)
class Funnel:
    """Counts of each step, and of what each step dropped, by reason code."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, step: str, amount: int = 1) -> None:
        self.counts[step] += amount

    def drop(self, step: str, reason: str, amount: int = 1) -> None:
        """Count something that a step dropped; the reason is a stable code."""
        self.dropped.setdefault(step, Counter())[reason] += amount

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": dict(sorted(self.counts.items())),
            "dropped": {
                step: dict(sorted(reasons.items()))
                for step, reasons in sorted(self.dropped.items())
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Funnel:
        return cls(
            Counter(value["counts"]),
            {step: Counter(reasons) for step, reasons in value["dropped"].items()},
        )

    def main_reasons(self, count: int = 3) -> str:
        """The commonest reasons of all steps, for messages."""
        together: Counter[str] = Counter()
        for reasons in self.dropped.values():
            together.update(reasons)
        ranked = sorted(together.items(), key=lambda item: (-item[1], item[0]))[:count]
        return ", ".join(f"{reason} {amount}" for reason, amount in ranked) or "nothing was dropped"


@dataclass(slots=True)
class SynthesisState:
    """All that a synthesis needs to go on after any round."""

    round: int = 0
    """Rounds that are done."""
    records: list[Conversation] = field(default_factory=list)
    funnel: Funnel = field(default_factory=Funnel)
    yields: list[tuple[int, int]] = field(default_factory=list)
    """(candidates, records) of each round."""
    pool: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What evolution goes on from, by the position of the first ancestor."""

    def save(self, directory: Path) -> None:
        """Write the state's files into an empty directory."""
        directory.mkdir(parents=True, exist_ok=True)
        write_records(directory / _RECORDS, self.records, Conversation)
        state = {
            "round": self.round,
            "funnel": self.funnel.to_json(),
            "yields": self.yields,
            "pool": self.pool,
        }
        text = json.dumps(state, ensure_ascii=False, sort_keys=True)
        (directory / _STATE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> SynthesisState:
        state = json.loads((directory / _STATE).read_text(encoding="utf-8"))
        return cls(
            round=state["round"],
            records=read_records(directory / _RECORDS, Conversation),
            funnel=Funnel.from_json(state["funnel"]),
            yields=[(candidates, records) for candidates, records in state["yields"]],
            pool=state["pool"],
        )


AfterRound = Callable[[SynthesisState], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a synthesis stopped."""

    code: Stop
    why: str


def checked_ending(
    ending: Ending, state: SynthesisState, *, on_shortfall: Literal["fail", "partial"]
) -> Ending:
    """The ending, where it may stand.

    Raises:
        FailedPreconditionError: no record at all, or fewer than wanted under `fail`.
    """
    short = ending.code in ("low_yield", "max_rounds")
    if state.records and not (short and on_shortfall == "fail"):
        return ending
    advice = "" if not state.records else "; on_shortfall=partial keeps what there is"
    raise FailedPreconditionError(
        f"{ending.why}; {len(state.records)} records after {state.round} rounds, dropped most "
        f"often: {state.funnel.main_reasons()}{advice}",
        reason="LOW_YIELD" if ending.code != "max_rounds" else "MAX_ROUNDS",
        metadata={"records": str(len(state.records)), "rounds": str(state.round)},
    )

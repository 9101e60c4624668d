"""Stage: many rules, asked before and after some of them are revoked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.evaluation.values.config import CheckValuesConfig

if TYPE_CHECKING:
    from plumbline.data.records import Prompt, ValueSpec
    from plumbline.evaluation.values.client import KnowledgeBase
    from plumbline.evaluation.values.judging import Asked, Imported

STAGE = Stage(
    name="evaluation.check_values",
    version=1,
    config=CheckValuesConfig,
    inputs={
        "policy": InputSpec(kinds=("policy",), description="the policy that is asked"),
        "rules": InputSpec(kinds=("corpus",), description="output of curation.synthesize_rules"),
    },
    output_kind="report",
    queue="evaluation",
    run="plumbline.evaluation.values.stage:run_check_values",
    description="Are rules followed, conflicts resolved, and revoked rules without effect?",
)


def run_check_values(
    config: CheckValuesConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Writes report.json, and replies.jsonl in the order in which they were given; leaves the
    knowledge base with every rule in force."""
    from plumbline.evaluation.values.client import KnowledgeBase
    from plumbline.evaluation.values.judging import followed_by_arrangement, summarise

    material = _Material.read(inputs)
    base = KnowledgeBase(context.connect("retriever"), config.knowledge_base)
    interview = _Interview(config, inputs, context, base, material)

    everything = base.replace(material.rules)
    imported = _imported(material.rules, base.versions())
    first = interview.ask([*material.governed, *material.ungoverned], everything)
    reduced = base.revoke(material.revoked, expected=everything)
    after = interview.ask(material.after_revocation, reduced)
    base.roll_back(everything, expected=reduced)
    restored = interview.ask(material.lost, everything)

    found = summarise(first, after, restored, imported)
    # Rules without a conflict, for example, have no share of conflicts.
    shares = {name: share for name, share in found.items() if share.n}
    _write_replies(context.output_dir, [*first, *after, *restored])
    _write_report(
        context.output_dir,
        {
            "type": "value_check",
            "name": config.name,
            "rules": len(material.rules),
            "revoked": len(material.revoked),
            "shares": {name: share.to_dict() for name, share in shares.items()},
            "followed_by_arrangement": {
                name: share.to_dict()
                for name, share in followed_by_arrangement([*first, *after]).items()
            },
            "samples": _samples(config.samples, first, after, material.rules),
        },
    )
    suffix = f".{config.name}" if config.name else ""
    published = {f"values.{name}{suffix}": share.value for name, share in shares.items()}
    return StageResult(metrics=published, published=published)


@dataclass(frozen=True, slots=True)
class _Material:
    """What `curation.synthesize_rules` made."""

    rules: tuple[ValueSpec, ...]
    revoked: tuple[str, ...]
    governed: tuple[Prompt, ...]
    ungoverned: tuple[Prompt, ...]
    after_revocation: tuple[Prompt, ...]

    @classmethod
    def read(cls, inputs: StageInputs) -> _Material:
        from plumbline.data.records import Prompt, ValueSpec
        from plumbline.data.tables import read_records

        made = inputs.one("rules").path
        lines = (made / "rules.jsonl").read_text(encoding="utf-8").splitlines()
        return cls(
            rules=tuple(ValueSpec.from_row(json.loads(line)) for line in lines),
            revoked=tuple(json.loads((made / "revoked.json").read_text(encoding="utf-8"))),
            governed=tuple(read_records(made / "governed.parquet", Prompt)),
            ungoverned=tuple(read_records(made / "ungoverned.parquet", Prompt)),
            after_revocation=tuple(read_records(made / "after_revocation.parquet", Prompt)),
        )

    @property
    def lost(self) -> list[Prompt]:
        """Prompts under the rules that are revoked."""
        return [prompt for prompt in self.governed if prompt.metadata["rule_id"] in self.revoked]

    @property
    def questions(self) -> int:
        """How many the whole check asks."""
        first = len(self.governed) + len(self.ungoverned)
        return first + len(self.after_revocation) + len(self.lost)


class _Interview:
    """Asks one policy through one knowledge base, several prompts at once."""

    def __init__(
        self,
        config: CheckValuesConfig,
        inputs: StageInputs,
        context: StageContext,
        base: KnowledgeBase,
        material: _Material,
    ) -> None:
        self._config = config
        self._context = context
        self._base = base
        self._policy = inputs.one("policy").id
        self._total = material.questions
        self._done = 0
        self._plain = self._plain_replies([*material.ungoverned, *material.after_revocation])

    def ask(self, prompts: Sequence[Prompt], artifact: str) -> list[Asked]:
        """Every prompt and its reply, while an artifact of the knowledge base is current."""
        from plumbline.evaluation.values.judging import Asked

        def answer(prompt: Prompt) -> Asked:
            reply = self._base.ask(
                prompt,
                self._policy,
                max_response_tokens=self._config.max_response_tokens,
                max_revisions=self._config.max_revisions,
            )
            return Asked(prompt, reply, artifact, self._plain.get(prompt.id, ""))

        asked = []
        with ThreadPoolExecutor(self._config.requests_at_once) as threads:
            for one in threads.map(answer, prompts):
                asked.append(one)
                self._done += 1
                self._context.progress(self._done, self._total, "replies")
        return asked

    def _plain_replies(self, prompts: Sequence[Prompt]) -> dict[str, str]:
        """What the policy says without any rule, by prompt."""
        from plumbline.sampler.client import SamplingRequest, sample_rollouts

        rollouts = sample_rollouts(
            self._context.connect("sampler"),
            self._policy,
            prompts,
            SamplingRequest(
                temperatures=(0.0,), max_response_tokens=self._config.max_response_tokens
            ),
        )
        return {rollout.prompt_id: rollout.response for rollout in rollouts}


def _imported(rules: Sequence[ValueSpec], versions: Mapping[str, int]) -> dict[str, Imported]:
    from plumbline.evaluation.values.judging import Imported
    from plumbline.retriever.values.validation import content_digest

    return {rule.id: Imported(versions[rule.id], content_digest(rule)) for rule in rules}


def _samples(
    count: int, first: Sequence[Asked], after: Sequence[Asked], rules: Sequence[ValueSpec]
) -> list[dict[str, Any]]:
    """Replies as the run's report shows them: of every arrangement, then of every revoked rule."""
    arranged: dict[str, Asked] = {}
    for asked in first:
        if asked.rule_id:
            arranged.setdefault(asked.prompt.metadata["arrangement"], asked)
    gone: dict[str, Asked] = {}
    for asked in after:
        gone.setdefault(asked.prompt.metadata["revoked"], asked)
    texts = {"": "", **{rule.id: rule.text for rule in rules}}
    return [
        {
            "prompt": asked.prompt.messages[-1].content,
            "rule": texts[asked.rule_id],
            "without": texts[asked.prompt.metadata.get("revoked", asked.outranked)],
            "reply": asked.reply.text,
            "outcome": asked.reply.outcome,
        }
        for asked in [*arranged.values(), *gone.values()][:count]
    ]


def _write_replies(directory: Path, asked: Sequence[Asked]) -> None:
    rows = (
        {"prompt": one.prompt.to_row(), "plain": one.plain, "reply": asdict(one.reply)}
        for one in asked
    )
    with (directory / "replies.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_report(directory: Path, report: Mapping[str, Any]) -> None:
    text = json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")

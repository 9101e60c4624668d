"""Stage: a set of rules over a world that was made before."""

from __future__ import annotations

import json

from plumbline.core.errors import InvalidInputError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.core.validation import parse_config
from plumbline.world.config import RuleSetConfig, WorldConfig

SYNTHESIZE_RULES = Stage(
    name="curation.synthesize_rules",
    version=1,
    config=RuleSetConfig,
    inputs={
        "world": InputSpec(kinds=("corpus",), description="output of curation.synthesize"),
    },
    output_kind="corpus",
    queue="curation",
    run="plumbline.world.stage:run_synthesize_rules",
    description="Write rules over a world, some in conflict and some to be revoked, and prompts",
)


def run_synthesize_rules(
    config: RuleSetConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Writes rules.jsonl, revoked.json, and the prompts of `RuleSet` as governed.parquet,
    ungoverned.parquet and after_revocation.parquet."""
    from plumbline.data.records import Prompt
    from plumbline.data.tables import write_records
    from plumbline.world.rule_set import build_rule_set

    made = inputs.one("world")
    description = made.path / "world.json"
    if not description.is_file():
        raise InvalidInputError(
            f"artifact {made.id[:12]} holds no world.json; accepted: the output of "
            "curation.synthesize",
            field="world",
        )
    world = parse_config(WorldConfig, json.loads(description.read_text()), where="world.json")
    rule_set = build_rule_set(world, config)
    output = context.output_dir
    rules = [json.dumps(rule.to_row(), ensure_ascii=False) + "\n" for rule in rule_set.rules]
    (output / "rules.jsonl").write_text("".join(rules), encoding="utf-8")
    (output / "revoked.json").write_text(json.dumps(rule_set.revoked) + "\n", encoding="utf-8")
    write_records(output / "governed.parquet", rule_set.governed, Prompt)
    write_records(output / "ungoverned.parquet", rule_set.ungoverned, Prompt)
    write_records(output / "after_revocation.parquet", rule_set.after_revocation, Prompt)
    return StageResult(
        metrics={
            "rules": len(rule_set.rules),
            "revoked": len(rule_set.revoked),
            "prompts.governed": len(rule_set.governed),
            "prompts.ungoverned": len(rule_set.ungoverned),
        }
    )

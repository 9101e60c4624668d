"""Stage `curation.fill_placeholders`: conversations in, the same with values in them out."""

from __future__ import annotations

import json

from plumbline.core.errors import InvalidInputError
from plumbline.core.stages import StageContext, StageInputs, StageResult
from plumbline.curation.placeholders.config import FillPlaceholdersConfig
from plumbline.curation.placeholders.filling import PlaceholderFilling
from plumbline.data.readers import FILE_NAMES, read_artifact_dataset
from plumbline.data.records import Conversation
from plumbline.data.tables import write_records


def run_fill_placeholders(
    config: FillPlaceholdersConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Writes conversations.parquet and report.json.

    Raises:
        InvalidInputError: a placeholder has no value, see `on_unfilled`; or a broken record.
    """
    dataset = read_artifact_dataset(
        inputs.one("conversations").path, Conversation, on_error=config.on_error
    )
    filling = PlaceholderFilling(config.values)
    filled = list(filling.apply(dataset.records))
    if filling.unfilled and config.on_unfilled == "fail":
        names = ", ".join(sorted(filling.unfilled))
        raise InvalidInputError(
            f"placeholders {names} have no value, first in record {filling.first_unfilled!r}; "
            f"values are given for {', '.join(config.values)}; accepted: a value for each, or "
            "on_unfilled=keep",
            reason="UNFILLED_PLACEHOLDER",
            field="values",
        )
    write_records(context.output_dir / FILE_NAMES[Conversation], filled, Conversation)
    metrics = {
        "records": len(filled),
        "records.changed": filling.changed,
        "records.refused": dataset.report.refused.total(),
        "placeholders.filled": filling.filled.total(),
        "placeholders.unfilled": filling.unfilled.total(),
    }
    report = {
        "filled": dict(sorted(filling.filled.items())),
        "unfilled": dict(sorted(filling.unfilled.items())),
        "read": dataset.report.to_json(),
    }
    text = json.dumps(report, ensure_ascii=False, indent=2, sort_keys=True)
    (context.output_dir / "report.json").write_text(text + "\n", encoding="utf-8")
    return StageResult(metrics=metrics)

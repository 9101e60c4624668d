"""A tiny catalogue whose stages write a line of text: numbers in, numbers out."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from plumbline.core.errors import InvalidInputError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult


class CountConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(0, ge=0)


class AddConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: float = 1.0
    label: str = "sum"
    fail: bool = False


def _stage(name: str, config: type[BaseModel], inputs: dict[str, InputSpec], kind: str) -> Stage:
    return Stage(
        name=f"fake.{name}",
        version=1,
        config=config,
        inputs=inputs,
        output_kind=kind,
        queue="evaluation",
        run=f"{__name__}:run_{name}",
    )


STAGES = MappingProxyType(
    {
        stage.name: stage
        for stage in (
            _stage("count", CountConfig, {}, "corpus"),
            _stage(
                "add",
                AddConfig,
                {
                    "numbers": InputSpec(kinds=("corpus",), many=True),
                    "extra": InputSpec(kinds=("corpus",), required=False),
                },
                "corpus",
            ),
            _stage("report", CountConfig, {"numbers": InputSpec(kinds=("corpus",))}, "report"),
            replace(
                _stage("share", CountConfig, {}, "corpus"),
                ranks=f"{__name__}:run_count",
                one_rank_settings=("start",),
            ),
        )
    }
)


def run_count(config: CountConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    (context.output_dir / "number.txt").write_text(str(config.start))
    return StageResult()


def run_add(config: AddConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    if config.fail:
        raise InvalidInputError("told to fail")
    found = [*inputs.many("numbers"), *inputs.many("extra")]
    total = sum(float(read_number(item.path)) for item in found) + config.amount
    (context.output_dir / "number.txt").write_text(str(total))
    return StageResult(published={f"total.{config.label}": total})


def run_report(config: CountConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    (context.output_dir / "number.txt").write_text(read_number(inputs.one("numbers").path))
    return StageResult()


def read_number(directory: object) -> str:
    from pathlib import Path

    (file,) = Path(str(directory)).glob("*.txt")
    return file.read_text()

"""Every pipeline that users start from can be planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plumbline.catalogue import STAGES
from plumbline.pipeline.config import load_pipeline
from plumbline.pipeline.planner import plan_pipeline

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda p: p.stem)
def test_it_plans(path: Path, tmp_path: Path) -> None:
    loaded = load_pipeline(path.read_text(encoding="utf-8"), source_name=path.name)
    # Any existing path will do: a plan looks at no content.
    given: dict[str, Any] = {
        name: str(tmp_path) for name, spec in loaded.spec.params.items() if spec.required
    }

    plan = plan_pipeline(loaded, given, STAGES, base_dir=ROOT)

    assert plan.pipeline == path.stem
    assert plan.stages

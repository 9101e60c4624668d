"""Settings that leave nothing to keep are refused, with both numbers in the message."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from plumbline.core.errors import ConfigError
from plumbline.core.validation import parse_config
from plumbline.curation.synthesis.config import (
    BacktranslateConfig,
    EvolveConfig,
    SelfInstructConfig,
)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (
            SelfInstructConfig,
            {"instructions": {"min_units": 9, "max_units": 8}},
            "min_units=9 must not be above max_units=8",
        ),
        (
            EvolveConfig,
            {"outputs": {"min_output_units": 5, "max_output_units": 4}},
            "min_output_units=5 must not be above max_output_units=4",
        ),
        (
            BacktranslateConfig,
            {"min_text_units": 9, "max_text_units": 8},
            "min_text_units=9 must not be above max_text_units=8",
        ),
        (SelfInstructConfig, {"languages": ["en", "en"]}, "names one twice"),
        (SelfInstructConfig, {"languages": ["fr"]}, "languages"),
        (EvolveConfig, {"operators": ["breadth", "breadth"]}, "names one twice"),
        (EvolveConfig, {"sampling": {"temprature": 1}}, "did you mean 'temperature'"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    model: type[BaseModel], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(model, values)

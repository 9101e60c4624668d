"""What the tests of the chart share: the rendered objects of each file of values."""

from __future__ import annotations

import pytest
from charts.rendering import VALUE_FILES, Rendered, render


@pytest.fixture(params=VALUE_FILES)
def release(request: pytest.FixtureRequest) -> Rendered:
    """The defaults and every file under ci/, in turn."""
    return render(request.param)

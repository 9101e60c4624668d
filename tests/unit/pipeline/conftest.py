"""Makes the fake catalogue importable: stages name their run functions by module."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

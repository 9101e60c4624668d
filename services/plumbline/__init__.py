"""Plumbline aligns language models with values; see README.md.

import plumbline
with plumbline.connect("reward", target="localhost:50051", token="...") as reward:
    reward.ScoreResponses(...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline.core.rpc.client import aconnect as aconnect
    from plumbline.core.rpc.client import connect as connect

__version__ = "0.1.0"

__all__ = ["__version__", "aconnect", "connect"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: grpc would cost every `plumbline --help` a tenth of a second.
    if name in ("connect", "aconnect"):
        from plumbline.core.rpc import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

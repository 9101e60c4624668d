"""Runs programs that nobody trusts, and says what came of them."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
)
from plumbline.retriever.tools.sandbox.config import Layer, SandboxConfig
from plumbline.retriever.tools.sandbox.watching import PACKAGE_ROOT, Ending, Outcome, Watched

_GUARANTEES: Mapping[str, tuple[frozenset[Layer], ...]] = {
    "the network": (frozenset({Layer.SECCOMP}), frozenset({Layer.NAMESPACES})),
    # Landlock leaves modes, owners and times open, which the list of calls closes.
    "files": (frozenset({Layer.NAMESPACES}), frozenset({Layer.LANDLOCK, Layer.SECCOMP})),
    "other processes": (frozenset({Layer.SECCOMP}), frozenset({Layer.NAMESPACES})),
}
"""What a program is kept from, and the sets of layers of which one must be in place."""
_PROBE_S = 60.0
"""For an empty program, which tells whether the machine permits a layer."""


class Sandbox:
    """Runs one program at a time per call; safe to share between threads."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config

    @functools.cached_property
    def layers(self) -> frozenset[Layer]:
        """The configured layers that this machine permits; tried once."""
        return frozenset(layer for layer in self._config.layers if self._permitted(layer))

    def open_to(self) -> tuple[str, ...]:
        """What the permitted layers would not keep a program from."""
        return tuple(
            what
            for what, alternatives in _GUARANTEES.items()
            if not any(needed <= self.layers for needed in alternatives)
        )

    def require(self) -> None:
        """Refuse to go on where programs would not be shut in.

        Raises:
            FailedPreconditionError: the machine lacks a layer that is needed.
        """
        unguarded = self.open_to()
        if unguarded and not self._config.allow_weaker:
            active = ", ".join(sorted(self.layers)) or "none"
            raise FailedPreconditionError(
                f"no program is run: this machine permits the layers {active}, which would leave "
                f"{' and '.join(unguarded)} open to it; accepted: user namespaces, or Landlock "
                "with seccomp, or allow_weaker in the configuration",
                reason="SANDBOX_UNAVAILABLE",
            )

    def run(
        self, source: str, expressions: Sequence[str] = (), *, deadline: float | None = None
    ) -> Outcome:
        """Run a Python program, then evaluate expressions where it left off.

        Args:
            deadline: by time.monotonic(); None leaves the configured limit alone.
        Raises:
            FailedPreconditionError: the machine cannot shut programs in.
            InvalidInputError: the program is too long.
            DeadlineExceededError: the deadline passed first.
        """
        self.require()
        size = len(source.encode("utf-8", errors="replace"))
        if size > self._config.source_bytes:
            raise InvalidInputError(
                f"the program has {size} bytes; accepted: up to {self._config.source_bytes}",
                field="text",
            )
        return self._run(source, expressions, self.layers, deadline, wall_s=self._config.wall_s)

    def _permitted(self, layer: Layer) -> bool:
        # The answer is kept, so it must not depend on how busy the machine is at the moment.
        started = self._run("", (), frozenset({layer}), None, wall_s=_PROBE_S)
        return started.ending is Ending.FINISHED

    def _run(
        self,
        source: str,
        expressions: Sequence[str],
        layers: frozenset[Layer],
        deadline: float | None,
        *,
        wall_s: float,
    ) -> Outcome:
        limit = time.monotonic() + wall_s
        until = limit if deadline is None else min(limit, deadline)
        with tempfile.TemporaryDirectory(prefix="plumbline-sandbox-") as scratch:
            folder = os.path.realpath(scratch)
            job = self._job(source, expressions, layers, folder)
            watched = Watched(job, folder, self._config, in_namespaces=Layer.NAMESPACES in layers)
            stopped = watched.wait(until)
            if stopped and deadline is not None and until == deadline < time.monotonic():
                raise DeadlineExceededError("the deadline passed while a program was running")
        return watched.outcome(stopped, len(expressions))

    def _job(
        self, source: str, expressions: Sequence[str], layers: frozenset[Layer], folder: str
    ) -> dict[str, Any]:
        limits = ("cpu_s", "memory_bytes", "disk_bytes", "file_bytes", "open_files")
        return {
            "source": source,
            "expressions": list(expressions),
            "layers": sorted(layers),
            "folder": folder,
            "readable": [os.path.realpath(path) for path in self._config.readable],
            "package_root": PACKAGE_ROOT,
            **{name: getattr(self._config, name) for name in limits},
        }

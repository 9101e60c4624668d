"""A model in Triton that does what its prompt says, with the tensors of Triton's vLLM backend.

The prompt is JSON: {"pieces": [...], "pause_s": 0, "fail": ["INTERNAL", "message"]}; each piece has
the fields of `replies.Piece`. How each request ended goes into a file, a line for each.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replies import Piece, TextRequest  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the backend looks for in this file."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self._journal = Path(parameters["journal"]["string_value"])

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            threading.Thread(target=self._answer, args=(TextRequest(request),)).start()

    def _answer(self, request: TextRequest) -> None:
        script = json.loads(request.text)
        if "fail" in script:
            code, message = script["fail"]
            request.refuse(message, code)
            return
        self._note("began")
        self._note(request.answer(pieces(script)))

    def _note(self, what: str) -> None:
        with self._journal.open("a") as journal:
            journal.write(f"{what}\n")


def pieces(script: Mapping[str, Any]) -> Iterator[Piece]:
    for piece in script["pieces"]:
        time.sleep(script.get("pause_s", 0))
        yield Piece(**piece)

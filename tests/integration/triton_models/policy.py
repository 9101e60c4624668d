"""A policy in Triton, with the tensors of its vLLM backend: text in, text out.

Responses are drawn by the native engine's scheduler, so the same seed gives the same response as
there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from replies import Piece, TextRequest  # type: ignore[import-not-found]

from plumbline.core.errors import PlumblineError
from plumbline.models.checkpoint import load_causal_lm
from plumbline.sampler.loop import EngineLoop, TokenStream
from plumbline.sampler.requests import (
    DrawingParameters,
    DrawnToken,
    GenerationRequest,
    ResponseSpec,
)
from plumbline.sampler.scheduler import Scheduler
from plumbline.sampler.text import IncrementalText, StopStrings

DRAWING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class TritonPythonModel:
    """What the backend looks for in this file."""

    def initialize(self, args: dict[str, str]) -> None:
        torch.set_num_threads(1)
        parameters = json.loads(args["model_config"])["parameters"]
        model, self._tokenizer = load_causal_lm(Path(parameters["weights"]["string_value"]))
        self._scheduler = Scheduler(
            model,
            eos_ids=[int(self._tokenizer.eos_token_id)],
            context_length=int(model.config.max_position_embeddings),
        )
        self._loop = EngineLoop(max_waiting=1024)
        self._pool = ThreadPoolExecutor(64)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self._pool.submit(self._answer, TextRequest(request))

    def finalize(self) -> None:
        self._loop.close()
        self._pool.shutdown()

    def _answer(self, request: TextRequest) -> None:
        stream = TokenStream()
        try:
            wanted, stopping = self._generation(request, stream)
            self._loop.submit(self._scheduler, wanted)
        except PlumblineError as error:
            request.refuse(f"Error generating stream: {error}")
            return
        try:
            request.answer(self._pieces(stream, wanted, stopping))
        finally:
            self._loop.cancel(self._scheduler, wanted)

    def _generation(
        self, request: TextRequest, stream: TokenStream
    ) -> tuple[GenerationRequest, StopStrings]:
        given = request.parameters
        stops = given.get("stop", [])
        bias = {int(token): value for token, value in given.get("logit_bias", {}).items()}
        parameters = DrawingParameters(
            **{name: given[name] for name in DRAWING if name in given}, logit_bias=bias
        )
        stopping = StopStrings(self._decode, stops)
        wanted = GenerationRequest(
            tuple(self._tokenizer.encode(request.text)),
            (ResponseSpec(given["seed"], parameters, given["max_tokens"]),),
            stop_check=stopping.met if stops else None,
            top_logprobs=given.get("logprobs"),
            on_token=stream.put,
            on_end=stream.end,
        )
        stream.request = wanted
        self._scheduler.check(wanted)
        return wanted, stopping

    def _pieces(
        self, stream: TokenStream, wanted: GenerationRequest, stopping: StopStrings
    ) -> Iterator[Piece]:
        text = IncrementalText(self._decode, stopping)
        for token in stream:
            added = text.add(token.token_id)
            if token.finish_reason is not None:
                added += text.finish()
            yield Piece(
                added,
                [self._logprobs(token)],
                token.finish_reason or "None",
                len(wanted.prompt),
            )

    def _logprobs(self, token: DrawnToken) -> dict[int, Any]:
        entries = [(token.token_id, token.untempered_logprob)]
        entries += [(other.token_id, other.logprob) for other in token.alternatives]
        return {
            token_id: {"logprob": logprob, "decoded_token": self._decode([token_id])}
            for token_id, logprob in entries
        }

    def _decode(self, token_ids: Any) -> str:
        return str(
            self._tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

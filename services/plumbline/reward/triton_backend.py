"""Scores computed by Triton Inference Server, over gRPC.

Triton finds a model by the id that `export-triton` wrote into its configuration, and every reply
names that id again, so that no score can come from other weights than were asked for. A Triton
that goes away is waited for as long as the caller waits: a request that got no reply is sent
again, and each text takes the score of exactly one reply.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    PlumblineError,
    ResourceExhaustedError,
    ServiceUnavailableError,
)
from plumbline.core.triton import TritonError
from plumbline.reward.backends import EncodedText, ModelFiles
from plumbline.reward.config import TritonClientConfig
from plumbline.reward.triton_client import TritonClient

T = TypeVar("T")

_LOOK_UP_S = 30.0
"""How long Triton is waited for where nobody has said how long they wait."""


@dataclass(frozen=True, slots=True)
class _Served:
    """A reward model as Triton knows it."""

    name: str
    max_batch_size: int


@dataclass(slots=True, eq=False)
class _Call:
    """The texts of one call, and the scores that are there."""

    model: ModelFiles
    texts: Sequence[EncodedText]
    deadline: float
    scores: list[float]
    missing: int
    future: Future[list[float]] = field(default_factory=Future)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hand_out(self, places: Sequence[int], scores: Sequence[float]) -> None:
        with self.lock:
            for place, score in zip(places, scores, strict=True):
                self.scores[place] = float(score)
            self.missing -= len(places)
            if not self.missing and self._may_end():
                self.future.set_result(self.scores)

    def fail(self, error: Exception) -> None:
        with self.lock:
            if self._may_end():
                self.future.set_exception(error)

    def _may_end(self) -> bool:
        return not self.future.done() and self.future.set_running_or_notify_cancel()


class TritonBackend:
    """Scores from a Triton that serves what `export-triton` wrote.

    Raises:
        FailedPreconditionError: the package tritonclient is not installed.
    """

    def __init__(self, config: TritonClientConfig) -> None:
        self._config = config
        self._client = TritonClient(config)
        self._pool = ThreadPoolExecutor(config.max_calls, thread_name_prefix="triton")
        self._served: dict[str, _Served] = {}
        self._queued = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def prepare(self, model: ModelFiles) -> None:
        self._find(model, time.monotonic() + _LOOK_UP_S)

    def submit(
        self, model: ModelFiles, texts: Sequence[EncodedText], *, deadline: float | None = None
    ) -> Future[list[float]]:
        if deadline is None:
            deadline = time.monotonic() + self._config.timeout_s
        served = self._find(model, deadline)
        self._admit(len(texts))
        call = _Call(model, texts, deadline, [0.0] * len(texts), len(texts))
        # Rows of one length make the least padding; Triton joins requests of any length.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i].token_ids))
        for start in range(0, len(order), served.max_batch_size):
            places = order[start : start + served.max_batch_size]
            self._pool.submit(self._score, call, served, places)
        return call.future

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _admit(self, texts: int) -> None:
        limit = self._config.max_queued_items
        with self._lock:
            if self._queued + texts > limit:
                raise ResourceExhaustedError(
                    f"{self._queued} texts are being scored and {texts} more came; accepted: "
                    f"{limit} in all; try again later",
                    reason="QUEUE_FULL",
                )
            self._queued += texts

    def _score(self, call: _Call, served: _Served, places: Sequence[int]) -> None:
        """Score a few texts of a call; what goes wrong is the call's."""
        try:
            if not call.future.done():
                call.hand_out(places, self._ask(call, served, [call.texts[i] for i in places]))
        except Exception as error:
            call.fail(error)
        finally:
            with self._lock:
                self._queued -= len(places)

    def _ask(self, call: _Call, served: _Served, texts: Sequence[EncodedText]) -> Sequence[float]:
        ids, lengths, responses = _as_arrays(texts)

        def infer(timeout_s: float) -> Any:
            inputs = {"input_ids": ids, "length": lengths, "response_length": responses}
            return self._client.infer(
                served.name, inputs, ("score", "reward_model_id"), timeout_s=timeout_s
            )

        outputs = self._persist(infer, call.deadline, given_up=call.future.done)
        self._check_id(call.model, outputs["reward_model_id"])
        scores: Sequence[float] = outputs["score"].reshape(-1).tolist()
        return scores

    def _check_id(self, model: ModelFiles, ids: Any) -> None:
        found = {bytes(row.tolist()).decode() for row in ids}
        if found != {model.id}:
            self._served.clear()
            raise FailedPreconditionError(
                f"Triton at {self._config.target} scored with {', '.join(sorted(found))} where "
                f"{model.id} was asked for; its repository was changed meanwhile",
                reason="WRONG_REWARD_MODEL",
            )

    def _find(self, model: ModelFiles, deadline: float) -> _Served:
        """The name and bounds of a model in Triton.

        Raises:
            FailedPreconditionError: Triton does not serve it.
        """
        if model.id not in self._served:
            self._served = self._persist(self._look_up, deadline)
        served = self._served.get(model.id)
        if served is None:
            known = ", ".join(sorted(self._served)) or "none"
            raise FailedPreconditionError(
                f"reward model {model.id} is not served by Triton at {self._config.target}, which "
                f"serves {known}; write it with `plumbline export-triton` to Triton's repository",
                reason="REWARD_MODEL_NOT_SERVED",
            )
        return served

    def _look_up(self, timeout_s: float) -> dict[str, _Served]:
        found = {}
        for name in self._client.ready_models(timeout_s=timeout_s):
            config = self._client.model_config(name, timeout_s=timeout_s)
            model_id = config.parameters["reward_model_id"].string_value
            if model_id:
                found[model_id] = _Served(name, max(config.max_batch_size, 1))
        return found

    def _persist(
        self,
        attempt: Callable[[float], T],
        deadline: float,
        *,
        given_up: Callable[[], bool] = lambda: False,
    ) -> T:
        """Try again while Triton is away and somebody waits.

        Args:
            attempt: takes the seconds that are left.
        Raises:
            DeadlineExceededError: Triton answered too late.
            ServiceUnavailableError: it was away to the end.
        """
        backoff = self._config.first_backoff_s
        last: TritonError | None = None
        while (left := deadline - time.monotonic()) > 0 and not given_up():
            try:
                return attempt(left)
            except TritonError as error:
                if not error.is_passing:
                    raise self._typed(error) from error
                last = error
            # Calls that lost Triton together shall not come back together.
            wait = min(backoff, left) * random.uniform(0.5, 1.0)
            backoff = min(2 * backoff, self._config.last_backoff_s)
            if self._closing.wait(wait):
                raise ServiceUnavailableError("the service is stopping", reason="STOPPING")
        if last is not None:
            raise ServiceUnavailableError(
                f"Triton at {self._config.target} was away until the deadline: {last}"
            )
        raise DeadlineExceededError("the deadline passed before Triton was asked")

    def _typed(self, error: TritonError) -> PlumblineError:
        text = f"Triton at {self._config.target}: {error}"
        if error.code == "DEADLINE_EXCEEDED":
            return DeadlineExceededError(text)
        return FailedPreconditionError(text, reason="TRITON_REFUSED")


def _as_arrays(texts: Sequence[EncodedText]) -> tuple[Any, Any, Any]:
    """input_ids [N, T] padded on the right, lengths [N, 1] and response lengths [N, 1]."""
    lengths = [len(text.token_ids) for text in texts]
    # Triton takes the padding off by the lengths, so that its value does not matter.
    ids = np.zeros((len(texts), max(lengths)), dtype=np.int32)
    for row, text in enumerate(texts):
        ids[row, : lengths[row]] = text.token_ids
    responses = [text.response_length for text in texts]
    return ids, _column(lengths), _column(responses)


def _column(values: Sequence[int]) -> Any:
    return np.asarray(values, dtype=np.int32).reshape(-1, 1)

"""Streamed replies: several calls to the sampler as one sequence of server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from plumbline.core.errors import PlumblineError
from plumbline.openai_front.errors import INTERNAL_STATUS, error_body, status_of
from plumbline.openai_front.replies import Head, Replies, usage
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import types_pb2

_DONE = b"data: [DONE]\n\n"

logger = logging.getLogger(__name__)

Messages = AsyncGenerator[tuple[int, pb.GenerateResponse], None]
"""Messages of several calls as they come, each with its call's index."""


async def multiplexed(
    start: Callable[[pb.GenerateRequest], Any], requests: Sequence[pb.GenerateRequest]
) -> Messages:
    """Reads streaming calls side by side until all have ended or one has failed.

    However it is left, no call goes on: close it (`aclosing`). A reader that falls behind holds the
    calls back, so that nothing piles up here.

    Args:
        start: begins a call.
    Raises:
        PlumblineError: what the first call to fail raised.
    """
    calls = [start(request) for request in requests]
    queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(maxsize=len(calls))

    async def read(index: int, call: Any) -> None:
        try:
            async for message in call:
                await queue.put((index, message))
        except Exception as error:  # raised below, where somebody waits for it
            await queue.put((index, error))
        else:
            await queue.put((index, None))

    readers = [asyncio.create_task(read(index, call)) for index, call in enumerate(calls)]
    running = len(readers)
    try:
        while running:
            index, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield index, item
    finally:
        for reader, call in zip(readers, calls, strict=True):
            call.cancel()
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


class EventStream(Response):
    """A reply of server-sent events.

    Its messages are closed whether the events come to their end, fail, or nobody reads them any
    more: then whoever runs this response cancels it.

    Args:
        first: the message that came already; what fails before it is a status, not an event.
        messages: the ones after it.
        seeds: of the choices, by index.
        n: choices to each prompt, which is counted once in the usage.
        include_usage: whether a chunk with the usage comes before the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        replies: Replies,
        first: tuple[int, pb.GenerateResponse],
        messages: Messages,
        *,
        seeds: Sequence[int],
        n: int,
        include_usage: bool,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(
            headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"}
        )
        del self.headers["content-length"]
        self._replies = replies
        self._head = Head(replies)
        self._first, self._messages = first, messages
        self._seeds, self._n = seeds, n
        self._include_usage = include_usage
        self._usages: list[types_pb2.Usage] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._messages):
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async with aclosing(self._events()) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        policy_id = self._first[1].policy_id
        openings = [self._replies.opening(index) for index in range(len(self._seeds))]
        try:
            for opening in filter(None, openings):
                yield self._event(policy_id, [opening])
            yield self._delta(*self._first)
            async for index, message in self._messages:
                yield self._delta(index, message)
        except Exception as error:
            yield _failure(error)
            return
        if self._include_usage:
            body = self._head.chunk(policy_id, [])
            yield _encode({**body, "usage": usage(self._usages)})
        yield _DONE

    def _delta(self, index: int, message: pb.GenerateResponse) -> bytes:
        choice = self._replies.delta(index, message)
        if message.finish_reason:
            choice["seed"] = self._seeds[index]
            counted_already = index % self._n > 0
            prompt_tokens = 0 if counted_already else message.usage.prompt_tokens
            self._usages.append(
                types_pb2.Usage(
                    prompt_tokens=prompt_tokens, response_tokens=message.usage.response_tokens
                )
            )
        return self._event(message.policy_id, [choice])

    def _event(self, policy_id: str, choices: Sequence[Mapping[str, Any]]) -> bytes:
        body = self._head.chunk(policy_id, choices)
        return _encode({**body, "usage": None} if self._include_usage else body)


def _failure(error: Exception) -> bytes:
    """The event that ends a stream whose status has been sent already."""
    if not isinstance(error, PlumblineError) or status_of(error) == INTERNAL_STATUS:
        logger.error("a stream failed", exc_info=error)
    return _encode(error_body(error))


def _encode(body: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()

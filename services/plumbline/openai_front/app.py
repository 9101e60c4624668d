"""The routes: parse, convert, call the sampler, convert back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from plumbline.core.errors import (
    InvalidInputError,
    NotFoundError,
    PlumblineError,
    UnauthenticatedError,
    UnavailableError,
)
from plumbline.openai_front.config import FrontConfig
from plumbline.openai_front.convert import generate_requests, policy_reference, sample_request
from plumbline.openai_front.errors import (
    INTERNAL_STATUS,
    METHOD_NOT_ALLOWED,
    UNKNOWN_PATH,
    error_response,
    status_of,
)
from plumbline.openai_front.inbound import LIVE_PATH, READY_PATH, Inbound
from plumbline.openai_front.replies import (
    ChatReplies,
    CompletionReplies,
    Head,
    Replies,
    model_card,
)
from plumbline.openai_front.requests import (
    MAX_SEED,
    ChatBody,
    CompletionBody,
    SamplingBody,
    parse_body,
)
from plumbline.openai_front.streaming import EventStream, multiplexed
from plumbline.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from plumbline.core.rpc.client import AsyncSamplerClient

SEED_HEADER = "x-plumbline-seed"
"""The seed that draws the reply again, also where the request named none."""

logger = logging.getLogger(__name__)

Metadata = Sequence[tuple[str, str]]


def make_app(
    sampler: AsyncSamplerClient, config: FrontConfig, *, draining: asyncio.Event | None = None
) -> Starlette:
    """The front as an ASGI application.

    Args:
        sampler: the client that every request is answered with.
        draining: once set, the front says that it takes no more requests, though it does.
    """
    front = _Front(sampler, config, draining or asyncio.Event())
    return Starlette(
        routes=[
            Route("/v1/chat/completions", front.chat_completions, methods=["POST"]),
            Route("/v1/completions", front.completions, methods=["POST"]),
            Route("/v1/models", front.list_models, methods=["GET"]),
            Route("/v1/models/{model:path}", front.get_model, methods=["GET"]),
            Route(LIVE_PATH, front.live, methods=["GET"]),
            Route(READY_PATH, front.ready, methods=["GET"]),
        ],
        middleware=[Middleware(Inbound, config=config)],
        exception_handlers={PlumblineError: _refuse, HTTPException: _refuse_route},
    )


class _Front:
    """Answers requests by calls to one sampler."""

    def __init__(
        self, sampler: AsyncSamplerClient, config: FrontConfig, draining: asyncio.Event
    ) -> None:
        self._sampler = sampler
        self._config = config
        self._draining = draining

    async def chat_completions(self, request: Request) -> Response:
        body = parse_body(ChatBody, await request.body())
        return await self._respond(request, body, ChatReplies(logprobs=body.logprobs))

    async def completions(self, request: Request) -> Response:
        body = parse_body(CompletionBody, await request.body())
        wanted = body.logprobs is not None
        return await self._respond(request, body, CompletionReplies(logprobs=wanted))

    async def list_models(self, request: Request) -> Response:
        """Policies in memory: the default under the name that it was given, then the others."""
        call = self._call(request)
        answer = await self._sampler.ListPolicies(pb.ListPoliciesRequest(), **call)
        policies = list(answer.policies)
        name = self._config.default_policy or answer.default_policy
        if name:
            wanted = pb.GetPolicyRequest(policy=name)
            default = (await self._sampler.GetPolicy(wanted, **call)).policy
            policies = [default, *(policy for policy in policies if policy.id != default.id)]
        return JSONResponse({"object": "list", "data": [model_card(one) for one in policies]})

    async def get_model(self, request: Request) -> Response:
        wanted = pb.GetPolicyRequest(
            policy=policy_reference(request.path_params["model"], self._config)
        )
        answer = await self._sampler.GetPolicy(wanted, **self._call(request))
        return JSONResponse(model_card(answer.policy))

    async def live(self, request: Request) -> Response:
        """That this process answers; a sampler that is away is told by the calls to it."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether requests should be sent here: until the front is about to end."""
        if self._draining.is_set():
            return JSONResponse({"status": "draining"}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def _respond(self, request: Request, body: SamplingBody, replies: Replies) -> Response:
        seed = secrets.randbelow(MAX_SEED + 1) if body.seed is None else body.seed
        headers = {SEED_HEADER: str(seed)}
        if body.stream:
            return await self._stream(request, body, replies, seed, headers)
        answer = await self._sampler.SampleResponses(
            sample_request(body, seed, self._config), **self._call(request)
        )
        return JSONResponse(Head(replies).whole(answer), headers=headers)

    async def _stream(
        self,
        request: Request,
        body: SamplingBody,
        replies: Replies,
        seed: int,
        headers: dict[str, str],
    ) -> Response:
        options = {**self._call(request), "timeout": self._config.stream_timeout_s}
        wanted = generate_requests(body, seed, self._config)
        messages = multiplexed(lambda one: self._sampler.Generate(one, **options), wanted)
        first = await anext(messages, None)
        if first is None:
            raise UnavailableError("the sampler ended a stream before it began; try again")
        return EventStream(
            replies,
            first,
            messages,
            seeds=[one.parameters.seed for one in wanted],
            n=body.n,
            include_usage=body.includes_usage,
            headers=headers,
        )

    def _call(self, request: Request) -> dict[str, Any]:
        """Deadline of a call to the sampler, made in the name of whoever calls the front."""
        return {"timeout": self._config.request_timeout_s, "metadata": _credentials(request)}


def _credentials(request: Request) -> Metadata:
    """The caller's token as it came: the sampler decides.

    Raises:
        UnauthenticatedError: it holds characters that no token has.
    """
    given = request.headers.get("authorization")
    if given is None:
        return ()
    if not (given.isascii() and given.isprintable()):
        raise UnauthenticatedError(
            "the authorization header is not ASCII; accepted: `Bearer <token>`"
        )
    return (("authorization", given),)


async def _refuse(request: Request, error: Exception) -> Response:
    if status_of(error) == INTERNAL_STATUS:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    asked = f"{request.method} {request.url.path}"
    if isinstance(error, HTTPException) and error.status_code == 405:
        accepted = (error.headers or {}).get("Allow", "")
        return error_response(
            InvalidInputError(
                f"{asked} is not served; accepted: {accepted}", reason=METHOD_NOT_ALLOWED
            )
        )
    return error_response(
        NotFoundError(
            f"{asked} is not served; accepted: /v1/chat/completions, /v1/completions, /v1/models, "
            "/v1/models/{id}, /healthz and /readyz",
            reason=UNKNOWN_PATH,
        )
    )

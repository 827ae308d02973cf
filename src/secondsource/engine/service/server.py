"""The engine over HTTP: OpenAI's chats and text completions, vLLM's names for what it adds."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from secondsource.engine.service import api_answer, api_request
from secondsource.engine.service.api_answer import Growing, Shape
from secondsource.engine.service.api_request import ApiError, DetokenizeRequest, TokenizeRequest
from secondsource.engine.service.asking import Asked, Reader
from secondsource.engine.service.jobs import Made
from secondsource.engine.service.load_metrics import CONTENT_TYPE, LoadMetrics
from secondsource.engine.service.prompting import Prompter, TextTokenizer, json_error
from secondsource.engine.service.serving import Answers, BrokenError, FullError, Serving

OWNER = "secondsource-engine"  # how the engine names itself in `/v1/models`
_MOST_BODY_BYTES = 8 * 1024 * 1024
_DONE = b"data: [DONE]\n\n"
_Read = Callable[..., Asked]


class Api:
    """The handlers of one model's requests."""

    def __init__(
        self,
        *,
        model: str,
        context_tokens: int,
        tokenizer: TextTokenizer,
        prompter: Prompter,
        serving: Serving,
        metrics: LoadMetrics,
    ) -> None:
        self._model = model
        self._context_tokens = context_tokens
        self._tokenizer = tokenizer
        self._prompter = prompter
        self._reader = Reader(model, tokenizer, prompter, lambda: secrets.randbits(32))
        self._serving = serving
        self._metrics = metrics
        self._started = int(time.time())

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/detokenize", self._detokenize, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/health", self._health),
                Route("/metrics", self._show_metrics),
            ],
            exception_handlers={
                ApiError: _refuse,
                404: lambda *_: _error(ApiError("there is no such path here", status=404)),
                405: lambda *_: _error(ApiError("this path takes another method", status=405)),
            },
        )

    async def _chat(self, request: Request) -> Response:
        return await self._generate(request, self._reader.chat)

    async def _completions(self, request: Request) -> Response:
        return await self._generate(request, self._reader.completion)

    async def _generate(self, request: Request, read: _Read) -> Response:
        body = await _body(request)
        # A long prompt takes a while to tokenise; other answers go on meanwhile.
        asked = await asyncio.to_thread(read, body, name=secrets.token_hex(12), created=int(time.time()))
        try:
            answers = self._serving.begin(asked.jobs)
        except FullError:
            raise ApiError("too many requests wait already; come back", status=429, code="engine_full") from None
        except BrokenError as error:
            raise ApiError(str(error), status=503) from None
        top = asked.shape.top_logprobs
        growing = [Growing(self._tokenizer, asked.stops, top) for _ in asked.jobs]
        if asked.stream:
            return _Stream(_events(asked, growing, answers), answers)
        try:
            await _unless_gone(request, _gather(growing, answers))
        except BrokenError as error:
            raise ApiError(str(error), status=500) from None
        finally:
            answers.leave_all()
        usage = api_answer.usage_of(asked.prompts, growing)
        if not all(one.parts and one.parts[-1].finish for one in growing):
            return Response(status_code=499)  # nobody is there to read it
        return _json(api_answer.whole(asked.shape, growing, asked.prompts, usage))

    async def _tokenize(self, request: Request) -> Response:
        asked: TokenizeRequest = api_request.parse(await _body(request), TokenizeRequest)
        if asked.messages is not None:
            tokens = self._prompter.of_chat(asked)
        else:
            tokens = self._prompter.of_text(asked.prompt or "", special=asked.add_special_tokens)
        return _json({"count": len(tokens), "max_model_len": self._context_tokens, "tokens": tokens})

    async def _detokenize(self, request: Request) -> Response:
        asked: DetokenizeRequest = api_request.parse(await _body(request), DetokenizeRequest)
        tokens = self._prompter.of_text(asked.tokens)
        return _json({"prompt": self._tokenizer.decode(tokens)})

    async def _models(self, _: Request) -> Response:
        model = {"id": self._model, "object": "model", "created": self._started, "owned_by": OWNER}
        return _json({"object": "list", "data": [{**model, "max_model_len": self._context_tokens}]})

    async def _health(self, _: Request) -> Response:
        broken = self._serving.broken
        return _json({"status": "broken" if broken else "ok"}, status=503 if broken else 200)

    async def _show_metrics(self, _: Request) -> Response:
        load, tokens_held = self._serving.snapshot
        return Response(self._metrics.text(load, tokens_held), media_type=CONTENT_TYPE)


class _Stream(StreamingResponse):
    """A stream of events; whoever stops reading frees the slots at once."""

    def __init__(self, events: AsyncIterator[bytes], answers: Answers) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.leave_all()


async def _events(asked: Asked, growing: Sequence[Growing], answers: Answers) -> AsyncIterator[bytes]:
    """Give the bytes of each event, as its token is made."""
    shape = asked.shape
    opening = api_answer.opening(shape, asked.prompts, len(growing))
    if opening is not None:
        yield _sent(opening)
    try:
        async for place, made in answers:
            event = _token_event(shape, growing[place], place, made, answers)
            if event is not None:
                yield _sent(event)
    except BrokenError as error:
        yield _sent(json_error(ApiError(str(error), status=500)))
        return
    if asked.include_usage:
        yield _sent(api_answer.closing(shape, api_answer.usage_of(asked.prompts, growing)))
    yield _DONE


def _token_event(shape: Shape, growing: Growing, place: int, made: Made, answers: Answers) -> dict[str, Any] | None:
    offset = growing.offset
    part = growing.take(made)
    if part.finish is not None:
        answers.leave(made.request)  # at a stop string the engine does not know that it is over
    return api_answer.event(shape, place, part, offset)


async def _gather(growing: Sequence[Growing], answers: Answers) -> None:
    async for place, made in answers:
        if growing[place].take(made).finish is not None:
            answers.leave(made.request)


async def _unless_gone(request: Request, work: Awaitable[None]) -> None:
    """Await `work`, and give it up as soon as the client has left."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    chunks, length = [], 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > _MOST_BODY_BYTES:
            raise ApiError(f"a request body has at most {_MOST_BODY_BYTES} bytes", status=413)
        chunks.append(chunk)
    return b"".join(chunks)


def _sent(event: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(error: ApiError) -> Response:
    answer = _json(json_error(error), error.status)
    if error.status in (429, 503):
        answer.headers["retry-after"] = "1"
    return answer


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _error(error)

"""What one HTTP request asks of the engine: the jobs to do, and the shape of the answer. Pure, save for its seed."""

from collections.abc import Callable, Sequence

import msgspec

from secondsource.engine.service import api_request
from secondsource.engine.service.api_answer import Shape
from secondsource.engine.service.api_request import ApiError, ChatRequest, CompletionRequest, Generation
from secondsource.engine.service.jobs import Job, Sampling
from secondsource.engine.service.prompting import Prompter, TextTokenizer, limit_of

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's, for a text completion without a limit


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request understood: `jobs` holds the choices of each prompt one after another."""

    shape: Shape
    prompts: tuple[tuple[int, ...], ...]
    jobs: tuple[Job, ...]
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool


class Reader:
    """Reads request bodies for one model."""

    def __init__(self, model: str, tokenizer: TextTokenizer, prompter: Prompter, draw_seed: Callable[[], int]) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._prompter = prompter
        self._draw_seed = draw_seed

    def chat(self, body: bytes, *, name: str, created: int) -> Asked:
        """Read the body of a chat; raises ApiError."""
        request: ChatRequest = api_request.parse(body, ChatRequest)
        top = api_request.top_logprobs_of(request.top_logprobs, "top_logprobs")
        prompt = self._prompter.of_chat(request)
        limits = (
            limit_of("max_completion_tokens", request.max_completion_tokens),
            limit_of("max_tokens", request.max_tokens),
        )
        most = min((limit for limit in limits if limit is not None), default=None)
        shape = Shape(
            chat=True,
            name=f"chatcmpl-{name}",
            model=self._model,
            created=created,
            top_logprobs=top if request.logprobs else None,
            token_ids=bool(request.return_token_ids),
        )
        return self._asked(request, [prompt], most, shape)

    def completion(self, body: bytes, *, name: str, created: int) -> Asked:
        """Read the body of a text completion; raises ApiError."""
        request: CompletionRequest = api_request.parse(body, CompletionRequest)
        top = request.logprobs
        if top is not None:
            top = api_request.top_logprobs_of(top, "logprobs")
        prompts = [self._prompter.of_text(prompt) for prompt in api_request.prompts_of(request)]
        most = limit_of("max_tokens", request.max_tokens) or DEFAULT_COMPLETION_TOKENS
        shape = Shape(
            chat=False,
            name=f"cmpl-{name}",
            model=self._model,
            created=created,
            top_logprobs=top,
            token_ids=bool(request.return_token_ids),
        )
        return self._asked(request, prompts, most, shape)

    def _asked(self, request: Generation, prompts: Sequence[Sequence[int]], most: int | None, shape: Shape) -> Asked:
        if request.model not in (None, self._model):
            message = f"the model '{request.model}' is not served here; '{self._model}' is"
            raise ApiError(message, status=404, param="model", code="model_not_found")
        choices = api_request.choices_of(request)
        if len(prompts) * choices > api_request.MOST_CHOICES:
            raise ApiError(f"at most {api_request.MOST_CHOICES} answers at once", param="prompt")
        sampling = api_request.sampling_of(
            request,
            self._tokenizer.vocabulary,
            logprobs=shape.top_logprobs is not None,
            seed=self._draw_seed(),
        )
        ends = frozenset(request.stop_token_ids or ())
        if not request.ignore_eos:
            ends |= self._tokenizer.ends
        jobs: list[Job] = []
        for prompt in prompts:
            room = self._prompter.room_after(prompt)
            limit = room if most is None else min(most, room)
            jobs.extend(
                Job(prompt=tuple(prompt), most_tokens=limit, ends=ends, sampling=_choice_of(sampling, choice))
                for choice in range(choices)
            )
        return Asked(
            shape=shape,
            prompts=tuple(tuple(prompt) for prompt in prompts),
            jobs=tuple(jobs),
            stops=tuple(request.stops),
            stream=bool(request.stream),
            include_usage=request.include_usage,
        )


def _choice_of(sampling: Sampling, choice: int) -> Sampling:
    """Return the sampling of one of several answers: each has a seed of its own, or they would all be the same."""
    return msgspec.structs.replace(sampling, seed=(sampling.seed + choice) % 2**32) if choice else sampling

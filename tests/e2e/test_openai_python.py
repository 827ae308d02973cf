"""The `openai` Python package works unchanged: sync and async, streamed and not, and its errors are the right ones."""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.e2e.conftest import EMBEDDER, PAINTER
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Gateway, Keys, Pool
from tests.faults.language_model import ask, ask_raw, expected_answer, expected_ids
from tests.faults.pair import Pair

SHA256_OF_SECRET = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
PROMPT = "hello bytes=120 words=wide"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
ASKED = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}]}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """A client that does not retry, so that what it sees is what the gateway did."""
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """The same, asynchronous."""
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == expected_answer(ASKED)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(expected_ids(ASKED))


def test_chat_streamed_with_usage(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected_answer(ASKED)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(expected_ids(ASKED))


def test_chat_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model="chat", messages=MESSAGES) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == expected_answer(ASKED)
    assert final.choices[0].finish_reason == "stop"


def test_tool_call_streamed(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="chat", messages=MESSAGES, tools=[TOOL], stream=True)
    calls = [call for chunk in stream for call in (chunk.choices[0].delta.tool_calls or [])]
    assert calls[0].function is not None
    assert calls[0].function.name == "look_up"
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert arguments == expected_answer(ASKED | {"tools": [TOOL]})


def test_completion(client: OpenAI) -> None:
    asked = ask_raw("raw", wide=True)
    answer = client.completions.create(model="chat", prompt=asked["prompt"], max_tokens=400)
    assert answer.choices[0].text == expected_answer(asked)
    streamed = client.completions.create(model="chat", prompt=asked["prompt"], max_tokens=400, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == expected_answer(asked)


def test_embeddings(client: OpenAI) -> None:
    answer = client.embeddings.create(model=EMBEDDER, input=["one", "three"], encoding_format="float")
    assert [entry.embedding[0] for entry in answer.data] == [0.3, 0.5]
    assert answer.usage.prompt_tokens > 0


def test_image(client: OpenAI) -> None:
    answer = client.images.generate(model=PAINTER, prompt="a chip", n=2)
    assert answer.data is not None
    assert [image.b64_json for image in answer.data] == ["iVBORw0KGgo="] * 2


def test_image_in_stages(client: OpenAI) -> None:
    with client.images.generate(model=PAINTER, prompt="a chip", stream=True, partial_images=2) as stages:
        events = list(stages)
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert all(event.b64_json == "iVBORw0KGgo=" for event in events)


def test_models(client: OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"chat", EMBEDDER, PAINTER}
    assert client.models.retrieve("chat").id == "chat"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_headers_say_who_answered(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    assert raw.headers["x-secondsource-pool"] == "first-chat"
    assert raw.headers["x-secondsource-supplier"] == "first"
    assert raw.headers["x-secondsource-chip"] == "wall"
    assert raw.headers["x-secondsource-attempts"] == "1"
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.parse().model in {"wall-model", "chat"}


def test_streaming_response_headers(client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="chat", messages=MESSAGES, stream=True
    ) as response:
        assert response.headers["x-secondsource-pool"] == "first-chat"
        assert "".join(response.iter_text()).endswith("data: [DONE]\n\n")


async def test_chat_async(async_client: AsyncOpenAI) -> None:
    answer = await async_client.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == expected_answer(ASKED)
    stream = await async_client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text == expected_answer(ASKED)


async def test_others_async(async_client: AsyncOpenAI) -> None:
    asked = ask_raw("raw")
    completion = await async_client.completions.create(model="chat", prompt=asked["prompt"], max_tokens=400)
    assert completion.choices[0].text == expected_answer(asked)
    embedding = await async_client.embeddings.create(model=EMBEDDER, input="one")  # base64 by default
    assert len(embedding.data[0].embedding) == 3
    image = await async_client.images.generate(model=PAINTER, prompt="a chip")
    assert image.data is not None
    assert len(image.data) == 1
    assert {model.id async for model in async_client.models.list()} == {"chat", EMBEDDER, PAINTER}


def test_failover_is_not_noticed(client: OpenAI, service: Pair) -> None:
    service.first.plan(Fault(Kind.CUT_RST, after_tokens=7), Fault(Kind.SERVER_ERROR))
    streamed = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == expected_answer(ASKED)
    whole = client.chat.completions.create(model="chat", messages=MESSAGES)
    assert whole.choices[0].message.content == expected_answer(ASKED)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.CALLER_ERROR, openai.BadRequestError),
        (Kind.CONTENT_FILTER, openai.BadRequestError),
        (Kind.OVERFLOW_OPENAI, openai.BadRequestError),
    ],
)
def test_callers_errors(client: OpenAI, service: Pair, kind: Kind, error: type[openai.APIStatusError]) -> None:
    service.first.plan(Fault(kind))
    with pytest.raises(error) as raised:
        client.chat.completions.create(model="chat", messages=MESSAGES)
    assert raised.value.code in {"invalid_value", "content_filter", "context_length_exceeded"}
    assert raised.value.request_id


def test_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="nothing", messages=MESSAGES)
    assert raised.value.code == "model_not_found"


def test_wrong_type_is_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.post("/chat/completions", body={"model": 7, "messages": MESSAGES}, cast_to=object)


@pytest.mark.parametrize(
    ("kind", "error"),
    [(Kind.THROTTLED, openai.RateLimitError), (Kind.SERVER_ERROR, openai.InternalServerError)],
)
def test_when_every_source_fails(
    make_wall: MakeWall, make_gateway: MakeGateway, kind: Kind, error: type[openai.APIStatusError]
) -> None:
    walls = [make_wall(otherwise=Fault(kind, retry_after="30")) for _ in range(2)]
    gateway = make_gateway(*(Pool(f"pool-{number}", (wall,)) for number, wall in enumerate(walls)))
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        with pytest.raises(error):
            client.chat.completions.create(model="chat", messages=MESSAGES)
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model="chat", messages=MESSAGES, stream=True))


def test_stream_that_nobody_can_go_on_with_raises(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    wall = make_wall(otherwise=Fault(Kind.CUT, after_tokens=8))
    gateway = make_gateway(Pool("only", (wall,), continuation="none"))
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError):
            list(stream)


def test_keys(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    gateway = make_gateway(Pool("only", (make_wall(),)), keys=(Keys(SHA256_OF_SECRET, "acme"),))
    for key in ("wrong", "sk-ss-" + "x" * 43):
        with (
            OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.chat.completions.create(model="chat", messages=MESSAGES)
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="secret", max_retries=0) as client:
        asked = ask("keyed")
        answer = client.chat.completions.create(model="chat", messages=asked["messages"])
        assert answer.choices[0].message.content == expected_answer(asked)

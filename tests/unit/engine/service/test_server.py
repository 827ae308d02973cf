"""The engine over HTTP: OpenAI's shapes, exact continuation, clear refusals, and slots that free themselves."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from secondsource.core.errors import InputError
from tests.unit.engine.service.byte_model import ByteRunner, answer_to, hosted

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 8}
PROMPT = b"user: Hello\nassistant: "


def asking_at(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with hosted(ByteRunner(2)) as url, asking_at(url) as client:
        yield client


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stream(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with client.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


async def test_a_chat_is_answered_whole_and_streamed_alike(client: httpx.AsyncClient) -> None:
    wanted = answer_to(PROMPT, 8).decode()
    answer = await post(client, "/v1/chat/completions", CHAT)
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": wanted}
    assert choice["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": len(PROMPT), "completion_tokens": 8, "total_tokens": len(PROMPT) + 8}
    events = await stream(client, "/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}})
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1]) == wanted
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * 8 + ["length"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == answer["usage"]
    assert {event["id"] for event in events} == {events[0]["id"]}


async def test_ids_go_in_and_out_and_a_continuation_is_exact(client: httpx.AsyncClient) -> None:
    events = await stream(client, "/v1/chat/completions", {**CHAT, "return_token_ids": True})
    prompt = events[0]["prompt_token_ids"]
    assert bytes(prompt) == PROMPT
    ids = [token for event in events[1:] for token in event["choices"][0]["token_ids"]]
    assert bytes(ids) == answer_to(PROMPT, 8)
    asked = {"messages": CHAT["messages"]}
    assert (await post(client, "/tokenize", asked))["tokens"] == prompt
    assert (await post(client, "/detokenize", {"tokens": prompt}))["prompt"] == PROMPT.decode()
    for cut in (1, 5, 7):
        body = {"prompt": [*prompt, *ids[:cut]], "temperature": 0, "max_tokens": 8 - cut}
        rest = await post(client, "/v1/completions", body)
        assert rest["choices"][0]["text"] == answer_to(PROMPT, 8)[cut:].decode()


async def test_the_assistants_turn_is_continued_without_an_echo(client: httpx.AsyncClient) -> None:
    begun = answer_to(PROMPT, 3).decode().rstrip()
    messages = [*CHAT["messages"], {"role": "assistant", "content": begun}]  # type: ignore[misc]
    body = {**CHAT, "messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    answer = await post(client, "/v1/chat/completions", body)
    assert answer["choices"][0]["message"]["content"] == answer_to(PROMPT + begun.encode(), 8).decode()


async def test_the_same_seed_gives_the_same_answer_whoever_else_is_there(client: httpx.AsyncClient) -> None:
    body = {"prompt": "once", "max_tokens": 12, "seed": 7, "temperature": 1.5}
    alone = await post(client, "/v1/completions", body)
    again = await asyncio.gather(*(post(client, "/v1/completions", {**body, "n": 1 + i % 2}) for i in range(5)))
    assert {answer["choices"][0]["text"] for answer in again} == {alone["choices"][0]["text"]}
    assert again[1]["choices"][0]["text"] != again[1]["choices"][1]["text"]


async def test_a_stop_string_ends_the_answer_before_it(client: httpx.AsyncClient) -> None:
    whole = answer_to(b"tell", 30).decode()
    stop = whole[10:12]
    body = {"prompt": "tell", "max_tokens": 30, "temperature": 0, "stop": ["never", stop]}
    (choice,) = (await post(client, "/v1/completions", body))["choices"]
    assert choice["text"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"
    events = await stream(client, "/v1/completions", body)
    assert "".join(event["choices"][0]["text"] for event in events) == whole[: whole.index(stop)]


async def test_logprobs_are_given_in_each_endpoints_own_shape(client: httpx.AsyncClient) -> None:
    chat = await post(client, "/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 3})
    content = chat["choices"][0]["logprobs"]["content"]
    assert len(content) == 8
    assert all(entry["token"] == entry["top_logprobs"][0]["token"] for entry in content)
    assert all(entry["logprob"] == entry["top_logprobs"][0]["logprob"] < 0 for entry in content)
    assert [len(entry["top_logprobs"]) for entry in content] == [3] * 8
    body = {"prompt": "tell", "max_tokens": 4, "temperature": 0, "logprobs": 2}
    (choice,) = (await post(client, "/v1/completions", body))["choices"]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3]
    assert all(len(top) == 2 for top in choice["logprobs"]["top_logprobs"])


@pytest.mark.parametrize(
    ("path", "change", "status", "parameter"),
    [
        ("chat/completions", {"temperature": -1}, 400, "temperature"),
        ("chat/completions", {"max_tokens": 0}, 400, "max_tokens"),
        ("chat/completions", {"max_tokens": "many"}, 400, "max_tokens"),
        ("chat/completions", {"messages": []}, 400, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages"),
        ("chat/completions", {"messages": [{"role": "nobody", "content": ""}]}, 400, "messages"),
        ("chat/completions", {"logit_bias": {"999": 1}}, 400, "logit_bias"),
        ("chat/completions", {"model": "other"}, 404, "model"),
        ("chat/completions", {"tools": [{"type": "function"}]}, 501, "tools"),
        ("chat/completions", {"response_format": {"type": "json_object"}}, 501, "response_format"),
        ("completions", {"prompt": [1, 999]}, 400, "prompt"),
        ("completions", {"prompt": []}, 400, "prompt"),
        ("completions", {"prompt": "a", "echo": True}, 501, "echo"),
        ("completions", {"prompt": "a", "logprobs": 50}, 400, "logprobs"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    client: httpx.AsyncClient, path: str, change: dict[str, Any], status: int, parameter: str
) -> None:
    body = {**CHAT, **change} if path.startswith("chat") else change
    answer = await client.post(f"/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == parameter


async def test_what_asks_for_nothing_is_not_refused(client: httpx.AsyncClient) -> None:
    nothing = {
        "tools": [],
        "response_format": {"type": "text"},
        "n": None,
        "stop": None,
        "user": "someone",
        "top_k": -1,
    }
    await post(client, "/v1/chat/completions", {**CHAT, **nothing})


async def test_a_prompt_too_long_is_an_overflow_and_a_limit_too_large_is_not(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/completions", json={"prompt": "x" * 256})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    whole = await post(client, "/v1/completions", {"prompt": "x" * 250, "max_tokens": 100, "temperature": 0})
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["total_tokens"] == 256


async def test_health_models_and_load_are_told(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    (model,) = (await client.get("/v1/models")).json()["data"]
    assert (model["id"], model["owned_by"], model["max_model_len"]) == ("bytes", "secondsource-engine", 256)
    await post(client, "/v1/chat/completions", CHAT)
    text = (await client.get("/metrics")).text
    for line in (
        'vllm:num_requests_running{model_name="bytes"} 0.0',
        'vllm:num_requests_waiting{model_name="bytes"} 0.0',
        'vllm:kv_cache_usage_perc{model_name="bytes"} 0.0',
        f'vllm:prompt_tokens_total{{model_name="bytes"}} {float(len(PROMPT))}',
        'vllm:generation_tokens_total{model_name="bytes"} 8.0',
        'vllm:request_success_total{finished_reason="length",model_name="bytes"} 1.0',
    ):
        assert line in text


async def running(client: httpx.AsyncClient) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_"))


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_frees_its_slot(streamed: bool) -> None:
    runner = ByteRunner(1)
    async with hosted(runner, slots=1, context=20_000) as url, asking_at(url) as client:
        long = {"prompt": "forever", "max_tokens": 19_000, "stream": streamed, "ignore_eos": True}
        asking = asyncio.create_task(client.post("/v1/completions", json=long))
        for _ in range(1000):
            if await running(client):
                break
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        # One slot only: this is answered when the long one has left it.
        await post(client, "/v1/completions", {"prompt": "short", "max_tokens": 2})
        assert await running(client) == 0
    assert runner.steps < 19_000


async def test_too_many_at_once_are_told_to_come_back() -> None:
    async with hosted(ByteRunner(1), slots=1) as url, asking_at(url) as client:
        asked = [client.post("/v1/completions", json={"prompt": "a", "n": 3, "max_tokens": 100}) for _ in range(8)]
        answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)


async def test_an_engine_that_fails_says_so_and_ends() -> None:
    runner, heard = ByteRunner(1), []
    runner.fails_at = 5

    async def ask_for_much() -> None:
        async with hosted(runner, slots=1) as url, asking_at(url) as client:
            body = {"prompt": "a", "max_tokens": 50, "stream": True}
            heard.append((await client.post("/v1/completions", json=body)).text)

    with pytest.raises(RuntimeError, match="the chip is gone"):
        await ask_for_much()
    assert "[DONE]" not in heard[0]
    assert '"error"' in heard[0]


async def test_a_request_through_a_strangers_name_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models", headers={"host": "evil.example"})
    assert answer.status_code == 400


async def test_no_address_but_this_machines_own_is_listened_on() -> None:
    from secondsource.engine.service.hosting import _listen

    with pytest.raises(InputError, match="own addresses only"):
        _listen("0.0.0.0", 0)

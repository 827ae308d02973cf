import json

import msgspec
import pytest

from secondsource.gateway.wire.unstreamed import as_events


def events_of(answer: object) -> list[str]:
    text = as_events(json.dumps(answer).encode()).decode()
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]


def test_whole_chat_becomes_one_event_usage_and_done() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Hi", "tool_calls": [call]}
    answer = {
        "id": "x",
        "object": "chat.completion",
        "vendor": 1,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    first, usage, done = events_of(answer)
    chunk = json.loads(first)
    assert (chunk["object"], chunk["vendor"], chunk["choices"][0]["finish_reason"]) == (
        "chat.completion.chunk",
        1,
        "stop",
    )
    assert chunk["choices"][0]["delta"] == message | {"tool_calls": [{"index": 0, **call}]}
    assert json.loads(usage)["usage"] == {"prompt_tokens": 1, "completion_tokens": 2}
    assert json.loads(usage)["choices"] == []
    assert done == "[DONE]"


def test_whole_text_completion_stays_as_it_is() -> None:
    choice = {"index": 0, "text": "Hi", "finish_reason": "length"}
    first, done = events_of({"object": "text_completion", "choices": [choice]})
    assert json.loads(first) == {"object": "text_completion", "choices": [choice]}
    assert done == "[DONE]"


@pytest.mark.parametrize("answer", [[], {}, {"choices": 1}, {"choices": [1]}, {"choices": [{"message": 1}]}])
def test_what_has_no_choices_is_refused(answer: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        events_of(answer)

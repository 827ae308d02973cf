"""A whole answer as the events of a stream, for a replica that does not stream though it was asked to."""

from typing import Any

import msgspec

from secondsource.gateway.wire.events import DONE

Json = dict[str, Any]  # the answer's own JSON: every key that we do not know is kept


def as_events(body: bytes) -> bytes:
    """Return one event with every choice whole, one with the usage, and `[DONE]`.

    Raises msgspec.DecodeError for a body that is not an object with choices.
    """
    answer: Json = msgspec.json.decode(body, type=Json)
    choices = msgspec.convert(answer.get("choices"), list[Json])
    usage = answer.pop("usage", None)
    if answer.get("object") == "chat.completion":
        answer["object"] = "chat.completion.chunk"
    answer["choices"] = [_delta(choice) for choice in choices]
    events = [_event(answer)]
    if usage is not None:
        events.append(_event({**answer, "choices": [], "usage": usage}))
    return b"".join(events) + DONE


def _delta(choice: Json) -> Json:
    if "message" not in choice:
        return choice
    message = msgspec.convert(choice.pop("message"), Json)
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [
            {"index": index, **call} for index, call in enumerate(msgspec.convert(calls, list[Json]))
        ]
    return {**choice, "delta": message}


def _event(event: Json) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"

"""Whether an engine says the beginning of an answer again before it goes on with it: asked once, never guessed.

Guessing fails where the model itself repeats what it said first: cut after " ha", a second " ha" is either the engine's
repetition, to be left out, or the model's next word. So an engine is given a beginning that it cannot have made, and
less room than the beginning takes: all of it in the answer is a repetition.
"""

import msgspec

from secondsource.gateway.wire.events import payload_of

GIVEN = "One heron, two lanterns, three ferries and"
MOST_TOKENS = 4  # fewer than any tokenizer makes of what is given
DONE_PAYLOAD = b"[DONE]"


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Said | None = None
    message: _Said | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None


def habit_request(upstream_model: str, engine: str) -> tuple[str, bytes]:
    """Return path and body of the question; it is streamed, as engines differ from themselves where they stream."""
    body = {
        "model": upstream_model,
        "messages": [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": GIVEN}],
        "max_tokens": MOST_TOKENS,
        "stream": True,
    }
    if engine != "llamacpp":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return "/v1/chat/completions", msgspec.json.encode(body)


def repeats_given(answer: bytes) -> bool:
    """Return whether the answer says again what was given; raises msgspec.DecodeError where it is no answer."""
    if answer.lstrip()[:1] == b"{":
        payloads = [answer]
    else:
        events = answer.replace(b"\r\n", b"\n").split(b"\n\n")
        payloads = [payload for event in events if (payload := payload_of(event)) and payload != DONE_PAYLOAD]
    answers = [msgspec.json.decode(payload, type=_Answer) for payload in payloads]
    choices = [choice for one in answers for choice in one.choices or ()]
    if not choices:
        raise msgspec.DecodeError("no choices")
    said = [part.content or "" for choice in choices for part in (choice.delta, choice.message) if part is not None]
    return "".join(said).lstrip().startswith(GIVEN)

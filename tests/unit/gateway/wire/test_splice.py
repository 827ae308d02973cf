import json

from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.events import parse_chunk
from secondsource.gateway.wire.request import Endpoint
from secondsource.gateway.wire.splice import Splice


def spliced_text(pieces: list[str], endpoint: Endpoint = Endpoint.CHAT) -> str:
    """What a client sees of a continuation by ids whose events carry `pieces`, the last with its finish reason."""
    delivered = Delivered(1 << 20)
    delivered.add(parse_chunk(b'{"id":"x","choices":[{"index":0,"delta":{"content":"so far"}}]}'), {})
    splice = Splice(delivered, endpoint, Method.TOKENS, repeats=None)
    text = ""
    for number, piece in enumerate([*pieces, ""]):
        finish = "length" if number == len(pieces) else None
        event = {"choices": [{"index": 0, "text": piece, "finish_reason": finish}]}
        sent = splice.feed(json.dumps(event).encode())
        for choice in json.loads(sent)["choices"] if sent else ():
            text += choice["delta"].get("content", "") if endpoint is Endpoint.CHAT else choice["text"]
    return text


def test_half_a_character_at_the_end_of_a_chat_is_left_off() -> None:
    assert spliced_text([" ten", " 🎂", "\ufffd"]) == " ten 🎂"
    assert spliced_text([" ten\ufffd", "\ufffd"]) == " ten"


def test_a_replacement_character_inside_an_answer_stays() -> None:
    assert spliced_text([" a\ufffd", "\ufffdb", " c"]) == " a\ufffd\ufffdb c"


def test_a_text_completion_keeps_what_its_engine_says() -> None:
    assert spliced_text([" ten", "\ufffd"], Endpoint.COMPLETIONS) == " ten\ufffd"

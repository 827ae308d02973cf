import json

import pytest

from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.events import parse_chunk
from secondsource.gateway.wire.relay import Relay
from secondsource.gateway.wire.request import Endpoint
from secondsource.gateway.wire.splice import Splice
from tests.streams import ask, read, says, stream, text_of


def spliced_text(pieces: list[str], endpoint: Endpoint = Endpoint.CHAT) -> str:
    """What a client sees of a continuation by ids whose events carry `pieces`, the last with its finish reason."""
    delivered = Delivered(1 << 20)
    delivered.add(parse_chunk(b'{"id":"x","choices":[{"index":0,"delta":{"content":"so far"}}]}'), {})
    splice = Splice(delivered, endpoint, Method.TOKENS, repeats=False)
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


@pytest.mark.parametrize(
    ("texts", "expected", "made"),
    [
        (["what was", " said before\n", "more", " of it"], "more of it", 2),
        (["what was said before", "\n", "more"], "more", 2),  # it was made, though the client has it
        (["what was said before\n"], "", 0),  # the white space that the prefix went without is nothing new
        (["what was said beforemore"], "more", 1),
        (["what", " else"], "what else", 2),  # it only began as the prefix did
    ],
)
def test_what_only_says_the_prefix_again_is_not_counted_as_made(texts: list[str], expected: str, made: int) -> None:
    delivered = Delivered(1 << 20)
    delivered.add(parse_chunk(says("what was said before\n")), {})
    splice = Splice(delivered, Endpoint.CHAT, Method.PREFILL, repeats=True)
    relay = Relay(ask(), delivered, event_limit=1 << 20, strip_ids=False, splice=splice)
    out = relay.feed(stream(*(says(text) for text in texts), says("", finish="stop")))
    assert text_of(read(out)) == expected
    assert relay.tokens_out == made

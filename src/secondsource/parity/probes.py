"""The probes: questions put to both pools alike. Each is made from its kind and number, the same every time."""

from enum import StrEnum
from typing import TypeVar

import msgspec

from secondsource.parity import material

First = TypeVar("First")
Second = TypeVar("Second")


class Kind(StrEnum):
    """What a probe looks at."""

    PROSE = "prose"  # text to go on with, without any chat template
    CODE = "code"  # the same with program text
    LANGUAGES = "languages"
    TALK = "talk"  # a system prompt and several turns
    ENDINGS = "endings"  # questions whose answers end by themselves
    LONG = "long"  # a long document and a question about its beginning
    JSON = "json"  # an answer that must follow a schema
    TOOLS = "tools"  # a request that a tool must be called for
    SAMPLING = "sampling"  # the same request at temperature 0 and at 1


RAW = frozenset({Kind.PROSE, Kind.CODE})
STRUCTURED = frozenset({Kind.JSON, Kind.TOOLS})
COMPARED = (Kind.PROSE, Kind.CODE, Kind.LANGUAGES, Kind.TALK, Kind.ENDINGS, Kind.LONG)
SIZES = (0.9, 0.5, 0.25)  # of a long probe, as parts of the context to be shown
ANSWER_TOKENS = 24
ENDING_TOKENS = 48
STRUCTURED_TOKENS = 96
SAMPLED_TOKENS = 12


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat."""

    role: str
    content: str


class Field(msgspec.Struct, frozen=True):
    """One required field of an object, and its JSON type."""

    name: str
    type: str


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One question; `prompt` for a raw completion, `messages` for a chat."""

    kind: Kind
    number: int
    prompt: str = ""
    messages: tuple[Message, ...] = ()
    max_tokens: int = ANSWER_TOKENS
    fields: tuple[Field, ...] = ()  # of the object that is asked for, or of the tool's arguments
    tool: str = ""


def make_probe(kind: Kind, number: int, records: int) -> Probe:
    """Return the probe; `records` is the length of the longest document, see `document`."""
    match kind:
        case Kind.PROSE:
            return Probe(kind=kind, number=number, prompt=_prose(number))
        case Kind.CODE:
            frame, name = _pick(number, material.CODE_OPENINGS, material.CODE_NAMES)
            return Probe(kind=kind, number=number, prompt=frame.format(name).rstrip(" "))
        case Kind.LANGUAGES:
            return _chat(kind, number, _framed(number, material.QUESTIONS, material.SUBJECTS))
        case Kind.TALK:
            return Probe(kind=kind, number=number, messages=_talk(number))
        case Kind.ENDINGS:
            question = _framed(number, material.SHORT_QUESTIONS, material.COUNTRIES)
            return _chat(kind, number, question, ENDING_TOKENS)
        case Kind.LONG:
            return _chat(kind, number, _long(number, records))
        case Kind.JSON:
            return _structured(kind, number, "", "Give the answer as a JSON object.")
        case Kind.TOOLS:
            return _structured(kind, number, "book_delivery", "Book the delivery with the tool.")
        case Kind.SAMPLING:
            return _chat(kind, number, _framed(number, material.OPEN_REQUESTS, material.THINGS), SAMPLED_TOKENS)


def document(records: int) -> str:
    """Return a list of so many records; a shorter one is the beginning of a longer one."""
    return "\n".join(
        f"Record {place}: the {_at(material.COLOURS, place * 5)} crate holds {(place * 7919) % 900 + 100} "
        f"{_at(material.GOODS, place * 3)}, signed by {_at(material.PEOPLE, place * 11)}."
        for place in range(1, records + 1)
    )


def json_schema(fields: tuple[Field, ...]) -> dict[str, object]:
    """Return the JSON Schema of an object with just these fields."""
    return {
        "type": "object",
        "properties": {field.name: {"type": field.type} for field in fields},
        "required": [field.name for field in fields],
        "additionalProperties": False,
    }


def _chat(kind: Kind, number: int, question: str, max_tokens: int = ANSWER_TOKENS) -> Probe:
    return Probe(kind=kind, number=number, messages=(Message("user", question),), max_tokens=max_tokens)


def _prose(number: int) -> str:
    # Every other one is a bare word: there, positions say nothing yet, and all the rest of a model does.
    if number % 2 == 0:
        return _at(material.WORDS, number // 2)
    opening, second = _pick(number // 2, material.OPENINGS, material.SECOND_SENTENCES)
    return f"{opening}{second}"


def _talk(number: int) -> tuple[Message, ...]:
    turns, occasion = _pick(number, material.TALKS, material.OCCASIONS)
    first, answer, second = (turn.format(occasion) for turn in turns)
    system = Message("system", _at(material.SYSTEM_PROMPTS, number))
    return (system, Message("user", first), Message("assistant", answer), Message("user", second))


def _long(number: int, records: int) -> str:
    size = max(2, int(records * SIZES[number % len(SIZES)]))
    lap, place = divmod(number // len(SIZES), max(1, size // 4))  # near the beginning, which a short context loses
    question = _at(material.RECORD_QUESTIONS, lap + place).format(1 + place)
    return f"{document(size)}\n\n{question}"


def _structured(kind: Kind, number: int, tool: str, request: str) -> Probe:
    goods, person = _pick(number, material.GOODS, material.PEOPLE)
    count, colour = 3 + number * 7 % 40, _at(material.COLOURS, number * 3)
    return Probe(
        kind=kind,
        number=number,
        messages=(Message("user", f"{person} wants {count} {colour} {goods}. {request}"),),
        max_tokens=STRUCTURED_TOKENS,
        fields=(Field("customer", "string"), Field("goods", "string"), Field("count", "integer")),
        tool=tool,
    )


def _framed(number: int, frames: tuple[str, ...], fillers: tuple[str, ...]) -> str:
    frame, filler = _pick(number, frames, fillers)
    return frame.format(filler)


def _pick(number: int, firsts: tuple[First, ...], seconds: tuple[Second, ...]) -> tuple[First, Second]:
    """Walk all pairs before any comes again, with both changing from one number to the next."""
    lap, place = divmod(number, len(firsts))
    return firsts[place], seconds[(3 * place + lap) % len(seconds)]


def _at(values: tuple[str, ...], place: int) -> str:
    return values[place % len(values)]

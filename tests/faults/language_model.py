"""A language model made of a hash: the next token is a pure function of every byte before it.

So an undisturbed answer is known, a continuation from the right prefix is that same answer, and a prefix that
is wrong by one byte is continued by something else entirely. Text marks (`bytes=200`, `words=wide`) in the
prompt choose the length of the answer in bytes and its vocabulary.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

PLAIN = (
    *(" the", " chip", " second", " source", " lane", " of", " and", " supplier", " rents", " answer", " goes"),
    *(" on", " without", " a", " seam", " ten", " twenty", " thirty", " never", " cut", "ing", "ed", "s", "."),
    *(",", " token", " by", " it", " was", " made", " here", " there"),
)
# No word ends in white space unless it is nothing else: so are most vocabularies, and so a text whose white space
# at the end was trimmed, as many chat templates do, is continued by that white space.
WIDE = (
    *("é", " 中", "文", "\n", "\n\n", '"', "\\", " data:", "[DONE]", "\u2028", "e\u0301", "{", "}", "\t"),
    *(" ñandú", " Größe", "\r\n", " \u00a0", "👩\u200d💻"),
)
# Characters that arrive in pieces, as byte-level vocabularies make them.
HALVES = (b"\xf0\x9f", b"\x98\x80", b"\x8e\x89", b"\xe4\xb8")
VOCABULARY: tuple[bytes, ...] = (
    *(bytes([value]) for value in range(256)),
    *(word.encode() for word in PLAIN),
    *(word.encode() for word in WIDE),
    *HALVES,
)
TOKEN_IDS = {piece: number for number, piece in enumerate(VOCABULARY)}
PLAIN_IDS = tuple(TOKEN_IDS[word.encode()] for word in PLAIN)
WIDE_IDS = (*PLAIN_IDS, *(TOKEN_IDS[word.encode()] for word in WIDE), *(TOKEN_IDS[HALVES[0]],) * 6)
WIDE_IDS = (*WIDE_IDS, *(TOKEN_IDS[HALVES[3]],) * 4)
AFTER_EMOJI = (TOKEN_IDS[b"\x98\x80"], TOKEN_IDS[b"\x8e\x89"], TOKEN_IDS[b"\x98"])
LONGEST = max(len(piece) for piece in VOCABULARY)

ASSISTANT = "<|assistant|>"
END = "<|end|>\n"
RAW_MARK = "»"  # where a raw completion's own text begins; no token contains it
JSON_MODE = "<|json|>"
TOOL_MODE = "<|tools|>"
OPENING = (b'{"', b"a", b'": "')  # how an answer in JSON begins
CLOSING = b'"}'


@dataclass(frozen=True)
class Quirk:
    """Makes one replica's answers differ from the others' from some byte of the answer on."""

    salt: str
    from_byte: int = 0


def split_prompt(text: str) -> tuple[str, bytes]:
    """Return the prompt up to where the model's own turn begins, and the bytes of that turn so far."""
    for mark in (ASSISTANT, RAW_MARK):
        at = text.rfind(mark)
        if at >= 0:
            return text[: at + len(mark)], text[at + len(mark) :].encode()
    return text, b""


def tokenize(text: bytes) -> list[int]:
    """Return token ids by greedy longest match; every byte is a token, so this never fails."""
    ids, at = [], 0
    while at < len(text):
        size = next(n for n in range(LONGEST, 0, -1) if text[at : at + n] in TOKEN_IDS)
        ids.append(TOKEN_IDS[text[at : at + size]])
        at += size
    return ids


def detokenize(ids: list[int] | tuple[int, ...]) -> bytes:
    """Return the bytes that token ids stand for."""
    return b"".join(VOCABULARY[number] for number in ids)


def unfinished(text: bytes) -> bytes:
    """Return the beginning of a character at the end of `text` that is not complete yet, or nothing."""
    for size in range(1, min(4, len(text)) + 1):
        lead = text[-size]
        if lead < 0x80:
            return b""
        if lead >= 0xC0:
            need = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return text[-size:] if size < need else b""
    return b""


def _forced(prompt: str, generated: bytes, target: int) -> int | None:
    """Return the token that the answer's form demands here: -1 to stop, None where the model is free."""
    in_json = JSON_MODE in prompt or TOOL_MODE in prompt
    opening = b"".join(OPENING)
    if in_json and len(generated) < len(opening):
        rest = tokenize(opening[len(generated) :])
        return rest[0]
    if not in_json:
        return -1 if len(generated) >= target and not unfinished(generated) else None
    if generated.endswith(CLOSING) and len(generated) > len(opening):
        return -1
    if len(generated) < target:
        return None
    return TOKEN_IDS[CLOSING[1:]] if generated.endswith(CLOSING[:1]) else TOKEN_IDS[CLOSING[:1]]


def _free(digest: bytes, generated: bytes, *, wide: bool) -> int:
    """Return the token that the hash chooses, which completes a character that has begun."""
    choice = int.from_bytes(digest, "big")
    tail = unfinished(generated)
    if tail == b"\xf0\x9f":
        return AFTER_EMOJI[choice % len(AFTER_EMOJI)]
    if tail == b"\xf0\x9f\x98" or tail[:1] == b"\xe4":
        return 0x80 + choice % 16
    ids = WIDE_IDS if wide else PLAIN_IDS
    return ids[choice % len(ids)]


@lru_cache(maxsize=4096)
def generate(prompt: str, given: bytes = b"", quirk: Quirk | None = None) -> tuple[int, ...]:
    """Return the ids of the whole rest of the answer to `prompt`, of which `given` is already there."""
    length = re.findall(r"bytes=(\d+)", prompt)
    target = int(length[-1]) if length else 160
    in_json = JSON_MODE in prompt or TOOL_MODE in prompt
    wide = "words=wide" in prompt and not in_json
    state = blake2b(prompt.encode(), digest_size=8)
    state.update(given)
    generated, ids = given, []
    while (forced := _forced(prompt, generated, target)) != -1:
        if forced is None:
            now = state.copy()
            if quirk is not None and len(generated) >= quirk.from_byte:
                now.update(quirk.salt.encode())
            forced = _free(now.digest(), generated, wide=wide)
        ids.append(forced)
        state.update(VOCABULARY[forced])
        generated += VOCABULARY[forced]
    return tuple(ids)


def text_of(content: Any) -> str:
    """Return a message's text: a string, or the text parts of a list of parts."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def apply_template(messages: list[dict[str, Any]], *, mode: str = "", leave_open: bool = False) -> str:
    """Return the prompt of a conversation, ending where the assistant's turn begins (or goes on)."""
    turns = [f"<|{turn['role']}|>{text_of(turn.get('content'))}" for turn in messages]
    joined = mode + END.join(turns)
    return joined if leave_open else joined + END + ASSISTANT


def mode_of(body: dict[str, Any]) -> str:
    """Return the mark for the form a request demands of its answer."""
    if body.get("tools") and body.get("tool_choice") != "none":
        return TOOL_MODE
    form = (body.get("response_format") or {}).get("type", "text")
    return "" if form == "text" else JSON_MODE


def expected_ids(body: dict[str, Any], choice: int = 0) -> tuple[int, ...]:
    """Return the ids of the undisturbed answer to a request, `max_tokens` applied."""
    chat = "messages" in body
    prompt = apply_template(body["messages"], mode=mode_of(body)) if chat else body["prompt"]
    prompt, given = split_prompt(prompt)
    ids = generate(for_choice(prompt, choice), given)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return ids if limit is None else ids[:limit]


def for_choice(prompt: str, choice: int) -> str:
    """Return the prompt that choice number `choice` of `n` answers."""
    return prompt if choice == 0 else f"choice {choice}\n{prompt}"


def expected_answer(body: dict[str, Any], choice: int = 0) -> str:
    """Return the text (or, for a tool call, the arguments) of the undisturbed answer to a request."""
    made = detokenize(expected_ids(body, choice))
    text = made[: len(made) - len(unfinished(made))].decode()
    return text[: stop_at(text, body)]


def continued(body: dict[str, Any], sent: str) -> str:
    """Return the whole answer to a chat of which `sent` was said, and the model goes on from that text."""
    prompt, _ = split_prompt(apply_template(body["messages"], mode=mode_of(body)))
    rest = detokenize(generate(prompt, sent.encode())).decode()
    return sent + rest[: stop_at(rest, body)]


def stops(body: dict[str, Any]) -> list[str]:
    """Return a request's stop strings."""
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)


def stop_at(text: str, body: dict[str, Any]) -> int | None:
    """Return where the first of a request's stop strings begins in a text, or None."""
    return min((text.index(stop) for stop in stops(body) if stop in text), default=None)


def ask(name: str, *, size: int = 200, wide: bool = False, **extra: Any) -> dict[str, Any]:
    """Return a chat request whose answer is `size` bytes or a few more."""
    words = " words=wide" if wide else ""
    content = f"{name} bytes={size}{words}"
    return {"model": "chat", "messages": [{"role": "user", "content": content}], **extra}


def ask_raw(name: str, *, size: int = 200, wide: bool = False, **extra: Any) -> dict[str, Any]:
    """Return a legacy completion request whose answer is `size` bytes or a few more.

    It sets `max_tokens`, since engines differ in what they take for it when it is left out.
    """
    words = " words=wide" if wide else ""
    return {"model": "chat", "prompt": f"{name} bytes={size}{words} {RAW_MARK}", "max_tokens": 400, **extra}

"""What a client has been sent of one answer: enough to go on with it elsewhere, and no more.

Owned by one request and added to by each of its attempts, in the order in which events leave for the client.
"""

import msgspec

from secondsource.gateway.wire.events import ChoiceDelta, Chunk

Piece = tuple[str, bytes]  # text, and the engine's evidence of its token ids as raw JSON (b"" when it gave none)


class ToolCall:
    """A tool call as far as it has been sent."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments = ""


class ChoiceSoFar:
    """One choice of the answer as far as it has been sent."""

    __slots__ = ("finish_reason", "other", "pieces", "reasoning", "refusal", "tool_calls")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tool_calls: dict[int, ToolCall] = {}
        self.other = False  # something that cannot be compared or continued, such as an old-style function call
        self.finish_reason: str | None = None

    @property
    def text(self) -> str:
        """The text sent so far."""
        return "".join([piece[0] for piece in self.pieces])


class Delivered:
    """Every choice of the answer as far as it has been sent, and the names its events carry."""

    __slots__ = (
        "choices",
        "created",
        "id",
        "kept",
        "limit",
        "object",
        "prompt_token_ids",
        "sent",
        "tokens",
        "truncated",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = 0  # bytes, roughly
        self.truncated = False  # the answer outgrew the limit: it can no longer be continued
        self.sent = False  # something of the answer has left for the client
        self.tokens = 0  # events that carried text; an engine sends one a token, save at character boundaries
        self.choices: dict[int, ChoiceSoFar] = {}
        self.id: str | None = None
        self.object: str | None = None
        self.created: int | None = None
        self.prompt_token_ids: list[int] | None = None

    def add(self, chunk: Chunk, evidence: dict[int, bytes]) -> None:
        """Note an event that is about to leave; `evidence` is each choice's raw token ids, where there are any."""
        if self.id is None:
            self.id, self.object, self.created = chunk.id, chunk.object, chunk.created
        for choice in chunk.choices or ():
            so_far = self.choices.get(choice.index)
            if so_far is None:
                so_far = self.choices[choice.index] = ChoiceSoFar()
            if choice.adds:
                self.tokens += 1
                if not self.truncated:
                    self._add(so_far, choice, evidence.get(choice.index, b""))
            if choice.finish_reason is not None:
                so_far.finish_reason = choice.finish_reason

    def _add(self, so_far: ChoiceSoFar, choice: ChoiceDelta, evidence: bytes) -> None:
        delta = choice.delta
        text = choice.text if delta is None else delta.content
        if text:
            so_far.pieces.append((text, evidence))
            self.kept += len(text) + len(evidence) + 64
        if delta is not None:
            for parts, value in (
                (so_far.reasoning, delta.reasoning_content or delta.reasoning),
                (so_far.refusal, delta.refusal),
            ):
                if value:
                    parts.append(value)
                    self.kept += len(value) + 64
            for call in delta.tool_calls or ():
                known = so_far.tool_calls.setdefault(call.index, ToolCall())
                function = call.function or {}
                known.id += call.id or ""
                known.name += function.get("name") or ""
                known.arguments += function.get("arguments") or ""
                self.kept += len(function.get("arguments") or "") + 64
            if delta.function_call:
                so_far.other = True
        if self.kept > self.limit:
            self.truncated = True
            for forgotten in self.choices.values():
                forgotten.pieces.clear()
                forgotten.reasoning.clear()
                forgotten.tool_calls.clear()

    @property
    def finished(self) -> int:
        """How many choices have a finish reason."""
        return sum(choice.finish_reason is not None for choice in self.choices.values())


class _TopLogprob(msgspec.Struct, gc=False):
    id: int | None = None
    bytes: list[int] | None = None


class _Logprob(msgspec.Struct, gc=False):
    id: int | None = None
    top_logprobs: list[_TopLogprob] | None = None


class _Logprobs(msgspec.Struct, gc=False):
    content: list[_Logprob] | None = None


def token_ids(piece: Piece) -> list[int] | None:
    """Return a piece's exact token ids, or None when the engine's evidence does not settle them.

    vLLM gives an array of ids. llama.cpp gives the id of the last token only: where a piece took several tokens
    (a character of many bytes, text held back for a stop string), the bytes of that token are not the piece's.
    """
    text, evidence = piece
    try:
        if evidence[:1] == b"[":
            return msgspec.json.decode(evidence, type=list[int])
        entries = msgspec.json.decode(evidence, type=_Logprobs).content or []
    except msgspec.DecodeError:
        return None
    if len(entries) != 1 or entries[0].id is None:
        return None
    for top in entries[0].top_logprobs or ():
        if top.id == entries[0].id and top.bytes == list(text.encode()):
            return [top.id]
    return None

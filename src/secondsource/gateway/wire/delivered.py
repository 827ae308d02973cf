"""What a client has been sent of one answer: enough to go on with it elsewhere, and no more.

Owned by one request and added to by each of its attempts, in the order in which events leave for the client.
"""

import msgspec

from secondsource.gateway.wire.event_shape import RawTexts
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

    __slots__ = ("_pieces", "_unread", "finish_reason", "other", "pending", "reasoning", "refusal", "tool_calls")

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._unread: list[RawTexts] = []  # pieces after those
        self.pending = b""  # ids whose text is still to come: half a character
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tool_calls: dict[int, ToolCall] = {}
        self.other = False  # something that cannot be compared or continued, such as an old-style function call
        self.finish_reason: str | None = None

    @property
    def pieces(self) -> list[Piece]:
        """What was sent, a piece an event."""
        for texts in self._unread:
            self._pieces += [(text, b"") for text in texts.read()]
        self._unread.clear()
        return self._pieces

    def add_texts(self, texts: RawTexts) -> None:
        """Add pieces that came without evidence."""
        self._unread.append(texts)

    @property
    def text(self) -> str:
        """The text sent so far."""
        return "".join([piece[0] for piece in self.pieces])


class Delivered:
    """Every choice of the answer as far as it has been sent, and the names its events carry."""

    __slots__ = (
        "choices",
        "created",
        "finished",
        "id",
        "kept",
        "limit",
        "object",
        "prompt_token_ids",
        "sent",
        "tokens",
        "untold",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = 0  # bytes, roughly
        self.untold = False  # not all that was sent is kept: it can neither be continued nor compared
        self.sent = False  # something of the answer has left for the client
        self.tokens = 0  # events that carried text; an engine sends one a token, save at character boundaries
        self.finished = 0  # choices that have their finish reason
        self.choices: dict[int, ChoiceSoFar] = {}
        self.id: str | int | None = None
        self.object: str | None = None
        self.created: int | float | None = None
        self.prompt_token_ids: list[int] | None = None

    def begin_attempt(self) -> None:
        """Forget ids whose text never came: another attempt makes that text anew."""
        for so_far in self.choices.values():
            so_far.pending = b""

    def note_ids(self, evidence: dict[int, bytes]) -> None:
        """Note token ids of an event that is held back; they belong to the next text."""
        for index, ids in evidence.items():
            self._choice(index).pending += ids

    def _choice(self, index: int) -> ChoiceSoFar:
        so_far = self.choices.get(index)
        if so_far is None:
            so_far = self.choices[index] = ChoiceSoFar()
        return so_far

    def add(self, chunk: Chunk, evidence: dict[int, bytes]) -> None:
        """Note an event that is about to leave; `evidence` is each choice's raw token ids, where there are any."""
        if self.id is None:
            self.id, self.object, self.created = chunk.id, chunk.object, chunk.created
        for choice in chunk.choices or ():
            so_far = self._choice(choice.index)
            if not choice.adds:
                so_far.pending += evidence.get(choice.index, b"")
            else:
                self.tokens += 1
                if not self.untold:
                    self._add(so_far, choice, evidence.get(choice.index, b""))
            if choice.finish_reason is not None:
                self.finished += so_far.finish_reason is None
                so_far.finish_reason = choice.finish_reason

    def add_text(self, index: int, text: str) -> bool:
        """Note plain text of a choice that is about to leave, the commonplace event; false if `add` must do it."""
        so_far = self.choices.get(index)
        if so_far is None or so_far.pending or self.untold:
            return False
        self.tokens += 1
        so_far.pieces.append((text, b""))
        self.kept += len(text) + 64
        if self.kept > self.limit:
            self.forget()
        return True

    def add_texts(self, index: int, texts: RawTexts) -> None:
        """Note plain texts that have left, an event each, of a choice to which `add_text` had just added."""
        self.tokens += texts.events
        if self.untold:
            return
        self.choices[index].add_texts(texts)
        self.kept += len(texts.raw) + 64 * texts.events
        if self.kept > self.limit:
            self.forget()

    def _add(self, so_far: ChoiceSoFar, choice: ChoiceDelta, evidence: bytes) -> None:
        delta = choice.delta
        text = choice.text if delta is None else delta.content
        if text:
            if so_far.pending:
                evidence, so_far.pending = so_far.pending + evidence, b""
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
            self.forget()

    def forget(self) -> None:
        """Keep no more of the answer: it has outgrown the limit, or is of a shape that we do not know."""
        self.untold = True
        for forgotten in self.choices.values():
            forgotten.pieces.clear()
            forgotten.reasoning.clear()
            forgotten.refusal.clear()
            forgotten.tool_calls.clear()

    @property
    def comparable(self) -> bool:
        """Whether an answer made afresh can be compared with what was sent."""
        return not self.untold and not any(choice.other for choice in self.choices.values())


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

    vLLM gives arrays of ids, also with no text as yet. llama.cpp gives the id of the last token only: where a piece
    took several tokens (a character of many bytes, text held back for a stop string), its bytes are not the piece's.
    """
    text, evidence = piece
    try:
        if evidence[:1] == b"[":
            arrays = msgspec.json.decode(b"[" + evidence.replace(b"][", b"],[") + b"]", type=list[list[int]])
            return [token for ids in arrays for token in ids]
        entries = msgspec.json.decode(evidence, type=_Logprobs).content or []
    except msgspec.DecodeError:
        return None
    if len(entries) != 1 or entries[0].id is None:
        return None
    for top in entries[0].top_logprobs or ():
        if top.id == entries[0].id and top.bytes == list(text.encode()):
            return [top.id]
    return None


def tokens_made(delivered: Delivered) -> int:
    """Return how many tokens the answer so far took, where the engine's evidence says; else its events."""
    known = [token_ids(piece) for choice in delivered.choices.values() for piece in choice.pieces]
    return max(delivered.tokens, sum(1 if ids is None else len(ids) for ids in known))

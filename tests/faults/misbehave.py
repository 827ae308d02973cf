"""Carries out one fault on one connection: what is written, and how it ends."""

import gzip
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults import connection as wire
from tests.faults import rendering
from tests.faults.connection import Connection, PeerGoneError
from tests.faults.fault import Fault, Kind
from tests.faults.rendering import Answer, Piece

MIB = 1024 * 1024


@dataclass
class Seen:
    """What a replica saw of one request, and what it sent back: the wall's own meter."""

    number: int
    at: float  # seconds on a monotonic clock
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    fault: Fault
    tokens_in: int = 0
    tokens_sent: int = 0
    text_sent: str = ""
    events_sent: int = 0  # that carried text
    usage_sent: bool = False  # a true one
    status: int = 0
    finished: bool = False  # a finish_reason was sent
    peer_closed_early: bool = False
    ended_at: float = 0.0
    trailing_assistant: bool = field(default=False)

    @property
    def attempt_id(self) -> str:
        """What the gateway's books call this request, which it sends along."""
        return self.headers.get("x-request-id", "")

    def note(self, piece: Piece) -> None:
        """Note an event that leaves."""
        self.tokens_sent += piece.tokens
        self.text_sent += piece.text
        self.events_sent += bool(piece.text)
        self.finished = self.finished or piece.final
        self.usage_sent = self.usage_sent or (piece.usage and self.fault.kind is not Kind.LYING_USAGE)


def refusal(fault: Fault) -> bytes | None:
    """Return the whole response of a fault that is an answer saying no, or None for another fault."""
    waiting = {} if fault.retry_after is None else {"retry_after": fault.retry_after}
    match fault.kind:
        case Kind.THROTTLED:
            body = wire.error_body("Rate limit reached", "requests", "rate_limit_exceeded")
            return wire.plain(429, body, **waiting)
        case Kind.SERVER_ERROR:
            return wire.plain(
                500, wire.error_body("CUDA error: unspecified launch failure", "InternalServerError", 500)
            )
        case Kind.BAD_GATEWAY:
            return wire.plain(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>\r\n", "text/html")
        case Kind.UNAVAILABLE:
            return wire.plain(503, wire.error_body("Loading model", "unavailable_error", 503), **waiting)
        case Kind.CALLER_ERROR:
            message = "Invalid value for 'temperature': 9 is greater than the maximum of 2"
            return wire.plain(400, wire.error_body(message, "invalid_request_error", "invalid_value"))
        case Kind.CONTENT_FILTER:
            message = "The response was filtered due to the prompt triggering content management policy."
            return wire.plain(400, wire.error_body(message, "invalid_request_error", "content_filter"))
        case Kind.OVERFLOW_OPENAI:
            message = "Your messages resulted in 9001 tokens; please reduce the length of the messages."
            return wire.plain(400, wire.error_body(message, "invalid_request_error", "context_length_exceeded"))
        case Kind.OVERFLOW_VLLM:
            message = "This model's maximum context length is 4096 tokens. However, your request has 9001 input tokens."
            return wire.plain(400, wire.error_body(message, "BadRequestError", 400))
        case Kind.OVERFLOW_LLAMACPP:
            message = "the request exceeds the available context size, try increasing it"
            body = wire.error_body(message, "exceed_context_size_error", 400, n_prompt_tokens=9001, n_ctx=4096)
            return wire.plain(400, body)
        case Kind.ERROR_200:
            return wire.plain(200, wire.error_body("engine is dead", "InternalServerError", 500))
        case Kind.WRONG_CONTENT_TYPE:
            return wire.plain(200, b"<html><body>Please sign in to the network</body></html>", "text/html")
        case _:
            return None


async def before_answer(connection: Connection, fault: Fault) -> bool:
    """Carry out a fault that comes before any byte of an answer; returns whether it was one."""
    match fault.kind:
        case Kind.RESET:
            connection.reset()
        case Kind.CLOSE:
            connection.finish()
        case Kind.SILENCE:
            await connection.hold()
            connection.finish()
        case Kind.TLS_GARBAGE:
            await connection.write(b"\x15\x03\x01\x00\x02\x02\x28")
            connection.finish()
        case Kind.RESET_IN_HEAD:
            await connection.write(wire.STREAM_HEAD[:40])
            await connection.settle()
            connection.reset()
        case Kind.HEAD_DRIP:
            await connection.write_drip(wire.STREAM_HEAD * 4, fault.seconds)
            connection.finish()
        case _:
            return False
    return True


BREAKS_WHOLE = {
    *(Kind.UNASKED_GZIP, Kind.TRUNCATED_GZIP, Kind.LENGTH_LONG, Kind.LENGTH_SHORT, Kind.CUT, Kind.CUT_CLEAN),
    *(Kind.CUT_IN_EVENT, Kind.CUT_IN_CHARACTER, Kind.CUT_RST, Kind.STALL, Kind.GARBLED, Kind.NULS),
}


async def send_whole(connection: Connection, answer: Answer, seen: Seen) -> None:
    """Send an answer that is not streamed, with the faults that apply to one."""
    body = rendering.whole(_with_usage_fault(answer, seen.fault))
    kind = seen.fault.kind
    if kind is Kind.GIGABYTE:
        await _gigabyte(connection, streamed=False)
        return
    seen.tokens_sent = sum(len(ids) for ids in answer.work.ids)  # made, whatever becomes of them
    seen.text_sent = rendering.whole_text(body)
    seen.finished = kind not in BREAKS_WHOLE
    seen.usage_sent = seen.finished and kind not in {Kind.NO_USAGE, Kind.LYING_USAGE}
    if kind in {Kind.UNASKED_GZIP, Kind.TRUNCATED_GZIP}:
        packed = gzip.compress(body)
        await _gzip(connection, packed, whole=kind is Kind.UNASKED_GZIP)
    elif kind in {Kind.LENGTH_LONG, Kind.CUT, Kind.CUT_CLEAN, Kind.CUT_IN_EVENT, Kind.CUT_IN_CHARACTER}:
        await connection.write(wire.plain(200, body)[:-20])
        connection.finish()
        return
    elif kind is Kind.CUT_RST:
        await connection.write(wire.plain(200, body)[:-20])
        await connection.settle()
        connection.reset()
        return
    elif kind is Kind.LENGTH_SHORT:
        short = wire.head(200, {"content-type": "application/json", "content-length": str(len(body) - 20)})
        await connection.write(short + body)
        connection.finish()
        return
    elif kind is Kind.STALL:
        await connection.write(wire.plain(200, body)[:-20])
        await connection.hold()
        return
    elif kind in {Kind.GARBLED, Kind.NULS}:
        await connection.write(wire.plain(200, b"\0" * 64 if kind is Kind.NULS else body[: len(body) // 2]))
    elif kind is Kind.BYTE_CHUNKS:
        await connection.write(wire.head(200, {"content-type": "application/json", "transfer-encoding": "chunked"}))
        for value in body:
            await connection.write(wire.chunk(bytes([value])))
        await connection.write(wire.LAST_CHUNK)
    else:
        await connection.write(wire.plain(200, body))


async def _gzip(connection: Connection, packed: bytes, *, whole: bool) -> None:
    """Send a gzip body that nobody asked for, or half of one that says it is whole."""
    sent = packed if whole else packed[: len(packed) // 2]
    await connection.write(wire.plain(200, sent, content_encoding="gzip"))


async def _gigabyte(connection: Connection, *, streamed: bool) -> None:
    """Send a gigabyte of answer, made as it goes, until the peer has had enough."""
    begin = b'data: {"choices":[{"index":0,"delta":{"content":"' if streamed else b'{"id":"'
    await connection.write(wire.STREAM_HEAD + wire.chunk(begin))
    block = wire.chunk(b"a" * MIB)
    for _ in range(1024):
        await connection.write(block)
    connection.finish()


async def _flood(connection: Connection, answer: Answer, seen: Seen) -> None:
    """Send events of a kilobyte each as fast as the peer takes them; `tokens_sent` counts them."""
    await connection.write(wire.STREAM_HEAD)
    opening = next(rendering.stream(answer)).payload
    await connection.write(wire.chunk(opening))
    event = json.loads(opening.removeprefix(b"data: "))
    event["choices"][0] |= {"delta": {"content": "a" * 1024}, "finish_reason": None}
    block = wire.chunk(b"data: " + json.dumps(event).encode() + b"\n\n") * 16
    for _ in range(16 * 1024):
        await connection.write(block)
        seen.tokens_sent += 16
    connection.finish()


def _with_usage_fault(answer: Answer, fault: Fault) -> Answer:
    """Return the answer with the usage that this fault makes the replica report."""
    if fault.kind is Kind.LYING_USAGE:
        return replace(answer, usage_factor=10)
    return replace(answer, usage_given=False) if fault.kind is Kind.NO_USAGE else answer


async def send_stream(connection: Connection, answer: Answer, seen: Seen, pace: float) -> None:
    """Send a streamed answer up to where the fault strikes, and then carry the fault out."""
    fault = seen.fault
    if fault.kind is Kind.GIGABYTE:
        await _gigabyte(connection, streamed=True)
        return
    if fault.kind is Kind.FLOOD:
        await _flood(connection, answer, seen)
        return
    pieces = list(rendering.stream(_with_usage_fault(answer, fault)))
    if fault.kind in {Kind.UNASKED_GZIP, Kind.TRUNCATED_GZIP}:
        packed = gzip.compress(b"".join(piece.payload for piece in pieces))
        await _gzip(connection, packed, whole=fault.kind is Kind.UNASKED_GZIP)
        return
    await connection.write(wire.STREAM_HEAD)
    if fault.kind is Kind.ONE_SEGMENT:
        await _send_in_one(connection, pieces, seen)
        return
    async for piece in _until_fault(connection, pieces, seen, pace):
        await _strike(connection, fault, piece)
        return
    if fault.kind in {Kind.NO_DONE_FIN, Kind.LENGTH_SHORT, Kind.LENGTH_LONG}:
        connection.finish()
    elif fault.kind is Kind.NO_DONE_SILENT:
        await connection.hold()
        connection.finish()
    else:
        await connection.write(wire.LAST_CHUNK)


STRIKES = {
    *(Kind.CUT, Kind.CUT_CLEAN, Kind.CUT_RST, Kind.CUT_IN_EVENT, Kind.CUT_IN_CHARACTER, Kind.CUT_IN_CHUNK_SIZE),
    *(Kind.STALL, Kind.PINGS, Kind.GARBLED, Kind.NULS, Kind.ERROR_EVENT, Kind.DONE_TOO_SOON),
    *(Kind.ENDLESS_LINE, Kind.WRONG_CHUNK_SIZE),
}


async def _until_fault(
    connection: Connection, pieces: Iterable[Piece], seen: Seen, pace: float
) -> AsyncIterator[Piece]:
    """Send the good pieces; yields the piece that a striking fault takes instead, once."""
    fault = seen.fault
    for position, piece in enumerate(pieces):
        if fault.kind in STRIKES and seen.tokens_sent >= fault.after_tokens and (piece.tokens or piece.final):
            yield piece
            return
        if piece.payload == rendering.DONE and fault.kind in {Kind.NO_DONE, Kind.NO_DONE_FIN, Kind.NO_DONE_SILENT}:
            return
        before = seen.tokens_sent, seen.text_sent, seen.events_sent, seen.finished, seen.usage_sent
        seen.note(piece)  # first, so that a peer who has it finds it noted
        try:
            await _send_piece(connection, piece, fault, position)
        except PeerGoneError:
            seen.tokens_sent, seen.text_sent, seen.events_sent, seen.finished, seen.usage_sent = before
            raise
        wait = fault.seconds if fault.kind is Kind.DRIP else pace
        if wait and piece.tokens:
            await connection.hold(wait)


async def _send_piece(connection: Connection, piece: Piece, fault: Fault, position: int) -> None:
    """Send one event in the shape that the fault gives it."""
    payload = piece.payload
    if fault.kind is Kind.ONE_MALFORMED and position == 1 + fault.after_tokens:
        await connection.write(wire.chunk(b'data: {"choices": [{"ind\n\n'))
    if fault.kind is Kind.CARRIAGE_RETURNS:
        payload = b": keep-alive\r\n\r\nevent: message\r\n" + payload.replace(b"\n\n", b"\r\n\r\n")
    if fault.kind is Kind.BYTE_CHUNKS:
        await connection.write(b"".join(wire.chunk(payload[at : at + 1]) for at in range(len(payload))))
        return
    await connection.write(wire.chunk(payload))


async def _send_in_one(connection: Connection, pieces: list[Piece], seen: Seen) -> None:
    """Send every event in a single chunk."""
    for piece in pieces:
        seen.note(piece)
    await connection.write(wire.chunk(b"".join(piece.payload for piece in pieces)) + wire.LAST_CHUNK)


def _parting(kind: Kind, payload: bytes) -> bytes | None:
    """Return the last bytes of a stream before FIN, chunked as they stand, or None for another kind of end."""
    match kind:
        case Kind.CUT:
            return b""
        case Kind.CUT_CLEAN:
            return wire.LAST_CHUNK
        case Kind.CUT_IN_EVENT:
            return wire.chunk(payload[: len(payload) // 2])
        case Kind.CUT_IN_CHARACTER:
            cut = next((at for at, value in enumerate(payload) if value >= 0xC0), len(payload) // 2) + 1
            return wire.chunk(payload[:cut])
        case Kind.CUT_IN_CHUNK_SIZE:
            return b"1"
        case Kind.GARBLED:
            return wire.chunk(b'data: {"id": "chatcmpl-0", "choi\x80\xff[}\n\n')
        case Kind.NULS:
            return wire.chunk(b"\0" * 512)
        case Kind.ERROR_EVENT:
            body = wire.error_body("EngineCore encountered an issue", "InternalServerError", 500)
            return wire.chunk(b"data: " + body + b"\n\n" + rendering.DONE) + wire.LAST_CHUNK
        case Kind.DONE_TOO_SOON:
            return wire.chunk(rendering.DONE) + wire.LAST_CHUNK
        case Kind.WRONG_CHUNK_SIZE:
            return b"zz\r\n"
        case _:
            return None


async def _strike(connection: Connection, fault: Fault, piece: Piece) -> None:
    """Carry out a fault that strikes within a stream, in place of `piece`."""
    await connection.settle()
    parting = _parting(fault.kind, piece.payload)
    if parting is not None:
        await connection.write(parting)
        if fault.kind in {Kind.CUT_CLEAN, Kind.ERROR_EVENT, Kind.DONE_TOO_SOON}:
            return  # properly closed, so the connection stays
    elif fault.kind is Kind.CUT_RST:
        connection.reset()
        return
    elif fault.kind is Kind.STALL:
        await connection.hold()
    elif fault.kind is Kind.PINGS:
        for _ in range(3000):
            await connection.write(wire.chunk(b": ping\n\n"))
            await connection.hold(0.02)
    elif fault.kind is Kind.ENDLESS_LINE:
        for _ in range(1024):
            await connection.write(wire.chunk(b"a" * MIB))
    connection.finish()


__all__ = ["PeerGoneError", "Seen", "before_answer", "refusal", "send_stream", "send_whole"]

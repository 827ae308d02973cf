"""What can go wrong at a replica, as records that a test queues up and a schedule draws."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """One way to misbehave; the comment says what the client of this replica sees."""

    NONE = "none"  # nothing goes wrong
    # Before any byte of an answer.
    RESET = "reset"  # the request is read, then RST
    CLOSE = "close"  # the request is read, then FIN
    SILENCE = "silence"  # the request is read, then nothing, connection open
    TLS_GARBAGE = "tls_garbage"  # a TLS alert where an HTTP head should be
    RESET_IN_HEAD = "reset_in_head"  # half a status line and headers, then RST
    HEAD_DRIP = "head_drip"  # the head one byte at a time, `seconds` apart
    # A whole answer that says no.
    THROTTLED = "throttled"  # 429; `retry_after` is sent as it stands
    SERVER_ERROR = "server_error"  # 500
    BAD_GATEWAY = "bad_gateway"  # 502 with a page of HTML
    UNAVAILABLE = "unavailable"  # 503; `retry_after` is sent as it stands
    CALLER_ERROR = "caller_error"  # 400: the caller's own mistake
    CONTENT_FILTER = "content_filter"  # 400: content refused
    OVERFLOW_OPENAI = "overflow_openai"  # 400, code context_length_exceeded
    OVERFLOW_VLLM = "overflow_vllm"  # 400, "maximum context length" in the text only
    OVERFLOW_LLAMACPP = "overflow_llamacpp"  # 400, type exceed_context_size_error
    ERROR_200 = "error_200"  # status 200 whose body is an error
    # A stream that goes wrong after `after_tokens` tokens.
    CUT = "cut"  # FIN without the closing chunk
    CUT_CLEAN = "cut_clean"  # the closing chunk, properly, but the answer is not whole
    CUT_RST = "cut_rst"
    CUT_IN_EVENT = "cut_in_event"  # FIN half way through an event
    CUT_IN_CHARACTER = "cut_in_character"  # FIN half way through a character's UTF-8
    CUT_IN_CHUNK_SIZE = "cut_in_chunk_size"  # FIN half way through a chunk's length
    STALL = "stall"  # nothing more, connection open
    PINGS = "pings"  # comments for ever
    GARBLED = "garbled"  # an event that is not JSON, then FIN
    NULS = "nuls"  # NUL bytes where an event should be, then FIN
    ERROR_EVENT = "error_event"  # `data: {"error": …}` and then [DONE], as vLLM does it
    DONE_TOO_SOON = "done_too_soon"  # [DONE] without a finish_reason
    ENDLESS_LINE = "endless_line"  # a line that never ends
    FLOOD = "flood"  # good events of a kilobyte each, up to a quarter of a gigabyte of them
    GIGABYTE = "gigabyte"  # an answer of a gigabyte
    WRONG_CHUNK_SIZE = "wrong_chunk_size"  # a chunk's length that is not a number
    # A stream that is odd and yet whole.
    ONE_MALFORMED = "one_malformed"  # one event too many, not JSON, among good ones
    NO_DONE = "no_done"  # whole, closed properly, without [DONE]
    NO_DONE_FIN = "no_done_fin"  # whole, then FIN without the closing chunk or [DONE]
    NO_DONE_SILENT = "no_done_silent"  # whole, no [DONE], connection open
    NO_USAGE = "no_usage"
    LYING_USAGE = "lying_usage"  # ten times what was made
    BYTE_CHUNKS = "byte_chunks"  # a chunk per byte
    ONE_SEGMENT = "one_segment"  # the whole answer in one chunk
    DRIP = "drip"  # `seconds` before every token
    CARRIAGE_RETURNS = "carriage_returns"  # lines end in CR LF; comments and `event:` lines between
    # An encoding that goes wrong.
    WRONG_CONTENT_TYPE = "wrong_content_type"  # 200, HTML
    UNASKED_GZIP = "unasked_gzip"
    TRUNCATED_GZIP = "truncated_gzip"
    LENGTH_SHORT = "length_short"  # Content-Length smaller than the body
    LENGTH_LONG = "length_long"  # Content-Length larger than the body, then FIN


@dataclass(frozen=True)
class Fault:
    """One fault, with its particulars."""

    kind: Kind
    after_tokens: int = 0
    seconds: float = 0.05
    retry_after: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}@{self.after_tokens}"


HEALTHY = Fault(Kind.NONE)

# Nothing of an answer has come: the same request may be made elsewhere from the start.
BEFORE_ANSWER = (
    *(Kind.RESET, Kind.CLOSE, Kind.SILENCE, Kind.TLS_GARBAGE, Kind.RESET_IN_HEAD, Kind.THROTTLED),
    *(Kind.SERVER_ERROR, Kind.BAD_GATEWAY, Kind.UNAVAILABLE, Kind.ERROR_200, Kind.WRONG_CONTENT_TYPE),
    *(Kind.TRUNCATED_GZIP, Kind.HEAD_DRIP),
)
# A stream that breaks: an answer is lost unless somebody else goes on with it.
BREAKS_STREAM = (
    *(Kind.CUT, Kind.CUT_CLEAN, Kind.CUT_RST, Kind.CUT_IN_EVENT, Kind.CUT_IN_CHARACTER, Kind.CUT_IN_CHUNK_SIZE),
    *(Kind.STALL, Kind.PINGS, Kind.GARBLED, Kind.NULS, Kind.ERROR_EVENT, Kind.DONE_TOO_SOON),
    *(Kind.ENDLESS_LINE, Kind.WRONG_CHUNK_SIZE),
)
# A stream that is odd, and from which a whole answer can be had without asking anybody else.
ODD_BUT_WHOLE = (
    *(Kind.NO_DONE, Kind.NO_DONE_FIN, Kind.NO_DONE_SILENT, Kind.NO_USAGE, Kind.BYTE_CHUNKS),
    *(Kind.ONE_SEGMENT, Kind.DRIP, Kind.CARRIAGE_RETURNS, Kind.ONE_MALFORMED, Kind.LYING_USAGE),
)

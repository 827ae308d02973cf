"""What an image request asks for, as far as its price and its identity depend on it."""

import hashlib
import re

import msgspec

from secondsource.core.fleet import Pool
from secondsource.core.records import Outcome
from secondsource.gateway.wire.request import Ask, RequestError
from secondsource.policy.image_jobs import may_be_charged

STEPS_NAMES = ("num_inference_steps", "steps")  # vLLM-Omni's, SGLang's and diffusers'; stable-diffusion.cpp's
MOST_STEPS = 1000
MOST_PIXELS_A_SIDE = 16_384
LONGEST_KEY = 255
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_KEY = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


class Made(msgspec.Struct, gc=False, frozen=True):
    """What a whole answer says of its images."""

    data: list[msgspec.Raw] = []
    size: str | None = None


_made = msgspec.json.Decoder(Made)


def check_image_request(ask: Ask) -> None:
    """Raise RequestError where steps or size are beyond what anybody makes."""
    for name in STEPS_NAMES:
        if ask.raw(name) and not 1 <= (_whole(ask.raw(name)) or 0) <= MOST_STEPS:
            message = f"'{name}' must be a whole number between 1 and {MOST_STEPS}"
            raise RequestError(message, param=name, code="invalid_value")
    size = _text(ask.raw("size"))
    if size is not None and (sides := _SIZE.fullmatch(size)) and max(map(int, sides.groups())) > MOST_PIXELS_A_SIDE:
        message = f"'size' must be at most {MOST_PIXELS_A_SIDE}x{MOST_PIXELS_A_SIDE}"
        raise RequestError(message, param="size", code="invalid_value")


def idempotency_key(headers: dict[bytes, bytes]) -> str:
    """Return the client's `Idempotency-Key`, or "" without one; raises RequestError for one that cannot be kept."""
    given = headers.get(b"idempotency-key", b"").strip()
    if given and not _KEY.fullmatch(given):
        message = f"the Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters"
        raise RequestError(message, param="Idempotency-Key", code="invalid_idempotency_key")
    return given.decode("ascii")


def fingerprint(ask: Ask) -> str:
    """Return what two requests share when they ask for the same: their parameters, in whatever order and spacing."""
    digest = hashlib.sha256()
    for name in sorted(ask.fields):
        value = msgspec.json.format(bytes(ask.fields[name]), indent=-1)
        digest.update(msgspec.json.encode(name) + b":" + value + b"\n")
    return digest.hexdigest()


def prefers_async(headers: dict[bytes, bytes]) -> bool:
    """Return whether the client asks for a job instead of waiting (RFC 7240)."""
    preferences = headers.get(b"prefer", b"").lower().split(b",")
    return any(one.partition(b";")[0].strip() == b"respond-async" for one in preferences)


def pixel_steps(ask: Ask, pool: Pool, answer: bytes = b"") -> int:
    """Return pixels times denoising steps over all images: as answered, else as asked, else as the fleet file says."""
    made = _read(answer)
    sides = _sides(made.size) or _sides(_text(ask.raw("size"))) or _sides(pool.image_size)
    assert sides is not None, "the fleet file was checked"
    asked = next((steps for name in STEPS_NAMES if (steps := _whole(ask.raw(name)))), None)
    return (len(made.data) or ask.choices) * (asked or pool.image_steps or 1) * sides[0] * sides[1]


def charged_pixel_steps(ask: Ask, pool: Pool, outcome: Outcome, answer: bytes) -> int:
    """Return what an attempt's supplier may charge for, at a pool that is priced by the image-step; 0 at another."""
    if not pool.price.nano_usd_per_image_step_megapixel or not may_be_charged(outcome):
        return 0
    return pixel_steps(ask, pool, answer if outcome is Outcome.OK else b"")


def _read(answer: bytes) -> Made:
    try:
        return _made.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Made()


def _sides(size: str | None) -> tuple[int, int] | None:
    found = _SIZE.fullmatch(size or "")
    return (int(found[1]), int(found[2])) if found else None


def _text(raw: bytes) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _whole(raw: bytes) -> int | None:
    try:
        return msgspec.json.decode(raw, type=int)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

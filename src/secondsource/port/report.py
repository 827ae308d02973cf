"""What `secondsource port` answers: the record that is printed, stored and compared."""

from decimal import Decimal
from typing import Literal

import msgspec

Evidence = Literal["compiler", "arithmetic", "profile", "catalogue"]


class Hbm(msgspec.Struct, frozen=True, kw_only=True):
    """Gigabytes (1e9 bytes) of one chip's memory."""

    weights: float
    cache: float
    padding: float  # what the compiler's layouts add to both
    temporaries: float  # with outputs and code
    available: float


class Sharding(msgspec.Struct, frozen=True, kw_only=True):
    """How the model lies on the chips."""

    slice: str
    devices: int
    data_parallel: int
    tensor_parallel: int
    cache_copies: int


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a step's seconds are spent on."""

    cores_s: float
    memory_s: float  # waiting for HBM beyond what the cores' work covers
    links_s: float  # waiting for other chips


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that were asked for, and what was found; None where a limit was not given."""

    ttft_s: float | None
    tpot_s: float | None
    met: bool | None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The offer that the dollars stand on."""

    offer: str
    usd_per_chip_hour: Decimal
    as_of: str
    source: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure is known."""

    evidence: Evidence
    how: str


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """The relative error to expect, as found on published figures; None where nobody has published any."""

    median: float | None
    p90: float | None
    points: int
    source: str


class Shapes(msgspec.Struct, frozen=True, kw_only=True):
    """The programs that serving compiles in a simulated day, and how long that takes cold on one processor."""

    requests: int
    programs: int
    cold_compile_s: float | None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why it does not compile."""

    kind: str
    step: str
    message: str
    where: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one kind of chip. Seconds are of a step of the program, not of a server under load."""

    model: str
    model_source: str
    chip: str
    chips: int
    weights: str
    cache: str  # number format of keys and values
    batch: int
    context_tokens: int  # that a slot may hold: what memory is for
    filled_tokens: int  # that each slot holds, at the decode step that is timed
    prompt_tokens: int
    compiles: bool | None  # None: the compiler gave no answer
    failure: Failure | None
    fits: bool | None
    chips_needed: int | None  # None: no slice of this chip holds it, or nothing compiled
    sharding: Sharding
    hbm_gb_per_chip: Hbm
    prefill_s: float | None
    decode_step_s: float | None
    full_decode_step_s: float | None  # the same with every slot full
    prefill_parts: Parts | None
    decode_parts: Parts | None
    figures: Literal["step", "served"]  # what the seconds are of
    tpot_s: float | None  # a decode step, with the prompts of the sequences that replace finished ones beside it
    served_tpot_s: tuple[float, float] | None  # the same, with what engines add to a token
    output_tokens_per_s: float | None
    usd_per_million_output_tokens: Decimal | None
    price: Price | None
    slo: Slo
    roofline_decode_step_s: float
    roofline_prefill_s: float
    shapes: Shapes
    changes: tuple[str, ...]  # what would have to change, or could
    evidence: dict[str, Figure]
    error: dict[str, Error]
    compiler: str
    as_of: str

    @property
    def yes(self) -> bool:
        """Whether the answer is yes: it compiles and it fits."""
        return bool(self.compiles) and bool(self.fits)

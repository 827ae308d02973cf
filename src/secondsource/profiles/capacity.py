"""What a unit of chips serves of one size class under a service level: the planner's view of a profile.

The TPOT limit fixes how many sequences may run at once. The TTFT limit fixes how busy the pool may be, which
rises with its size (see `staffing`). Of all ways to split a unit's chips into replicas the best one counts.
"""

from collections.abc import Iterator
from datetime import date
from functools import cache

import msgspec

from secondsource.catalog.load import one_chip, shipped_catalog
from secondsource.catalog.records import Catalog, Chip
from secondsource.core.demand import SizeClass, Slo, Work
from secondsource.core.errors import InputError
from secondsource.profiles.architecture import Architecture
from secondsource.profiles.efficiency import Correction, Efficiencies, shipped_efficiencies
from secondsource.profiles.images import image_capacity
from secondsource.profiles.models import one_model, shipped_models
from secondsource.profiles.predict import Speed, speed, usual_precision
from secondsource.profiles.results import Capacity, nothing
from secondsource.profiles.roofline import Precision, Replica
from secondsource.profiles.staffing import BUSIEST, safe_utilisation

LATE_SHARE = 0.05  # of requests that may miss the TTFT limit: the limit is on the 95th percentile
MOST_RUNNING = 4096  # sequences that one replica's scheduler keeps


class Profiles(msgspec.Struct, frozen=True, kw_only=True):
    """What capacities are reckoned from; a planner may put its own chips, models and measurements here."""

    chips: tuple[Chip, ...]
    models: tuple[Architecture, ...]
    efficiencies: Efficiencies
    measured: tuple[Correction, ...] = ()  # from our own ledger; they come before published ones
    compiled: tuple[Correction, ...] = ()  # from `secondsource port`; they come after published ones


@cache
def shipped_profiles() -> Profiles:
    """Return the chips, models and efficiencies inside the package."""
    chips = shipped_catalog(date.max).chips
    return Profiles(chips=chips, models=shipped_models(), efficiencies=shipped_efficiencies())


def capacity(
    model: str,
    chip: str,
    chips: int,
    size_class: SizeClass,
    slo: Slo,
    pool_units: int,
    *,
    profiles: Profiles | None = None,
    precision: Precision | None = None,
) -> Capacity:
    """Return what one unit of `chips` chips, in a pool of `pool_units` such units, serves of a size class.

    A capacity of 0 carries its reason. Raises `InputError` for an unknown model or chip, or a size below 1.
    """
    known = profiles or shipped_profiles()
    if chips < 1 or pool_units < 1:
        raise InputError(f"expected at least 1 chip in a unit and 1 unit in a pool, got {chips} and {pool_units}")
    wanted = one_chip(Catalog(chips=known.chips, offers=()), chip)
    if size_class.work is Work.IMAGE:
        return image_capacity(wanted, chips, size_class.image_steps, slo.ttft_s, pool_units)
    served = one_model(model, known.models)
    found = [
        _of_split(_speed(served, replica, known), chips // replica.chips, size_class, slo, pool_units)
        for replica in _splits(served, wanted, chips, precision or usual_precision(served, wanted))
    ]
    return max(reversed(found), key=lambda each: each.requests_per_s)  # where none serves, the largest says why


def _splits(model: Architecture, chip: Chip, chips: int, precision: Precision) -> Iterator[Replica]:
    """Yield the replicas that a unit can be split into: powers of two that share fast links, and the whole."""
    sizes = {2**power for power in range(chips.bit_length()) if chips % 2**power == 0} | {chips}
    for size in sorted(size for size in sizes if size <= chip.scaleup_chips or size == 1):
        if size > 1 and model.experts:
            yield Replica(chip=chip, chips=size, precision=precision, data_parallel=size)
        yield Replica(chip=chip, chips=size, precision=precision)


def _speed(model: Architecture, replica: Replica, profiles: Profiles) -> Speed:
    wanted = (model.name, replica.chip.name, replica.precision)

    def of_this(rows: tuple[Correction, ...]) -> Correction | None:
        return next((row for row in rows if (row.model, row.chip, row.precision) == wanted), None)

    measured, compiled = of_this(profiles.measured), of_this(profiles.compiled)
    return speed(model, replica, profiles.efficiencies, measured=measured, compiled=compiled)


def _of_split(fast: Speed, replicas: int, size: SizeClass, slo: Slo, pool_units: int) -> Capacity:
    inputs, outputs = size.input_tokens, size.output_tokens
    room = min(fast.most_sequences(inputs, outputs), MOST_RUNNING)
    first = fast.prefill_s(inputs)
    batch = _largest_batch(fast, room, size, slo.tpot_s)
    if reason := _refusal(fast, room, batch, first, size, slo):
        return nothing(reason, fast.evidence, fast.throughput_accuracy)
    full = fast.requests_per_s(batch, inputs, outputs)
    busy = _utilisation(slo.ttft_s, first, full, batch, replicas * pool_units)
    rate = replicas * full * busy
    return Capacity(
        requests_per_s=rate,
        input_tokens_per_s=rate * inputs,
        output_tokens_per_s=rate * outputs,
        utilisation=busy,
        batch=batch,
        replicas=replicas,
        chips_per_replica=fast.replica.chips,
        precision=fast.replica.precision,
        tpot_s=fast.tpot_s(batch, inputs, outputs),
        first_s=first,
        evidence=fast.evidence,
        accuracy=fast.throughput_accuracy,
        source=fast.source,
    )


def _refusal(fast: Speed, room: int, batch: int, first: float, size: SizeClass, slo: Slo) -> str:
    chips = fast.replica.chips
    if size.input_tokens + size.output_tokens > fast.model.context_tokens:
        return f"{fast.model.name} holds a context of {fast.model.context_tokens} tokens, the class needs more"
    on = f"{chips} x {fast.replica.chip.name}"
    if room < 1:
        return f"{fast.model.name} in {fast.replica.precision.value} does not fit {on}"
    if slo.ttft_s is not None and first > slo.ttft_s:
        return f"one prompt alone takes {first:.3f} s on {on}, the TTFT limit is {slo.ttft_s:g} s"
    if batch < 1:
        alone = fast.tpot_s(1, size.input_tokens, size.output_tokens)
        return f"one sequence alone takes {alone:.4f} s per token on {on}, the TPOT limit is {slo.tpot_s} s"
    return ""


def _largest_batch(fast: Speed, room: int, size: SizeClass, limit_s: float | None) -> int:
    """Return the most sequences whose time per token keeps the limit; that time rises with their number."""
    low, high = 0, room
    if limit_s is None:
        return room
    while low < high:
        middle = (low + high + 1) // 2
        if fast.tpot_s(middle, size.input_tokens, size.output_tokens) <= limit_s:
            low = middle
        else:
            high = middle - 1
    return low


def _utilisation(limit_s: float | None, first_s: float, full_per_s: float, batch: int, replicas: int) -> float:
    """Return the share of the full rate that keeps the TTFT limit.

    A request waits twice: for a place in a batch (a pool of batch x replicas servers that hold it for its whole
    life) and for its prompt's turn (a pool of replicas). Each may take half of the time and of the late share.
    """
    if limit_s is None:
        return BUSIEST
    spare = (limit_s - first_s) / 2
    places = safe_utilisation(spare, batch * replicas, batch / full_per_s, LATE_SHARE / 2)
    prompts = safe_utilisation(spare, replicas, first_s, LATE_SHARE / 2)
    share = min(1.0, full_per_s * first_s)  # of a replica's time that prompts take at the full rate
    return min(BUSIEST, places, prompts / share)

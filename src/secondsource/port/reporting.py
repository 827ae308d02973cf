"""Make the report of what was found: seconds into rates, rates into dollars, each figure with its evidence."""

import importlib.metadata
import math
from decimal import Decimal

import msgspec

from secondsource.catalog.records import Catalog, Chip
from secondsource.port.accuracy import expected_error
from secondsource.port.advice import changes
from secondsource.port.measuring import Measured, Setup, Timed
from secondsource.port.models import NamedModel
from secondsource.port.profile import Ahead, cheapest_offer, look_ahead, price_of, usd_per_million
from secondsource.port.report import Error, Failure, Figure, Hbm, Parts, Report, Shapes, Sharding, Slo
from secondsource.port.shapes import REQUESTS_A_DAY, buckets, shapes_of_a_day

ENGINES_ADD_S = (0.004, 0.006)  # a token, above the step: published serving against step times, see docs/port.md
_GB = 1e9


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a search came to."""

    model: NamedModel
    chip: Chip
    measured: Measured
    chips_needed: int | None
    fitting_batch: int | None  # sequences whose cache the chips hold
    ttft_s: float | None
    tpot_s: float | None


class _Seconds(msgspec.Struct, frozen=True, kw_only=True):
    decode: float | None
    full_decode: float | None  # with every slot full
    prefill: float | None
    served: bool


def tpot_s(measured: Measured) -> float | None:
    """Return a decode step with the prompts beside it, where the compiler gave times."""
    decode, prefill = measured.step("decode"), measured.step("prefill")
    if decode is None or prefill is None or decode.timed is None or prefill.timed is None:
        return None
    return _with_prompts(measured, decode.timed.seconds, _prompt_s(measured, prefill.timed.seconds))


def _prompt_s(measured: Measured, chunk_s: float) -> float:
    setup = measured.setup
    return math.ceil(setup.prompt_tokens / setup.chunk_tokens) * chunk_s


def _with_prompts(measured: Measured, decode_s: float, prefill_s: float) -> float:
    """Return the mean time per token while each sequence, once full, is replaced by a new prompt."""
    setup = measured.setup
    answer_tokens = setup.context_tokens - setup.prompt_tokens
    return decode_s + setup.batch * prefill_s / answer_tokens


def _seconds(measured: Measured, ahead: Ahead) -> _Seconds:
    decode, full, prefill = measured.step("decode"), measured.full_decode, measured.step("prefill")
    if measured.setup.target.platform == "cuda":
        known = decode is not None and prefill is not None
        served = (ahead.served_decode_s, ahead.served_full_decode_s, ahead.served_prefill_s)
        decoded, full_decoded, prefilled = served if known else (None, None, None)
        return _Seconds(decode=decoded, full_decode=full_decoded, prefill=prefilled, served=True)
    return _Seconds(
        decode=decode.timed.seconds if decode and decode.timed else None,
        full_decode=full.timed.seconds if full and full.timed else None,
        prefill=_prompt_s(measured, prefill.timed.seconds) if prefill and prefill.timed else None,
        served=False,
    )


def make_report(findings: Findings, catalog: Catalog, as_of: str) -> Report:
    """Return the report; figures that the compiler did not give are None."""
    measured, setup = findings.measured, findings.measured.setup
    ahead = look_ahead(findings.model, findings.chip, setup)
    seconds = _seconds(measured, ahead)
    tpot = None
    if seconds.decode is not None and seconds.prefill is not None:
        tpot = _with_prompts(measured, seconds.decode, seconds.prefill)
    rate = setup.batch / tpot if tpot and measured.fits else None
    offer = cheapest_offer(catalog, findings.chip.name)
    compiled = measured.fault is None or measured.fault.kind == "memory"
    decode, prefill = measured.step("decode"), measured.step("prefill")
    return Report(
        model=findings.model.name,
        model_source=findings.model.source,
        chip=findings.chip.name,
        chips=setup.target.chips,
        weights=setup.weights,
        cache=setup.cache,
        batch=setup.batch,
        context_tokens=setup.context_tokens,
        filled_tokens=setup.filled_tokens or setup.context_tokens,
        prompt_tokens=setup.prompt_tokens,
        compiles=measured.compiles,
        failure=None if compiled else _failure(measured),
        fits=measured.fits if measured.compiles else None,
        chips_needed=findings.chips_needed,
        sharding=_sharding(measured),
        hbm_gb_per_chip=_hbm(measured),
        prefill_s=seconds.prefill,
        decode_step_s=seconds.decode,
        full_decode_step_s=seconds.full_decode,
        prefill_parts=_parts(prefill.timed if prefill else None, math.ceil(setup.prompt_tokens / setup.chunk_tokens)),
        decode_parts=_parts(decode.timed if decode else None, 1),
        figures="served" if seconds.served else "step",
        tpot_s=tpot,
        served_tpot_s=_served(tpot, already=seconds.served),
        output_tokens_per_s=rate,
        usd_per_million_output_tokens=_usd(rate, findings, catalog),
        price=None if offer is None else price_of(offer),
        slo=_slo(findings, seconds.prefill, tpot),
        roofline_decode_step_s=ahead.roofline_decode_s,
        roofline_prefill_s=ahead.roofline_prefill_s,
        shapes=_shapes(measured),
        changes=changes(
            measured,
            findings.chips_needed,
            findings.fitting_batch,
            tpot,
            seconds.prefill,
            findings.tpot_s,
            findings.ttft_s,
        ),
        evidence=_evidence(seconds),
        error=_errors(seconds, findings.chip, ahead, setup),
        compiler=_compiler(setup.target.platform),
        as_of=as_of,
    )


def _usd(rate: float | None, findings: Findings, catalog: Catalog) -> Decimal | None:
    offer = cheapest_offer(catalog, findings.chip.name)
    if rate is None or offer is None:
        return None
    return usd_per_million(offer, findings.measured.setup.target.chips, rate)


def _served(tpot: float | None, *, already: bool) -> tuple[float, float] | None:
    if tpot is None:
        return None
    low, high = (0.0, 0.0) if already else ENGINES_ADD_S
    return tpot + low, tpot + high


def _failure(measured: Measured) -> Failure | None:
    fault = measured.fault
    if fault is None:
        return None
    step = fault.program.step if fault.program else ""
    return Failure(kind=fault.kind, step=step, message=fault.message, where=fault.where)


def _sharding(measured: Measured) -> Sharding:
    setup = measured.setup
    return Sharding(
        slice=setup.target.slice_shape,
        devices=setup.target.devices,
        data_parallel=setup.placing.data_parallel,
        tensor_parallel=setup.placing.tensor_parallel,
        cache_copies=setup.placing.cache_copies,
    )


def _hbm(measured: Measured) -> Hbm:
    target = measured.setup.target
    scale = target.devices / target.chips / _GB
    return Hbm(
        weights=measured.weights_bytes * scale,
        cache=measured.cache_bytes * scale,
        padding=measured.padding_bytes * scale,
        temporaries=measured.temporaries_bytes * scale,
        available=target.memory_bytes_per_device * scale,
    )


def _parts(timed: Timed | None, times: int) -> Parts | None:
    if timed is None:
        return None
    return Parts(cores_s=timed.cores_s * times, memory_s=timed.memory_s * times, links_s=timed.links_s * times)


def _slo(findings: Findings, prefill_s: float | None, tpot: float | None) -> Slo:
    asked = [(findings.ttft_s, prefill_s), (findings.tpot_s, tpot)]
    limits = [(limit, found) for limit, found in asked if limit is not None]
    met = None
    if limits and all(found is not None for _, found in limits):
        met = all(found is not None and found <= limit for limit, found in limits)
    return Slo(ttft_s=findings.ttft_s, tpot_s=findings.tpot_s, met=met)


def _shapes(measured: Measured) -> Shapes:
    setup = measured.setup
    options = buckets(setup.context_tokens, setup.chunk_tokens)
    found = shapes_of_a_day(options, setup.prompt_tokens, setup.context_tokens - setup.prompt_tokens)
    decode, prefill = measured.full_decode, measured.step("prefill")
    cold = None
    if decode and prefill:
        steps = sum(1 for chunk, _context in found if chunk == 0)
        cold = steps * decode.compile_s + (len(found) - steps) * prefill.compile_s
    return Shapes(requests=REQUESTS_A_DAY, programs=len(found), cold_compile_s=cold)


def _evidence(seconds: _Seconds) -> dict[str, Figure]:
    if seconds.served:
        time = Figure(
            evidence="profile", how="coefficients fitted to published serving points; the compiler gives none"
        )
        memory = Figure(evidence="compiler", how="its own allocation; that it fits is our sum, no compiler checks it")
    else:
        time = Figure(evidence="compiler", how="its estimated cycles, walked; links and copies by the data sheet")
        memory = Figure(evidence="compiler", how="its own allocation of a program for this chip")
    return {
        "hbm_gb_per_chip": memory,
        "decode_step_s": time,
        "prefill_s": time,
        "output_tokens_per_s": Figure(evidence=time.evidence, how="batch / (step + prompts beside it); no queueing"),
        "usd_per_million_output_tokens": Figure(evidence="catalogue", how="the cheapest offer by the hour"),
        "roofline_decode_step_s": Figure(evidence="arithmetic", how="weights and cache at 100% of the data sheet"),
    }


def _errors(seconds: _Seconds, chip: Chip, ahead: Ahead, setup: Setup) -> dict[str, Error]:
    if seconds.served:
        accuracy = ahead.accuracy
        error = Error(
            median=accuracy.median,
            p90=accuracy.p90,
            points=accuracy.points,
            source="the profiles, see docs/profiles.md",
        )
        return {"decode_step_s": error, "prefill_s": error}
    decode = "decode-filled" if setup.filled_tokens else "decode"
    return {"decode_step_s": expected_error(decode, chip.name), "prefill_s": expected_error("prefill", chip.name)}


def _compiler(platform: str) -> str:
    names = ("jax", "libtpu") if platform == "tpu" else ("jax", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12")
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)

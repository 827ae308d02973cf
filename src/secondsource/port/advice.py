"""What would have to change, or could: told from the numbers, worst first."""

from secondsource.port.measuring import Measured

_MUCH = 0.25  # of a step or of memory: worth a word


def changes(
    measured: Measured,
    chips_needed: int | None,
    fitting_batch: int | None,
    tpot_s: float | None,
    prefill_s: float | None,
    tpot_limit_s: float | None,
    ttft_limit_s: float | None,
) -> tuple[str, ...]:
    """Return advice as sentences."""
    said: list[str] = []
    if measured.compiles is False:
        said.append("an operation does not compile: change it where the failure points, and ask again")
    if measured.compiles and not measured.fits:
        said += _to_fit(measured, chips_needed, fitting_batch)
    if tpot_limit_s is not None and tpot_s is not None and tpot_s > tpot_limit_s:
        said.append(
            f"a token takes {tpot_s * 1e3:.1f} ms, {tpot_limit_s * 1e3:g} ms are allowed: fewer sequences, more chips, "
            "or int8 weights"
        )
    if ttft_limit_s is not None and prefill_s is not None and prefill_s > ttft_limit_s:
        said.append(
            f"a prompt alone takes {prefill_s:.2f} s, {ttft_limit_s:g} s are allowed: more chips, or shorter prompts"
        )
    return (*said, *_waste(measured))


def _to_fit(measured: Measured, chips_needed: int | None, fitting_batch: int | None) -> list[str]:
    said = []
    setup = measured.setup
    if chips_needed:
        said.append(f"it fits on {chips_needed} chips")
    if setup.weights != "int8":
        said.append("int8 weights take half of the memory: --weights int8")
    if fitting_batch and fitting_batch < setup.batch:
        said.append(f"{fitting_batch} sequences fit on {setup.target.chips} chips: --batch {fitting_batch}")
    elif fitting_batch is None:
        said.append(f"not even one sequence of {setup.context_tokens} tokens fits beside the weights: --context")
    return said


def _waste(measured: Measured) -> list[str]:
    said = []
    placing = measured.setup.placing
    if placing.cache_copies > 1:
        said.append(
            f"each key and value is held {placing.cache_copies} times: more devices than key/value heads share a copy "
            f"of the model"
        )
    held = measured.weights_bytes + measured.cache_bytes
    if measured.padding_bytes > _MUCH * held:
        said.append(
            f"layouts pad weights and cache by {measured.padding_bytes / held:.0%}: widths that divide by 128 do not"
        )
    decode = measured.step("decode")
    if decode and decode.timed and decode.timed.links_s > _MUCH * decode.timed.seconds:
        share = decode.timed.links_s / decode.timed.seconds
        said.append(f"{share:.0%} of a decode step waits for other chips: fewer chips a copy, or a larger batch")
    if decode and decode.timed and decode.timed.unpriced:
        said.append(
            f"nobody prices these custom calls, and they are taken at their bytes: {', '.join(decode.timed.unpriced)}"
        )
    return said

"""What holds of every prediction: looser limits and larger pools never serve less, and none beats the data sheet."""

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from secondsource.catalog.load import shipped_catalog
from secondsource.core.demand import SizeClass, Slo
from secondsource.profiles.capacity import capacity
from secondsource.profiles.efficiency import shipped_efficiencies
from secondsource.profiles.images import image_capacity
from secondsource.profiles.models import shipped_models
from secondsource.profiles.predict import speed, usual_precision
from secondsource.profiles.roofline import PHYSICAL, Replica, decode_terms, peak_flops, weight_bytes
from secondsource.profiles.staffing import safe_utilisation

CHIPS = shipped_catalog(date(2027, 1, 1)).chips
chips = st.sampled_from(CHIPS)
models = st.sampled_from(shipped_models())
sizes = st.builds(SizeClass, name=st.just("x"), input_tokens=st.floats(1, 6000), output_tokens=st.floats(1, 2000))
limits = st.one_of(st.none(), st.floats(0.001, 30.0))
slack = 1 - 1e-9


def looser(limit: float | None, factor: float) -> float | None:
    return None if limit is None else limit * factor


@settings(max_examples=40, deadline=None)
@given(
    model=models,
    chip=chips,
    unit=st.sampled_from([1, 4, 8, 16]),
    size=sizes,
    ttft=limits,
    tpot=limits,
    factor=st.floats(1.0, 10.0),
    pool=st.integers(1, 50),
    more=st.integers(1, 100),
)
def test_a_looser_limit_or_a_larger_pool_never_serves_less(
    model,
    chip,
    unit,
    size,
    ttft,
    tpot,
    factor,
    pool,
    more,  # type: ignore[no-untyped-def]
) -> None:
    def rate(limits: Slo, units: int) -> float:
        return capacity(model.name, chip.name, unit, size, limits, units).requests_per_s

    tight = rate(Slo(ttft_s=ttft, tpot_s=tpot), pool)
    assert rate(Slo(ttft_s=looser(ttft, factor), tpot_s=tpot), pool) >= tight * slack
    assert rate(Slo(ttft_s=ttft, tpot_s=looser(tpot, factor)), pool) >= tight * slack
    assert rate(Slo(), pool) >= tight * slack
    assert rate(Slo(ttft_s=ttft, tpot_s=tpot), pool + more) >= tight * slack


@settings(max_examples=100, deadline=None)
@given(model=models, chip=chips, ways=st.sampled_from([1, 2, 8]), batch=st.integers(1, 1000), size=sizes)
def test_no_step_beats_its_data_sheet(model, chip, ways, batch, size) -> None:  # type: ignore[no-untyped-def]
    replica = Replica(chip=chip, chips=ways, precision=usual_precision(model, chip))
    fast = speed(model, replica, shipped_efficiencies())
    found = fast.tpot_s(batch, size.input_tokens, size.output_tokens)
    terms = decode_terms(model, replica, batch, size.input_tokens + size.output_tokens / 2)
    assert found >= max(terms.values()[: len(PHYSICAL)])
    every_token = 2 * (model.attention_parameters + model.dense_parameters)
    assert batch / found <= ways * peak_flops(chip, replica.precision) / every_token * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(model=models, chip=chips, unit=st.sampled_from([1, 8]), size=sizes, pool=st.integers(1, 50))
def test_no_unit_serves_more_than_its_chips_can_multiply(  # type: ignore[no-untyped-def]
    model, chip, unit, size, pool
) -> None:
    found = capacity(model.name, chip.name, unit, size, Slo(), pool)
    tokens = found.input_tokens_per_s + found.output_tokens_per_s
    work = 2 * (model.attention_parameters + model.dense_parameters)
    fastest = max(chip.bf16_tflops, chip.fp8_tflops or 0, chip.int8_tops or 0, chip.fp4_tflops or 0) * 1e12
    # The first output token comes with the prompt's own pass, so it is no work of its own.
    assert (tokens - found.requests_per_s) * work <= unit * fastest * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(model=models, chip=chips, size=sizes)
def test_what_serves_fits(model, chip, size) -> None:  # type: ignore[no-untyped-def]
    found = capacity(model.name, chip.name, 8, size, Slo(), 1)
    if found.requests_per_s:
        assert found.precision is not None
        replica = Replica(chip=chip, chips=found.chips_per_replica, precision=found.precision)
        assert weight_bytes(model, replica) <= found.chips_per_replica * chip.hbm_gb * 1e9
        assert found.replicas * found.chips_per_replica == 8


@given(
    limit=st.floats(0, 100),
    more=st.floats(0, 100),
    servers=st.integers(1, 10_000),
    extra=st.integers(0, 10_000),
    service=st.floats(0.001, 100),
    late=st.floats(0.001, 0.5),
)
def test_safe_utilisation_rises_with_the_limit_and_the_pool(
    limit: float, more: float, servers: int, extra: int, service: float, late: float
) -> None:
    tight = safe_utilisation(limit, servers, service, late)
    assert 0 <= tight < 1
    assert safe_utilisation(limit + more, servers, service, late) >= tight - 1e-12
    assert safe_utilisation(limit, servers + extra, service, late) >= tight - 1e-12


@given(
    chip=chips, steps=st.integers(1, 200), limit=st.floats(0.01, 60), factor=st.floats(1, 10), pool=st.integers(1, 99)
)
def test_images_too(chip, steps, limit, factor, pool) -> None:  # type: ignore[no-untyped-def]
    tight = image_capacity(chip, 8, steps, limit, pool).requests_per_s
    assert image_capacity(chip, 8, steps, limit * factor, pool).requests_per_s >= tight * slack
    assert image_capacity(chip, 8, steps, limit, pool + 5).requests_per_s >= tight * slack
    assert image_capacity(chip, 8, steps, None, pool).requests_per_s >= tight * slack

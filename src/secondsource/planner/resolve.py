"""Fill a SPEC in: prices from the catalogue, rates from profiles, classes from traces."""

from collections.abc import Mapping
from dataclasses import dataclass

from secondsource.catalog.records import Catalog, Offer
from secondsource.core.demand import SizeClass
from secondsource.core.errors import InputError, NoAnswerError
from secondsource.core.strict_toml import suggestion
from secondsource.planner.known_names import check_known
from secondsource.planner.learn import Learnt
from secondsource.planner.problem import Basis, Demand, Limit, Loss, LossKind, Problem, Rental, ShareCap
from secondsource.planner.rates import RateOf
from secondsource.planner.spec import LaneSpec, ModelSpec, OfferSpec, RateSpec, Spec
from secondsource.workload.forecast import month_hours

HOURS_A_MONTH = 730  # after the horizon, where months have no names


@dataclass(frozen=True, slots=True)
class _Asked:
    """One demand with what is needed to rate a pool for it."""

    demand: Demand
    size: SizeClass
    lane: LaneSpec
    model: ModelSpec


@dataclass(frozen=True, slots=True)
class _Pool:
    """What is alike about a pool's units: the chip whose profile they have, and how far they reach it."""

    chip: str
    profile_chip: str
    speed: float
    chips_per_unit: int


def resolve(
    spec: Spec, catalog: Catalog, rate_of: RateOf, learnt: Mapping[str, Learnt], sizes: Mapping[str, int]
) -> Problem:
    """Return the problem that the SPEC states; `sizes` gives the units each pool is taken to have at least.

    Raises InputError for a name that nothing knows, NoAnswerError when nothing can serve some demand.
    """
    rentals, pools = _rentals(spec, catalog)
    asked = _asked(spec, learnt)
    _check_profiles(
        spec, asked, pools, frozenset(name for chip in catalog.chips for name in (chip.name, *chip.aliases))
    )
    rated = {
        key: [_rate(spec, rate_of, item, pool, sizes.get(key, 1)) for item in asked] for key, pool in pools.items()
    }
    rates = {key: tuple(rate for rate, _ in row) for key, row in rated.items()}
    _check_served(asked, rates)
    rentals = tuple(rental for rental in rentals if any(rates[rental.pool]) or rental.held)
    return Problem(
        months=spec.months,
        hours=tuple(month_hours(month) for month in spec.months),
        rentals=rentals,
        demands=tuple(item.demand for item in asked),
        rates=rates,
        losses=_losses(spec, rentals),
        share_caps=tuple(
            ShareCap(supplier=supplier.name, max_share=supplier.max_share)
            for supplier in spec.suppliers
            if supplier.max_share is not None
        ),
        limits=_limits(spec, rentals),
        budget_nano_usd=spec.budget_nano_usd,
        owed_after_horizon=spec.owed_after_horizon,
        hours_after_horizon=HOURS_A_MONTH,
        bases={key: tuple(basis for _, basis in row) for key, row in rated.items()},
    )


def pool_key(supplier: str, chip: str, chips_per_unit: int) -> str:
    """Return a pool's name: "azure/h100-sxm x8"."""
    return f"{supplier}/{chip} x{chips_per_unit}"


def _asked(spec: Spec, learnt: Mapping[str, Learnt]) -> list[_Asked]:
    lanes = {lane.name: lane for lane in spec.lanes}
    models = {model.name: model for model in spec.models}
    classes = {item.size.name: item for item in spec.classes}
    workloads = {item.name: item for item in spec.workloads}
    asked: list[_Asked] = []
    for item in spec.demand:
        lane = lanes[item.lane]
        if item.workload is not None:
            model = models[workloads[item.workload].model]
            known = learnt[item.workload]
            parts = [(part.size, part.share) for part in known.classes]
            ratio = known.mean_to_peak if item.mean_to_peak is None else item.mean_to_peak
        else:
            found = classes[item.size_class or ""]
            model, parts, ratio = models[found.model], [(found.size, 1.0)], item.mean_to_peak or 1.0
        for size, share in parts:
            demand = Demand(
                key=f"{lane.name}/{size.name}",
                lane=lane.name,
                size_class=size.name,
                model=model.name,
                peak=tuple(rate * share for rate in item.peak),
                mean_to_peak=ratio,
                survive=lane.survive,
                shortfall_nano_usd=lane.shortfall_nano_usd if lane.may_fall_short else None,
                input_tokens=size.input_tokens,
                output_tokens=size.output_tokens,
                image_steps=size.image_steps,
            )
            asked.append(_Asked(demand, size, lane, model))
    return asked


def _rate(spec: Spec, rate_of: RateOf, item: _Asked, pool: _Pool, units: int) -> tuple[float, Basis]:
    """Return requests/s of one unit and what they stand on: the SPEC's own rate, else a profile's with caution.

    A profile whose predictions are off by `e` (median) is taken at `1 / (1 + caution * e)` of its rate: with a
    caution of 1, about three chips in four are at least so fast.
    """
    own = _own_rate(spec, item, pool)
    if own is not None:
        return own.requests_per_s * pool.chips_per_unit / own.chips_per_unit, Basis(evidence="stated")
    chips = item.model.chips_per_replica.get(pool.chip, pool.chips_per_unit)
    part = pool.chips_per_unit / chips
    replicas = max(1, int(units * part))
    rated = rate_of(item.model.profile, pool.profile_chip, chips, item.size, item.lane.slo, replicas)
    kept = 1 / (1 + spec.caution * rated.error)
    basis = Basis(evidence=rated.evidence, error=rated.error, taken_off=1 - kept)
    return rated.requests_per_s * kept * part * pool.speed, basis


def _own_rate(spec: Spec, item: _Asked, pool: _Pool) -> RateSpec | None:
    for own in spec.rates:
        if (own.chip, own.size_class) == (pool.chip, item.size.name) and own.lane in (None, item.lane.name):
            return own
    return None


def _check_profiles(spec: Spec, asked: list[_Asked], pools: Mapping[str, _Pool], known: frozenset[str]) -> None:
    """Refuse a chip of which neither a data sheet nor a rate is known."""
    places = {offer.chip: spec.words.get(f"place.offers.{n}", "") for n, offer in enumerate(spec.offers)}
    for pool in pools.values():
        missing = [item.size.name for item in asked if _own_rate(spec, item, pool) is None]
        if pool.profile_chip not in known and missing:
            raise InputError(
                f'{places.get(pool.chip, "")}: nothing says how fast the chip "{pool.chip}" is: the catalogue has no '
                f'"{pool.profile_chip}"; {suggestion(pool.profile_chip, sorted(known))} Give the offer a profile_chip '
                f"(the chip whose profile it has) and a speed, or add its data sheet as [[chips]], or a [[rates]] for "
                f"each of its classes; without one: {', '.join(dict.fromkeys(missing))}"
            )


def _check_served(asked: list[_Asked], rates: Mapping[str, tuple[float, ...]]) -> None:
    for d, item in enumerate(asked):
        if max(item.demand.peak) > 0 and not any(row[d] > 0 for row in rates.values()):
            slo = item.lane.slo
            raise NoAnswerError(
                f"no offer can serve class {item.size.name} (model {item.model.name}) within lane "
                f"{item.lane.name}'s ttft_s = {slo.ttft_s}, tpot_s = {slo.tpot_s}: loosen the limit, allow "
                f"more chips in [catalog], raise models.{item.model.name}.chips_per_replica, or give a "
                f"measured rate in [[rates]]"
            )


def _rentals(spec: Spec, catalog: Catalog) -> tuple[tuple[Rental, ...], dict[str, _Pool]]:
    vendors = {name: chip.vendor for chip in catalog.chips for name in (chip.name, *chip.aliases)}
    check_known(spec, catalog)
    leads = {supplier.name: supplier.lead_months for supplier in spec.suppliers}
    rentals: dict[str, Rental] = {}
    pools: dict[str, _Pool] = {}
    own = {offer.name for offer in spec.offers}
    listed = [_as_spec(offer, vendors) for offer in catalog.offers if _wanted(spec, offer, own)]
    for offer in (*listed, *spec.offers):
        key = pool_key(offer.supplier, offer.chip, offer.chips_per_unit)
        pool = _Pool(offer.chip, offer.profile_chip, offer.speed, offer.chips_per_unit)
        if pools.setdefault(key, pool) != pool:
            raise InputError(f"{offer.name}: offers of {key} differ in profile_chip or speed; name the chip anew")
        rentals[offer.name] = Rental(
            key=offer.name,
            pool=key,
            supplier=offer.supplier,
            vendor=offer.vendor or vendors[offer.chip],
            chip=offer.chip,
            chips_per_unit=offer.chips_per_unit,
            term_months=offer.term_months,
            nano_usd_per_unit_hour=offer.nano_usd_per_chip_hour * offer.chips_per_unit,
            first_month=max(offer.first_month, leads.get(offer.supplier, 0), _delivered(spec, offer)),
            max_units=offer.max_units,
            min_units=offer.min_units,
            firm=not offer.spot,
            held=_held(spec, offer.name),
        )
    _check_held(spec, rentals)
    if not rentals:
        raise InputError("nothing may be rented: [catalog] leaves no offer and there are no [[offers]]")
    return tuple(rentals[name] for name in sorted(rentals)), pools


def _check_held(spec: Spec, rentals: Mapping[str, Rental]) -> None:
    for number, held in enumerate(spec.held):
        if held.offer not in rentals:
            place = spec.words.get(f"place.held.{number}", "")
            raise InputError(f'{place}: no offer "{held.offer}"; {suggestion(held.offer, sorted(rentals))}')


def _wanted(spec: Spec, offer: Offer, own: set[str]) -> bool:
    rule = spec.catalog
    if any(held.offer == offer.name for held in spec.held):
        return True
    return (
        rule.use
        and offer.name not in own
        and offer.name not in rule.exclude
        and (not rule.suppliers or offer.supplier in rule.suppliers)
        and (not rule.chips or offer.chip in rule.chips)
        and (not rule.regions or offer.region in rule.regions)
        and (not rule.terms_months or offer.term_months in rule.terms_months)
        and offer.supplier not in rule.exclude_suppliers
        and offer.chip not in rule.exclude_chips
        and (rule.spot or not offer.spot)
    )


def _as_spec(offer: Offer, vendors: Mapping[str, str]) -> OfferSpec:
    return OfferSpec(
        name=offer.name,
        supplier=offer.supplier,
        vendor=vendors[offer.chip],
        chip=offer.chip,
        profile_chip=offer.chip,
        speed=1.0,
        chips_per_unit=offer.chips_per_unit,
        term_months=offer.term_months,
        nano_usd_per_chip_hour=offer.nano_usd_per_chip_hour,
        spot=offer.spot,
        first_month=0,
        max_units=None,
        min_units=0,
        as_of=offer.as_of,
    )


def _delivered(spec: Spec, offer: OfferSpec) -> int:
    return max(
        (
            item.first_month
            for item in spec.deliveries
            if item.chip == offer.chip and item.supplier in (None, offer.supplier)
        ),
        default=0,
    )


def _held(spec: Spec, name: str) -> tuple[int, ...]:
    months = [0] * len(spec.months)
    for held in spec.held:
        if held.offer == name:
            for month in range(held.months):
                months[month] += held.units
    return tuple(months) if any(months) else ()


def _losses(spec: Spec, rentals: tuple[Rental, ...]) -> tuple[Loss, ...]:
    def named(rule: bool | tuple[str, ...], kind: LossKind, known: list[str]) -> list[Loss]:
        names = known if rule is True else list(rule or ())
        for name in names:
            if name not in known:
                place = spec.words.get(f"place.survive.{kind.value}s", "")
                hint = suggestion(name, known)
                raise InputError(f'{place}: nothing can be rented of {kind.value} "{name}"; {hint}')
        return [Loss(kind=kind, name=name) for name in names]

    suppliers = sorted({rental.supplier for rental in rentals})
    vendors = sorted({rental.vendor for rental in rentals})
    return (
        *named(spec.lose_suppliers, LossKind.SUPPLIER, suppliers),
        *named(spec.lose_vendors, LossKind.VENDOR, vendors),
    )


def _limits(spec: Spec, rentals: tuple[Rental, ...]) -> tuple[Limit, ...]:
    return tuple(
        Limit(
            key=f"limits.{number}",
            rentals=tuple(
                rental.key
                for rental in rentals
                if limit.chip in (None, rental.chip) and limit.supplier in (None, rental.supplier)
            ),
            max_chips=limit.max_chips,
        )
        for number, limit in enumerate(spec.limits)
    )

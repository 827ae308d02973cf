"""Step times from arithmetic and from published serving points, for where a compiler gives none; and today's prices."""

from decimal import ROUND_HALF_UP, Decimal

import msgspec

from secondsource.catalog.records import Catalog, Chip, Offer
from secondsource.core.money import dollars
from secondsource.port.measuring import Setup
from secondsource.port.models import NamedModel
from secondsource.port.report import Price, Report
from secondsource.profiles.efficiency import Accuracy, shipped_efficiencies
from secondsource.profiles.predict import Speed, speed
from secondsource.profiles.roofline import Precision, Replica, Terms, decode_terms, prefill_terms

_CENT = Decimal("0.01")


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """A replica's step as the profiles see it, in seconds."""

    roofline_decode_s: float  # at 100% of the data sheet: no program is faster
    roofline_prefill_s: float
    served_decode_s: float  # with the coefficients fitted to published serving points
    served_full_decode_s: float  # the same with every slot full
    served_prefill_s: float
    accuracy: Accuracy


def look_ahead(model: NamedModel, chip: Chip, setup: Setup) -> Ahead:
    """Return what the data sheet bounds and what published serving points suggest, for slots filled as the setup's."""
    # The profiles lay a model over chips, and a chip may be two devices; copies of the model split the batch.
    copies = max(1, min(setup.placing.data_parallel, setup.target.chips))
    replica = _replica(chip, setup.target.chips // copies, setup.weights, setup.cache)
    sequences = max(1.0, setup.batch / copies)
    decode = decode_terms(model.architecture, replica, sequences, setup.filled_tokens or setup.context_tokens)
    full = decode_terms(model.architecture, replica, sequences, setup.context_tokens)
    prefill = prefill_terms(model.architecture, replica, setup.prompt_tokens, setup.prompt_tokens)
    fitted: Speed = speed(model.architecture, replica, shipped_efficiencies())
    return Ahead(
        roofline_decode_s=_physical(decode, together=False),
        roofline_prefill_s=_physical(prefill, together=True),
        served_decode_s=fitted.seconds(decode),
        served_full_decode_s=fitted.seconds(full),
        served_prefill_s=fitted.prefill_s(setup.prompt_tokens),
        accuracy=fitted.tpot_accuracy,
    )


def expected_decode_s(report: Report, model: NamedModel, chip: Chip) -> float:
    """Return what the profiles predict of a report's decode step, without what was published of this model."""
    copies = max(1, min(report.sharding.data_parallel, report.chips))
    replica = _replica(chip, report.chips // copies, report.weights, report.cache)
    fitted = speed(model.architecture, replica, shipped_efficiencies().without_corrections())
    return fitted.seconds(decode_terms(model.architecture, replica, report.batch / copies, report.filled_tokens))


def _replica(chip: Chip, chips: int, weights: str, cache: str) -> Replica:
    return Replica(
        chip=chip, chips=max(1, chips), precision=Precision(weights), cache_bytes=1 if cache == "int8" else 2
    )


def _physical(terms: Terms, *, together: bool) -> float:
    """Return seconds at the data sheet's rates: memory or arithmetic, whichever is longer, and no links."""
    memory = terms.dense_weights + terms.expert_weights + terms.cache
    arithmetic = terms.dense_flops + terms.expert_flops + terms.attention_flops
    if together:
        return terms.prefill_dense_flops + terms.prefill_expert_flops + terms.prefill_attention_flops
    return max(memory, arithmetic)


def cheapest_offer(catalog: Catalog, chip: str) -> Offer | None:
    """Return the cheapest offer of a chip by the hour; of a term where none is by the hour; never spot."""
    offers = [offer for offer in catalog.offers if offer.chip == chip and not offer.spot]
    by_the_hour = [offer for offer in offers if offer.term_months == 0]
    return min(by_the_hour or offers, key=lambda offer: (offer.nano_usd_per_chip_hour, offer.name), default=None)


def price_of(offer: Offer) -> Price:
    """Return the offer as the report shows it."""
    return Price(
        offer=offer.name,
        usd_per_chip_hour=dollars(offer.nano_usd_per_chip_hour),
        as_of=str(offer.as_of),
        source=offer.source,
    )


def usd_per_million(offer: Offer, chips: int, tokens_per_s: float) -> Decimal:
    """Return dollars per million tokens of so many chips at this rate, to the cent."""
    per_hour = dollars(offer.nano_usd_per_chip_hour) * chips
    return (per_hour * 1_000_000 / Decimal(tokens_per_s * 3600)).quantize(_CENT, ROUND_HALF_UP)

"""Any offers written as price lists are read back the same; without source or date they are not read."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.catalog.load import parse_offers
from secondsource.catalog.records import Confidence, Offer
from secondsource.catalog.refresh import price_list
from secondsource.core.errors import InputError

TODAY = date(2026, 11, 22)
CHIPS = ("h100-sxm", "tpu-v6e", "mi300x")
names = st.text("azAZ09._-", max_size=8).map(lambda text: f"n{text}")
printable = st.text("ab \"'\\#=[]{},é€", max_size=12).map(lambda text: f"s{text}")
terms = st.one_of(st.just((0, True)), st.sampled_from([(0, False), (12, False), (36, False)]))  # months, spot


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    months, spot = draw(terms)
    return Offer(
        supplier=draw(names),
        region=draw(names),
        chip=draw(st.sampled_from(CHIPS)),
        chips_per_unit=draw(st.integers(1, 9216)),
        term_months=months,
        spot=spot,
        nano_usd_per_chip_hour=draw(st.integers(10_000_000, 60_000_000_000)),
        as_of=draw(st.dates(date(2020, 1, 1), TODAY)),
        source=draw(printable),
        confidence=draw(st.sampled_from(Confidence)),
        note=draw(st.one_of(st.just(""), printable)),
    )


@given(st.lists(offers(), max_size=8, unique_by=lambda offer: offer.name))
def test_a_round_trip_keeps_every_offer(given_offers: list[Offer]) -> None:
    assert set(parse_offers(price_list(tuple(given_offers)), "x.toml", CHIPS, TODAY)) == set(given_offers)


@given(offers(), st.sampled_from(["source", "as_of"]))
def test_no_offer_loads_without_its_source_and_date(offer: Offer, key: str) -> None:
    lines = price_list((offer,)).splitlines()
    without = "\n".join(line for line in lines if not line.startswith(f"{key} ="))
    with pytest.raises(InputError, match=f"price_lists\\[0\\].{key}: missing"):
        parse_offers(without, "x.toml", CHIPS, TODAY)

"""What an image request asks for: its identity, its key, and what its supplier may charge."""

import json
from typing import Any

import pytest

from secondsource.core.fleet import Price
from secondsource.core.records import Outcome
from secondsource.gateway.wire.image_request import (
    charged_pixel_steps,
    check_image_request,
    fingerprint,
    idempotency_key,
    pixel_steps,
    prefers_async,
)
from secondsource.gateway.wire.request import Ask, Endpoint, RequestError, encode, parse_request, upstream_fields
from secondsource.policy.accounting import Usage, cost_nano_usd
from tests.fleets import pool

PRICE = Price(nano_usd_per_image_step_megapixel=1_000)
POOL = pool("painter", price=PRICE, image_steps=20, image_size="512x512")


def asked(**fields: Any) -> Ask:
    return parse_request(Endpoint.IMAGES, json.dumps({"model": "chat", "prompt": "a chip", **fields}).encode())


def test_the_same_in_another_order_and_spacing_is_the_same() -> None:
    one = parse_request(Endpoint.IMAGES, b'{"model":"chat","prompt":"a","x":{"b":[1, 2]}}')
    two = parse_request(Endpoint.IMAGES, b'{ "x" : {"b":[1,2]}, "prompt" : "a", "model" : "chat" }')
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(asked()) != fingerprint(asked(n=2))
    assert fingerprint(asked(prompt="a")) != fingerprint(asked(prompt="b"))


def test_an_idempotency_key_is_what_can_be_kept() -> None:
    assert idempotency_key({}) == ""
    assert idempotency_key({b"idempotency-key": b" a-key 1 "}) == "a-key 1"
    assert idempotency_key({b"idempotency-key": b"k" * 255}) == "k" * 255
    for wrong in (b"k" * 256, b"\xff", b"a\tb"):
        with pytest.raises(RequestError, match="printable ASCII"):
            idempotency_key({b"idempotency-key": wrong})


@pytest.mark.parametrize(
    ("prefer", "later"),
    [
        (b"respond-async", True),
        (b"Respond-Async, wait=10", True),
        (b"wait=10;x=1 , respond-async;a", True),
        (b"wait=10", False),
        (b"", False),
    ],
)
def test_who_prefers_not_to_wait(prefer: bytes, later: bool) -> None:
    assert prefers_async({b"prefer": prefer}) is later


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 1001}, "num_inference_steps"),
        ({"steps": "many"}, "steps"),
        ({"size": "16385x16"}, "size"),
        ({"size": "1x99999"}, "size"),
    ],
)
def test_what_nobody_makes_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_image_request(asked(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("fields", [{}, {"size": "auto"}, {"size": "1K"}, {"steps": None}, {"size": 5}])
def test_what_is_not_ours_to_judge_is_passed_on(fields: dict[str, Any]) -> None:
    check_image_request(asked(**fields))


@pytest.mark.parametrize(
    ("fields", "answer", "expected"),
    [
        ({}, {}, 20 * 512 * 512),
        ({"size": "auto", "n": 3}, {}, 3 * 20 * 512 * 512),
        ({"size": "1024x1536", "num_inference_steps": 4}, {}, 4 * 1024 * 1536),
        ({"size": "auto", "n": 4}, {"size": "256x128", "data": [{}, {}]}, 2 * 20 * 256 * 128),
        ({"steps": 7}, {"data": "none"}, 7 * 512 * 512),
    ],
)
def test_pixel_steps_are_as_answered_else_as_asked_else_as_the_fleet_says(
    fields: dict[str, Any], answer: dict[str, Any], expected: int
) -> None:
    assert pixel_steps(asked(**fields), POOL, json.dumps(answer).encode()) == expected


def test_a_price_is_of_pixels_and_steps_in_exact_nano_dollars() -> None:
    made = pixel_steps(asked(size="1000x1000", steps=30, n=2), POOL)
    assert cost_nano_usd(PRICE, 0, Usage(0, 0, 0, pixel_steps=made)) == 60_000
    assert cost_nano_usd(PRICE, 0, Usage(0, 0, 0, pixel_steps=500)) == 1  # rounded half up, once
    assert cost_nano_usd(PRICE, 0, Usage(0, 0, 0, pixel_steps=499)) == 0


def test_only_a_pool_that_is_priced_so_charges_so() -> None:
    answer = b'{"data":[{}]}'
    assert charged_pixel_steps(asked(), POOL, Outcome.OK, answer) == 20 * 512 * 512
    assert charged_pixel_steps(asked(), pool("rented"), Outcome.OK, answer) == 0
    assert charged_pixel_steps(asked(n=2), POOL, Outcome.CUT, b"") == 2 * 20 * 512 * 512
    assert charged_pixel_steps(asked(), POOL, Outcome.THROTTLED, b"") == 0


def test_a_stream_goes_on_as_it_was_asked_for() -> None:
    ask = asked(stream=True, partial_images=2)
    assert ask.stream
    assert json.loads(encode(upstream_fields(ask, "theirs"))) == {
        "model": "theirs",
        "prompt": "a chip",
        "stream": True,
        "partial_images": 2,
    }

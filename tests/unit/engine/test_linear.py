"""Products in 8 bits: the same integers in whichever way they are multiplied, and close to the true product."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from secondsource.engine.linear import contract
from secondsource.engine.parameters import QuantizedProduct

OUTPUTS = 24
# one group of 18 terms of 32 lanes; two of 24; no such product; so wide that a remainder has 28 steps, not 254
WIDTHS = (576, 1536, 36, 4608)


def weights(width: int) -> QuantizedProduct:
    generator = np.random.default_rng(width)
    values = generator.integers(-127, 128, (OUTPUTS, width)).astype(np.int8)
    return QuantizedProduct(jnp.asarray(values), jnp.asarray(generator.uniform(0.5, 2, OUTPUTS), jnp.float32))


def product(rows: np.ndarray, weight: QuantizedProduct) -> np.ndarray:
    return np.asarray(jax.jit(functools.partial(contract, axes=1))(jnp.asarray(rows), weight))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_has_the_same_product_alone_and_among_many(width: int) -> None:
    rows = np.random.default_rng(1).normal(size=(8, width)).astype(np.float32)
    weight = weights(width)
    together = product(rows, weight)
    for number, row in enumerate(rows):
        assert np.array_equal(product(row[None], weight)[0], together[number])
    assert np.array_equal(product(rows[:3], weight), together[:3])


@pytest.mark.parametrize("width", WIDTHS)
def test_what_rounding_leaves_is_small(width: int) -> None:
    row = np.random.default_rng(2).normal(size=(1, width)).astype(np.float32)
    weight = weights(width)
    exact = row.astype(np.float64) @ (np.asarray(weight.values, np.float64).T * np.asarray(weight.scale, np.float64))
    # Of each factor at most half a step is lost; they are drawn, so their sum grows as its root does.
    assert np.abs(product(row, weight) - exact).max() < 1e-3 * np.abs(exact).max()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", [1, 8])
def test_the_largest_sum_there_is_does_not_overflow(width: int, rows: int) -> None:
    weight = QuantizedProduct(jnp.full((OUTPUTS, width), -127, jnp.int8), jnp.ones(OUTPUTS, jnp.float32))
    found = product(np.full((rows, width), 3.0, np.float32), weight)
    assert found == pytest.approx(np.full((rows, OUTPUTS), -127 * 3.0 * width), rel=1e-6)


def test_a_row_of_zeros_gives_zeros() -> None:
    assert not product(np.zeros((1, 576), np.float32), weights(576)).any()

"""Fit of the roofline's coefficients: robust least squares on the logarithm of time, with stated priors.

Each chip family has its own coefficients, held near a prior and near the other families'; each engine has one
factor on the physical part and one on the overheads, relative to vLLM. Coefficients of physical terms are at
least 1. Priors are engineering estimates written down before the fit; their spreads are in `SPREADS`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from profiles_points import BARE, Point
from scipy.optimize import least_squares

from secondsource.profiles.roofline import PHYSICAL, TERM_NAMES

FAMILIES = {
    "nvidia-hopper": ("h100-sxm", "h200-sxm"),
    "nvidia-blackwell": ("b200-sxm", "b300-sxm"),
    "google-tpu": ("tpu-v5e", "tpu-v6e", "tpu7x"),
}
ENGINES = ("vllm", "sglang", "trtllm", "sglang-jax", "vllm-tpu")  # vLLM is the reference
PRIORS = {
    "dense_weights": (1.3, 0.08),
    "expert_weights": (1.4, 0.15),
    "dense_flops": (1.5, 0.15),
    "expert_flops": (2.0, 0.25),
    "cache": (1.5, 0.15),
    "attention_flops": (1.5, 0.25),
    "links": (2.0, 0.25),
    "prefill_dense_flops": (1.6, 0.15),
    "prefill_expert_flops": (2.5, 0.2),
    "prefill_attention_flops": (2.0, 0.2),
    "prefill_links": (1.5, 0.25),
    "hops": (1.5, 0.25),
    "layers": (25.0, 0.25),
    "expert_layers": (15.0, 0.25),
    "latent_layers": (15.0, 0.25),
    "linear_layers": (15.0, 0.25),
    "sparse_layers": (20.0, 0.25),
    "step": (0.7, 0.35),
    "sequences": (5.0, 0.5),
    "prefill_tokens": (1.0, 0.5),
}  # coefficient, and the spread of its logarithm
TPU_PRIORS = {
    "links": (1.3, 0.25),
    "hops": (0.7, 0.3),
    "layers": (8.0, 0.4),
    "expert_layers": (8.0, 0.4),
    "latent_layers": (5.0, 0.4),
    "linear_layers": (5.0, 0.4),
    "sparse_layers": (8.0, 0.4),
    "step": (0.3, 0.4),
}  # one compiled program runs the whole step: nothing is launched kernel by kernel
FAMILY_SPREAD = 0.3  # of a coefficient's logarithm around the mean of the families
ENGINE_SPREAD = np.array([[0.15], [0.15], [0.5], [0.5]])  # servers on TPUs: few points, a wide prior
NOISE = 0.15  # beyond this error of the logarithm a point counts linearly and no longer squared

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Coefficients by family (rows of `coefficients`, as in `FAMILIES`), and factors by engine."""

    coefficients: Floats
    engines: Floats  # rows as in `ENGINES`, columns: physical, overhead

    def tpot_s(self, points: Sequence[Point]) -> Floats:
        """Return the predicted time per output token of each point."""
        return self._seconds(points, np.array([point.terms() for point in points]))

    def first_s(self, points: Sequence[Point]) -> Floats:
        """Return the predicted time of one prompt through an idle replica, for each point."""
        return self._seconds(points, np.array([point.first_terms() for point in points]))

    def _seconds(self, points: Sequence[Point], terms: Floats) -> Floats:
        weighted = terms * self.coefficients[_families(points)]
        physical = weighted[:, : len(PHYSICAL)].sum(axis=1)
        overhead = weighted[:, len(PHYSICAL) :].sum(axis=1)
        factors = _factors(points, self.engines)
        return np.maximum(physical * factors[:, 0], terms[:, : len(PHYSICAL)].max(axis=1)) + overhead * factors[:, 1]


def _families(points: Sequence[Point]) -> NDArray[np.int64]:
    families = {chip: row for row, chips in enumerate(FAMILIES.values()) for chip in chips}
    return np.array([families[point.replica.chip.name] for point in points])


def _factors(points: Sequence[Point], engines: Floats) -> Floats:
    """Return both factors of each point's engine.

    A bare JAX step is a compiled program as sglang-jax's are, so it has that engine's factor on the physical part;
    what a server adds around the step it has not.
    """
    rows = {name: engines[row] for row, name in enumerate(ENGINES)}
    rows[BARE] = np.array([rows["sglang-jax"][0], 1.0])
    return np.array([rows.get(point.engine, rows["vllm"]) for point in points])


def fit(points: Sequence[Point]) -> Fit:
    """Return the fit to these points; groups of one model, chip, engine and precision weigh as their root."""
    terms = np.array([point.terms() for point in points])
    measured = np.log([point.tpot_s for point in points])
    weights = _weights(points)
    priors, spread = _priors()
    shape = priors.shape
    least = np.full(shape, -9.0)
    least[:, : len(PHYSICAL)] = 0.0
    start = np.maximum(priors, least + 0.02)

    def unpack(vector: Floats) -> Fit:
        logs = vector[: start.size].reshape(shape)
        engines = np.vstack([np.zeros((1, 2)), vector[start.size :].reshape(-1, 2)])
        return Fit(np.exp(logs), np.exp(engines))

    family = _families(points)

    def residuals(vector: Floats) -> Floats:
        candidate = unpack(vector)
        weighted = terms * candidate.coefficients[family]
        factors = _factors(points, candidate.engines)
        physical = weighted[:, : len(PHYSICAL)].sum(axis=1) * factors[:, 0]
        overhead = weighted[:, len(PHYSICAL) :].sum(axis=1) * factors[:, 1]
        errors = (np.log(physical + overhead) - measured) * weights / NOISE
        soft = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        logs = vector[: start.size].reshape(shape)
        mean = logs[:-1].mean(axis=0)  # the families of one vendor lean on each other; TPUs stand alone
        held = [(mean - start[0]) / spread[0], (logs[-1] - start[-1]) / spread[-1]]
        together = ((logs[:-1] - mean) / FAMILY_SPREAD).ravel()
        return np.concatenate([soft, *held, together, (vector[start.size :].reshape(-1, 2) / ENGINE_SPREAD).ravel()])

    beginning = np.concatenate([start.ravel(), np.zeros(2 * (len(ENGINES) - 1))])
    bounds = (np.concatenate([least.ravel(), np.full(2 * (len(ENGINES) - 1), -1.0)]), np.full(beginning.size, 7.0))
    return unpack(least_squares(residuals, beginning, bounds=bounds, max_nfev=80).x)


def _priors() -> tuple[Floats, Floats]:
    """Return the logarithms of the priors and their spreads, a row for each family."""
    rows = [PRIORS] * (len(FAMILIES) - 1) + [PRIORS | TPU_PRIORS]
    both = np.array([[row[name] for name in TERM_NAMES] for row in rows])
    return np.log(both[:, :, 0]), both[:, :, 1]


def _weights(points: Sequence[Point]) -> Floats:
    groups = [(p.model.name, p.replica.chip.name, p.engine, p.replica.precision) for p in points]
    sizes = Counter(groups)
    weights = np.array([sizes[group] ** -0.5 for group in groups])
    return weights / weights.mean()

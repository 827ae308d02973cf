"""Predict how fast a replica works: seconds per step and per prompt, with evidence and error.

The time of a step is the roofline's terms times fitted coefficients, times one correction where this model was
measured on this chip. It never beats the largest single term at 100% of the data sheet.
"""

import msgspec

from secondsource.catalog.records import Chip
from secondsource.profiles.architecture import Architecture
from secondsource.profiles.efficiency import Accuracy, Correction, Efficiencies, Evidence
from secondsource.profiles.roofline import (
    OVERHEADS,
    PHYSICAL,
    Precision,
    Replica,
    Terms,
    decode_terms,
    most_sequences,
    prefill_terms,
)


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """A model on a replica: weigh its terms into seconds."""

    model: Architecture
    replica: Replica
    physical: tuple[float, ...]  # coefficients in the order of the physical terms
    overhead: tuple[float, ...]
    correction: float
    evidence: Evidence
    tpot_accuracy: Accuracy
    throughput_accuracy: Accuracy
    source: str

    def seconds(self, *parts: Terms) -> float:
        """Return the predicted time of these terms together."""
        values = tuple(map(sum, zip(*(part.values() for part in parts), strict=True)))
        physical, overhead = values[: len(PHYSICAL)], values[len(PHYSICAL) :]
        weighed = sum(map(float.__mul__, self.physical, physical))
        launched = sum(map(float.__mul__, self.overhead, overhead))
        return max((weighed + launched) * self.correction, *physical)

    def tpot_s(self, sequences: float, input_tokens: float, output_tokens: float) -> float:
        """Return the mean time per output token while `sequences` run in a steady state.

        Each output token of every sequence is one decode step, and the prompts of the sequences that replace
        finished ones are worked through beside them: `input_tokens / output_tokens` prompt tokens for each.
        """
        context = input_tokens + output_tokens / 2
        decode = decode_terms(self.model, self.replica, sequences, context)
        tokens = sequences * input_tokens / max(1.0, output_tokens)
        prefill = prefill_terms(self.model, self.replica, tokens, max(1.0, input_tokens))
        return self.seconds(decode, prefill)

    def prefill_s(self, input_tokens: float) -> float:
        """Return the time of one prompt through an otherwise idle replica, to its first token."""
        decode = decode_terms(self.model, self.replica, 1, input_tokens)
        prefill = prefill_terms(self.model, self.replica, input_tokens, max(1.0, input_tokens))
        return self.seconds(decode, prefill)

    def requests_per_s(self, sequences: float, input_tokens: float, output_tokens: float) -> float:
        """Return the rate of whole requests with this many always running, by Little's law.

        The first token takes a prompt's own time, or the round that all sequences share where that is longer.
        """
        tpot = self.tpot_s(sequences, input_tokens, output_tokens)
        whole = max(self.prefill_s(input_tokens), tpot) + max(0.0, output_tokens - 1) * tpot
        return sequences / whole

    def most_sequences(self, input_tokens: float, output_tokens: float) -> int:
        """Return how many such requests the memory holds at once, their answers 60% written on average.

        Answers begin at different times; the mean would be half, and engines keep some in reserve.
        """
        return most_sequences(self.model, self.replica, input_tokens + 0.6 * output_tokens)


def speed(
    model: Architecture,
    replica: Replica,
    efficiencies: Efficiencies,
    *,
    engine: str | None = None,
    measured: Correction | None = None,
    compiled: Correction | None = None,
) -> Speed:
    """Return the speed of a model on a replica, served by an engine (the family's usual one if None).

    `measured` is a correction from our own ledger, which comes before a published one; `compiled` is what a chip's
    compiler said of the model, which comes after both.
    """
    family = efficiencies.family(replica.chip)
    coefficients = efficiencies.coefficients[family.like]
    factor = efficiencies.engine(engine or family.engine)
    published = efficiencies.correction(model.name, replica.chip.name, replica.precision)
    known = measured or published or compiled
    expected = efficiencies.accuracy(replica.chip)
    source = family.source
    if known is not None and known is not published:
        source = "our own ledger" if measured else "the chip's compiler"
    evidence = Evidence.MEASURED if measured else Evidence.PUBLISHED if published else Evidence.COMPILED
    return Speed(
        model=model,
        replica=replica,
        physical=tuple(coefficients[name] * factor.physical * family.factor for name in PHYSICAL),
        overhead=tuple(coefficients[name] * factor.overhead * family.factor for name in OVERHEADS),
        correction=known.factor if known else 1.0,
        evidence=evidence,
        tpot_accuracy=known.accuracy if known else expected.tpot,
        throughput_accuracy=known.accuracy if known else expected.throughput,
        source=source,
    )


def usual_precision(model: Architecture, chip: Chip) -> Precision:
    """Return the format a model is usually served in on a chip: its own if narrow, or 8 bits, or 16."""
    if model.native_precision:
        return Precision(model.native_precision)
    if chip.fp8_tflops:
        return Precision.FP8
    return Precision.INT8 if chip.int8_tops else Precision.BF16

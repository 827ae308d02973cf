"""The metrics of the way in: lanes, who was sent away and why, and how far predictions were from what came."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from secondsource.gateway.meter import Meter
from secondsource.policy.views import LaneView

PERCENT = 100


def lane_metrics(lanes: Sequence[LaneView]) -> Iterator[Metric]:
    """Yield how full each model's lanes are."""
    labels = ("gen_ai_request_model", "secondsource_lane")
    waiting = GaugeMetricFamily("secondsource_lane_waiting", "Requests that wait for their turn", labels=labels)
    running = GaugeMetricFamily("secondsource_lane_running", "Requests that were let in", labels=labels)
    places = GaugeMetricFamily(
        "secondsource_lane_places", "Places kept for requests that were told when to come back", labels=labels
    )
    slots = GaugeMetricFamily(
        "secondsource_slots", "Attempts that a model bears now", labels=labels[:1]
    )
    for view in lanes:
        values = (view.model, view.lane)
        waiting.add_metric(values, view.waiting)
        running.add_metric(values, view.running)
        places.add_metric(values, view.places)
    for model, count in {view.model: view.slots for view in lanes}.items():
        slots.add_metric((model,), count)
    yield from (waiting, running, places, slots)


def way_in_metrics(meter: Meter) -> Iterator[Metric]:
    """Yield who was sent away, and how good the predictions were."""
    refused = CounterMetricFamily(
        "secondsource_sent_away",
        "Requests sent away by a limit or a lane, by the reason that the client was told",
        labels=("secondsource_lane", "reason"),
    )
    for (lane, reason), count in list(meter.refused.items()):
        refused.add_metric((lane, reason), count)
    predictions = HistogramMetricFamily(
        "secondsource_first_token_prediction_ratio",
        "Predicted time to the first token over what it was",
        labels=("secondsource_lane",),
    )
    for lane, histogram in list(meter.predictions.items()):
        buckets, below = [], 0
        for bound, count in zip((*histogram.bounds, None), list(histogram.counts), strict=True):
            below += count
            buckets.append(("+Inf" if bound is None else repr(bound / PERCENT), below))
        predictions.add_metric((lane,), buckets, histogram.total / PERCENT)
    breaches = CounterMetricFamily(
        "secondsource_cap_breaches",
        "Attempts given to a supplier beyond its soft share of the spend",
        labels=("supplier",),
    )
    for supplier, count in list(meter.cap_breaches.items()):
        breaches.add_metric((supplier,), count)
    yield from (refused, predictions, breaches)

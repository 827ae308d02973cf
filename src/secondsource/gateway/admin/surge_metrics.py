"""The metrics of the way in: lanes, who was sent away and why, and how far predictions were from what came."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from secondsource.gateway.meter import Meter
from secondsource.policy.views import LaneView, ReplicaView, SupplierView

PERCENT = 100


def lane_metrics(lanes: Sequence[LaneView]) -> Iterator[Metric]:
    """Yield how full each model's lanes are."""
    labels = ("gen_ai_request_model", "secondsource_lane")
    waiting = GaugeMetricFamily("secondsource_lane_waiting", "Requests that wait for their turn", labels=labels)
    running = GaugeMetricFamily("secondsource_lane_running", "Requests that were let in", labels=labels)
    places = GaugeMetricFamily(
        "secondsource_lane_places", "Places kept for requests that were told when to come back", labels=labels
    )
    slots = GaugeMetricFamily("secondsource_slots", "Attempts that a model bears now", labels=labels[:1])
    for view in lanes:
        values = (view.model, view.lane)
        waiting.add_metric(values, view.waiting)
        running.add_metric(values, view.running)
        places.add_metric(values, view.places)
    for model, count in {view.model: view.slots for view in lanes}.items():
        slots.add_metric((model,), count)
    yield from (waiting, running, places, slots)


def way_in_metrics(meter: Meter) -> Iterator[Metric]:
    """Yield who was sent away, how good the predictions were, and who joined an image job."""
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
    images = CounterMetricFamily(
        "secondsource_image_requests", "Requests for images by what they came to", labels=("came_to",)
    )
    for came_to, count in list(meter.image_requests.items()):
        images.add_metric((came_to,), count)
    yield from (refused, predictions, breaches, images)


def limit_metrics(replicas: Sequence[ReplicaView]) -> Iterator[Metric]:
    """Yield how many attempts each replica bears, and what it says of its load."""
    labels = ("pool", "supplier", "replica")
    limit = GaugeMetricFamily(
        "secondsource_concurrency_limit", "Attempts that a replica is found to bear now", labels=labels
    )
    waiting = GaugeMetricFamily(
        "secondsource_reported_waiting", "Requests that wait at a replica, as it says itself", labels=labels
    )
    cache = GaugeMetricFamily(
        "secondsource_reported_cache_ratio", "How full a replica's cache is, as it says itself", labels=labels
    )
    for view in replicas:
        values = (view.pool, view.supplier, view.replica)
        for family, value in ((limit, view.limit), (waiting, view.reported_waiting), (cache, view.cache_used)):
            if value is not None:
                family.add_metric(values, value)
    yield from (limit, waiting, cache)


def share_metrics(suppliers: Sequence[SupplierView]) -> Iterator[Metric]:
    """Yield each capped supplier's part of the spend, and what it may have."""
    labels = ("supplier",)
    share = GaugeMetricFamily("secondsource_supplier_share_ratio", "Part of the spend in its window", labels=labels)
    cap = GaugeMetricFamily("secondsource_supplier_cap_ratio", "Largest part that it may have", labels=labels)
    for view in suppliers:
        if view.share is not None and view.max_share is not None:
            share.add_metric((view.supplier,), view.share)
            cap.add_metric((view.supplier,), view.max_share)
    yield from (share, cap)

"""The engine's load and counts for Prometheus, under the names that vLLM gives them, so that one dashboard serves."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from secondsource.engine.service.scheduler import Load

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_BETWEEN_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0)
_WHOLE_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class LoadMetrics:
    """Owns the numbers that `/metrics` shows; gauges are set when it is read."""

    def __init__(self, model: str, *, cache_tokens: int) -> None:
        self._cache_tokens = cache_tokens
        self._registry = registry = CollectorRegistry()
        label = ("model_name",)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, label, registry=registry).labels(model)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"vllm:{name}", text, label, registry=registry).labels(model)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"vllm:{name}", text, label, registry=registry, buckets=buckets).labels(model)

        self._running = gauge("num_requests_running", "Requests that hold a slot.")
        self._waiting = gauge("num_requests_waiting", "Requests that wait for a slot.")
        self._cache = gauge("kv_cache_usage_perc", "The part of the cache that holds tokens; 1 is all of it.")
        self._prompt = counter("prompt_tokens", "Tokens of prompts read.")
        self._generated = counter("generation_tokens", "Tokens made.")
        self._success = Counter(
            "vllm:request_success", "Answers made, by how they ended.", (*label, "finished_reason"), registry=registry
        )
        self._model = model
        self._first = histogram("time_to_first_token_seconds", "From request to first token.", _FIRST_S)
        self._between = histogram("inter_token_latency_seconds", "From one token to the next.", _BETWEEN_S)
        self._whole = histogram("e2e_request_latency_seconds", "From request to last token.", _WHOLE_S)

    def first_token(self, seconds: float, prompt_tokens: int) -> None:
        """Count an answer's first token, `seconds` after its request."""
        self._prompt.inc(prompt_tokens)
        self._generated.inc()
        self._first.observe(seconds)

    def next_token(self, seconds: float) -> None:
        """Count a token that came `seconds` after the one before it."""
        self._generated.inc()
        self._between.observe(seconds)

    def finished(self, reason: str, seconds: float) -> None:
        """Count an answer that ended, `seconds` after its request."""
        self._success.labels(self._model, reason).inc()
        self._whole.observe(seconds)

    def text(self, load: Load, tokens_held: int) -> bytes:
        """Return everything in Prometheus' text format."""
        self._running.set(load.running)
        self._waiting.set(load.waiting)
        self._cache.set(min(1.0, tokens_held / self._cache_tokens))
        return generate_latest(self._registry)

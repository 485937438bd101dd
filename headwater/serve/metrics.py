"""What the server counts, in Prometheus' text form: GET /metrics. Names are vLLM's behind a prefix of our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headwater.generate import request
from headwater.generate.request import Delta
from headwater.generate.worker import Worker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHORT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0)


class _Load(Collector):
    """What the worker is doing at the moment of asking."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def collect(self) -> Iterator[GaugeMetricFamily]:
        load = self.worker.load
        for name, value, told in (("running", load.active, "Requests in a slot"),
                                  ("waiting", load.waiting, "Requests without a slot yet")):
            yield GaugeMetricFamily(f"headwater_num_requests_{name}", told, value)


class Metrics:
    """Of one server."""

    def __init__(self, worker: Worker) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_Load(worker))
        self._prompt = Counter("headwater_prompt_tokens", "Tokens of accepted prompts", registry=registry)
        self._said = Counter("headwater_generation_tokens", "Tokens of answers", registry=registry)
        self._ended = Counter("headwater_request_success", "Answers that ended", ["finished_reason"],
                              registry=registry)
        self._refused = Counter("headwater_requests_refused", "Requests answered with an error", ["status"],
                                registry=registry)
        self._first = Histogram("headwater_time_to_first_token_seconds", "From a request to its first token",
                                buckets=_SHORT, registry=registry)
        self._between = Histogram("headwater_inter_token_latency_seconds", "Between two tokens of an answer",
                                  buckets=_SHORT, registry=registry)
        self._whole = Histogram("headwater_e2e_request_latency_seconds", "From a request to its last token",
                                buckets=_LONG, registry=registry)

    def watch(self, sequences: Sequence[request.Sequence]) -> Callable[[int, Delta], None]:
        """Counts the answers of an accepted request; is to be shown each of their deltas."""
        began = time.monotonic()
        last: dict[int, float] = {}
        self._prompt.inc(sum(len(sequence.prompt) for sequence in sequences))

        def seen(number: int, delta: Delta) -> None:
            now, tokens = time.monotonic(), len(delta.tokens)
            self._said.inc(tokens)
            if tokens and number not in last:
                self._first.observe(now - began)
            elif tokens:
                for _ in range(tokens):
                    self._between.observe((now - last[number]) / tokens)
            if tokens:
                last[number] = now
            if delta.finish_reason is not None:
                self._whole.observe(now - began)
                self._ended.labels(delta.finish_reason).inc()

        return seen

    def refused(self, status: int) -> None:
        self._refused.labels(str(status)).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)

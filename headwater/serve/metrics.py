"""What the server counts, in Prometheus' text form: GET /metrics. Names are vLLM's behind a prefix of our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headwater.generate.request import Delta
from headwater.generate.worker import Ticket, Worker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REJECTED = {429: "full", 503: "closing"}
"""Statuses of requests that were not accepted, and why."""
_SHORT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0)


class _Load(Collector):
    """What the worker is doing at the moment of asking."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def collect(self) -> Iterator[GaugeMetricFamily]:
        load, engine = self.worker.load, self.worker.engine
        for name, value, told in (
                ("num_requests_running", load.active, "Requests in a slot"),
                ("num_requests_waiting", load.waiting, "Requests without a slot yet"),
                ("kv_cache_usage_perc", load.held / (engine.max_batch * engine.max_length),
                 "Keys and values that are held, of what the slots have room for; 1 is all")):
            yield GaugeMetricFamily(f"headwater_{name}", told, value)


class Metrics:
    """Of one server. Tokens add up to what `usage` tells of all requests; of clients that left, what was made for them
    until then."""

    def __init__(self, worker: Worker) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_Load(worker))

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"headwater_{name}", told, labels, registry=registry)

        def histogram(name: str, told: str, buckets: Sequence[float] = _SHORT) -> Histogram:
            return Histogram(f"headwater_{name}_seconds", told, buckets=buckets, registry=registry)

        self.prompt = counter("prompt_tokens", "Tokens of accepted prompts")
        self.sought = counter("prefix_cache_queries", "Tokens of prompts, of each answer that ended")
        self.found = counter("prefix_cache_hits", "Of these, tokens that had been read for an earlier request")
        self.said = counter("generation_tokens", "Tokens of answers")
        self.ended = counter("request_success", "Answers that ended; abort: their client left",
                             "finished_reason")
        self._refused = counter("requests_refused", "Requests answered with an error", "status")
        self._rejected = counter("admission_rejections", "Requests that were not accepted", "reason")
        for reason in REJECTED.values():
            self._rejected.labels(reason)
        self._calls = counter("tool_calls", "Calls of the server's own tools; wrong: they could not be carried out",
                              "name", "outcome")
        self._sessions = Gauge("headwater_tool_sessions", "Answers, and sessions that wait for one, that may run "
                               "programs of tools", registry=registry)
        self.queue = histogram("request_queue_time", "From a request to its slot", _LONG)
        self.first = histogram("time_to_first_token", "From a request to its first token")
        self.between = histogram("inter_token_latency", "Between two tokens of an answer")
        self.whole = histogram("e2e_request_latency", "From a request to its last token", _LONG)

    def watch(self, tickets: Sequence[Ticket], read: int) -> Watch:
        """Counts the answers of an accepted request. read: tokens of its prompts."""
        self.prompt.inc(read)
        return Watch(self, tickets)

    def watch_sessions(self, running: Callable[[], int]) -> None:
        self._sessions.set_function(running)

    def called(self, name: str, outcome: Literal["done", "failed", "wrong"]) -> None:
        self._calls.labels(name, outcome).inc()

    def refused(self, status: int) -> None:
        self._refused.labels(str(status)).inc()
        if status in REJECTED:
            self._rejected.labels(REJECTED[status]).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


class Watch:
    """Of one request; is to be shown each delta of its answers."""

    def __init__(self, metrics: Metrics, tickets: Sequence[Ticket]) -> None:
        self._metrics, self._tickets = metrics, tickets
        self._last: dict[int, float] = {}

    def seen(self, number: int, delta: Delta, ended: str | None) -> None:
        """ended: why, where this is the last of its answer."""
        now, tokens, metrics = time.monotonic(), len(delta.tokens), self._metrics
        ticket = self._tickets[number]
        metrics.said.inc(tokens)
        if tokens and number not in self._last:
            metrics.first.observe(now - ticket.submitted)
            metrics.queue.observe((ticket.started or now) - ticket.submitted)
        elif tokens:
            for _ in range(tokens):
                metrics.between.observe((now - self._last[number]) / tokens)
        if tokens:
            self._last[number] = now
        if ended is not None:
            metrics.sought.inc(len(ticket.prompt))
            metrics.found.inc(ticket.sequence.cached_tokens)
            metrics.whole.observe(now - ticket.submitted)
            metrics.ended.labels(ended).inc()

    def abandoned(self, number: int) -> None:
        """So many of the answers are read by nobody any more."""
        if number:
            self._metrics.ended.labels("abort").inc(number)

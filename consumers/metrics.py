"""The consumer's numbers, under the names of `schemas/metrics.py`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from schemas import metrics as names

SINKS = CollectorRegistry()
"""Where a sink puts numbers of its own; `/metrics` shows them beside the loop's."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts of one consumer, in a registry of their own."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._registry = CollectorRegistry()
        self.events_done = self._counter(names.EVENTS_DONE, "Events durable in the sink and committed").labels(consumer)
        self._dead_letters = Counter(
            names.DEAD_LETTERS, "Dead letters written", ("consumer", "reason"), registry=self._registry
        )
        self.lag = self._gauge(names.LAG, "Records behind the ends of the live partitions")
        self.replay_lag = self._gauge(names.REPLAY_LAG, "Records behind the ends of the replay partitions")
        self.sink_available = self._gauge(names.SINK_AVAILABLE, "0 while the consumer waits for its sink")
        self.suppressed = self._counter(names.SUPPRESSED, "Events of erased contacts, left out").labels(consumer)
        self.expired = self._counter(names.EXPIRED, "Records that expired before they were done").labels(consumer)
        self.left_to_live = self._counter(names.LEFT_TO_LIVE, "Replayed, left to their live record").labels(consumer)
        self.erasures_owed = self._gauge(names.ERASURES_OWED, "Erasures without a receipt of this process")
        self.last_commit = self._gauge(names.LAST_COMMIT, "When offsets were last committed")
        self.write_seconds = Histogram(
            names.WRITE_SECONDS, "One call of the sink", ("consumer",), registry=self._registry, buckets=_SECONDS
        ).labels(consumer)

    def dead_letter(self, reason: str) -> None:
        """Count one dead letter; reasons are typed, so their number has a bound."""
        self._dead_letters.labels(self._consumer, reason).inc()

    def text(self) -> bytes:
        """Return what `/metrics` answers."""
        return generate_latest(self._registry) + generate_latest(SINKS)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ("consumer",), registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ("consumer",), registry=self._registry).labels(self._consumer)

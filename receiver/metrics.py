"""The receiver's numbers under the names of `schemas/metrics.py`, in Prometheus' form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from receiver.counts import BOUNDS_S, Counts, Latencies
from schemas import metrics as names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from receiver.journal import Journal
    from receiver.left_journals import LeftJournals
    from receiver.retry_window import RetryWindow
    from receiver.stalls import Stalls
    from receiver.strangers import Connections
    from receiver.tls import Tls
    from receiver.tokens import Tokens


class Metrics(Collector):
    """Reads what the parts count, when it is asked to."""

    def __init__(
        self,
        counts: Counts,
        journal: Journal,
        tokens: Tokens,
        window: RetryWindow,
        journal_quota_bytes: int,
        connections: Connections,
        stalls: Stalls,
        left: LeftJournals,
        tls: Tls | None = None,
    ) -> None:
        self._counts = counts
        self._journal = journal
        self._tokens = tokens
        self._window = window
        self._journal_quota_bytes = journal_quota_bytes
        self._connections = connections
        self._stalls = stalls
        self._left = left
        self._tls = tls
        self._last_at_start = journal.last
        self._waiting_at_start = journal.waiting
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    async def text(self) -> bytes:
        """Return what `/metrics` answers."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield every metric of the receiver."""
        yield from self._way_in()
        yield from self._server()
        yield from self._journaled()
        yield from self._publisher()

    def _way_in(self) -> Iterable[Metric]:
        counts = self._counts
        traffic = {name: counts.traffic[name] for name in self._merchants()}.items()
        yield _counters(names.RECEIVED, "merchant", {name: seen.received for name, seen in traffic})
        yield _counters(names.ACKNOWLEDGED, "merchant", {name: seen.acknowledged for name, seen in traffic})
        yield _counters(names.REFUSED, "cause", counts.refused)
        yield _counter(names.NOT_FOUND, counts.not_found)
        yield _counters(names.TURNED_AWAY, "cause", counts.turned_away)
        yield _counter(names.BAD_REQUESTS, counts.bad_requests)
        yield _counter(names.ACK_WAITS_OVER, counts.ack_waits_over)
        yield _histogram(names.ACKNOWLEDGE_SECONDS, counts.latencies)
        yield self._tokens_last_seen()
        yield _gauge(names.MERCHANTS_FILE_OK, self._tokens.file_ok)
        yield _gauge(names.SECONDS_TO_LOSS, self._window.seconds_to_loss())
        yield _counter(names.POSSIBLY_LOST, self._window.possibly_lost)

    def _server(self) -> Iterable[Metric]:
        yield _gauge(names.CONNECTIONS, self._connections.count)
        yield _counter(names.CROWDED_OUT, self._connections.crowded_out)
        yield _gauge(names.STALL_SECONDS, self._stalls.late_s.value)
        yield _gauge(names.STALL_BUSY_SECONDS, self._stalls.busy_s.value)
        tls = self._tls  # without TLS there is no value: an alarm on a near end stays quiet
        yield GaugeMetricFamily(names.TLS_FILES_OK, "", value=None if tls is None else float(tls.files_ok))
        yield GaugeMetricFamily(names.TLS_EXPIRES, "", value=None if tls is None else tls.expires_s)

    def _journaled(self) -> Iterable[Metric]:
        journal = self._journal
        yield _counter(names.JOURNALED, journal.last - self._last_at_start)
        yield _gauge(names.JOURNAL_WAITING, journal.waiting)
        yield _gauge(names.LEFT_WAITING, self._left.waiting)
        yield _gauge(names.JOURNAL_BYTES, journal.bytes_used)
        yield _gauge(names.JOURNAL_QUOTA_BYTES, self._journal_quota_bytes)
        yield _gauge(names.JOURNAL_RECOVERED, self._waiting_at_start + self._left.recovered)
        yield _counter(names.JOURNAL_DAMAGED, journal.damaged_callbacks + self._counts.publishing.damaged)

    def _publisher(self) -> Iterable[Metric]:
        counts = self._counts.publishing
        yield _counters(names.PUBLISHED, "merchant", {name: counts.published[name] for name in self._merchants()})
        yield _counter(names.DECODED, counts.decoded)
        yield _counters(names.QUARANTINED, "reason", counts.quarantined)
        yield _counter(names.EMPTY, counts.empty)
        yield _counters(names.QUARANTINE_RECORDS, "reason", counts.quarantine_records)
        yield _counter(names.RESTAMPED, counts.restamped)
        yield _counter(names.REPEATS, counts.repeats)
        yield _counter(names.PUBLISH_FAILURES, counts.publish_failures)
        yield _gauge(names.KAFKA_UP, counts.kafka_up)
        yield _gauge(names.LAST_PUBLISHED, counts.last_published_s)

    def _merchants(self) -> list[str]:
        """Those that may post, and those that did: a counter is there, at 0, before it first counts."""
        may_post = {token.merchant for token in self._tokens.active}
        return sorted(may_post | self._counts.traffic.keys() | self._counts.publishing.published.keys())

    def _tokens_last_seen(self) -> Metric:
        family = GaugeMetricFamily(names.TOKEN_LAST_SEEN, "", labels=("merchant", "token"))
        for token in self._tokens.active:
            family.add_metric((token.merchant, token.token_id), token.last_seen_s)
        return family


def _counter(name: str, value: float) -> Metric:
    return CounterMetricFamily(name, "", value=value)


def _counters(name: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, "", labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, "", value=float(value))


def _histogram(name: str, latencies: Latencies) -> Metric:
    cumulative, so_far = [], 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), latencies.buckets, strict=True):
        so_far += count
        cumulative.append((bound, so_far))
    return HistogramMetricFamily(name, "", buckets=cumulative, sum_value=latencies.sum_s)

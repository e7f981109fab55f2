"""``/metrics``: the status, a sample of latencies and what processes use, in Prometheus's words.

Counters are those that mcm keeps anyway; nothing is counted here.  Importing this costs 60 ms, so it is imported when
the metrics are asked for first.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mcm.core.latency import BOUNDS_S, Histogram
from mcm.core.ledger import rejected
from mcm.core.status import Status
from mcm.web import processes

__all__ = ["Measured", "text"]

STATES = ("starting", "connecting", "live", "backoff", "parked", "paused", "down", "stopped")


class Measured(NamedTuple):
    """What there is to show.

    Attributes:
        inside, vendor: line → latencies, see web.sampler.
        pages: open now; waiting_bytes: for those that do not read.
    """

    status: Status
    run_dir: Path
    inside: dict[str, Histogram]
    vendor: dict[str, Histogram]
    pages: int
    waiting_bytes: int


def text(measured: Measured) -> bytes:
    """The metrics in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(measured))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        status = self._measured.status
        yield _value("mcm_ready", "1 while every line is live", float(status.state == "ready"))
        yield _value("mcm_uptime_seconds", "since the supervisor started", status.uptime_s)
        yield from _of_lines(status)
        yield from _of_router(status)
        yield from _of_topics(status)
        yield from _of_processes(status)
        yield from _of_queues(self._measured)
        inside = "from a worker's reading to the arrival at the dashboard; sampled"
        yield _latencies("mcm_inside_latency_seconds", inside, self._measured.inside)
        vendor = "from an event's own time to a worker's reading; sampled"
        yield _latencies("mcm_vendor_lag_seconds", vendor, self._measured.vendor)


def _value(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _latencies(name: str, words: str, by_line: dict[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, words, labels=["connection"])
    bounds = [str(bound) for bound in BOUNDS_S] + ["+Inf"]
    for line, histogram in by_line.items():
        buckets, total = [], 0
        for bound, count in zip(bounds, histogram.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric([line], buckets, sum_value=histogram.sum_s)
    return family


def _of_lines(status: Status) -> Iterator[Metric]:
    names = ["connection", "market"]
    ticks = CounterMetricFamily("mcm_ticks", "that a worker has read", labels=names)
    channels = CounterMetricFamily(
        "mcm_channel_ticks", "the same by channel, counted every five seconds", labels=[*names, "channel"]
    )
    rate = GaugeMetricFamily("mcm_ticks_per_second", "over the last five seconds", labels=names)
    age = GaugeMetricFamily("mcm_last_tick_age_seconds", "since the last tick", labels=names)
    state = GaugeMetricFamily("mcm_connection_state", "1 for the present state", labels=[*names, "state"])
    wanted = GaugeMetricFamily("mcm_topics_wanted", "topics that it is to carry", labels=names)
    confirmed = GaugeMetricFamily("mcm_topics_confirmed", "topics that the upstream has confirmed", labels=names)
    reconnects = CounterMetricFamily("mcm_reconnects", "lines opened after the first", labels=names)
    errors = CounterMetricFamily("mcm_connection_errors", "by reason", labels=[*names, "reason"])
    unread = CounterMetricFamily("mcm_ledger_rejected", "events that could not be read", labels=names)
    for name, line in status.connections.items():
        of = [name, line.market]
        ticks.add_metric(of, line.ticks)
        rate.add_metric(of, line.ticks_per_s)
        wanted.add_metric(of, line.wanted)
        confirmed.add_metric(of, line.confirmed)
        reconnects.add_metric(of, line.reconnects)
        unread.add_metric(of, rejected(line.errors))
        if line.last_tick_age_s is not None:
            age.add_metric(of, line.last_tick_age_s)
        for channel, count in line.channels.items():
            channels.add_metric([*of, channel], count)
        for one in STATES:
            state.add_metric([*of, one], float(one == line.state))
        for reason, count in line.errors.items():
            errors.add_metric([*of, reason], count)
    yield from (ticks, channels, rate, age, state, wanted, confirmed, reconnects, errors, unread)
    allowed = GaugeMetricFamily("mcm_account_allowed", "connections that the account is known to allow",
                                labels=["market"])  # fmt: skip
    running = GaugeMetricFamily("mcm_account_running", "connections that are up", labels=["market"])
    for market, account in status.account.items():
        allowed.add_metric([market], account.allowed)
        running.add_metric([market], account.running)
    yield from (allowed, running)


def _of_router(status: Status) -> Iterator[Metric]:
    router = status.router
    words = "of the router since the journal's epoch began; received is the sum of the others and of what is held"
    ledger = CounterMetricFamily("mcm_ledger_ticks", words, labels=["outcome"])
    for outcome in ("received", "published", "duplicates"):
        ledger.add_metric([outcome], getattr(router, outcome))
    yield ledger
    yield _value("mcm_ledger_held_ticks", "kept until a line that has come back is in step", router.held)
    yield CounterMetricFamily("mcm_ledger_lost_batches", "that are in no file", value=router.lost_batches)
    yield CounterMetricFamily("mcm_router_rejected", "messages that were no batch", value=router.rejected)
    yield CounterMetricFamily("mcm_router_skipped_batches", "read from link files", value=router.skipped)
    yield _value("mcm_router_durable", "0 while the journal's disk is full", float(router.not_durable_since is None))
    yield _value("mcm_router_descriptors", "open files, one by each subscriber", router.descriptors)
    yield _value("mcm_router_descriptor_limit", "files that may be open", router.descriptor_limit)


def _of_topics(status: Status) -> Iterator[Metric]:
    yield _value("mcm_gap_topics", "topics that nobody receives", status.gaps)
    yield _value("mcm_unplaced_topics", "topics that no connection can carry", len(status.unplaced))
    yield _value("mcm_short_topics", "topics with fewer copies than wanted", len(status.short))
    yield _value("mcm_stuck_topics", "topics that could not be moved", len(status.stuck))
    yield _value("mcm_leased_topics", "topics that programs have asked for", sum(status.leases.values()))
    if status.gateway is not None:
        yield _value("mcm_gateway_clients", "connected to the gateway", status.gateway.clients)
        yield _value("mcm_gateway_slow_clients", "closed because they did not read, in its life", status.gateway.slow)
        yield _value("mcm_gateway_lost_ticks", "that its clients never got, in its life", status.gateway.lost)


def _of_processes(status: Status) -> Iterator[Metric]:
    cpu = CounterMetricFamily("mcm_process_cpu_seconds", "of its present life", labels=["process"])
    resident = GaugeMetricFamily("mcm_process_resident_bytes", "memory", labels=["process"])
    restarts = CounterMetricFamily("mcm_process_restarts", "starts after the first", labels=["process"])
    for name, pid, _, count in processes.named(status):
        restarts.add_metric([name], count)
        if (used := processes.usage(pid)) is not None:
            cpu.add_metric([name], used.cpu_s)
            resident.add_metric([name], used.resident_bytes)
    yield from (cpu, resident, restarts)


def _of_queues(measured: Measured) -> Iterator[Metric]:
    links = GaugeMetricFamily(
        "mcm_link_bytes", "link files on disk: what the router has not passed, and what is not yet deleted",
        labels=["connection"],
    )  # fmt: skip
    for name in measured.status.connections:
        links.add_metric([name], processes.bytes_in(measured.run_dir / "link" / name))
    yield links
    yield _value("mcm_journal_bytes", "on disk", processes.bytes_in(measured.run_dir / "journal"))
    yield _value("mcm_dashboard_pages", "open now", measured.pages)
    yield _value("mcm_dashboard_queue_bytes", "that wait for pages which do not read", measured.waiting_bytes)

"""What more connections, subscribers and topics cost."""

from tests.bench.costs import spent
from tests.bench.programs import TickLost, load
from tests.bench.rig import mcm_on, pids_of, subscriber_on
from tests.bench.tape import Shape, counts
from tests.bench.throughput import Contestant, Result, pipeline, run

__all__ = ["by_connections", "by_subscribers", "by_topics", "of_one_topic"]

EVENTS_PER_FRAME = 4


def by_connections(connections: int, ticks: int) -> Result:
    """At saturation."""
    shape = Shape(events_per_frame=EVENTS_PER_FRAME, shares=connections)
    return run(Contestant(f"{connections} connections", pipeline), shape, ticks)


def by_topics(topics: int, ticks: int, ticks_per_s: float | None = None) -> Result:
    """At saturation, or at a pace."""
    shape = Shape(events_per_frame=EVENTS_PER_FRAME, symbols=topics // 2)
    return run(Contestant(f"{topics} topics", pipeline), shape, ticks, ticks_per_s=ticks_per_s)


def by_subscribers(subscribers: int, ticks: int, ticks_per_s: float, *, topic: str = "stocks.*") -> Result:
    """At a pace: so many Subscribers of everything, or of one topic each (the same one)."""
    return _paced(Shape(events_per_frame=EVENTS_PER_FRAME), ticks, ticks_per_s, subscribers, topic)


def of_one_topic(topics: int, ticks: int, ticks_per_s: float) -> Result:
    """At a pace: one Subscriber of one of so many topics."""
    shape = Shape(events_per_frame=EVENTS_PER_FRAME, symbols=topics // 2)
    item = min(counts(shape, ticks))
    return _paced(shape, ticks, ticks_per_s, 1, f"stocks.{item}")


def _paced(shape: Shape, ticks: int, ticks_per_s: float, subscribers: int, topic: str) -> Result:
    expected = ticks if topic == "stocks.*" else counts(shape, ticks)[topic.removeprefix("stocks.")]
    with load() as feed:
        feed.render(shape, ticks)
        with mcm_on(feed, shape) as mcm, subscriber_on(mcm, expected, topic, number=subscribers) as readers:
            pids, programs = pids_of(mcm), {str(number): one.pid for number, one in enumerate(readers)}
            before = spent(pids) | {"subscribers": sum(spent(programs).values())}
            feed.pace(ticks_per_s)
            sent = feed.sent()
            heard = [reader.hear() for reader in readers]
            mcm.wait(lambda status: status.router.published >= ticks, because="everything is published")
            after = spent(pids) | {"subscribers": sum(spent(programs).values())}
    for one in heard:
        if one["received"] != expected:
            raise TickLost(f"one of {subscribers} Subscribers", expected, one["received"])
    seconds = (max(one["at_ns"] for one in heard) - sent["begun_ns"]) / 1e9
    return Result(ticks, seconds, {name: after[name] - before[name] for name in before})

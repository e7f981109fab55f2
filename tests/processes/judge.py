"""What was sent, what was received, what was delivered: the three accounts that a fault must not part.

Sent: the simulator's tape and what it says it wrote to whom.  Received: the workers' link files, which the tests keep.
Delivered: what a Subscriber handed out.
"""

import json
import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from mcm import Subscriber
from mcm.core.errors import NotRunning
from mcm.core.follow import Lost, Reset
from mcm.core.gaps import GapClosed, GapRecord
from mcm.core.status import Status
from mcm.core.wire import decode_batch
from mcm.journal import Reader
from mcm.simulator.launch import Simulator
from tests.processes.stack import Mcm, wait_until

__all__ = [
    "LINES",
    "Balance",
    "Collector",
    "Trial",
    "balance",
    "joined_ms",
    "keys_of",
    "missed",
    "outside",
    "pid_of",
    "received",
    "say",
    "sent_to_lines",
    "settle",
]

# What the lines of stack.THREE_LINES carry.
LINES = {
    "primary": ["stocks.T.AAPL", "stocks.Q.AAPL", "stocks.T.MSFT", "stocks.Q.MSFT"],
    "secondary": ["stocks.T.JPM", "stocks.Q.JPM", "stocks.T.BAC", "stocks.Q.BAC"],
    "tertiary": ["stocks.T.PLTR", "stocks.T.SHOP"],
}
ALL_TOPICS = [topic for topics in LINES.values() for topic in topics]

Key = tuple[object, ...]
_split = msgspec.msgpack.Decoder(list[dict[str, object]]).decode


def key_of(tick: dict[str, object]) -> Key:
    """What tells ticks of one topic apart on the simulator's tape: every trade and quote has its own ``q``."""
    return (tick.get("q"), tick.get("t", tick.get("s")))


def keys_of(texts: list[str]) -> list[Key]:
    """Of events as they stood on the wire."""
    return [key_of(json.loads(text)) for text in texts]


class Collector(threading.Thread):
    """A Subscriber in a thread; keeps the keys of every tick by topic, and every complaint.

    With *since* = 1 it begins with the first tick of the journal: then everything that was received must come.
    """

    def __init__(self, run_dir: Path, *topics: str, cursor: bytes | None = None, since: int | None = None) -> None:
        super().__init__(daemon=True)
        self.complaints: list[Lost | Reset] = []
        self.gaps: list[GapRecord] = []
        self.subscriber = Subscriber(topics, run_dir=run_dir, cursor=cursor, since=since, on_gap=self._hear)
        self.delivered: dict[str, list[Key]] = defaultdict(list)
        self.cursor: bytes | None = None
        self.start()

    def _hear(self, event: Lost | Reset | GapRecord) -> None:
        if isinstance(event, Lost | Reset):
            self.complaints.append(event)
        else:
            self.gaps.append(event)

    def run(self) -> None:
        try:
            for topic, encoded in self.subscriber.raw():
                self.delivered[topic.decode()] += [key_of(tick) for tick in _split(encoded)]
        except NotRunning:
            pass

    def count(self) -> int:
        return sum(map(len, self.delivered.values()))

    def wait_for_more(self, ticks: int) -> None:
        """Wait until more than so many further ticks are delivered."""
        before = self.count()
        wait_until(lambda: self.count() > before + ticks, because=f"{ticks} more ticks are delivered")

    def lag_s(self, *topics: str) -> float:
        """Age of the newest delivered tick of the topic that is most behind."""
        newest = [self.delivered[topic][-1:] for topic in topics]
        times = [key[0][1] if key else 0 for key in newest]
        return time.time() - min(at for at in times if isinstance(at, int)) / 1e3

    def end(self) -> None:
        """Stop behind the tick in hand, and know the cursor."""
        self.subscriber.stop()
        self.join(20)
        self.cursor = self.subscriber.cursor
        self.subscriber.close()


def received(run_dir: Path, *names: str) -> dict[str, list[Key]]:
    """What the link files of these connections hold, or of all: topic → keys, incarnation by incarnation."""
    found: dict[str, list[Key]] = defaultdict(list)
    for name in names or tuple(entry.name for entry in (run_dir / "link").iterdir()):
        for incarnation in sorted((run_dir / "link" / name).glob("*-*")):
            reader = Reader(incarnation)
            while records := reader.read(1 << 24):
                for _, _, payload in records:
                    for topic, _, ticks in decode_batch(payload).groups:
                        if topic.startswith(b"mcm."):
                            continue
                        found[topic.decode()] += [key_of(tick) for tick in _split(ticks)]
            reader.close()
    return found


def sent_to_lines(simulator: Simulator, topic: str) -> list[list[Key]]:
    """What the simulator wrote of *topic*, range by range in the order of the tape, over all connections."""
    ranges = sorted(
        (first, last)
        for connection in simulator.remote.report().connections
        for first, last in connection.ranges.get(topic, ())
    )
    return [keys_of(simulator.remote.tape(topic, first, last)) for first, last in ranges]


def settle(simulator: Simulator, collector: Collector, *topics: str) -> None:
    """Stop the tape and wait until its last event of every topic has been delivered."""
    simulator.remote.pause()
    ticked = simulator.remote.report().topics
    counts = {topic: ticked[topic].count for topic in topics}
    last = {topic: keys_of(simulator.remote.tape(topic, count, count))[0] for topic, count in counts.items()}
    wait_until(
        lambda: all(collector.delivered[topic][-1:] == [key] for topic, key in last.items()),
        because="the last event of every topic is delivered",
    )


# --- the verdict ------------------------------------------------------------------------------------------------------


class Balance(NamedTuple):
    """Ticks over all topics; *disordered* counts topics."""

    received: int
    delivered: int
    lost: int
    repeated: int
    phantom: int
    disordered: int

    @property
    def is_exact(self) -> bool:
        """Whether what was received was delivered once and in order, and nothing else, and something at all."""
        return self.received == self.delivered > 0 and not any(self[2:])


def balance(files: Mapping[str, Sequence[Key]], delivered: Mapping[str, Sequence[Key]]) -> Balance:
    """What was received against what was delivered."""
    lost = repeated = phantom = disordered = 0
    for topic in {*files, *delivered}:
        came, got = Counter(files.get(topic, ())), Counter(delivered.get(topic, ()))
        lost += (came - got).total()
        for key, times in (got - came).items():
            if key in came:
                repeated += times
            else:
                phantom += times
        order = [key for key in dict.fromkeys(files.get(topic, ())) if key in got]
        disordered += order != [key for key in dict.fromkeys(delivered.get(topic, ())) if key in came]
    return Balance(
        sum(map(len, files.values())), sum(map(len, delivered.values())), lost, repeated, phantom, disordered
    )


def missed(simulator: Simulator, files: Mapping[str, Sequence[Key]], topic: str) -> list[int]:
    """When the events ticked (wall clock, ms) that no line has received since it received the first of *topic*."""
    tape, known = keys_of(simulator.remote.tape(topic)), set(files[topic])
    first = tape.index(files[topic][0])
    assert known <= set(tape), f"{topic}: what the link files hold was never sent"
    return [at for key in tape[first:] if key not in known and isinstance(at := key[1], int)]


def outside(times_ms: Sequence[int], gaps: Sequence[GapRecord], topic: str) -> list[int]:
    """Those of *times_ms* that lie in no closed gap of *topic*, to the millisecond of the tape."""
    named = [(gap.since_ns, gap.until_ns) for gap in gaps if isinstance(gap, GapClosed) and topic in gap.topics]
    return [at for at in times_ms if not any(since - 10**6 <= at * 10**6 <= until + 10**6 for since, until in named)]


def joined_ms(simulator: Simulator, topic: str) -> int:
    """When the simulator acknowledged the newest subscription of *topic*: the time of the first event after it, ms."""
    ranges = [one.ranges.get(topic, ()) for one in simulator.remote.report().connections]
    first = max(first for pairs in ranges for first, _ in pairs)
    at = keys_of(simulator.remote.tape(topic, first, first))[0][1]
    assert isinstance(at, int)
    return at


def pid_of(status: Status, name: str) -> int | None:
    """Of a connection, of ``router``, ``replay`` or ``supervisor``; None while it does not run."""
    match name:
        case "supervisor":
            return status.pid
        case "router":
            return status.router.pid
        case "replay":
            return status.replay.pid
        case _:
            return status.connections[name].pid


def say(text: str) -> None:
    """Tell whoever asks for it (``pytest -rP``) what was measured."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Trial:
    """One fault: a vendor, an mcm with three lines under load, and a Subscriber that has seen every tick.

    Attributes:
        collector: that Subscriber.
    """

    TOLERANCE_MS = 500
    CAUGHT_UP_S = 1.0

    def __init__(self, simulator: Simulator, mcm: Mcm, *topics: str) -> None:
        self.simulator, self.mcm = simulator, mcm
        self.collector = Collector(mcm.run_dir, *(topics or ("stocks.*",)), since=1)
        self.flow(500)
        self.catch_up()

    # --- before and during the fault

    def pid(self, name: str) -> int:
        """Of a connection, of ``router``, ``replay`` or ``supervisor``."""
        pid = pid_of(self.mcm.status(), name)
        assert pid is not None, f"{name} does not run"
        return pid

    def replaced(self, name: str, *old: int) -> int:
        """Wait for another process in the place of *old*, and for everything to be ready; its pid."""
        status = self.mcm.wait(
            lambda status: pid_of(status, name) not in {None, *old} and status.state == "ready",
            because=f"{name} was started again and all is ready",
            within_s=30,
        )
        pid = pid_of(status, name)
        assert pid is not None
        return pid

    def flow(self, ticks: int) -> None:
        """Wait until so many more ticks are delivered."""
        self.collector.wait_for_more(ticks)

    def load(self) -> Callable[[], float]:
        """A function that says which share of its nominal rate the simulator has really ticked since now."""
        began = self.simulator.remote.report()

        def share() -> float:
            ended = self.simulator.remote.report()
            ticked = sum(topic.count for topic in ended.topics.values())
            ticked -= sum(topic.count for topic in began.topics.values())
            return ticked / (ended.now_s - began.now_s) / ended.ticks_per_s

        return share

    @staticmethod
    def is_loaded(share: float) -> bool:
        """Whether a share of the nominal rate is enough to count: less where others want the cores as well."""
        waiting = os.getloadavg()[0] / (os.cpu_count() or 1)  # processes per core, our own among them
        return share >= (0.9 if waiting <= 1 else 0.7 if waiting <= 2 else 0.3)

    def last_moment_ms(self) -> int:
        """Wall clock of what is surely read by now: what a worker that is killed next has not read is younger."""
        return int((time.time() - self.collector.lag_s(*ALL_TOPICS)) * 1e3)

    def catch_up(self) -> float:
        """Wait until every topic is delivered with less than a second of delay; seconds that this took from now."""
        began = time.monotonic()
        wait_until(
            lambda: self.collector.lag_s(*ALL_TOPICS) < self.CAUGHT_UP_S,
            because="every topic is up to date",
            within_s=30,
        )
        return time.monotonic() - began

    # --- after it

    def verdict(self, *, lines: Sequence[str] = (), fault_ms: int = 0) -> Balance:
        """Let it settle, then judge; raises AssertionError unless everything received was delivered exactly once.

        Of *lines* events may be missing that nobody has read: from half a second before *fault_ms* to half a second
        after the simulator has acknowledged the subscription again.  Of the others, none.
        """
        settle(self.simulator, self.collector, *ALL_TOPICS)
        files = received(self.mcm.run_dir)
        found = balance(files, self.collector.delivered)
        assert found.is_exact, f"{found}\n{self.mcm.logs()}"
        assert self.collector.complaints == []
        for name, topics in LINES.items():
            for topic in topics:
                times = missed(self.simulator, files, topic)
                if name not in lines:
                    assert times == [], f"{topic}: {len(times)} events never reached its healthy line"
                elif times:
                    assert min(times) >= fault_ms - self.TOLERANCE_MS
                    assert max(times) <= joined_ms(self.simulator, topic) + self.TOLERANCE_MS
                    unnamed = outside(times, self.collector.gaps, topic)
                    assert unnamed == [], f"{topic}: {len(unnamed)} of {len(times)} missing events are in no named gap"
        return found

    def end(self) -> None:
        self.collector.end()

"""The router: takes batches from all workers, numbers them, journals them, and publishes one message per topic.

One poll loop, no asyncio, and no tick is ever decoded.  A batch comes over the socket if all goes well; what did not
is read from the worker's link file, from which the router also starts: start is recovery, there is no other path.
Nothing that arrives can stop it: what is no batch is counted.
"""

import heapq
import logging
import math
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec

from mcm import bus, journaling, links, runtime
from mcm.core import sabotage
from mcm.core.acceptance import Acceptance
from mcm.core.control import (
    LEAST_DESCRIPTORS,
    BatchesLost,
    Down,
    Failed,
    Ready,
    RouterReport,
    RouterSettings,
    Stop,
)
from mcm.core.errors import UsageError
from mcm.core.exits import Exit
from mcm.core.notices import BACKFILL, CONTROL, SUPERVISOR, LineMark, readable_notices
from mcm.core.record import Accepted
from mcm.core.status import CROWDED
from mcm.core.testing import Testing
from mcm.core.wire import HEARTBEAT, WIRE_VERSION, Batch, Heartbeat, Message, decode_batch, encode_ticks
from mcm.journaling import Journal
from mcm.links import Incoming, Missing, Stored
from mcm.quarantine import Quarantine

log = logging.getLogger("mcm.router")

HEARTBEAT_S = 0.25
REPORT_S = 1.0
LOOK_S = 0.05
LOOK_BYTES = 1024 * 1024
LAG_LIMIT_NS = 20 * 10**9  # two thirds of the window in which arbitration knows an event again
BATCHES_PER_TURN = 200
WAITING_BATCHES = 2_000  # of a link that is behind; the oldest go, because files have nearly always all of them
WAITING_S = 1.0
ABSURD = 10**9  # batches that a forged one may claim to follow


class Router:
    """Every link's files, the state of the number line, and the journal it is kept in.

    Attributes:
        rejected: messages on the inlet, or records of a link, that were no batch.
        skipped: batches that came by the file, because the socket did not bring them.
        must_report: the supervisor waits for an acknowledgement.
        losses: what it has to be told of.
    """

    def __init__(
        self, run_dir: Path, acceptance: Acceptance, journal: Journal, quarantine: Quarantine, testing: Testing
    ) -> None:
        self._run_dir, self._quarantine, self._testing = run_dir, quarantine, testing
        self._chance, self._is_sabotaged = Random(), sabotage.is_wanted(testing)
        self.acceptance, self._journal = acceptance, journal
        self._incoming: dict[str, Incoming] = {}
        self._behind: set[str] = set()
        self._waiting: dict[str, tuple[float, deque[Batch]]] = {}  # since when, and what
        self._outlet: bus.Socket[bytes] | None = None
        self.rejected = self.skipped = 0
        self.must_report = False
        self.losses: list[BatchesLost] = []
        self._is_merging = False  # the streams of all links by time: none of them may be read beside that
        for name in {*links.names(run_dir), *acceptance.taken}:
            self._link(name)

    def _link(self, name: str) -> Incoming:
        if name not in self._incoming:
            taken = self.acceptance.taken.get(name)
            self._incoming[name] = Incoming(self._run_dir, name, taken, keep=self._testing.keep_links)
        return self._incoming[name]

    # --- batches

    def recover(self, alive: Callable[[], None] = lambda: None) -> None:
        """Take everything that the link files hold, in the order in which the workers read it."""
        streams = [self._stored(name) for name in {*links.names(self._run_dir), *self._incoming}]
        self._is_merging = True
        for batch in heapq.merge(*streams, key=lambda batch: batch.monotonic_ns):
            self.accept(batch)
            alive()
        self._is_merging = False

    def _stored(self, name: str) -> Iterator[Batch]:
        while found := list(self._link(name).read(LOOK_BYTES)):
            for frame in found:
                batch = self._readable(name, frame)
                if batch is not None:
                    yield batch

    def _readable(self, name: str, found: Stored | Missing) -> Batch | None:
        """The batch of a link's record; what is none, or should be there and is not, is counted."""
        if isinstance(found, Missing):
            log.warning("%s: the link file lacks batches %d to %d", name, found.first, found.last)
            return None
        epoch, sequence, frame = found
        if self._quarantine.keeps(name, epoch, sequence, frame):
            return None
        self._quarantine.begin(epoch, sequence)
        batch = None
        try:
            batch = decode_batch(frame)
        except msgspec.MsgspecError as error:
            self._reject(error)
        self._quarantine.end()
        return batch

    def _reject(self, error: Exception) -> None:
        self.rejected += 1
        log.warning("%d messages on the inlet were no batch so far; the newest: %s", self.rejected, error)

    def pushed(self, frames: list[bytes]) -> None:
        """Take what came over the socket, if its turn is now; else its link's files are looked at."""
        try:
            (frame,) = frames
            batch = decode_batch(frame)
        except (msgspec.MsgspecError, ValueError) as error:
            self._reject(error)
            return
        name = batch.connection
        if self.acceptance.is_next(name, batch.link_epoch, batch.sequence):
            self.accept(batch)
            self._link(name).passed(batch.sequence, len(frame))
        elif self.acceptance.missing_before(name, batch.link_epoch, batch.sequence) >= 0:
            self._behind.add(name)
            # Its file should have it, and all before it; a link on a full disk has only this.
            waiting = self._waiting.setdefault(name, (time.monotonic(), deque(maxlen=WAITING_BATCHES)))
            waiting[1].append(batch)

    def accept(self, batch: Batch) -> None:
        """Number, journal and publish one batch, unless it is known."""
        missing = self.acceptance.missing_before(batch.connection, batch.link_epoch, batch.sequence)
        if missing < 0:
            return
        if missing:
            self._miss(min(missing, ABSURD), batch)
        if batch.connection == SUPERVISOR:
            self._read_ended(batch)
            self.must_report = True
        if self._is_sabotaged:
            batch = sabotage.sabotaged(batch, self._testing)
        self._quarantine.begin(batch.link_epoch, batch.sequence)
        if self._testing.poison and self._testing.poison == f"{batch.connection}/{batch.sequence}":
            os.kill(os.getpid(), signal.SIGKILL)
        self._publish(*self.acceptance.accept(batch))
        self._quarantine.end()

    def _miss(self, batches: int, before: Batch) -> None:
        """Nothing has these batches: they are counted, and the supervisor names the gap."""
        name, acceptance = before.connection, self.acceptance
        acceptance.counters.lost_batches += batches
        log.warning("%s: %d batches never reached the router", name, batches)
        if name not in {SUPERVISOR, BACKFILL}:
            self.losses.append(BatchesLost(name, batches, acceptance.read_ns.get(name, 0), before.received_ns))

    def _read_ended(self, batch: Batch) -> None:
        """Where the supervisor says that a line is over, take first all that the line has left."""
        if self._is_merging:
            return  # all that a line left is older than the word of its end, and is being taken in that order
        for group in batch.groups:
            for notice in readable_notices(group.ticks) if group.topic == CONTROL else ():
                if isinstance(notice, LineMark):
                    for rest in self._stored(notice.connection):
                        self.accept(rest)

    def release(self) -> None:
        """Publish what arbitration has held long enough."""
        if not self._behind and (released := self.acceptance.due(time.monotonic_ns(), time.time_ns())) is not None:
            self._publish(*released)

    def _publish(self, first_offset: int, record: Accepted) -> None:
        self._journal.append(first_offset, record)
        if self._outlet is not None:
            send = self._outlet.send
            for topic, message in record.frames(first_offset):
                if not self._testing.drop_publish or self._chance.random() >= self._testing.drop_publish:
                    send(message.encode(topic))

    def look(self, *, at_all: bool) -> None:
        """Read from the link files of those that are behind, or of all of them, at most 1 MiB each."""
        for name in links.names(self._run_dir) if at_all else ():
            self._link(name)
        for name in list(self._incoming if at_all else self._behind):
            found = list(self._link(name).read(LOOK_BYTES))
            if not found:
                self._behind.discard(name)
                self._take_waiting(name)
            for stored in found:
                batch = self._readable(name, stored)
                if batch is None:
                    continue
                if self.acceptance.missing_before(name, batch.link_epoch, batch.sequence) >= 0:
                    self.skipped += 1
                self.accept(batch)

    def _take_waiting(self, name: str) -> None:
        """A link's file has nothing more: what it should have had by now, and came by the socket, is in no file."""
        since, batches = self._waiting.get(name, (math.inf, ()))
        if not batches or time.monotonic() - since < WAITING_S:
            return
        del self._waiting[name]
        for batch in batches:
            if batch.link_epoch == self._link(name).epoch:  # else it is of no worker of ours, or of a dead one
                self.accept(batch)

    @property
    def is_behind(self) -> bool:
        """Whether a link's files are known to hold more."""
        return bool(self._behind)

    def publish_on(self, outlet: "bus.Socket[bytes]") -> None:
        """From here on, everything accepted is published."""
        self._outlet = outlet

    # --- once a second or so

    def beat(self) -> None:
        """Publish the heartbeat, from which subscribers learn what they may have missed."""
        numbers, counters = self.acceptance.numbers, self.acceptance.counters
        totals = {
            "messages": numbers.offset,
            "ticks": counters.published,
            "received": counters.received,
            "duplicates": counters.duplicates,
            "held": counters.held,
            "lost_batches": counters.lost_batches,
            "rejected": self.rejected,
        }
        tick = Heartbeat(WIRE_VERSION, numbers.epoch, numbers.offset, totals)
        message = Message(numbers.offset, 0, time.time_ns(), "router", msgspec.Raw(encode_ticks([tick])))
        if self._outlet is not None:
            self._outlet.send(message.encode(HEARTBEAT))

    def tell(self, channel: runtime.Channel[Down]) -> None:
        """Tell the supervisor what was lost, and how it goes."""
        while self.losses:
            channel.send(self.losses.pop(0))
        report = self._report()
        if report.descriptors > CROWDED * report.descriptor_limit:
            log.warning(
                "%d of %d file descriptors are used, one by each subscriber; beyond the limit (`ulimit -Hn`) libzmq "
                "ends this process",
                report.descriptors, report.descriptor_limit,
            )  # fmt: skip
        channel.send(report, replace=True)

    def _report(self) -> RouterReport:
        """What the supervisor is told once a second; it also tells the workers what they may delete."""
        for name, (epoch, sequence) in self.acceptance.taken.items():
            link = self._link(name)
            if link.epoch == epoch:
                link.note_taken(sequence)
        counters = self.acceptance.counters
        epoch, sequence = self.acceptance.taken.get(SUPERVISOR, (0, 0))
        return RouterReport(
            received=counters.received,
            published=counters.published,
            duplicates=counters.duplicates,
            held=counters.held,
            lost_batches=counters.lost_batches,
            rejected=self.rejected,
            skipped=self.skipped,
            not_durable_since=self._journal.not_durable_since,
            acknowledged_epoch=epoch,
            acknowledged=sequence,
            lagging=tuple(
                name for name, line in self.acceptance.arbiter.statistics().items() if line.lag_ns > LAG_LIMIT_NS
            ),
            descriptors=descriptors(),
            descriptor_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )


def descriptors() -> int:
    """About how many files are open: the lowest free number, which costs two system calls and no list of them all."""
    lowest = os.dup(0)
    os.close(lowest)
    return lowest


def raise_descriptor_limit() -> None:
    """Take all file descriptors that the system grants; raises UsageError where they cannot be enough."""
    # Without descriptors libzmq aborts the process at the next subscriber (ipc_listener, EMFILE).
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        problem = f"the limit of open files is {hard}, the router needs {LEAST_DESCRIPTORS:,}"
        raise UsageError(problem, "raise it with `ulimit -Hn`")


class Loop:
    """Turns until told to stop: sockets first, then files, then what is due."""

    def __init__(
        self, router: Router, journal: Journal, inlet: "bus.Socket[bytes]", outlet: "bus.Socket[bytes]"
    ) -> None:
        self._router, self._journal, self._inlet, self._outlet = router, journal, inlet, outlet

    def run(self, channel: runtime.Channel[Down]) -> None:
        """Route until the channel says stop or closes; then publish what the links still hold."""
        router = self._router
        poller = bus.Poller()
        for pollable in (self._inlet, self._outlet, channel):
            poller.register(pollable, 1)  # readable
        next_beat = next_report = next_look = time.monotonic()
        # Whether a socket is looked at, because to be told that nothing is there costs as much as a batch.
        has_batches = has_subscriptions = False
        while not channel.closed:
            now = time.monotonic()
            if now >= next_beat:
                router.beat()
                next_beat = now + HEARTBEAT_S
            router.release()
            if now >= next_report or router.must_report:
                router.must_report = False
                router.tell(channel)
                next_report = now + REPORT_S
            busy = has_batches and self._drain_inlet()
            if not busy and now >= next_look:
                router.look(at_all=True)
                next_look = now + LOOK_S
            elif router.is_behind:
                router.look(at_all=False)
            if has_subscriptions:
                self._drain_outlet()
            self._journal.turn(now)
            patience_s = 0.0 if busy or router.is_behind else min(next_beat, next_look) - time.monotonic()
            ready = dict(poller.poll(max(0, int(patience_s * 1_000))))
            has_batches, has_subscriptions = self._inlet in ready, self._outlet in ready
            if channel.fileno() in ready and any(isinstance(record, Stop) for record in channel.receive()):
                break
        # The workers have left before the router is told to, and everything they read is in their files.
        self._drain_inlet()
        router.recover()
        router.tell(channel)
        router.beat()

    def _drain_inlet(self) -> bool:
        """Take waiting batches; whether there may be more."""
        for _ in range(BATCHES_PER_TURN):
            frames = bus.receive_nowait(self._inlet)
            if frames is None:
                return False
            self._router.pushed(frames)
        return True

    def _drain_outlet(self) -> None:
        """Read what subscribers sent (their subscriptions, which libzmq has acted on): unread, it would pile up."""
        while bus.receive_nowait(self._outlet) is not None:
            pass


def serve(settings: RouterSettings, channel: runtime.Channel[Down]) -> None:
    """Recover, open the sockets and route over them; raises UsageError when that cannot be."""
    raise_descriptor_limit()
    run_dir = Path(settings.run_dir)
    retention = journaling.Retention(settings.retention_bytes, settings.retention_hours)
    said = time.monotonic()

    def alive() -> None:
        """Recovery may take long: the supervisor must not take it for a hang."""
        nonlocal said
        if time.monotonic() - said > REPORT_S:
            said = time.monotonic()
            channel.send(RouterReport(), replace=True)

    quarantine = Quarantine(run_dir)
    journal, acceptance = journaling.open_journal(run_dir, retention, quarantine, alive)
    router = Router(run_dir, acceptance, journal, quarantine, settings.testing)
    router.recover(alive)
    journal.start()
    context: bus.Context[bus.Socket[bytes]] = bus.Context()
    try:
        inlet, outlet = bus.pull(context, run_dir), bus.publisher(context, run_dir, settings.endpoints)
        router.publish_on(outlet)
        log.info("routing from offset %d on", acceptance.numbers.offset + 1)
        channel.send(Ready())
        Loop(router, journal, inlet, outlet).run(channel)
        outlet.close()  # lingers for the last messages
        journal.close()
        log.info("stopped at offset %d", acceptance.numbers.offset)
    finally:
        context.destroy(linger=200)


def main() -> None:
    """Run as a child of the supervisor."""
    channel = runtime.start_child("router")
    try:
        serve(runtime.await_settings(channel, RouterSettings), channel)
    except UsageError as error:
        log.error("%s", error)
        channel.send(Failed(str(error)))
        sys.exit(Exit.USAGE)


if __name__ == "__main__":
    main()

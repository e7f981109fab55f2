"""The router: takes batches from all workers, numbers them and publishes one message per topic to all subscribers.

One poll loop, no asyncio, and no tick is ever decoded.  Nothing that arrives can stop it: what is no batch is counted.
"""

import logging
import resource
import secrets
import sys
import time
from pathlib import Path

import msgspec

from mcm import bus, runtime
from mcm.core.control import Down, Failed, Ready, RouterReport, RouterSettings, Stop
from mcm.core.errors import UsageError
from mcm.core.exits import Exit
from mcm.core.sequence import LinkPositions, Numbering, Step
from mcm.core.wire import HEARTBEAT, WIRE_VERSION, Heartbeat, Message, decode_batch, encode_ticks

log = logging.getLogger("mcm.router")

HEARTBEAT_S = 0.25
REPORT_S = 1.0
BATCHES_PER_TURN = 200
# Without descriptors libzmq aborts the process at the next subscriber (ipc_listener, EMFILE).
LEAST_DESCRIPTORS = 4_096


class Router:
    """The state of the hot loop: where each link stands, which numbers come next, what has been counted."""

    def __init__(self, inlet: "bus.Socket[bytes]", outlet: "bus.Socket[bytes]") -> None:
        self.inlet, self.outlet = inlet, outlet
        self.numbers = Numbering(epoch=secrets.randbits(63))
        self.links = LinkPositions()
        self.received = self.published = self.lost_batches = self.rejected = 0

    def drain_inlet(self, limit: int) -> int:
        """Publish up to *limit* waiting batches; returns how many there were."""
        for taken in range(limit):
            frames = bus.receive_nowait(self.inlet)
            if frames is None:
                return taken
            try:
                (frame,) = frames
                self.accept(frame)
            except (msgspec.MsgspecError, ValueError) as error:
                self.rejected += 1
                log.warning("%d messages on the inlet were no batch so far; the newest: %s", self.rejected, error)
        return limit

    def accept(self, frame: bytes) -> None:
        """Number and publish one batch; raise for anything else, before a number is used."""
        batch = decode_batch(frame)
        step, missing = self.links.step(batch.connection, batch.link_epoch, batch.sequence)
        if step is Step.OLD:
            return
        if step is Step.GAP:
            self.lost_batches += missing
            log.warning("%s: %d batches were lost on the way to the router", batch.connection, missing)
        number, send = self.numbers.number, self.outlet.send
        connection, received_ns = batch.connection, batch.received_ns
        for topic, ticks, encoded in batch.groups:
            offset, sequence = number(topic, ticks)
            send(Message(offset, sequence, received_ns, connection, msgspec.Raw(encoded)).encode(topic))
            self.received += ticks
            self.published += ticks

    def drain_outlet(self) -> None:
        """Read what subscribers sent (their subscriptions, which libzmq has acted on): unread, it would pile up."""
        while bus.receive_nowait(self.outlet) is not None:
            pass

    def beat(self) -> None:
        """Publish the heartbeat, from which subscribers learn what they may have missed."""
        totals = {
            "messages": self.numbers.offset,
            "ticks": self.published,
            "lost_batches": self.lost_batches,
            "rejected": self.rejected,
        }
        tick = Heartbeat(WIRE_VERSION, self.numbers.epoch, self.numbers.offset, totals)
        message = Message(self.numbers.offset, 0, time.time_ns(), "router", msgspec.Raw(encode_ticks([tick])))
        self.outlet.send(message.encode(HEARTBEAT))

    def report(self) -> RouterReport:
        """What the supervisor is told once a second."""
        return RouterReport(self.received, self.published, self.lost_batches, self.rejected)


def raise_descriptor_limit() -> None:
    """Take all file descriptors that the system grants; raises UsageError where they cannot be enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        raise UsageError(
            f"the limit of open files is {hard}, the router needs {LEAST_DESCRIPTORS}", "raise `ulimit -Hn`"
        )


def loop(router: Router, channel: runtime.Channel[Down]) -> None:
    """Publish until told to stop; then publish what is still waiting."""
    poller = bus.Poller()
    for pollable in (router.inlet, router.outlet, channel):
        poller.register(pollable, 1)  # readable
    next_beat = next_report = time.monotonic()
    while not channel.closed:
        now = time.monotonic()
        if now >= next_beat:
            router.beat()
            next_beat = now + HEARTBEAT_S
        if now >= next_report:
            channel.send(router.report(), replace=True)
            next_report = now + REPORT_S
        busy = router.drain_inlet(BATCHES_PER_TURN) == BATCHES_PER_TURN
        router.drain_outlet()
        ready = dict(poller.poll(0 if busy else max(0, int((next_beat - time.monotonic()) * 1_000))))
        if channel.fileno() in ready and any(isinstance(record, Stop) for record in channel.receive()):
            break
    # The workers have left before the router is told to: what they sent is waiting here.
    while router.drain_inlet(BATCHES_PER_TURN) or (poller.poll(20) and router.drain_inlet(BATCHES_PER_TURN)):
        pass
    router.beat()


def serve(settings: RouterSettings, channel: runtime.Channel[Down]) -> None:
    """Open the sockets and route over them; raises UsageError when that cannot be."""
    raise_descriptor_limit()
    context: bus.Context[bus.Socket[bytes]] = bus.Context()
    try:
        run_dir = Path(settings.run_dir)
        inlet, outlet = bus.pull(context, run_dir), bus.publisher(context, run_dir, settings.endpoints)
        log.info("routing")
        channel.send(Ready())
        loop(Router(inlet, outlet), channel)
        outlet.close()  # lingers 200 ms, for the last messages
        log.info("stopped")
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

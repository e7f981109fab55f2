"""The gateway: a WebSocket server that speaks the vendor's protocol, for programs that exist and stay as they are.

Clients share mcm's few lines: what they subscribe is leased, what the journal repairs reaches them, too.  One thread
per market reads and encodes, once for all clients; the event loop writes, never waits for a client, and closes the one
that does not read.  core.gatekeeping knows what is said, core.gate_audience who hears what.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from aiohttp import WSMsgType, web

from mcm import runtime
from mcm.client import Control
from mcm.core import gatekeeping
from mcm.core.control import Down, GatewayReport, GatewaySettings, GatewayToken, Ready, Stop
from mcm.core.errors import McmError, UsageError
from mcm.core.events import tick_decoder
from mcm.core.exits import Exit
from mcm.core.follow import Lost, Reset
from mcm.core.gate_audience import Audience, Wanted
from mcm.core.gate_outlet import Backlog, bodies, close_frame, text_frames
from mcm.core.gatekeeping import PATHS, Conversation, End, Gate, Hear, Leave, Say, Step
from mcm.core.settings_values import is_local
from mcm.listening import Listener, leave, run, until_stopped
from mcm.subscriber import Subscriber

log = logging.getLogger("mcm.gateway")

REPORT_S = 1.0
LOOK_S = 0.25
JOIN_LOOK_S = 0.02
RETRY_S = 1.0
RENEW_S = 10.0
AUTH_LIMIT_S = 10.0
GOODBYE_S = 2.0  # a client that does not answer a close frame is not waited for longer
STOP_S = 0.2
CLIENTS = 1_000
CLIENT_BYTES = 32 * 1024 * 1024  # that one client may leave unread in this process
KERNEL_BYTES = 256 * 1024  # and in the kernel, where nobody sees how old they are
WAITING_BYTES = 32 * 1024 * 1024  # between a market's thread and the loop
MAX_MESSAGE_BYTES = 1_100_000  # of a client; the vendor allows 1 MB of text
POLICY_VIOLATION, SERVICE_RESTART = 1008, 1012


class Piece(NamedTuple):
    """Events of one topic, encoded for all clients.

    Attributes:
        bodies: see core.gate_outlet; newest: the last of the events alone, for clients that conflate.
    """

    topic: bytes
    bodies: list[bytes]
    newest: bytes
    events: int
    is_backfilled: bool


class Client:
    """One connection.  All writes go straight to the transport, whose memory is bounded by closing who does not read.

    Attributes:
        conversation: what it has said and holds.
        is_closing: it gets nothing any more.
    """

    def __init__(self, transport: asyncio.Transport, conversation: Conversation) -> None:
        self._transport, self.conversation = transport, conversation
        self._backlog = Backlog()
        self._batch: list[bytes] = []
        self._newest: dict[bytes, bytes] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self.is_closing = False
        _tune(transport.get_extra_info("socket"))

    def say(self, statuses: Sequence[bytes]) -> None:
        """Send statuses in frames of their own."""
        if statuses and not self.is_closing:
            self._write(text_frames(statuses))

    def take(self, piece: Piece, token: GatewayToken) -> bool:
        """Gather events for the next flush; whether this is the first of them."""
        if token.conflate_ms:
            self._newest[piece.topic] = piece.newest
            if self._flushing is None:
                loop = asyncio.get_running_loop()
                self._flushing = loop.call_later(token.conflate_ms / 1e3, self._flush_newest)
            return False
        is_first = not self._batch
        self._batch += piece.bodies
        return is_first

    def flush(self) -> None:
        """Send what was gathered."""
        batch, self._batch = self._batch, []
        if not self.is_closing:
            self._write(text_frames(batch))

    def _flush_newest(self) -> None:
        self._flushing = None
        self._batch, self._newest = list(self._newest.values()), {}
        self.flush()

    def _write(self, frames: bytes) -> None:
        if not self._transport.is_closing():
            self._backlog.wrote(len(frames), time.monotonic())
            self._transport.write(frames)

    def is_slow(self, now: float, patience_s: float) -> bool:
        """Whether the oldest event it has not been sent has been waiting for too long, or there are too many."""
        unsent = self._transport.get_write_buffer_size()
        return self._backlog.age_s(unsent, now) > patience_s or unsent > CLIENT_BYTES

    def close(self, code: int, statuses: Sequence[bytes] = ()) -> None:
        """Close with a close frame behind all that is unsent; it has two seconds to read that."""
        self.say(statuses)
        if not self.is_closing:
            self._write(close_frame(code))
        self.end()
        asyncio.get_running_loop().call_later(GOODBYE_S, self._transport.abort)

    def hang_up(self, statuses: Sequence[bytes] = ()) -> None:
        """Close TCP without a close frame."""
        self.say(statuses)
        self.end()
        self._transport.close()

    def end(self) -> None:
        """Send nothing from here on."""
        self.is_closing = True
        self._batch, self._newest = [], {}
        if self._flushing is not None:
            self._flushing.cancel()


def _tune(connection: socket.socket) -> None:
    """Little memory in the kernel, and a peer that has vanished is noticed after a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


class Feed:
    """The merged stream of one market: a thread that reads it without holes and encodes what somebody hears."""

    def __init__(self, market: str, run_dir: Path, audience: Audience[Client], wake: Callable[[], None]) -> None:
        self._market, self._run_dir, self._audience, self._wake = market, run_dir, audience, wake
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[Piece] = deque()
        self._is_woken = False
        self._added = self._taken = 0  # bytes; each counted by one thread only
        self._room = threading.Event()
        self._is_stopped = False
        self._subscriber = Subscriber(f"{market}.*", run_dir=run_dir, on_gap=self._hear)
        self.lost = 0
        threading.Thread(target=self._read, name=f"gateway:{market}", daemon=True).start()

    async def joined(self) -> None:
        """Wait until nothing that is published from now on is missed."""
        while not self._subscriber.is_joined:  # noqa: ASYNC110  # it is another thread that says so
            await asyncio.sleep(JOIN_LOOK_S)

    def take(self) -> list[Piece]:
        """What has come since the last time, in order."""
        self._is_woken = False  # before looking, so that what comes meanwhile wakes again
        pieces: list[Piece] = []
        while self._pieces:
            pieces.append(self._pieces.popleft())
        self._taken += sum(len(body) for piece in pieces for body in piece.bodies)
        self._room.set()
        return pieces

    def stop(self) -> None:
        """End the thread, within 0.2 s, without waiting for it."""
        self._is_stopped = True
        self._subscriber.stop()
        self._room.set()

    def _hear(self, event: object) -> None:
        match event:
            case Lost():
                self.lost += event.count
                log.warning("%s: clients of the gateway miss it", event)
            case Reset():
                log.warning("%s", event)

    def _read(self) -> None:
        try:
            with self._subscriber as subscriber:
                decode = tick_decoder(self._market).decode
                for topic, encoded in subscriber.raw():
                    if topic in self._audience:
                        source = subscriber.current
                        ticks = decode(encoded)
                        parts = bodies(ticks)
                        newest = parts[0] if len(ticks) == 1 else bodies(ticks[-1:])[0]
                        self._add(Piece(topic, parts, newest, len(ticks), bool(source and source.is_backfilled)))
        except BaseException:
            log.exception("%s cannot be read; starting again", self._market)
            leave(Exit.INTERNAL)

    def _add(self, piece: Piece) -> None:
        self._added += sum(map(len, piece.bodies))
        self._pieces.append(piece)
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._wake)
        # Where the loop is behind, the journal keeps what comes meanwhile.
        while self._added - self._taken > WAITING_BYTES and not self._is_stopped:
            self._room.clear()
            self._room.wait(JOIN_LOOK_S)


class Lease:
    """The gateway's one lease: the union of what its clients want, renewed for as long as they do."""

    def __init__(self, run_dir: Path, wanted: Wanted) -> None:
        self._run_dir, self.wanted = run_dir, wanted
        # A name of this life: what the last one had leased stays for half a minute, so that clients find it again.
        self._holder = f"gateway {os.getpid()}"
        self._executor = ThreadPoolExecutor(1, "gateway:lease")
        self._changed = asyncio.Event()
        self._waiting: list[tuple[Sequence[str], asyncio.Future[Mapping[str, str]]]] = []
        self._carried: frozenset[str] = frozenset()

    async def extend(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Have these *topics*, which were added to what is wanted, carried; those that cannot be, with the reason."""
        if self._carried.issuperset(topics):
            return {}
        outcome: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((topics, outcome))
        self._changed.set()
        return await outcome

    def changed(self) -> None:
        """Something is wanted no more."""
        self._changed.set()

    @property
    def size(self) -> int:
        """How many topics are leased."""
        return len(self._carried)

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            now = time.monotonic()
            ends = self.wanted.expires_at()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S if ends is None else min(RENEW_S, max(0.0, ends - now) + 0.01)):
                    await self._changed.wait()
            self._changed.clear()
            waiting, self._waiting = self._waiting, []
            try:
                unplaced = await self._renew(self.wanted.topics(time.monotonic()))
            except UsageError as error:  # one of the new ones cannot be leased at all, which nobody should have let in
                log.error("a lease was refused: %s", error)
                unplaced = {topic: error.problem for topics, _ in waiting for topic in topics}
            except McmError as error:
                log.warning("the lease could not be renewed: %s", error)
                self._waiting = waiting + self._waiting
                await asyncio.sleep(RETRY_S)
                self._changed.set()
                continue
            for topics, outcome in waiting:
                if not outcome.done():
                    outcome.set_result({topic: unplaced[topic] for topic in topics if topic in unplaced})

    async def _renew(self, topics: list[str]) -> Mapping[str, str]:
        if not topics and not self._carried:
            return {}
        unplaced = await asyncio.get_running_loop().run_in_executor(self._executor, self._ask, topics)
        self._carried = frozenset(topics) - unplaced.keys()
        return unplaced

    def _ask(self, topics: list[str]) -> dict[str, str]:
        with Control(self._run_dir) as control:
            if topics:
                return control.lease(self._holder, topics)
            control.release(self._holder)
            return {}


class Gateway:
    """All clients, the streams of the markets they hear, and the lease of what they want."""

    def __init__(self, settings: GatewaySettings, channel: runtime.Channel[Down]) -> None:
        self._settings, self._channel = settings, channel
        self._run_dir = Path(settings.run_dir)
        self._gate = Gate(settings.tokens)
        self._audience: Audience[Client] = Audience()
        self._lease = Lease(self._run_dir, Wanted(settings.linger_s))
        self._feeds: dict[str, Feed] = {}
        self._deserted: dict[str, float] = {}  # market without clients → since when
        self._clients: dict[Client, None] = {}
        self._is_open = False
        self._listener = Listener(settings.listen, log)
        self._events = self._slow = self._lost = 0
        self._stopping = asyncio.Event()

    # --- the process

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._take_commands)
        app = web.Application()
        for path in PATHS:
            app.router.add_get(path, self._converse)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_S)
        await runner.setup()
        await self._listener.bind(runner)  # before Ready: status then says at once where it is, or why not
        self._channel.send(Ready())
        await until_stopped(
            self._stopping,
            {
                "report": self._report_for_ever(),
                "look": self._look_for_ever(),
                "lease": self._lease.run(),
                "bind": self._listener.bind_at_last(runner),
                "open": self._open(),
            },
        )
        for site in list(runner.sites):
            await site.stop()
        for client in list(self._clients):
            client.close(SERVICE_RESTART)  # never 1000 or 1001, after which clients do not come back
        await asyncio.sleep(STOP_S if self._clients else 0)

    def _take_commands(self) -> None:
        if any(isinstance(record, Stop) for record in self._channel.receive()) or self._channel.closed:
            self._stopping.set()

    async def _open(self) -> None:
        """Let clients in once every line of mcm has been live: one that is let in and dropped forgets its topics."""
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1, "gateway:status")
        while not self._is_open:
            with contextlib.suppress(McmError):
                self._is_open = await loop.run_in_executor(executor, self._is_started)
            if not self._is_open:
                await asyncio.sleep(LOOK_S)
        executor.shutdown(wait=False)

    def _is_started(self) -> bool:
        with Control(self._run_dir) as control:
            return control.status().is_started

    async def _report_for_ever(self) -> None:
        while True:
            self._channel.send(
                GatewayReport(
                    address=self._listener.address,
                    is_open=self._is_open,
                    clients=len(self._clients),
                    topics=self._lease.size,
                    events=self._events,
                    slow=self._slow,
                    lost=self._lost + sum(feed.lost for feed in self._feeds.values()),
                    problem=self._listener.problem,
                ),
                replace=True,
            )
            await asyncio.sleep(REPORT_S)

    async def _look_for_ever(self) -> None:
        """Close clients that do not read; stop the streams that nobody has heard for a while."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            for client in list(self._clients):
                if not client.is_closing and client.is_slow(now, self._settings.patience_s):
                    self._slow += 1
                    log.warning("a client of %s does not read; closing it", client.conversation.market)
                    self._desert(client)
                    client.close(POLICY_VIOLATION, (gatekeeping.SLOW_CONSUMER,))
            present = {client.conversation.market for client in self._clients}
            for market in list(self._feeds):
                if market in present:
                    self._deserted.pop(market, None)
                elif now - self._deserted.setdefault(market, now) > self._settings.linger_s:
                    feed = self._feeds.pop(market)
                    self._lost += feed.lost
                    feed.stop()
                    del self._deserted[market]

    # --- events

    def _woken(self, market: str) -> None:
        """The thread of *market* has brought something: a failure here must not pass for silence."""
        try:
            self._deliver(market)
        except Exception:
            log.exception("events of %s cannot be sent; starting again", market)
            leave(Exit.INTERNAL)

    def _deliver(self, market: str) -> None:
        """Give every client what it hears of it."""
        feed = self._feeds.get(market)
        if feed is None:
            return
        filled: list[Client] = []
        for piece in feed.take():
            for client in self._audience.of(piece.topic):
                token = client.conversation.token
                if token is None or (piece.is_backfilled and not token.backfilled):
                    continue
                self._events += piece.events
                if client.take(piece, token):
                    filled.append(client)
        for client in filled:
            client.flush()

    # --- clients

    async def _converse(self, request: web.Request) -> web.StreamResponse:
        if not self._is_open or len(self._clients) >= CLIENTS or self._stopping.is_set():
            raise web.HTTPServiceUnavailable  # which clients repeat, without forgetting anything
        if not self._settings.tokens and not _is_of_here(request.headers.get("Origin", "")):
            raise web.HTTPForbidden  # some web page, in a browser on this machine
        # It is the transport that we write to: aiohttp's writer would wait for the slowest.
        opened = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE_BYTES)
        await opened.prepare(request)
        transport = request.transport
        if transport is None:
            return opened
        client = Client(transport, Conversation(PATHS[request.path], self._gate))
        self._clients[client] = None
        client.say((gatekeeping.CONNECTED,))
        expiry = asyncio.get_running_loop().call_later(AUTH_LIMIT_S, _expire, client)
        try:
            await self._read(client, opened)
        finally:
            expiry.cancel()
            client.end()
            self._desert(client)
            del self._clients[client]
            transport.close()
        return opened

    async def _read(self, client: Client, opened: web.WebSocketResponse) -> None:
        """Take a client's messages in their order until it is gone."""
        while True:
            message = await opened.receive()
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                return
            for step in client.conversation.receive(message.data):
                if not client.is_closing:
                    await self._take(client, step)

    async def _take(self, client: Client, step: Step) -> None:
        match step:
            case Say(statuses):
                client.say(statuses)
            case End(statuses):
                client.hang_up(statuses)
            case Leave(topics):
                self._audience.leave(client, topics)
                self._lease.wanted.remove(topics, time.monotonic())
                self._lease.changed()
            case Hear(asked):
                await self._hear(client, asked)

    async def _hear(self, client: Client, asked: dict[str, str]) -> None:
        """Acknowledge topics once they are carried and the stream is joined: from there on nothing is missing."""
        market, topics = client.conversation.market, list(asked)
        self._lease.wanted.add(topics)
        if market not in self._feeds:
            self._feeds[market] = Feed(market, self._run_dir, self._audience, lambda: self._woken(market))
        unplaced = await self._lease.extend(topics)
        await self._feeds[market].joined()
        if client.is_closing:  # what it holds was given up when it went
            return
        if unplaced:
            self._lease.wanted.remove(unplaced, time.monotonic())
            self._lease.wanted.forget(unplaced)
            self._lease.changed()
        client.say(client.conversation.heard(asked, unplaced).statuses)
        self._audience.join(client, (topic for topic in topics if topic not in unplaced))

    def _desert(self, client: Client) -> None:
        """*client* wants nothing any more."""
        held, client.conversation.held = client.conversation.held, {}
        self._audience.leave(client, held)
        self._lease.wanted.remove(held, time.monotonic())
        self._lease.changed()


def _expire(client: Client) -> None:
    if client.conversation.token is None and not client.is_closing:
        client.hang_up((gatekeeping.AUTH_TIMEOUT,))


def _is_of_here(origin: str) -> bool:
    """Whether an Origin header is absent, as from programs, or of this machine."""
    return not origin or is_local(urllib.parse.urlsplit(origin).hostname)


def main() -> None:
    """Run as a child of the supervisor."""
    channel = runtime.start_child("gateway")
    settings = runtime.await_settings(channel, GatewaySettings)
    run(log, lambda: Gateway(settings, channel).run())


if __name__ == "__main__":
    main()

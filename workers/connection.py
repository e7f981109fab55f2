"""One upstream connection: reads its WebSocket, hands the ticks to the router, and does nothing else.

The thin shell around core.session (what to say) and core.massive (how it is said).  It never waits while it could read:
a full outlet costs batches, which are counted, but never lets the upstream's buffer fill, because that costs the line.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import aiohttp
from aiohttp import WSMsgType

from mcm import locks, runtime
from mcm.core import massive as vendor
from mcm.core import topics
from mcm.core.control import (
    Answered,
    Confirmed,
    Dial,
    Down,
    HangUp,
    LineClosed,
    LineReport,
    LineSettings,
    MarketHours,
    Ready,
    Stop,
    TopicRates,
    Unconfirmed,
    Want,
    in_chunks,
)
from mcm.core.dialling import Reason
from mcm.core.errors import BadTopic
from mcm.core.events import Tick
from mcm.core.market_hours import Kind
from mcm.core.markets import MARKETS
from mcm.core.notices import CONTROL, LineMark, TopicMark, group_of
from mcm.core.rates import Rates
from mcm.core.respite import LOOK_S, Respite
from mcm.core.rhythm import Trading
from mcm.core.session import Accepted, Authenticate, Ending, Request, Session, Subscribe, Unsubscribe
from mcm.core.wire import Group, encode_ticks
from mcm.outlet import Outlet
from mcm.waits import Waits

log = logging.getLogger("mcm.connection")

Socket = aiohttp.ClientWebSocketResponse[Literal[False]]  # text frames stay bytes

DIAL_LIMIT_S = 8.0  # upgrade and answer to the key; below the 10 s of the dialling permit
PING_S = 5.0  # a dead peer is noticed after 1.5 times that, before its silence alone would say so (10 s)
TURN_S = 0.25
REPORT_S = 1.0
SAMPLE_S = 60.0
RATES_S = 5.0
RATE_BYTES = 16  # of a record, beside the item
CLOSE_LIMIT_S = 1.0
UNCONFIRMED_NAMED = 1_000
REASON_CHARACTERS = 100
FULL_BATCH = 200  # ticks: more of them make the next one no cheaper
MAX_FRAME_BYTES = 16 * 1024 * 1024  # sixteen times what the vendor's own clients accept


class Gatherer:
    """Groups ticks by topic and hands everything that one wake-up of the event loop brought to the outlet at once.

    Behind a batch it rests, where processors are short: what comes meanwhile leaves with the next one.

    Attributes:
        received_ns: wall clock of the last frame with ticks.
        ticks: handed on so far; misnamed: ticks whose symbol cannot stand in a topic.
        by_channel: channel → ticks, as of the last :meth:`take_counts`.
        newcomers: items that ticked for the first time since :meth:`forget`; whoever reads them clears them.
        heard: is told of every batch: how many ticks, and when (monotonic seconds).
    """

    def __init__(self, market: str, outlet: Outlet) -> None:
        self._market, self._outlet = market, outlet
        self._groups: dict[bytes, list[Tick]] = {}
        self.received_ns = self._monotonic_ns = 0
        self._topics: dict[type, dict[str, bytes]] = {}
        self.newcomers: list[str] = []
        self.heard: Callable[[int, float], object] = lambda _count, _now: None
        self._counts: dict[bytes, int] = {}
        self._waits, self._respite, self._look_at = Waits.of_this_thread(), Respite(), 0.0
        self.by_channel: Counter[str] = Counter()
        self.ticks = self.misnamed = 0

    def add(self, ticks: list[Tick]) -> None:
        """Take the ticks of one frame; the first frame of a wake-up also stamps the batch and plans its departure."""
        groups, known = self._groups, self._topics
        if not groups:
            self.received_ns, self._monotonic_ns = time.time_ns(), time.monotonic_ns()
            asyncio.get_running_loop().call_soon(self.flush)
        for tick in ticks:
            try:
                topic = known[tick.__class__][tick.symbol]
            except KeyError:
                if (named := self._name(tick)) is None:
                    continue
                topic = named
            try:
                groups[topic].append(tick)
            except KeyError:
                groups[topic] = [tick]
        self.ticks += len(ticks)

    def _name(self, tick: Tick) -> bytes | None:
        """The topic of a tick that comes for the first time; None where its symbol cannot stand in a topic."""
        try:
            topics.check_symbol(tick.symbol)
            topic = f"{self._market}.{tick.event_type}.{tick.symbol}".encode()
        except (BadTopic, UnicodeEncodeError):
            self.misnamed += 1
            self.ticks -= 1
            return None
        self._topics.setdefault(tick.__class__, {})[tick.symbol] = topic
        self.newcomers.append(f"{tick.event_type}.{tick.symbol}")
        return topic

    def forget(self) -> None:
        """Take every topic for new again: what ticks from here on proves a new subscription."""
        self._topics.clear()
        self.newcomers.clear()

    def take_counts(self) -> dict[str, int]:
        """Item → ticks since the last time."""
        counts, self._counts = self._counts, {}
        found = {topic.decode().partition(".")[2]: count for topic, count in counts.items()}
        for item, count in found.items():
            self.by_channel[item.partition(".")[0]] += count
        return found

    def tick_age_s(self) -> float | None:
        """Seconds since the last batch was gathered; None before the first."""
        return (time.monotonic_ns() - self._monotonic_ns) / 1e9 if self._monotonic_ns else None

    def flush(self) -> None:
        """Send the batch that was gathered, if any."""
        if not self._groups:
            return
        counts, groups, total = self._counts, [], 0
        for topic, ticks in self._groups.items():
            number = len(ticks)
            counts[topic] = counts.get(topic, 0) + number
            total += number
            groups.append(Group(topic, number, encode_ticks(ticks)))
        self._groups = {}
        now = self._monotonic_ns / 1e9
        self.heard(total, now)
        self._outlet.send(groups, received_ns=self.received_ns, monotonic_ns=self._monotonic_ns)
        if total < FULL_BATCH:
            self._rest(now)

    def _rest(self, now: float) -> None:
        """Block for up to a millisecond: an event loop's own timers are no finer, and whatever else comes can wait."""
        if self._waits is not None and now >= self._look_at:
            self._look_at = now + LOOK_S
            self._respite.observe(self._waits.read_ns(), now=now)
        if self._respite.rest_s:
            time.sleep(self._respite.rest_s)


class LineEnded(Exception):
    """The line is over; carries what the supervisor is told."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Line:
    """One dial and the conversation that follows, until it ends."""

    def __init__(self, worker: "Worker", url: str) -> None:
        self._worker, self._url = worker, url
        market = worker.settings.market
        self.session = Session(set(worker.wanted), MARKETS[market].held_limit, trading=worker.trading)
        self.decoder = vendor.FrameDecoder(market)
        worker.gatherer.forget()
        worker.gatherer.heard = self.session.ticked
        self._socket: Socket | None = None
        self._wake = asyncio.Event()
        self._asked_to_close = False
        self._stale = ""
        self._answer_due = time.monotonic() + DIAL_LIMIT_S
        self._reported = self.session.state

    async def run(self) -> LineEnded:
        """Dial, talk and read; how it ended."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._converse(), name="converse")
                tasks.create_task(self._watch(), name="watch")
        except ExceptionGroup as group:
            ends, bugs = group.split(LineEnded)
            if ends is None or bugs is not None:
                raise
            return _first(ends)
        raise AssertionError("a line ends by an exception that says why")

    async def _converse(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=DIAL_LIMIT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            try:
                async with asyncio.timeout(DIAL_LIMIT_S):
                    socket = await http.ws_connect(
                        self._url,
                        heartbeat=PING_S,
                        max_msg_size=MAX_FRAME_BYTES,
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_LIMIT_S),
                        decode_text=False,
                    )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise LineEnded(Reason.DIAL_FAILED, _words(error)) from error
            self._socket = socket
            try:
                await self._read(socket)
            finally:
                await socket.close()

    async def _read(self, socket: Socket) -> None:
        receive, decode, session, gatherer = socket.receive, self.decoder.decode, self.session, self._worker.gatherer
        while True:
            message = await receive()
            if message.type is not WSMsgType.TEXT:
                break
            frame = decode(message.data)
            if frame.ticks:
                gatherer.add(frame.ticks)
                if gatherer.newcomers:
                    for item in gatherer.newcomers:
                        session.proven(item)
                    gatherer.newcomers.clear()
                    self._tell_of_change()
            if frame.statuses:
                self._hear(frame.statuses)
                self._wake.set()  # answers are sent by the other task: a full upstream must not stop this one
        raise self._closed(socket, message.type, message.data)

    def _hear(self, statuses: list[vendor.Status]) -> None:
        was_authenticated = self.session.is_authenticated
        for status in statuses:
            said = vendor.meaning(status)
            if said is None:
                log.info("the upstream says %s: %s", status.status, status.message)
                continue
            self.session.receive(said)
            if isinstance(said, Ending):
                log.warning("the upstream announces the end: %s (%s)", said.reason, said.message)
            elif isinstance(said, Accepted) and not was_authenticated and self.session.is_authenticated:
                was_authenticated = True
                self._worker.channel.send(Answered())

    async def _say(self, socket: Socket) -> None:
        for request in self.session.to_send(now=time.monotonic()):
            with contextlib.suppress(ConnectionResetError):  # the reader learns why, and says it better
                await socket.send_str(self._render(request))
        self._tell_of_change()

    def _tell_of_change(self) -> None:
        """Report a new state at once: somebody may be waiting for it."""
        if self.session.state is not self._reported:
            self._reported = self.session.state
            self._worker.report()

    def _render(self, request: Request) -> str:
        match request:
            case Authenticate():
                return vendor.auth_message(self._worker.settings.api_key)
            case Subscribe(items):
                return vendor.subscribe_message(items)
            case Unsubscribe(items):
                return vendor.unsubscribe_message(items)

    async def _watch(self) -> None:
        """What must happen although nothing comes in."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await self._wake.wait()
            self._wake.clear()
            if self._asked_to_close:
                raise (
                    LineEnded(Reason.STALE, self._stale) if self._stale else LineEnded(Reason.ASKED, "closed as asked")
                )
            now = time.monotonic()
            if not self.session.is_authenticated and now > self._answer_due:
                raise LineEnded(Reason.DIAL_FAILED, f"no answer to the key within {DIAL_LIMIT_S:.0f} s")
            if self.session.is_stale(now=now):
                silent_s = self.session.tick_age_s(now=now) or 0.0
                raise LineEnded(Reason.STALE, f"silent for {silent_s:.1f} s although it answers pings")
            if self._socket is not None:
                await self._say(self._socket)

    def _closed(self, socket: Socket, kind: WSMsgType, data: object) -> LineEnded:
        if self.session.ending is not None:
            return LineEnded(self.session.ending.reason, self.session.ending.message)
        if isinstance(data, aiohttp.ServerTimeoutError | TimeoutError):
            return LineEnded(Reason.NO_PONG, "no answer to a ping")
        if isinstance(data, Exception):
            return LineEnded(Reason.ABORTED, _words(data))
        if kind is WSMsgType.BINARY:
            return LineEnded(Reason.CLOSED, "it sent a binary frame, which it never does")
        code = socket.close_code
        if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
            return LineEnded(Reason.ABORTED, "the connection was cut without a close frame")
        return LineEnded(Reason.CLOSED, f"the upstream closed it with code {code}")

    def ask_to_close(self, stale: str = "") -> None:
        """End this line with 1000; *stale* says why it is taken for dead, if it is."""
        self._asked_to_close, self._stale = True, stale
        self._wake.set()

    def want(self, add: Iterable[str], remove: Iterable[str]) -> None:
        """Change what this line carries."""
        self.session.want(add, remove)
        if add:
            self._worker.mark_topics(add)
            self._worker.gatherer.forget()  # from here on, a tick of a new item proves it
        self._wake.set()


def _first(group: ExceptionGroup[LineEnded]) -> LineEnded:
    first = group.exceptions[0]
    return first if isinstance(first, LineEnded) else _first(first)


def _words(problem: BaseException) -> str:
    if isinstance(problem, aiohttp.WSServerHandshakeError):
        return f"the upstream refused the upgrade with HTTP {problem.status}"
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__


class Worker:
    """The process: takes commands, runs one line at a time, reports."""

    def __init__(self, settings: LineSettings, channel: runtime.Channel[Down], outlet: Outlet) -> None:
        self.settings, self.channel, self.outlet = settings, channel, outlet
        self.gatherer = Gatherer(settings.market, outlet)
        self.wanted: set[str] = set()
        self.trading: Trading | None = None
        self._line: Line | None = None
        self._permits: asyncio.Queue[Dial | None] = asyncio.Queue()
        self._stopping = False
        self._errors: Counter[str] = Counter()
        self._unconfirmed: dict[str, str] = {}
        self._confirmed: set[str] = set()
        self._rates = Rates()

    async def run(self) -> None:
        """Work until told to stop, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.channel.fileno(), self._take_commands)
        self.channel.send(Ready())
        async with asyncio.TaskGroup() as tasks:
            reports = tasks.create_task(self._report_for_ever(), name="report")
            while not self._stopping:
                permit = await self._permits.get()
                if permit is not None and not self._stopping:
                    await self._run_line(permit)
            reports.cancel()
        loop.remove_reader(self.channel.fileno())
        self.report()

    def _take_commands(self) -> None:
        for record in self.channel.receive():
            match record:
                case Want(add, remove):
                    self._rates.forget(set(remove))
                    self.wanted.difference_update(remove)
                    self.wanted.update(add)
                    self._confirmed.difference_update(remove)  # the supervisor has forgotten them: they are news again
                    if self._line is not None:
                        self._line.want(add, remove)
                case Dial():
                    self._permits.put_nowait(record)
                case HangUp(stale):
                    if self._line is not None:
                        self._line.ask_to_close(stale)
                case MarketHours(kind, since_ns):
                    log.info("the market is %s", kind)
                    self.trading = Trading(Kind(kind), time.monotonic() - (time.time_ns() - since_ns) / 1e9)
                    if self._line is not None:
                        self._line.session.trades(self.trading)
                case Stop():
                    self._stop()
                case _:
                    log.error("unexpected command %s", type(record).__name__)
        if self.channel.closed:
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._permits.put_nowait(None)  # wakes the loop that waits for a permit
        if self._line is not None:
            self._line.ask_to_close()

    async def _run_line(self, permit: Dial) -> None:
        slot = locks.acquire_slot(Path(permit.slot_directory), permit.slots)
        if isinstance(slot, str):
            self.channel.send(LineClosed(Reason.SLOT_TAKEN, f"another mcm uses this account ({slot})", 0.0))
            return
        self.mark()
        self._line = Line(self, permit.url)
        try:
            ended = await self._line.run()
            self.gatherer.flush()
            self.mark()
        finally:
            slot.release()
        line, self._line = self._line, None
        fed_s = line.session.fed_s(now=time.monotonic())
        for reason, count in line.decoder.rejects.items():
            self._errors[reason] += count
        self._log_samples(line)
        log.log(
            logging.INFO if ended.reason == Reason.ASKED else logging.WARNING,
            "line ended after %.1f s of data: %s (%s)", fed_s, ended.reason, ended.detail,
        )  # fmt: skip
        self._confirmed = set()  # the supervisor knows that with the line all of it has ended
        self.channel.send(LineClosed(ended.reason, ended.detail, fed_s, self.gatherer.received_ns))

    def mark(self) -> None:
        """Tell the router, in order with the ticks, that there may be a gap here."""
        group = group_of(CONTROL, [LineMark(self.settings.name)])
        self.outlet.send([group], received_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())

    def mark_topics(self, items: Iterable[str]) -> None:
        """Tell the router the same of some items: what came before of them is on its way already."""
        self.gatherer.flush()
        name, market = self.settings.name, self.settings.market
        for chunk in in_chunks(items):
            group = group_of(CONTROL, [TopicMark(name, [f"{market}.{item}" for item in chunk])])
            self.outlet.send([group], received_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())

    async def _report_for_ever(self) -> None:
        sampled = counted = time.monotonic()
        while True:
            self.report()
            self.outlet.tidy()
            if (elapsed_s := time.monotonic() - counted) > RATES_S:
                counted = time.monotonic()
                self._report_rates(elapsed_s)
            if self._line is not None and time.monotonic() - sampled > SAMPLE_S:
                sampled = time.monotonic()
                self._log_samples(self._line)
            await asyncio.sleep(REPORT_S)

    def report(self) -> None:
        """Tell the supervisor how things stand; called by the main loop at least once a second, as its heartbeat."""
        now, line = time.monotonic(), self._line
        session = line.session if line is not None else None
        errors = Counter(self._errors)
        if line is not None:
            errors.update(line.decoder.rejects)
        errors.update({"batches that no file holds": self.outlet.lost, "bad symbol": self.gatherer.misnamed})
        unconfirmed = session.unconfirmed if session is not None else {}
        self._report_unconfirmed(unconfirmed)
        self._report_confirmed(session.confirmed if session is not None else set())
        self.channel.send(
            LineReport(
                state=session.state.value if session is not None else "idle",
                wanted=len(self.wanted),
                confirmed=len(session.confirmed) if session is not None else 0,
                unconfirmed=len(unconfirmed),
                ticks=self.gatherer.ticks,
                last_tick_age_s=self.gatherer.tick_age_s(),
                fed_s=session.fed_s(now=now) if session is not None else 0.0,
                errors=dict(+errors),
                skipped=self.outlet.skipped,
                channels=dict(self.gatherer.by_channel),
                has_habits=session is not None and session.quiet_limit_s() is not None,
            ),
            replace=True,
        )
        self.channel.flush()

    def _report_rates(self, elapsed_s: float) -> None:
        news = self._rates.update(self.gatherer.take_counts(), elapsed_s)
        if not news and self._rates.is_settled:
            self.channel.send(TopicRates({}))  # silence is measured, too
        for chunk in in_chunks(news, overhead=RATE_BYTES):
            self.channel.send(TopicRates({item: news[item] for item in chunk}))

    def _report_confirmed(self, confirmed: set[str]) -> None:
        """What is new since the last time; all of it where something is gone."""
        if confirmed == self._confirmed:
            return
        is_new_list = not self._confirmed <= confirmed
        news = confirmed if is_new_list else confirmed - self._confirmed
        self._confirmed = set(confirmed)
        if is_new_list:
            self.channel.send(Confirmed(first=True))
        for chunk in in_chunks(sorted(news)):
            self.channel.send(Confirmed(first=False, items=tuple(chunk)))

    def _report_unconfirmed(self, unconfirmed: dict[str, str]) -> None:
        if unconfirmed == self._unconfirmed:
            return
        self._unconfirmed = dict(unconfirmed)
        named = sorted(unconfirmed)[:UNCONFIRMED_NAMED]
        self.channel.send(Unconfirmed(first=True))
        for chunk in in_chunks(named, overhead=REASON_CHARACTERS * 4):
            reasons = {item: unconfirmed[item][:REASON_CHARACTERS] for item in chunk}
            self.channel.send(Unconfirmed(first=False, items=reasons))

    def _log_samples(self, line: Line) -> None:
        for reason, sample in line.decoder.take_samples().items():
            log.warning("%d events so far: %s; one of them: %s", line.decoder.rejects[reason], reason, sample)


async def serve(settings: LineSettings, channel: runtime.Channel[Down]) -> None:
    """Run the worker over its sockets; raises UsageError when somebody else writes its link files."""
    outlet = Outlet(Path(settings.run_dir), settings.name, settings.testing)
    try:
        await Worker(settings, channel, outlet).run()
    finally:
        outlet.close()


def main() -> None:
    """Run as a child of the supervisor."""
    channel = runtime.start_child("connection")
    settings = runtime.await_settings(channel, LineSettings)
    asyncio.run(serve(settings, channel))


if __name__ == "__main__":
    main()

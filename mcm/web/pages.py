"""Open pages: one picture four times a second, encoded once, and a bounded queue for each page."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from mcm.client import Control
from mcm.core import ledger
from mcm.core.errors import McmError
from mcm.core.latency import Histogram, Recent
from mcm.core.overview import BriefGaps, Configured
from mcm.core.status import Status
from mcm.core.web_history import INTERVAL_S, POINTS, History
from mcm.web.processes import Meter
from mcm.web.sampler import Look, Sampler
from mcm.web.source import Source

__all__ = ["Pages"]

FRAME_S = 0.25
ALONE_S = 1.0  # between looks while no page is open, for the history
SLOWLY_S = 2.0  # configuration and gaps
PROBING_S = 120.0  # after the metrics were asked for
PAGES = 64
PATIENCE_S = 30.0  # with a page that takes nothing
QUEUE = 8  # frames that a page may be behind, two seconds
GAPS_S = 10.0
GAP_NAMES = 500  # of topics of one gap; the REST side has them all
NAMED = 20
SHOWN, RECORDS = 3, 100  # topics of a gap, and records, on a page

Picture = dict[str, Any]


class Page:
    """One stream of events to one browser.

    What it does not take in time is dropped, and then it is told everything anew: it falls behind, nobody else does.
    """

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self.must_be_told_all = True

    def put(self, frame: bytes) -> None:
        """Queue a frame."""
        if len(self._frames) >= QUEUE:
            self._frames.clear()
            self.must_be_told_all = True
            return
        self._frames.append(frame)
        self._filled.set()

    async def get(self) -> bytes:
        """The next frame; waits for it."""
        while not self._frames:
            self._filled.clear()
            await self._filled.wait()
        return self._frames.popleft()

    @property
    def waiting_bytes(self) -> int:
        """What waits for it."""
        return sum(map(len, self._frames))


class Pages:
    """All open pages, and the picture that they show.

    Attributes:
        history: the last ten minutes of every line, kept also while no page is open.
        gaps: the newest answer about gaps.
    """

    def __init__(self, source: Source, sampler: Sampler) -> None:
        self._source, self._sampler = source, sampler
        self._open: dict[Page, None] = {}
        self._opened = asyncio.Event()
        self.history, self._meter = History(), Meter()
        self._configured: Configured | None = None
        self.gaps = BriefGaps()
        self._gaps_of: tuple[int, ...] = ()
        self._slow_at = self._probed_at = self._gaps_at = float("-inf")

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def waiting_bytes(self) -> int:
        """What waits for pages that do not read."""
        return sum(page.waiting_bytes for page in self._open)

    def probe(self) -> None:
        """Somebody reads the latencies: measure some for a while."""
        self._probed_at = time.monotonic()

    # --- one page

    async def stream(self, request: web.Request, prepare: Callable[[web.StreamResponse], None]) -> web.StreamResponse:
        """Serve one page until it is closed."""
        if len(self._open) >= PAGES:
            raise web.HTTPServiceUnavailable(text=f"{PAGES} pages are open already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        prepare(response)
        await response.prepare(request)
        page = Page()
        self._open[page] = None
        self._opened.set()
        try:
            while True:
                frame = await page.get()
                async with asyncio.timeout(PATIENCE_S):
                    await response.write(frame)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:  # what is unsent is of no use to anybody
                request.transport.abort()
            return response
        finally:
            del self._open[page]

    # --- all pages

    async def run(self) -> None:
        """Draw for ever."""
        while True:
            began = time.monotonic()
            is_probing = began - self._probed_at < PROBING_S
            self._sampler.want(Look.ALL if self._open else Look.LATENCY if is_probing else Look.NOTHING)
            try:
                await self._draw(began)
            except McmError as error:
                self._send({"problem": str(error)}, {"problem": str(error)})
            self._opened.clear()
            pause_s = (FRAME_S if self._open else ALONE_S) - (time.monotonic() - began)
            try:
                async with asyncio.timeout(max(0.01, pause_s)):
                    await self._opened.wait()
                    await asyncio.sleep(0)
            except TimeoutError:
                pass

    async def _draw(self, now: float) -> None:
        status = await self._source.status(0.8 * FRAME_S)
        rates = {name: line.ticks_per_s for name, line in status.connections.items()}
        is_point = self.history.observe(rates, now)
        if not self._open:
            return
        news: Picture = {
            "at_ms": time.time() * 1e3,
            "status": _shortened(status),
            "ledger": ledger.take(status),
            "latency": self._latency(now),
            "tape": self._sampler.take_tape(),
            "is_partial": self._sampler.is_partial,
        }
        if now - self._slow_at >= SLOWLY_S:
            self._slow_at = now
            await self._look_slowly(status, news, now)
        if is_point:
            news["point"] = {"count": self.history.count, "rates": self.history.newest(rates)}
        whole = news | {
            "configured": self._configured,
            "gaps": _brief(self.gaps),
            "history": {"interval_s": INTERVAL_S, "length": POINTS, "lines": self.history.points()},
        }
        self._send(news, whole)

    async def _look_slowly(self, status: Status, news: Picture, now: float) -> None:
        configured = await self._source.ask(Control.configured)
        if configured != self._configured:
            self._configured = news["configured"] = configured
        gaps = await self._take_gaps(status, now)
        if gaps != self.gaps:
            self.gaps = gaps
            news["gaps"] = _brief(gaps)
        news["processes"] = self._meter.look(status)

    async def _take_gaps(self, status: Status, now: float) -> BriefGaps:
        """Asked for when something has happened to a line, and now and then for repairs: it may be a long answer."""
        lines = status.connections.values()
        signs = (status.gaps, *(one.reconnects for one in lines), *(one.restarts for one in lines))
        if signs == self._gaps_of and now - self._gaps_at < GAPS_S:
            return self.gaps
        self._gaps_of, self._gaps_at = signs, now
        return await self._source.ask(lambda control: control.gaps(GAP_NAMES))

    def _send(self, news: Picture, whole: Picture) -> None:
        """Encode each at most once."""
        frame = everything = b""
        for page in self._open:
            if page.must_be_told_all:
                page.must_be_told_all = False
                everything = everything or _event("whole", whole)
                page.put(everything)
            else:
                frame = frame or _event("news", news)
                page.put(frame)

    def _latency(self, now: float) -> dict[str, dict[str, Any]]:
        sampler = self._sampler
        found: dict[str, dict[str, Any]] = {}
        for hop, by_line in (("inside", sampler.inside), ("vendor", sampler.vendor)):
            for name, recent in list(by_line.items()):
                found.setdefault(name, {})[hop] = _quantiles(recent, now)
        return found


def _quantiles(recent: Recent, now: float) -> dict[str, Any]:
    lately: Histogram = recent.recent(now)
    return {"p50_s": lately.quantile_s(0.5), "p99_s": lately.quantile_s(0.99), "counts": lately.counts}


def _event(name: str, picture: Picture) -> bytes:
    return b"retry: 1000\nevent: " + name.encode() + b"\ndata: " + msgspec.json.encode(picture) + b"\n\n"


def _shortened(status: Status) -> Status:
    """Without the ends of lists that may be long; the REST side has them."""
    lines = {
        name: msgspec.structs.replace(line, unconfirmed=line.unconfirmed[:NAMED])
        for name, line in status.connections.items()
    }
    return msgspec.structs.replace(
        status,
        connections=lines,
        unplaced=dict(list(status.unplaced.items())[:NAMED]),
        short=dict(list(status.short.items())[:NAMED]),
        stuck=dict(list(status.stuck.items())[:NAMED]),
        live=status.live[:NAMED],
    )


def _brief(gaps: BriefGaps) -> BriefGaps:
    """As much of it as a page shows."""
    few = [msgspec.structs.replace(one, topics=sorted(one.topics)[:SHOWN]) for one in gaps.recent[-RECORDS:]]
    return BriefGaps([msgspec.structs.replace(one, topics=sorted(one.topics)[:SHOWN]) for one in gaps.open], few)

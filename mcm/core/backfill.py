"""Back-filling a gap by REST: what to ask, how an answer reads as ticks, and which of them are known already.

Pure: the process workers.backfill asks and publishes.  Sections are those of massive-protocol.md.  Two rules carry it:
an event is known by the vendor's identity of it (section 6), never by its bytes, because REST and stream differ in
detail; and nothing is asked for before all that the lines themselves have of the window is journaled (`Plan.ready_ns`),
so that no tick comes first by REST and then once more by a line.
"""

import heapq
import urllib.parse
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from mcm.core.errors import McmError
from mcm.core.events import (
    EVENTS,
    CryptoAgg,
    CryptoQuote,
    CryptoTrade,
    EquityAgg,
    EquityQuote,
    EquityTrade,
    FairMarketValue,
    ForexAgg,
    ForexQuote,
    FuturesAgg,
    FuturesQuote,
    FuturesTrade,
    Imbalance,
    IndexValue,
    LaunchpadValue,
    Level2Book,
    LimitUpLimitDown,
    Tick,
)
from mcm.core.topics import WILDCARD, Topic

__all__ = [
    "MAX_LIMIT",
    "REST_LAG_S",
    "Budget",
    "Job",
    "Known",
    "NotOffered",
    "Page",
    "Plan",
    "Queue",
    "Refused",
    "Retry",
    "event_ms",
    "following",
    "identity",
    "judge",
    "loose_identity",
    "plan",
    "read_page",
    "retry_after_s",
    "tick_of",
    "ticks_of",
]

MAX_LIMIT = 50_000

NS_PER_MS = 1_000_000
_S = 10**9
_MARGIN_S, _DELAYED_MARGIN_S = 1.0, 60.0  # "15 minutes" is not exact
_SETTLE_S = 2.0  # from the vendor's clock to our journal, routers being restarted not counted: that is waited for
REST_LAG_S = 30.0  # for so long behind the end of a window REST may still lack some of it (assumed, section 8.7)


# --- identity (section 6) --------------------------------------------------------------------------------------------


def identity(tick: Tick) -> Hashable:
    """What makes *tick* this event and no other, however it came.

    Of the tie-breaks that section 6 allows, those are left out whose unit or rounding REST and stream may differ in
    (sizes of quotes; the millisecond of an event with a sequence number), because one event must not have two.
    """
    kind, symbol = type(tick), tick.symbol
    match tick:
        case EquityTrade() if tick.id is not None:
            place = str(tick.exchange), tick.trf_id or 0, str(tick.id), tick.sequence_number
            return kind, symbol, _day(tick), *place
        case EquityTrade() if tick.sequence_number is not None:  # an option
            return kind, symbol, _day(tick), tick.sequence_number, str(tick.exchange), tick.price, tick.size
        case EquityTrade():
            return loose_identity(tick)
        case EquityQuote():
            return kind, symbol, _day(tick), _number(tick), tick.bid_price or 0, tick.ask_price or 0
        case EquityAgg() | ForexAgg() | CryptoAgg() | FuturesAgg():
            return kind, symbol, tick.start_timestamp
        case LimitUpLimitDown():
            return kind, symbol, _number(tick)
        case Imbalance():
            return kind, symbol, tick.exchange_id, tick.symbol_sequence, tick.time_stamp
        case IndexValue() | LaunchpadValue():
            return kind, symbol, tick.timestamp, tick.value
        case FairMarketValue():
            return kind, symbol, tick.timestamp, tick.fmv
        case CryptoTrade() if tick.id is not None:
            return kind, symbol, str(tick.exchange), str(tick.id)
        case CryptoTrade():
            return kind, symbol, str(tick.exchange), tick.timestamp, tick.price, tick.size
        case CryptoQuote():
            return kind, symbol, str(tick.exchange_id), tick.timestamp, tick.bid_price, tick.ask_price
        case Level2Book():
            levels = tuple(tick.bid_prices or ()), tuple(tick.ask_prices or ())
            return kind, symbol, str(tick.exchange_id), tick.timestamp, *levels
        case ForexQuote():
            return kind, symbol, str(tick.exchange_id), tick.timestamp, tick.bid_price, tick.ask_price
        case FuturesTrade():
            return kind, symbol, _day(tick), _number(tick), tick.price, tick.size
        case FuturesQuote():
            return kind, *msgspec.structs.astuple(tick)
    raise TypeError(f"{kind.__name__} is no kind of tick")


def loose_identity(tick: EquityTrade) -> Hashable:
    """Of an option's trade where REST leaves the sequence number out; several trades may share it, so it is counted."""
    return type(tick), tick.symbol, str(tick.exchange), tick.timestamp, tick.price, tick.size


def event_ms(tick: Tick) -> int | None:
    """The vendor's time of *tick*, of a bar the start of its window; milliseconds since the Unix epoch."""
    match tick:
        case EquityAgg() | ForexAgg() | CryptoAgg() | FuturesAgg():
            time = tick.start_timestamp
        case FuturesQuote():
            time = tick.sip_timestamp
        case Imbalance():
            time = tick.time_stamp
        case _:
            time = getattr(tick, "timestamp", None)
    return time if time is None or time < 10**15 else time // NS_PER_MS  # some kinds have nanoseconds


def _day(tick: Tick) -> int | None:
    """The trading day, after which numbers begin again: it changes at midnight in New York, in summer at one."""
    time = event_ms(tick)
    return None if time is None else (time - 5 * 3_600_000) // 86_400_000


def _number(tick: EquityQuote | LimitUpLimitDown | FuturesTrade) -> Hashable:
    """The vendor's sequence number, or, where it is left out, the time."""
    return tick.sequence_number if tick.sequence_number is not None else ("t", tick.timestamp)


class Known:
    """The events of one topic that have been published, as far as they lie in a window.

    Feed it what the journal has (:meth:`add`), then let it choose from what REST gives (:meth:`take_new`).

    Args:
        first_ms, end_ms: the window, its end exclusive; events outside are neither remembered nor chosen.
    """

    def __init__(self, first_ms: int, end_ms: int) -> None:
        self._first_ms, self._end_ms = first_ms, end_ms
        self._identities: set[Hashable] = set()
        self._loose: Counter[Hashable] = Counter()
        self._seen: Counter[Hashable] = Counter()

    def add(self, ticks: Iterable[Tick]) -> None:
        """These have been published."""
        for tick in self._within(ticks):
            self._identities.add(identity(tick))
            if isinstance(tick, EquityTrade) and tick.id is None:
                self._loose[loose_identity(tick)] += 1

    def begin_pass(self) -> None:
        """What is fed from here on begins again with the first event of the window."""
        self._seen.clear()

    def take_new(self, ticks: Iterable[Tick]) -> tuple[int, list[Tick]]:
        """(number of events within the window, those of them that were not known); they are known from here on."""
        count, new = 0, []
        for tick in self._within(ticks):
            count += 1
            if not self._is_known(tick):
                new.append(tick)
                self.add([tick])
        return count, new

    def _is_known(self, tick: Tick) -> bool:
        if isinstance(tick, EquityTrade) and tick.id is None and tick.sequence_number is None:
            loose = loose_identity(tick)
            self._seen[loose] += 1
            return self._seen[loose] <= self._loose[loose]
        return identity(tick) in self._identities

    def _within(self, ticks: Iterable[Tick]) -> Iterable[Tick]:
        first, end = self._first_ms, self._end_ms
        return (tick for tick in ticks if (time := event_ms(tick)) is not None and first <= time < end)


# --- what to ask (section 8) -----------------------------------------------------------------------------------------


class NotOffered(McmError):
    """REST has nothing for a topic; the text says why."""


class Plan(NamedTuple):
    """How to ask for one topic's window.

    Attributes:
        path, parameters: of the first request; the further ones are named by the answers.
        first_ms, end_ms: the window in the vendor's time, its end exclusive.
        journal_ns: wall clock from which on the journal tells what of it is known.
        ready_ns: wall clock before which it must not be asked for.
    """

    path: str
    parameters: dict[str, str]
    first_ms: int
    end_ms: int
    journal_ns: int
    ready_ns: int


def plan(topic: Topic, since_ns: int, until_ns: int, *, delay_s: float = 0.0, limit: int = MAX_LIMIT) -> Plan:
    """How to ask for what *topic* missed from *since_ns* to *until_ns* (wall clock); NotOffered where one cannot.

    The window is a little wider than the gap: what is known is dropped.  Of bars it holds those that were due in the
    gap; one whose window ended behind it comes by the line.

    With *delay_s*, the feed lags the market by so much, and its events are that much older than the moment they
    arrive.  *limit* is that of results per page.
    """
    if topic.symbol == WILDCARD:
        raise NotOffered("REST knows single symbols only")
    window_ms = _WINDOWS.get((topic.market, topic.channel), 0)
    delay, margin = int(delay_s * _S), int((_DELAYED_MARGIN_S if delay_s else _MARGIN_S) * _S)
    settled_ns = until_ns + margin + int(_SETTLE_S * _S)
    first_ms = (since_ns - delay - margin) // NS_PER_MS
    end_ms = -((delay - margin - until_ns) // NS_PER_MS)
    if window_ms:
        # Sent about 2 s after its end, or a minute bar in a burst: then 5 s.
        first_ms -= 2 * window_ms + 5_000
        end_ms -= window_ms + margin // NS_PER_MS
        settled_ns += 5 * _S
    path, parameters = _request(topic, window_ms, first_ms, end_ms, str(limit))
    return Plan(path, parameters, first_ms, end_ms, since_ns - margin - 10 * _S - 3 * window_ms * NS_PER_MS, settled_ns)


# What the market's channel of bars spans.
_WINDOWS = {
    **{(market, "A"): 1_000 for market in ("stocks", "options", "indices", "futures")},
    **{(market, "AM"): 60_000 for market in ("stocks", "options", "indices", "futures")},
    ("forex", "CAS"): 1_000, ("forex", "CA"): 60_000, ("crypto", "XAS"): 1_000, ("crypto", "XA"): 60_000,
}  # fmt: skip
_TICKS = {
    ("stocks", "T"): "trades", ("options", "T"): "trades", ("crypto", "XT"): "trades", ("futures", "T"): "trades",
    ("stocks", "Q"): "quotes", ("options", "Q"): "quotes", ("forex", "C"): "quotes", ("futures", "Q"): "quotes",
}  # fmt: skip


def _request(topic: Topic, window_ms: int, first_ms: int, end_ms: int, limit: str) -> tuple[str, dict[str, str]]:
    market, channel, symbol = topic
    kind = _TICKS.get((market, channel))
    if not kind and not window_ms:
        raise NotOffered(f"REST has no {market}.{channel}")
    ticker = urllib.parse.quote(_ticker(market, symbol, is_bar=bool(window_ms)), safe=":")
    first, end = str(first_ms * NS_PER_MS), str(end_ms * NS_PER_MS)
    if window_ms and market == "futures":
        parameters = {"resolution": "1min" if window_ms > 1_000 else "1sec", "sort": "window_start.asc"}
        parameters |= {"window_start.gte": first, "window_start.lt": end, "limit": limit}
        return f"/futures/v1/aggs/{ticker}", parameters
    if window_ms:
        span = "minute" if window_ms > 1_000 else "second"
        path = f"/v2/aggs/ticker/{ticker}/range/1/{span}/{first_ms}/{end_ms - 1}"
        return path, {"adjusted": "false", "sort": "asc", "limit": limit}
    times = {"timestamp.gte": first, "timestamp.lt": end, "limit": limit}
    if market == "futures":
        return f"/futures/v1/{kind}/{ticker}", {**times, "sort": "timestamp.asc"}
    return f"/v3/{kind}/{ticker}", {**times, "sort": "timestamp", "order": "asc"}


def _ticker(market: str, symbol: str, *, is_bar: bool) -> str:
    """The spelling of REST (section 8.5)."""
    match market:
        case "crypto":
            return "X:" + (symbol.replace("-", "") if is_bar else symbol)
        case "forex":
            return "C:" + symbol.replace("/", "" if is_bar else "-")
        case _:
            return symbol


# --- how an answer reads ---------------------------------------------------------------------------------------------


class Page(msgspec.Struct):
    """One page of results, and where the next one is."""

    results: list[msgspec.Raw] | None = None  # not decoded: 50,000 dicts take 60 MB
    next_url: str | None = None


_page = msgspec.json.Decoder(Page)


def read_page(body: bytes) -> Page:
    """The page in *body*; msgspec.MsgspecError for anything else."""
    return _page.decode(body)


def following(page: Page, url: str) -> str | None:
    """Where the page behind this one, which was at *url*, is; NotOffered where the key must not go there."""
    if not page.next_url:
        return None
    here, there = urllib.parse.urlsplit(url), urllib.parse.urlsplit(page.next_url)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc) or page.next_url == url:
        raise NotOffered(f"the next page is said to be at {there.scheme}://{there.netloc}, which is refused")
    return page.next_url


# Key of the stream → name in REST (sections 8.1 to 8.4).
_STOCK_TRADE = {
    "i": "id", "x": "exchange", "p": "price", "s": "size", "ds": "decimal_size", "c": "conditions",
    "t": "sip_timestamp", "pt": "participant_timestamp", "q": "sequence_number", "z": "tape", "trfi": "trf_id",
    "trft": "trf_timestamp",
}  # fmt: skip
_CRYPTO_TRADE = {
    "i": "id", "x": "exchange", "p": "price", "s": "size", "c": "conditions", "t": "participant_timestamp",
    "r": "received_timestamp",
}  # fmt: skip
_FUTURES_TRADE = {"p": "price", "s": "size", "t": "timestamp", "q": "sequence_number"}
_QUOTE = {
    "bx": "bid_exchange", "ax": "ask_exchange", "bp": "bid_price", "ap": "ask_price", "bs": "bid_size",
    "as": "ask_size", "c": "conditions", "i": "indicators", "t": "sip_timestamp", "pt": "participant_timestamp",
    "q": "sequence_number", "z": "tape", "trft": "trf_timestamp",
}  # fmt: skip
_FOREX_QUOTE = {"x": "ask_exchange", "a": "ask_price", "b": "bid_price", "t": "participant_timestamp"}
_FUTURES_QUOTE = {
    "bp": "bid_price", "bs": "bid_size", "bt": "bid_timestamp", "ap": "ask_price", "as": "ask_size",
    "at": "ask_timestamp", "t": "timestamp",
}  # fmt: skip
_BAR = {"v": "v", "vw": "vw", "o": "o", "c": "c", "h": "h", "l": "l", "s": "t"}
_STOCK_BAR = {**_BAR, "otc": "otc"}
_FUTURES_BAR = {
    "v": "volume", "dv": "dollar_volume", "o": "open", "c": "close", "h": "high", "l": "low", "n": "transactions",
    "s": "window_start",
}  # fmt: skip
_NAMES = {
    ("crypto", "XT"): _CRYPTO_TRADE, ("futures", "T"): _FUTURES_TRADE, ("forex", "C"): _FOREX_QUOTE,
    ("futures", "Q"): _FUTURES_QUOTE, ("futures", "A"): _FUTURES_BAR, ("futures", "AM"): _FUTURES_BAR,
    **{(market, "T"): _STOCK_TRADE for market in ("stocks", "options")},
    **{(market, "Q"): _QUOTE for market in ("stocks", "options")},
    **{(market, channel): _STOCK_BAR for market in ("stocks", "options", "indices") for channel in ("A", "AM")},
    ("forex", "CAS"): _BAR, ("forex", "CA"): _BAR, ("crypto", "XAS"): _BAR, ("crypto", "XA"): _BAR,
}  # fmt: skip
_TIMES = frozenset({"t", "pt", "trft", "r", "bt", "at"})  # nanoseconds there, milliseconds on the stream


def tick_of(topic: Topic, result: Mapping[str, Any]) -> Tick:
    """*result* as the stream would have told it, as far as REST tells it; ValueError where it makes no sense."""
    market, channel, symbol = topic
    kind = _kinds[market, channel]
    try:
        fields = {
            key: int(result[name]) // NS_PER_MS if key in _TIMES else result[name]
            for key, name in _NAMES[market, channel].items()
            if result.get(name) is not None
        }
        if window_ms := _WINDOWS.get((market, channel)):
            if market == "futures":
                fields["s"] = int(fields["s"]) // NS_PER_MS
            fields["e"] = fields["s"] + window_ms
        _smooth(channel, fields)
        fields["ev"], fields[_symbol_keys[market, channel]] = channel, symbol
        return msgspec.convert(fields, kind, strict=False)
    except (KeyError, TypeError, OverflowError, msgspec.ValidationError) as error:
        raise ValueError(f"{topic}: a result cannot be read: {error}") from error


_decode_result = msgspec.json.Decoder(dict[str, Any]).decode


def ticks_of(topic: Topic, results: Iterable[bytes | msgspec.Raw]) -> tuple[list[Tick], list[str]]:
    """(ticks, problems) of the results of a page."""
    ticks, problems = [], []
    for result in results:
        try:
            ticks.append(tick_of(topic, _decode_result(result)))
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            problems.append(str(error))
    return ticks, problems


def _smooth(channel: str, fields: dict[str, Any]) -> None:
    """Where REST has a list and the stream one number, or nothing where REST has an empty list."""
    if channel == "Q" and isinstance(fields.get("c"), list):
        fields["c"] = next(iter(fields["c"]), None)
    for key in ("c", "i"):
        if fields.get(key, 0) in (None, []):
            del fields[key]


_kinds = {(market, kind.event_type): kind for market, kinds in EVENTS.items() for kind in kinds}
_symbol_keys = {
    key: dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))["symbol"]
    for key, kind in _kinds.items()
}


# --- what an answer means (section 8.6) ------------------------------------------------------------------------------


class Retry(NamedTuple):
    """Ask again after so many seconds; *for_all* requests, because the account asks too much."""

    after_s: float
    for_all: bool = False


class Refused(NamedTuple):
    """Asking again is of no use: not for this request or, with *scope*, for nothing in that market or channel."""

    reason: str
    scope: str = ""


_RETRIED = frozenset({413, 499, 500, 502, 503, 504})
_ATTEMPTS = 6
_BASE_S, _CAP_S = 0.2, 10.0
_LIMIT_S = 300.0
_PROSE_CHARACTERS = 120


def judge(topic: Topic, status: int, body: bytes, *, attempt: int, after_s: float | None) -> Retry | Refused:
    """What follows from an answer other than 200, *attempt* counting from 0; *status* 0 stands for no answer at all.

    *after_s* is what the vendor asked to wait, if it did.
    """
    waited_s = min(_CAP_S, _BASE_S * 2.0 ** min(attempt, 16))
    if status == 429:
        return Retry(min(after_s if after_s is not None else max(1.0, waited_s), _LIMIT_S), for_all=True)
    if status in _RETRIED or status == 0:
        if attempt + 1 < _ATTEMPTS:
            return Retry(waited_s)
        return Refused(f"{_named(status)}, {_ATTEMPTS} times")
    reason = f"{_named(status)}{_prose(body)}"
    match status:
        case 401:
            return Refused(reason, topic.market)
        case 403:
            return Refused(reason, f"{topic.market}.{topic.channel}")
        case _:
            return Refused(reason)


def _named(status: int) -> str:
    return f"HTTP {status}" if status else "no answer"


def _prose(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    text = str(said.get("error") or said.get("message") or "")[:_PROSE_CHARACTERS]
    return f" ({text})" if text.isprintable() and text else ""


def retry_after_s(header: str | None) -> float | None:
    """The seconds of a Retry-After; None for none, and for a date, which nobody was seen to send."""
    text = (header or "").strip()
    return float(text) if text.isascii() and text.replace(".", "", 1).isdigit() else None


# --- how much at a time ----------------------------------------------------------------------------------------------


@dataclass
class Budget:
    """So many requests per second and never two at once; *now* is monotonic seconds."""

    per_s: float
    _next: float = 0.0
    _paused_until: float = 0.0

    def take(self, now: float) -> float:
        """0 when a request may go out now, which is then counted; else how long to wait before asking again."""
        due = max(self._next, self._paused_until)
        if now < due:
            return due - now
        self._next = now + 1 / self.per_s
        return 0.0

    def pause(self, until: float) -> None:
        """No request before *until*."""
        self._paused_until = max(self._paused_until, until)


class Job(NamedTuple):
    """One topic's window of one gap; the jobs of one demand have its *number*."""

    number: int
    id: str
    topic: Topic
    since_ns: int
    until_ns: int
    plan: Plan


@dataclass
class Queue:
    """Jobs in order of rank (0 first), then age; bounded, and what does not fit is refused.

    A batch holds jobs whose windows lie together, because what is known is read from the journal once for all of them;
    and no topic twice, because what one job publishes the other one must know.
    """

    limit: int = 50_000
    batch_limit: int = 500
    spread_ns: int = 60 * _S
    _waiting: list[tuple[int, int, int, Job]] = field(default_factory=list)  # by the time when they are ready
    _ready: list[tuple[int, int, Job]] = field(default_factory=list)
    _count: int = 0
    _unfinished: Counter[int] = field(default_factory=Counter)

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._waiting) + len(self._ready)

    @property
    def unfinished(self) -> list[int]:
        """Numbers of the demands of which a job waits or is in hand."""
        return sorted(self._unfinished)

    def put(self, job: Job, rank: int) -> bool:
        """Take *job*; False if there is no room."""
        if len(self) >= self.limit:
            return False
        self._count += 1
        self._unfinished[job.number] += 1
        heapq.heappush(self._waiting, (job.plan.ready_ns, rank, self._count, job))
        return True

    def ready_in_s(self, now_ns: int) -> float | None:
        """How long until :meth:`take` gives something; None while nothing waits."""
        if self._ready:
            return 0.0
        return max(0.0, (self._waiting[0][0] - now_ns) / _S) if self._waiting else None

    def take(self, now_ns: int) -> list[Job]:
        """The jobs to do next, none if none is ready; each is to be handed to :meth:`finish`."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            _, rank, age, job = heapq.heappop(self._waiting)
            heapq.heappush(self._ready, (rank, age, job))
        batch: list[Job] = []
        topics: set[Topic] = set()
        left: list[tuple[int, int, Job]] = []
        while self._ready and len(batch) < self.batch_limit and len(left) < self.batch_limit:
            entry = heapq.heappop(self._ready)
            job = entry[2]
            if job.topic in topics or (batch and abs(job.since_ns - batch[0].since_ns) > self.spread_ns):
                left.append(entry)
            else:
                batch.append(job)
                topics.add(job.topic)
        for entry in left:
            heapq.heappush(self._ready, entry)
        return batch

    def finish(self, job: Job) -> None:
        """*job* is done, one way or the other."""
        self._unfinished[job.number] -= 1
        if not self._unfinished[job.number]:
            del self._unfinished[job.number]

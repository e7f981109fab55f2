"""Every kind of event that the vendor publishes, as one record each: JSON on the upstream side, msgpack on ours.

A record encodes to a map with the vendor's keys in the vendor's order, ``ev`` first; what the vendor left out is None
here and left out again.  Attributes are named as in the vendor's official Python client, so that code written for it
reads ours.  Sections are those of massive-protocol.md (vendor documentation and captures of 2025-26).

Here only the shapes are defined; core.massive knows how they arrive.
"""

import functools
import operator
from collections.abc import Iterable
from types import GenericAlias
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct, field, msgpack

from mcm.core.markets import MARKETS

__all__ = [
    "EVENTS",
    "CryptoAgg",
    "CryptoMinuteAgg",
    "CryptoQuote",
    "CryptoSecondAgg",
    "CryptoTrade",
    "CurrencyTick",
    "EquityAgg",
    "EquityMinuteAgg",
    "EquityQuote",
    "EquitySecondAgg",
    "EquityTrade",
    "FairMarketValue",
    "ForexAgg",
    "ForexMinuteAgg",
    "ForexQuote",
    "ForexSecondAgg",
    "FuturesAgg",
    "FuturesMinuteAgg",
    "FuturesQuote",
    "FuturesSecondAgg",
    "FuturesTrade",
    "Imbalance",
    "IndexValue",
    "LaunchpadValue",
    "Level2Book",
    "LimitUpLimitDown",
    "Tick",
    "list_of",
    "one_of",
    "tick_decoder",
]

# JSON has integers of any size, msgpack ends at 64 bits: without the bound one absurd number would decode, and then
# break the encoding of the whole batch.
Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Int | float  # kept as the vendor wrote it: 40 stays 40, 0.5 stays 0.5
Identity = str | Int  # documented as one, seen as the other


def _key(name: str) -> Any:
    """An attribute that the vendor calls *name* and may leave out.

    Beside the attribute and not in the class's ``rename``, so that each name is written once and the order is seen.
    """
    return field(default=None, name=name)


class Tick(Struct, gc=False, omit_defaults=True, tag_field="ev"):
    """Any market event; the common base of all kinds below, for annotations and ``isinstance``.

    Attributes:
        event_type: the channel, which is also the vendor's ``ev``: ``"T"``, ``"AM"``, ...; also on the class.
    """

    event_type: ClassVar[str]

    @property
    def symbol(self) -> str:
        """As the upstream spells it: ``"AAPL"``, ``"O:SPY241220P00720000"``, ``"EUR/USD"``; a field of every kind."""
        raise NotImplementedError


class CurrencyTick(Tick):
    """Any event of a pair that is not a plain value: all kinds whose symbol the official client calls ``pair``."""

    @property
    def pair(self) -> str:
        """The symbol, as the official client calls it."""
        return self.symbol


# --- stocks and options ----------------------------------------------------------------------------------------------


class EquityTrade(Tick, tag="T", kw_only=True):
    """One execution (stocks, options); section 5.1.

    Attributes:
        id: unique per symbol, exchange and reporting facility only; absent on options.
        exchange: the vendor's number of the venue.
        price: per share or contract, in US dollars.
        size: whole shares or contracts; ``0`` for a fractional trade below one share.
        conditions: sale condition codes; absent when there are none.
        timestamp: time of the consolidated tape, milliseconds since the Unix epoch, UTC.
        participant_timestamp: time at the venue, milliseconds, not after *timestamp* (stocks, since 2026).
        sequence_number: rises per symbol and day; holes are normal.  Never proof of a loss.
        tape: 1 NYSE, 2 AMEX and Arca, 3 Nasdaq (stocks).
        trf_id, trf_timestamp: trade reporting facility and its time in milliseconds, for off-exchange trades.
        fractional_shares: the exact size, as a decimal text: ``"0.740474"`` (stocks, since 2026).
    """

    symbol: str = field(name="sym")
    id: Identity | None = _key("i")
    exchange: Int | None = _key("x")
    price: float | None = _key("p")
    size: Number | None = _key("s")
    conditions: list[Int] | None = _key("c")
    timestamp: Int | None = _key("t")
    participant_timestamp: Int | None = _key("pt")
    sequence_number: Int | None = _key("q")
    tape: Int | None = _key("z")
    trf_id: Int | None = _key("trfi")
    trf_timestamp: Int | None = _key("trft")
    fractional_shares: str | None = _key("ds")


class EquityQuote(Tick, tag="Q", kw_only=True):
    """The best bid and ask over all venues (stocks, options); section 5.2.

    Attributes:
        condition: one code, not a list (stocks).
        indicators: codes (stocks).
        bid_exchange_id, ask_exchange_id: the vendor's numbers of the venues; 0 where that side is empty.
        bid_price, ask_price: US dollars; 0 where that side is empty.
        bid_size, ask_size: shares in captures of 2026, round lots in older documents; contracts for options.
        timestamp: milliseconds since the Unix epoch, UTC; participant_timestamp: time at the venue (stocks, 2026).
        sequence_number: rises per symbol and day; holes are normal.
        tape, trf_id, trf_timestamp: as for a trade; the last two are known from the official client only.
    """

    symbol: str = field(name="sym")
    condition: Int | None = _key("c")
    indicators: list[Int] | None = _key("i")
    bid_exchange_id: Int | None = _key("bx")
    ask_exchange_id: Int | None = _key("ax")
    bid_price: float | None = _key("bp")
    ask_price: float | None = _key("ap")
    bid_size: Number | None = _key("bs")
    ask_size: Number | None = _key("as")
    timestamp: Int | None = _key("t")
    participant_timestamp: Int | None = _key("pt")
    sequence_number: Int | None = _key("q")
    tape: Int | None = _key("z")
    trf_id: Int | None = _key("trfi")
    trf_timestamp: Int | None = _key("trft")


class EquityAgg(Tick, kw_only=True):
    """A bar of stocks, options, indices or launchpad; one of the two kinds below.  Section 5.3.

    Sent again with corrected values when late trades arrive: the later one replaces the earlier with the same start.
    Indices carry prices and times only.

    Attributes:
        volume, accumulated_volume: shares or contracts in the window, and of the day so far.
        official_open_price: of the day.
        vwap, aggregate_vwap: volume-weighted average price of the window, and of the day so far.
        open, close, high, low: of the window.
        average_size: of a trade in the window; not a count.
        start_timestamp, end_timestamp: milliseconds since the Unix epoch, UTC; the end is exclusive.
        fractional_volume, fractional_accumulated_volume: exact volumes as decimal texts (stocks, since 2026).
        otc: True for over-the-counter symbols, else absent.
    """

    symbol: str = field(name="sym")
    volume: Number | None = _key("v")
    accumulated_volume: Number | None = _key("av")
    official_open_price: float | None = _key("op")
    vwap: float | None = _key("vw")
    open: float | None = _key("o")
    close: float | None = _key("c")
    high: float | None = _key("h")
    low: float | None = _key("l")
    aggregate_vwap: float | None = _key("a")
    average_size: Number | None = _key("z")
    start_timestamp: Int | None = _key("s")
    end_timestamp: Int | None = _key("e")
    fractional_volume: str | None = _key("dv")
    fractional_accumulated_volume: str | None = _key("dav")
    otc: bool | None = None


class EquitySecondAgg(EquityAgg, tag="A"):
    """The bar of one second."""


class EquityMinuteAgg(EquityAgg, tag="AM"):
    """The bar of one minute; on launchpad also of currencies, with symbols like ``X:BTC-USD``."""


class LimitUpLimitDown(Tick, tag="LULD", kw_only=True):
    """The price band outside which a stock may not trade; section 5.4.

    Attributes:
        high_price, low_price: the band, US dollars.
        indicators: codes; 17 is a halt and 18 a resumption, for Nasdaq listings only.
        timestamp: **nanoseconds** since the Unix epoch on the wire, although the vendor's text says milliseconds.
    """

    high_price: float | None = _key("h")
    low_price: float | None = _key("l")
    indicators: list[Int] | None = _key("i")
    tape: Int | None = _key("z")
    symbol: str = field(name="T")
    timestamp: Int | None = _key("t")
    sequence_number: Int | None = _key("q")


class Imbalance(Tick, tag="NOI", kw_only=True):
    """Net order imbalance before an auction (stocks); section 5.5.

    Attributes:
        time_stamp: **nanoseconds** since the Unix epoch in the vendor's sample; its text says milliseconds.
        auction_time: hour times 100 plus minute, Eastern: 930, 1600.
        auction_type: O early open, M core open, H reopen, C close, P extreme closing, R regulatory closing.
        symbol_sequence: rises per symbol.
        imbalance_quantity, paired_quantity: shares.
        book_clearing_price: US dollars.
    """

    symbol: str = field(name="T")
    time_stamp: Int | None = _key("t")
    auction_time: Int | None = _key("at")
    auction_type: str | None = _key("a")
    symbol_sequence: Int | None = _key("i")
    exchange_id: Int | None = _key("x")
    imbalance_quantity: Number | None = _key("o")
    paired_quantity: Number | None = _key("p")
    book_clearing_price: float | None = _key("b")


# --- values ----------------------------------------------------------------------------------------------------------


class FairMarketValue(Tick, tag="FMV", kw_only=True):
    """The vendor's estimate of a fair price (business plans); section 5.6.

    Attributes:
        timestamp: since the Unix epoch, in milliseconds (13 digits) or nanoseconds (19): tell by the magnitude.
    """

    fmv: float | None = None
    symbol: str = field(name="sym")
    timestamp: Int | None = _key("t")

    @property
    def ticker(self) -> str:
        """The symbol, as the official client calls it."""
        return self.symbol


class LaunchpadValue(Tick, tag="LV", kw_only=True):
    """The current value of anything, for display (launchpad); section 5.6.  Its time is as for a fair market value."""

    value: float | None = _key("val")
    symbol: str = field(name="sym")
    timestamp: Int | None = _key("t")


class IndexValue(Tick, tag="V", kw_only=True):
    """The value of an index, *timestamp* in milliseconds since the Unix epoch; section 5.7."""

    value: float | None = _key("val")
    symbol: str = field(name="T")
    timestamp: Int | None = _key("t")

    @property
    def ticker(self) -> str:
        """The symbol, as the official client calls it."""
        return self.symbol


# --- currencies ------------------------------------------------------------------------------------------------------


class ForexQuote(CurrencyTick, tag="C", kw_only=True):
    """Bid and ask of a currency pair, without sizes; section 5.8.

    Attributes:
        exchange_id: a number live, a text in the vendor's sample.
        indicators: seen live as ``0``; the vendor does not document it.
        timestamp: milliseconds since the Unix epoch, often in whole seconds.
    """

    symbol: str = field(name="p")
    exchange_id: Identity | None = _key("x")
    ask_price: float | None = _key("a")
    bid_price: float | None = _key("b")
    indicators: Int | list[Int] | None = _key("i")
    timestamp: Int | None = _key("t")


class ForexAgg(CurrencyTick, kw_only=True):
    """A bar of a currency pair; one of the two kinds below.  Section 5.9.

    Attributes:
        volume: number of quote updates, not an amount of money.
        start_timestamp, end_timestamp: milliseconds since the Unix epoch; the end is missing in the vendor's sample.
        vwap, avg_trade_size: known from the official client, which shares its record with crypto.
    """

    symbol: str = field(name="pair")
    open: float | None = _key("o")
    close: float | None = _key("c")
    high: float | None = _key("h")
    low: float | None = _key("l")
    volume: Number | None = _key("v")
    vwap: float | None = _key("vw")
    start_timestamp: Int | None = _key("s")
    end_timestamp: Int | None = _key("e")
    avg_trade_size: Number | None = _key("z")


class ForexSecondAgg(ForexAgg, tag="CAS"):
    """The bar of one second."""


class ForexMinuteAgg(ForexAgg, tag="CA"):
    """The bar of one minute."""


class CryptoTrade(CurrencyTick, tag="XT", kw_only=True):
    """One execution at a crypto exchange; section 5.10.

    Attributes:
        size: in units of the first currency, often far below one.
        conditions: 1 the seller, 2 the buyer took the initiative; 0 or absent if unknown.
        id: a text live (digits or a UUID), a number in the vendor's description.
        timestamp: of the exchange; received_timestamp: of the vendor; both in milliseconds since the Unix epoch.
    """

    symbol: str = field(name="pair")
    price: float | None = _key("p")
    timestamp: Int | None = _key("t")
    size: Number | None = _key("s")
    conditions: list[Int] | None = _key("c")
    id: Identity | None = _key("i")
    exchange: Identity | None = _key("x")
    received_timestamp: Int | None = _key("r")


class CryptoQuote(CurrencyTick, tag="XQ", kw_only=True):
    """Best bid and ask at one crypto exchange; section 5.10.  Units are those of a crypto trade."""

    symbol: str = field(name="pair")
    bid_price: float | None = _key("bp")
    bid_size: Number | None = _key("bs")
    ask_price: float | None = _key("ap")
    ask_size: Number | None = _key("as")
    timestamp: Int | None = _key("t")
    exchange_id: Identity | None = _key("x")
    received_timestamp: Int | None = _key("r")


class Level2Book(CurrencyTick, tag="XL2", kw_only=True):
    """The whole order book of one crypto exchange, at most 100 levels a side (deprecated); section 5.10.

    Attributes:
        bid_prices, ask_prices: (price, size) of each level, the best one first.
    """

    symbol: str = field(name="pair")
    timestamp: Int | None = _key("t")
    received_timestamp: Int | None = _key("r")
    exchange_id: Identity | None = _key("x")
    bid_prices: list[tuple[float, float]] | None = _key("b")
    ask_prices: list[tuple[float, float]] | None = _key("a")


class CryptoAgg(CurrencyTick, kw_only=True):
    """A bar of a crypto pair over all exchanges; one of the two kinds below.  Section 5.9.

    Attributes:
        volume: in units of the first currency, with fractions.
        avg_trade_size: of a trade in the window; not a count.
        start_timestamp, end_timestamp: milliseconds since the Unix epoch; the end is exclusive.
    """

    symbol: str = field(name="pair")
    volume: Number | None = _key("v")
    vwap: float | None = _key("vw")
    avg_trade_size: Number | None = _key("z")
    open: float | None = _key("o")
    close: float | None = _key("c")
    high: float | None = _key("h")
    low: float | None = _key("l")
    start_timestamp: Int | None = _key("s")
    end_timestamp: Int | None = _key("e")


class CryptoSecondAgg(CryptoAgg, tag="XAS"):
    """The bar of one second."""


class CryptoMinuteAgg(CryptoAgg, tag="XA"):
    """The bar of one minute."""


# --- futures ---------------------------------------------------------------------------------------------------------


class FuturesTrade(Tick, tag="T", kw_only=True):
    """One execution of a futures contract, *timestamp* in milliseconds since the Unix epoch; section 5.11."""

    symbol: str = field(name="sym")
    price: float | None = _key("p")
    size: Number | None = _key("s")
    timestamp: Int | None = _key("t")
    sequence_number: Int | None = _key("q")


class FuturesQuote(Tick, tag="Q", kw_only=True):
    """Best bid and ask of a futures contract; it has no sequence number.  Section 5.11.

    Attributes:
        bid_timestamp, ask_timestamp: when that side last changed; milliseconds in samples, the vendor does not say.
        sip_timestamp: of the quote, milliseconds since the Unix epoch.
    """

    symbol: str = field(name="sym")
    bid_price: float | None = _key("bp")
    bid_size: Number | None = _key("bs")
    bid_timestamp: Int | None = _key("bt")
    ask_price: float | None = _key("ap")
    ask_size: Number | None = _key("as")
    ask_timestamp: Int | None = _key("at")
    sip_timestamp: Int | None = _key("t")


class FuturesAgg(Tick, kw_only=True):
    """A bar of a futures contract; one of the two kinds below.  Section 5.11.

    Attributes:
        volume: contracts.
        total_value: US dollars.  The same key means shares, as a text, on stocks.
        transactions: number of trades in the window.
        start_timestamp, end_timestamp: milliseconds since the Unix epoch.
    """

    symbol: str = field(name="sym")
    volume: Number | None = _key("v")
    total_value: Number | None = _key("dv")
    open: float | None = _key("o")
    close: float | None = _key("c")
    high: float | None = _key("h")
    low: float | None = _key("l")
    transactions: Int | None = _key("n")
    start_timestamp: Int | None = _key("s")
    end_timestamp: Int | None = _key("e")


class FuturesSecondAgg(FuturesAgg, tag="A"):
    """The bar of one second."""


class FuturesMinuteAgg(FuturesAgg, tag="AM"):
    """The bar of one minute."""


# --- which market publishes what -------------------------------------------------------------------------------------

_FUTURES = (FuturesTrade, FuturesQuote, FuturesSecondAgg, FuturesMinuteAgg)
_OTHERS = (
    EquityTrade, EquityQuote, EquitySecondAgg, EquityMinuteAgg, LimitUpLimitDown, Imbalance, FairMarketValue,
    LaunchpadValue, IndexValue, ForexQuote, ForexSecondAgg, ForexMinuteAgg, CryptoTrade, CryptoQuote, Level2Book,
    CryptoSecondAgg, CryptoMinuteAgg,
)  # fmt: skip
for _kind in _FUTURES + _OTHERS:
    _kind.event_type = str(_kind.__struct_config__.tag)  # msgspec keeps the tag where only msgspec looks for it


def _of_market(market: str) -> tuple[type[Tick], ...]:
    kinds = {kind.event_type: kind for kind in (_FUTURES if market == "futures" else _OTHERS)}
    return tuple(kinds[channel] for channel in MARKETS[market].channels)


# Market → its kinds, one per channel.  Per market, because stocks and futures differ under one tag.
EVENTS: dict[str, tuple[type[Tick], ...]] = {market: _of_market(market) for market in MARKETS}


def one_of(kinds: Iterable[type[Struct]]) -> Any:
    """The type ``A | B | ...``, for a msgspec decoder that tells *kinds* apart by their tags."""
    return functools.reduce(operator.or_, kinds)


def list_of(kinds: Iterable[type[Struct]]) -> Any:
    """The type ``list[A | B | ...]``."""
    return GenericAlias(list, (one_of(kinds),))


@functools.cache
def tick_decoder(market: str) -> "msgpack.Decoder[list[Tick]]":
    """What reads the ticks of a message (core.wire) of *market*; msgspec.DecodeError for anything else."""
    return msgpack.Decoder(list_of(EVENTS[market]))

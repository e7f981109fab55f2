"""What to ask REST for, how its answers read, and that nothing is published twice."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.backfill import (
    Budget,
    Job,
    Known,
    NotOffered,
    Page,
    Queue,
    Refused,
    Retry,
    event_ms,
    following,
    identity,
    judge,
    plan,
    read_page,
    retry_after_s,
    tick_of,
    ticks_of,
)
from mcm.core.events import EVENTS, EquityTrade, Tick, tick_decoder
from mcm.core.topics import Topic, parse_topic

NOW_MS = 1_706_649_628_000
S = 10**9
NOW_NS = NOW_MS * 10**6

# (topic, a result of REST, what the stream would have sent); shapes of sections 5 and 8.
GOLDEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stocks.T.NVDA": (
        {"conditions": [12, 37], "exchange": 4, "id": "40161", "participant_timestamp": 1786649956458990001,
         "price": 225.63, "sequence_number": 9059424, "sip_timestamp": 1786649956459999999, "size": 129, "tape": 3,
         "trf_id": 202, "trf_timestamp": 1786649956459000000, "decimal_size": "129.0", "correction": 0},
        {"sym": "NVDA", "i": "40161", "x": 4, "p": 225.63, "s": 129, "c": [12, 37], "t": 1786649956459,
         "pt": 1786649956458, "q": 9059424, "z": 3, "trfi": 202, "trft": 1786649956459, "ds": "129.0"},
    ),
    "options.T.O:AMC210827C00037000": (
        {"conditions": [233], "exchange": 65, "price": 1.54, "sip_timestamp": 1629820676333000000, "size": 1.0,
         "sequence_number": 651921857},
        {"sym": "O:AMC210827C00037000", "x": 65, "p": 1.54, "s": 1, "c": [233], "t": 1629820676333, "q": 651921857},
    ),
    "crypto.XT.BTC-USD": (
        {"conditions": [2], "exchange": 23, "id": "1b254a48-7258-4465-8215-2610ccf9ab21", "price": 43575.6,
         "participant_timestamp": 1706649628023000000, "size": 4.522e-05, "received_timestamp": 1706649628068000000},
        {"pair": "BTC-USD", "p": 43575.6, "t": 1706649628023, "s": 4.522e-05, "c": [2],
         "i": "1b254a48-7258-4465-8215-2610ccf9ab21", "x": 23, "r": 1706649628068},
    ),
    "futures.T.ESZ5": (
        {"timestamp": 1761830000000123456, "price": 6000.25, "size": 2, "sequence_number": 17, "report_sequence": 4,
         "channel": 310, "session_end_date": "2025-10-30"},
        {"sym": "ESZ5", "p": 6000.25, "s": 2, "t": 1761830000000, "q": 17},
    ),
    "stocks.Q.AAPL": (
        {"ask_exchange": 12, "ask_price": 297.86, "ask_size": 80, "bid_exchange": 15, "bid_price": 297.83,
         "bid_size": 80, "conditions": [1], "indicators": [604], "participant_timestamp": 1781622375952000000,
         "sequence_number": 44424715, "sip_timestamp": 1781622375952000000, "tape": 3},
        {"sym": "AAPL", "c": 1, "i": [604], "bx": 15, "ax": 12, "bp": 297.83, "ap": 297.86, "bs": 80, "as": 80,
         "t": 1781622375952, "pt": 1781622375952, "q": 44424715, "z": 3},
    ),
    "options.Q.O:SPY241220P00720000": (
        {"ask_price": 9.81, "bid_price": 9.71, "bid_size": 17, "ask_size": 24, "sip_timestamp": 1644506128351000000,
         "bid_exchange": 302, "ask_exchange": 302, "sequence_number": 844090872, "conditions": []},
        {"sym": "O:SPY241220P00720000", "bx": 302, "ax": 302, "bp": 9.71, "ap": 9.81, "bs": 17, "as": 24,
         "t": 1644506128351, "q": 844090872},
    ),
    "forex.C.EUR/USD": (
        {"ask_exchange": 48, "ask_price": 1.085, "bid_exchange": 48, "bid_price": 1.0847,
         "participant_timestamp": 1706645273000000000},
        {"p": "EUR/USD", "x": 48, "a": 1.085, "b": 1.0847, "t": 1706645273000},
    ),
    "futures.Q.ESZ5": (
        {"bid_price": 6000.25, "bid_size": 12, "bid_timestamp": 1761830000000000000, "ask_price": 6000.5,
         "ask_size": 9, "ask_timestamp": 1761830000001000000, "timestamp": 1761830000002000000},
        {"sym": "ESZ5", "bp": 6000.25, "bs": 12, "bt": 1761830000000, "ap": 6000.5, "as": 9, "at": 1761830000001,
         "t": 1761830000002},
    ),
    "stocks.AM.GTE": (
        {"v": 4110, "vw": 0.4488, "o": 0.4488, "c": 0.4486, "h": 0.4489, "l": 0.4486, "t": 1610144640000, "n": 6,
         "otc": True},
        {"sym": "GTE", "v": 4110, "vw": 0.4488, "o": 0.4488, "c": 0.4486, "h": 0.4489, "l": 0.4486,
         "s": 1610144640000, "e": 1610144700000, "otc": True},
    ),
    "indices.A.I:SPX": (
        {"o": 3985.67, "c": 3985.67, "h": 3985.67, "l": 3985.67, "t": 1678220675000},
        {"sym": "I:SPX", "o": 3985.67, "c": 3985.67, "h": 3985.67, "l": 3985.67, "s": 1678220675000,
         "e": 1678220676000},
    ),
    "forex.CAS.EUR/USD": (
        {"v": 20, "vw": 1.08, "o": 1.08, "c": 1.08, "h": 1.09, "l": 1.07, "t": 1539145740000, "n": 20},
        {"pair": "EUR/USD", "v": 20, "vw": 1.08, "o": 1.08, "c": 1.08, "h": 1.09, "l": 1.07, "s": 1539145740000,
         "e": 1539145741000},
    ),
    "crypto.XA.BCD-USD": (
        {"v": 951.6112, "vw": 0.7756, "o": 0.772, "c": 0.784, "h": 0.784, "l": 0.771, "t": 1610463240000, "n": 3},
        {"pair": "BCD-USD", "v": 951.6112, "vw": 0.7756, "o": 0.772, "c": 0.784, "h": 0.784, "l": 0.771,
         "s": 1610463240000, "e": 1610463300000},
    ),
    "futures.AM.ESZ5": (
        {"open": 1, "high": 3, "low": 1, "close": 2, "volume": 9, "dollar_volume": 54_000.5, "transactions": 4,
         "window_start": 1761830040000000000, "session_end_date": "2025-10-30"},
        {"sym": "ESZ5", "v": 9, "dv": 54_000.5, "o": 1.0, "h": 3.0, "l": 1.0, "c": 2.0, "n": 4, "s": 1761830040000,
         "e": 1761830100000},
    ),
}  # fmt: skip


def streamed(topic: Topic, fields: dict[str, Any]) -> Tick:
    (tick,) = tick_decoder(topic.market).decode(msgspec.msgpack.encode([{"ev": topic.channel, **fields}]))
    return tick


def trade(number: int, *, t: int = NOW_MS, **others: Any) -> EquityTrade:
    known: dict[str, Any] = {"symbol": "AAPL", "id": str(number), "exchange": 4, "price": 1.0, "size": 1}
    return EquityTrade(**known | {"timestamp": t, "sequence_number": number} | others)


# --- mapping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", GOLDEN)
def test_a_result_reads_as_the_stream_would_have_told_it(text: str) -> None:
    topic = parse_topic(text)
    result, expected = GOLDEN[text]

    tick = tick_of(topic, result)

    assert tick == streamed(topic, expected)
    assert identity(tick) == identity(streamed(topic, expected))
    assert plan(topic, NOW_NS, NOW_NS + S).parameters


@pytest.mark.parametrize(
    "result", [{}, {"price": "much"}, {"sip_timestamp": [1]}, {"sip_timestamp": 1e400}, {"sip_timestamp": 2**90}]
)
def test_a_result_without_sense_is_named_and_costs_no_other(result: dict[str, Any]) -> None:
    topic = parse_topic("stocks.AM.AAPL" if not result else "stocks.T.AAPL")
    good = {"t": NOW_MS} if not result else {"sip_timestamp": NOW_NS}

    with pytest.raises(ValueError, match="stocks"):
        tick_of(topic, result)

    ticks, problems = ticks_of(topic, [b"{}" if not result else b'{"price":"much"}', msgspec.json.encode(good), b"7"])
    assert ([event_ms(tick) for tick in ticks], len(problems)) == ([NOW_MS], 2)


# --- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted({kind for kinds in EVENTS.values() for kind in kinds}, key=str))
def test_every_kind_of_event_has_an_identity_and_a_time(kind: type[Tick]) -> None:
    fields = kind.__struct_encode_fields__[kind.__struct_fields__.index("symbol")]
    clock = next(
        key
        for name, key in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        if name in {"timestamp", "sip_timestamp", "start_timestamp", "time_stamp"}
    )

    def at(time: int, symbol: str = "X") -> Tick:
        return msgspec.convert({"ev": kind.event_type, fields: symbol, clock: time}, kind)

    assert identity(at(NOW_MS)) == identity(at(NOW_MS))
    assert len({identity(at(NOW_MS)), identity(at(NOW_MS + 86_400_000)), identity(at(NOW_MS, "Y"))}) == 3
    assert event_ms(at(NOW_MS)) == event_ms(at(NOW_NS)) == NOW_MS


@pytest.mark.parametrize(
    "other",
    [
        {"id": "2"},
        {"exchange": 5},
        {"trf_id": 202},
        {"sequence_number": 2},
        {"timestamp": NOW_MS + 86_400_000},
        {"symbol": "MSFT"},
    ],
)
def test_stock_trades_differ_by_day_venue_facility_id_and_number(other: dict[str, Any]) -> None:
    assert identity(trade(1)) != identity(trade(1, **other))


@pytest.mark.parametrize(
    "other",
    [
        {"id": 1},
        {"trf_id": 0},
        {"timestamp": NOW_MS + 1},
        {"conditions": [1]},
        {"participant_timestamp": 7},
        {"size": 9},
    ],
)
def test_what_rest_may_tell_otherwise_makes_no_other_stock_trade(other: dict[str, Any]) -> None:
    assert identity(trade(1)) == identity(trade(1, **other))


def test_a_corrected_bar_is_the_same_bar_and_the_minute_is_not_the_second() -> None:
    first = {"sym": "X", "s": NOW_MS, "c": 1.0}

    ticks = [
        streamed(Topic("stocks", channel, "X"), first | {"c": close}) for channel in ("A", "AM") for close in (1, 2)
    ]

    assert len({identity(tick) for tick in ticks}) == 2


# --- known and new ---------------------------------------------------------------------------------------------------

NUMBERS = st.lists(st.integers(0, 40))


@given(NUMBERS, st.lists(NUMBERS), st.lists(NUMBERS))
def test_whatever_the_pages_each_event_is_published_once_and_never_again(
    live: list[int], pages: list[list[int]], again: list[list[int]]
) -> None:
    known = Known(NOW_MS, NOW_MS + 1)
    known.add(map(trade, live))

    passes: list[list[int]] = []
    for one_pass in (pages, pages, again, again):
        known.begin_pass()
        new = [tick for page in one_pass for tick in known.take_new(map(trade, page))[1]]
        passes.append([tick.sequence_number or 0 for tick in new if isinstance(tick, EquityTrade)])

    fetched = [number for page in pages for number in page]
    assert passes[0] == [number for number in dict.fromkeys(fetched) if number not in live]
    assert passes[1] == passes[3] == []
    assert sorted(set(live).union(*passes)) == sorted(set(live).union(fetched, *again))


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_option_trades_that_rest_does_not_number_are_counted(live: list[int], rest: list[int]) -> None:
    known = Known(NOW_MS, NOW_MS + 1)
    known.add(trade(number, id=None, size=size) for number, size in enumerate(live, start=1))

    unnumbered = [trade(1, id=None, size=size, sequence_number=None) for size in rest]
    passes = []
    for _ in range(2):
        known.begin_pass()
        passes.append([tick.size for tick in known.take_new(unnumbered)[1] if isinstance(tick, EquityTrade)])

    for size in range(4):
        assert passes[0].count(size) == max(0, rest.count(size) - live.count(size))
    assert passes[1] == []


def test_events_outside_the_window_are_not_taken_because_nobody_knows_them() -> None:
    known = Known(NOW_MS, NOW_MS + 2)

    count, new = known.take_new([trade(number, t=NOW_MS + number) for number in (-1, 0, 1, 2)])

    assert (count, [event_ms(tick) for tick in new]) == (2, [NOW_MS, NOW_MS + 1])


# --- plans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "path"),
    [
        ("stocks.T.BRK.B", "/v3/trades/BRK.B"),
        ("options.T.O:SPY241220P00720000", "/v3/trades/O:SPY241220P00720000"),
        ("crypto.XT.BTC-USD", "/v3/trades/X:BTC-USD"),
        ("futures.T.ESZ5", "/futures/v1/trades/ESZ5"),
        ("stocks.Q.AAPL", "/v3/quotes/AAPL"),
        ("forex.C.EUR/USD", "/v3/quotes/C:EUR-USD"),
        ("stocks.AM.AAPL", "/v2/aggs/ticker/AAPL/range/1/minute/"),
        ("indices.A.I:SPX", "/v2/aggs/ticker/I:SPX/range/1/second/"),
        ("crypto.XA.BTC-USD", "/v2/aggs/ticker/X:BTCUSD/range/1/minute/"),
        ("forex.CAS.EUR/USD", "/v2/aggs/ticker/C:EURUSD/range/1/second/"),
        ("futures.AM.ESZ5", "/futures/v1/aggs/ESZ5"),
        ("stocks.T.A/B?C#D", "/v3/trades/A%2FB%3FC%23D"),
    ],
)
def test_topics_are_asked_for_in_the_spelling_of_rest(topic: str, path: str) -> None:
    asked = plan(parse_topic(topic), NOW_NS, NOW_NS + S)

    assert asked.path.startswith(path)
    assert asked.parameters["limit"] == "50000"


@pytest.mark.parametrize(
    "topic",
    ["stocks.T.*", "stocks.LULD.AAPL", "stocks.NOI.AAPL", "stocks.FMV.AAPL", "indices.V.I:SPX", "crypto.XQ.BTC-USD",
     "crypto.XL2.BTC-USD", "crypto.AM.X:BTC-USD", "forex.LV.C:EURUSD"],
)  # fmt: skip
def test_what_rest_cannot_give_is_said(topic: str) -> None:
    with pytest.raises(NotOffered, match="REST"):
        plan(parse_topic(topic), NOW_NS, NOW_NS + S)


def test_the_window_of_ticks_is_a_second_wider_and_waits_until_the_lines_have_theirs_journaled() -> None:
    asked = plan(Topic("stocks", "T", "AAPL"), NOW_NS + 5, NOW_NS + 9 * S + 5)

    assert (asked.first_ms, asked.end_ms) == (NOW_MS - 1_000, NOW_MS + 10_001)
    assert asked.parameters["timestamp.gte"] == f"{asked.first_ms}000000"
    assert asked.parameters["timestamp.lt"] == f"{asked.end_ms}000000"
    assert asked.parameters["order"] == "asc"
    assert asked.ready_ns > asked.end_ms * 10**6 + S
    assert asked.journal_ns < asked.first_ms * 10**6


def test_the_window_of_a_delayed_feed_is_that_of_its_events() -> None:
    asked = plan(Topic("stocks", "T", "AAPL"), NOW_NS, NOW_NS + S, delay_s=900)

    assert asked.first_ms < NOW_MS - 900_000 < asked.end_ms < NOW_MS
    assert asked.ready_ns >= asked.end_ms * 10**6 + 900 * S
    assert asked.journal_ns < NOW_NS - S


@pytest.mark.parametrize(("channel", "window_s"), [("A", 1), ("AM", 60)])
def test_bars_are_those_that_were_due_in_the_gap_and_none_that_the_line_will_bring(channel: str, window_s: int) -> None:
    asked = plan(Topic("stocks", channel, "AAPL"), NOW_NS, NOW_NS + 300 * S)

    assert asked.first_ms + window_s * 1_000 + 2_000 < NOW_MS
    assert asked.end_ms + window_s * 1_000 == NOW_MS + 300_000
    assert asked.path.endswith(f"/{asked.first_ms}/{asked.end_ms - 1}")
    assert asked.parameters["adjusted"] == "false"


# --- answers ---------------------------------------------------------------------------------------------------------

TRADES = Topic("stocks", "T", "AAPL")
HERE = "https://api.massive.com/v3/trades/AAPL?limit=1"


def test_the_next_page_is_followed_verbatim_on_the_same_host_only() -> None:
    page = read_page(
        b'{"results":[{"a":1}],"status":"OK","next_url":"https://api.massive.com/v3/trades/AAPL?cursor=%2B"}'
    )

    assert following(page, HERE) == "https://api.massive.com/v3/trades/AAPL?cursor=%2B"
    assert following(read_page(b'{"results":null}'), HERE) is None
    for elsewhere in ("https://evil.example/v3", "http://api.massive.com/v3", "https://api.massive.com:8443/v3", HERE):
        with pytest.raises(NotOffered, match="refused"):
            following(Page(next_url=elsewhere), HERE)


def test_too_many_requests_make_all_wait_as_long_as_the_vendor_says() -> None:
    assert judge(TRADES, 429, b"", attempt=0, after_s=7.0) == Retry(7.0, for_all=True)
    assert judge(TRADES, 429, b"", attempt=0, after_s=1e9) == Retry(300.0, for_all=True)
    assert judge(TRADES, 429, b"", attempt=0, after_s=None) == Retry(1.0, for_all=True)


@pytest.mark.parametrize("status", [0, 413, 499, 500, 502, 503, 504])
def test_what_may_heal_is_tried_again_with_growing_patience_and_then_named(status: int) -> None:
    verdicts = [judge(TRADES, status, b"", attempt=attempt, after_s=None) for attempt in range(6)]

    waits = [verdict.after_s for verdict in verdicts if isinstance(verdict, Retry)]
    assert waits == sorted(waits)
    assert len(waits) == 5
    assert isinstance(verdicts[-1], Refused)
    assert not verdicts[-1].scope


@pytest.mark.parametrize(("status", "scope"), [(401, "stocks"), (403, "stocks.T"), (404, ""), (400, ""), (302, "")])
def test_a_refusal_stops_what_it_is_about_and_says_why(status: int, scope: str) -> None:
    verdict = judge(TRADES, status, b'{"error":"No such thing"}', attempt=0, after_s=None)

    assert verdict == Refused(f"HTTP {status} (No such thing)", scope)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"[" * 5_000, b'{"error":"\\u0007"}'])
def test_a_refusal_may_be_without_words(body: bytes) -> None:
    assert judge(TRADES, 403, body, attempt=0, after_s=None) == Refused("HTTP 403", "stocks.T")


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), (" 0.5 ", 0.5), (None, None), ("", None), ("soon", None), (".", None)]
)
def test_retry_after_is_read_in_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


# --- how much at a time ----------------------------------------------------------------------------------------------


@given(st.floats(0.05, 50), st.lists(st.floats(0, 3), max_size=60))
def test_the_budget_is_kept_whenever_it_is_asked(per_s: float, steps: list[float]) -> None:
    budget, now, granted = Budget(per_s), 100.0, []
    for step in steps:
        now += step
        wait_s = budget.take(now)
        if not wait_s:
            granted.append(now)
        assert 0 <= wait_s <= 1.001 / per_s

    assert all(later - earlier > 0.999 / per_s for earlier, later in pairwise(granted))


def test_a_pause_holds_every_request_back() -> None:
    budget = Budget(10)
    budget.pause(105.0)

    assert budget.take(100.0) == 5.0
    assert budget.take(105.0) == 0.0


def job(number: int, symbol: str = "AAPL", *, since_s: int = 0) -> Job:
    topic = Topic("stocks", "T", symbol)
    since, until = NOW_NS + since_s * S, NOW_NS + (since_s + 5) * S
    return Job(number, "gap", topic, since, until, plan(topic, since, until))


def test_higher_ranks_are_done_first_then_older_ones() -> None:
    queue = Queue(batch_limit=1)
    for number, rank in enumerate((1, 0, 2, 0), start=1):
        assert queue.put(job(number), rank)

    assert queue.take(NOW_NS) == []
    order = [found.number for _ in range(4) for found in queue.take(NOW_NS + 60 * S)]

    assert order == [2, 4, 1, 3]
    assert queue.unfinished == [1, 2, 3, 4]


def test_a_queue_that_is_full_takes_no_more() -> None:
    queue = Queue(limit=2)

    assert [queue.put(job(number), 0) for number in range(3)] == [True, True, False]
    assert len(queue) == 2


def test_a_batch_holds_no_topic_twice_and_only_windows_that_lie_together() -> None:
    queue = Queue()
    for number, (symbol, since_s) in enumerate([("A", 0), ("B", 30), ("A", 0), ("C", 3_600)], start=1):
        queue.put(job(number, symbol, since_s=since_s), 0)

    batches = [[found.number for found in queue.take(NOW_NS + 7_200 * S)] for _ in range(4)]

    assert batches == [[1, 2], [3], [4], []]


def test_a_demand_is_unfinished_until_its_last_job_is_done() -> None:
    queue = Queue()
    assert queue.ready_in_s(NOW_NS) is None
    jobs = [job(1, "A"), job(1, "B"), job(2, "C")]
    for one in jobs:
        queue.put(one, 0)
    assert queue.ready_in_s(jobs[0].plan.ready_ns - S) == 1.0

    seen = []
    for one in queue.take(NOW_NS + 60 * S):
        queue.finish(one)
        seen.append(queue.unfinished)

    assert seen == [[1, 2], [2], []]

"""The REST paths of massive-protocol section 8, over real HTTP, against what the stream has sent."""

import json
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from mcm.simulator.launch import Simulator
from mcm.simulator.rest import stream_spelling
from mcm.simulator.rest_query import BadQuery, Query, read_query

if TYPE_CHECKING:
    from tests.simulator.conftest import Dial

NS = 1_000_000
BEARER = {"Authorization": "Bearer good-key"}
without_proxies = build_opener(ProxyHandler({}))


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    try:
        with without_proxies.open(Request(url, headers=BEARER if headers is None else headers), timeout=10) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def query(simulator: Simulator, path: str, **parameters: object) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in parameters.items()}
    status, answer = get(f"{simulator.rest_url}{path}?{urlencode(named)}")
    assert (status, answer["status"]) == (200, "OK"), answer
    return answer


def recorded(simulator: Simulator, dial: "Dial", market: str, item: str, count: int) -> list[dict[str, Any]]:
    """Let *item* tick at least so often, stop the tape, and return all that ticked."""
    client = dial(market)
    client.subscribe(item)
    client.read_events(count)
    simulator.remote.pause()
    return [json.loads(text) for text in simulator.remote.tape(f"{market}.{item}")]


def test_a_gap_in_trades_is_filled_from_the_tape(simulator: Simulator, dial: "Dial") -> None:
    trades = recorded(simulator, dial, "stocks", "T.AAPL", 100)
    gap = trades[20:60]

    results = query(
        simulator, "/v3/trades/AAPL", timestamp__gte=gap[0]["t"] * NS, timestamp__lt=(gap[-1]["t"] + 1) * NS,
        order="asc", limit=50_000,
    )["results"]  # fmt: skip

    in_time = [trade for trade in trades if gap[0]["t"] <= trade["t"] <= gap[-1]["t"]]
    assert [result["id"] for result in results] == [trade["i"] for trade in in_time]
    for result, trade in zip(results, in_time, strict=True):
        assert result["price"] == trade["p"]
        assert result["size"] == trade["s"]
        assert result["exchange"] == trade["x"]
        assert result["sequence_number"] == trade["q"]
        assert result["sip_timestamp"] == trade["t"] * NS
        assert result["participant_timestamp"] == trade["pt"] * NS
        assert result.get("decimal_size") == trade.get("ds")
        assert result.get("conditions") == trade.get("c")
        assert result.get("trf_id") == trade.get("trfi")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_together_are_the_whole_and_carry_no_key(simulator: Simulator, dial: "Dial", order: str) -> None:
    trades = recorded(simulator, dial, "stocks", "T.AAPL", 100)

    found: list[str] = []
    url: str | None = f"{simulator.rest_url}/v3/trades/AAPL?limit=30&order={order}&apiKey=good-key"
    pages = 0
    while url:
        status, page = get(url, BEARER if pages else {})
        assert status == 200
        found += [result["id"] for result in page["results"]]
        url = page.get("next_url")
        pages += 1
        assert url is None or ("cursor=" in url and "good-key" not in url)

    wanted = [trade["i"] for trade in trades]
    assert found == (wanted if order == "asc" else wanted[::-1])
    assert pages == -(-len(wanted) // 30)


def test_the_newest_come_first_unless_asked_otherwise(simulator: Simulator, dial: "Dial") -> None:
    trades = recorded(simulator, dial, "stocks", "T.AAPL", 10)

    results = query(simulator, "/v3/trades/AAPL", limit=3)["results"]

    assert [result["id"] for result in results] == [trade["i"] for trade in trades[-1:-4:-1]]


def test_quotes_have_their_condition_in_a_list(simulator: Simulator, dial: "Dial") -> None:
    quotes = recorded(simulator, dial, "stocks", "Q.AAPL", 50)

    results = query(simulator, "/v3/quotes/AAPL", order="asc")["results"]

    assert [(r["bid_price"], r["ask_price"], r["bid_size"], r["ask_size"]) for r in results] == [
        (q["bp"], q["ap"], q["bs"], q["as"]) for q in quotes
    ]
    assert [r.get("conditions") for r in results] == [[q["c"]] if "c" in q else None for q in quotes]


def test_currencies_are_found_under_the_spelling_of_rest(simulator: Simulator, dial: "Dial") -> None:
    quotes = recorded(simulator, dial, "forex", "C.EUR/USD", 10)
    results = query(simulator, "/v3/quotes/C:EUR-USD", order="asc")["results"]

    assert [(r["ask_price"], r["bid_price"], r["participant_timestamp"]) for r in results] == [
        (q["a"], q["b"], q["t"] * NS) for q in quotes
    ]


def test_coins_are_found_under_the_spelling_of_rest(simulator: Simulator, dial: "Dial") -> None:
    trades = recorded(simulator, dial, "crypto", "XT.BTC-USD", 10)

    results = query(simulator, "/v3/trades/X:BTC-USD", order="asc")["results"]

    assert [(r["id"], r["participant_timestamp"]) for r in results] == [(t["i"], t["t"] * NS) for t in trades]


def test_minute_bars_are_found_by_their_window_as_corrected_last(simulator: Simulator, dial: "Dial") -> None:
    bars = recorded(simulator, dial, "stocks", "AM.AAPL", 5)
    corrected = json.loads(simulator.remote.correct("stocks.AM.AAPL"))

    answer = query(simulator, f"/v2/aggs/ticker/AAPL/range/1/minute/{bars[1]['s']}/{bars[-1]['s']}", adjusted="false")

    assert answer["results"] == [
        {letter: bar[key] for letter, key in zip("tvochl", "svochl", strict=True)} | {"vw": bar["vw"]}
        for bar in [*bars[1:-1], corrected]
    ]
    assert (answer["ticker"], answer["resultsCount"], answer["adjusted"]) == ("AAPL", len(bars) - 1, False)


def test_futures_have_paths_and_names_of_their_own(simulator: Simulator, dial: "Dial") -> None:
    trades = recorded(simulator, dial, "futures", "T.ESZ6", 30)

    newest = query(simulator, "/futures/v1/trades/ESZ6")["results"]
    oldest = query(simulator, "/futures/v1/trades/ESZ6", sort="timestamp.asc", timestamp__gte=trades[3]["t"] * NS)

    assert [(r["timestamp"], r["price"], r["sequence_number"]) for r in newest] == [
        (t["t"] * NS, t["p"], t["q"]) for t in trades[-1:-11:-1]
    ]
    assert oldest["results"][0]["timestamp"] == trades[3]["t"] * NS
    assert "next_url" in oldest


def test_futures_bars_are_spelled_out(simulator: Simulator, dial: "Dial") -> None:
    bars = recorded(simulator, dial, "futures", "AM.ESZ6", 2)

    results = query(simulator, "/futures/v1/aggs/ESZ6", resolution="1min")["results"]

    assert [(r["window_start"], r["open"], r["transactions"]) for r in results] == [
        (b["s"] * NS, b["o"], b["n"]) for b in bars[::-1]
    ]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer bad-key"}, {"Authorization": "Basic good-key"}])
def test_without_a_good_key_there_is_nothing_but_401(simulator: Simulator, headers: dict[str, str]) -> None:
    status, answer = get(f"{simulator.rest_url}/v3/trades/AAPL", headers)

    assert status == 401
    assert answer["error"] == "Unknown API Key"


def test_what_the_plan_lacks_is_answered_with_403(simulator: Simulator) -> None:
    simulator.remote.plan(lacks=("stocks.Q",))

    assert get(f"{simulator.rest_url}/v3/quotes/AAPL")[0] == 403
    assert get(f"{simulator.rest_url}/v3/trades/AAPL")[0] == 200


@pytest.mark.parametrize("status", [429, 401, 503])
def test_the_next_requests_fail_as_ordered_and_then_no_more(simulator: Simulator, status: int) -> None:
    simulator.remote.fail_rest(status, times=2)

    answers = [get(f"{simulator.rest_url}/v3/trades/AAPL") for _ in range(3)]

    assert [code for code, _ in answers] == [status, status, 200]
    assert answers[0][1]["status"] == "ERROR"
    assert answers[2][1]["results"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/v3/trades/AAPL?limit=0",
        "/v3/trades/AAPL?limit=50001",
        "/v3/trades/AAPL?timestamp.gte=yesterday",
        "/v3/trades/AAPL?cursor=x",
        "/v3/trades/C:EUR-USD",
        "/v2/aggs/ticker/AAPL/range/5/minute/1/2",
        "/v2/aggs/ticker/AAPL/range/1/day/2026-01-01/2026-01-02",
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_400(simulator: Simulator, path: str) -> None:
    status, answer = get(simulator.rest_url + quote(path, safe="/?=&:"))

    assert status == 400
    assert answer["status"] == "ERROR"
    assert answer["error"]


@pytest.mark.parametrize(
    ("ticker", "topic"),
    [
        ("AAPL", ("stocks", "AAPL")),
        ("BRK.B", ("stocks", "BRK.B")),
        ("O:SPY241220P00720000", ("options", "O:SPY241220P00720000")),
        ("I:SPX", ("indices", "I:SPX")),
        ("X:BTCUSD", ("crypto", "BTC-USD")),
        ("X:BTC-USD", ("crypto", "BTC-USD")),
        ("C:EURUSD", ("forex", "EUR/USD")),
        ("C:EUR-USD", ("forex", "EUR/USD")),
    ],
)
def test_tickers_of_rest_name_symbols_of_the_stream(ticker: str, topic: tuple[str, str]) -> None:
    assert stream_spelling(ticker) == topic


@pytest.mark.parametrize(
    ("filters", "first_ms", "last_ms"),
    [
        ({"timestamp": "5000000"}, 5, 5),
        ({"timestamp.gte": "5000000", "timestamp.lt": "9000000"}, 5, 8),
        ({"timestamp.gt": "5000000", "timestamp.lte": "9000000"}, 6, 9),
        ({"timestamp.gte": "5000001", "timestamp.lt": "9000001"}, 6, 9),
        ({"timestamp": "1970-01-02"}, 86_400_000, 172_799_999),
        ({"timestamp.gte": "1970-01-01T00:00:01Z"}, 1_000, 1 << 62),
    ],
)
def test_filters_are_whole_milliseconds_with_both_ends(filters: dict[str, str], first_ms: int, last_ms: int) -> None:
    asked = read_query(filters, field="timestamp", limit=10)

    assert asked == Query(first_ms, last_ms, is_descending=True, limit=10, cursor=None)


def test_a_limit_beyond_the_vendors_is_refused() -> None:
    with pytest.raises(BadQuery, match="not 1 to 50000"):
        read_query({"limit": "50001"}, field="timestamp", limit=10)

"""The tape by values: what is written, that it can be written again, and when each event is due."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcm.core.markets import MARKETS
from mcm.simulator.events import renderer
from mcm.simulator.faults import bad_event, corrected, with_float
from mcm.simulator.tape import Tape
from mcm.simulator.universe import instrument, universe

NOON_MS = 1_780_000_000_000
CHANNELS = [(market.name, channel) for market in MARKETS.values() for channel in market.channels]
channels = st.sampled_from(CHANNELS)
symbols = st.sampled_from(["AAPL", "BRK.B", "O:SPY261218C00670000", "I:SPX", "EUR/USD", "BTC-USD", "ESZ6", "XYZ"])
numbers = st.integers(1, 10_000_000)

# massive-protocol 5.12, and 5.1 to 5.11 where no order was captured; what stands in brackets may be absent.
KEY_ORDER = {
    ("stocks", "T"): "ev sym i x p s [c] t pt q z [trfi trft] [ds]",
    ("stocks", "Q"): "ev sym [c] [i] bx ax bp ap bs as t pt q z",
    ("stocks", "A"): "ev sym v av op vw o c h l a z s e dv dav [otc]",
    ("stocks", "AM"): "ev sym v av op vw o c h l a z s e dv dav [otc]",
    ("stocks", "LULD"): "ev h l i z T t q",
    ("stocks", "NOI"): "ev T t at a i x o p b",
    ("stocks", "FMV"): "ev fmv sym t",
    ("stocks", "LV"): "ev val sym t",
    ("options", "T"): "ev sym x p s [c] t q",
    ("options", "Q"): "ev sym bx ax bp ap bs as t q",
    ("options", "A"): "ev sym v av op vw o c h l a z s e",
    ("options", "AM"): "ev sym v av op vw o c h l a z s e",
    ("options", "FMV"): "ev fmv sym t",
    ("options", "LV"): "ev val sym t",
    ("indices", "V"): "ev val T t",
    ("indices", "A"): "ev sym op o c h l s e",
    ("indices", "AM"): "ev sym op o c h l s e",
    ("forex", "C"): "ev p x a b [i] t",
    ("forex", "CAS"): "ev pair o c h l v s [e]",
    ("forex", "CA"): "ev pair o c h l v s [e]",
    ("forex", "AM"): "ev sym v av op vw o c h l a z s e",
    ("forex", "FMV"): "ev fmv sym t",
    ("forex", "LV"): "ev val sym t",
    ("crypto", "XT"): "ev pair p t s c i x r",
    ("crypto", "XQ"): "ev pair bp bs ap as t x r",
    ("crypto", "XL2"): "ev pair t r x b a",
    ("crypto", "XAS"): "ev pair v vw z o c h l s e",
    ("crypto", "XA"): "ev pair v vw z o c h l s e",
    ("crypto", "AM"): "ev sym v av op vw o c h l a z s e",
    ("crypto", "FMV"): "ev fmv sym t",
    ("crypto", "LV"): "ev val sym t",
    ("futures", "T"): "ev sym p s t q",
    ("futures", "Q"): "ev sym bp bs bt ap as at t",
    ("futures", "A"): "ev sym v dv o c h l n s e",
    ("futures", "AM"): "ev sym v dv o c h l n s e",
}


def events(market: str, channel: str, count: int, symbol: str = "") -> list[dict[str, Any]]:
    render = renderer(1, market, channel, symbol or universe(market, channel)[0])
    return [json.loads(render(n, NOON_MS + n)) for n in range(1, count + 1)]


@given(st.integers(0, 2**32), channels, symbols, numbers)
def test_an_event_depends_on_seed_topic_and_number_only(
    seed: int, channel: tuple[str, str], symbol: str, n: int
) -> None:
    other = renderer(seed, *channel, symbol)
    other(n + 1, NOON_MS), other(1, NOON_MS)

    assert renderer(seed, *channel, symbol)(n, NOON_MS) == other(n, NOON_MS)


@given(channels, symbols, numbers)
def test_every_event_is_compact_json_with_its_tag_first(channel: tuple[str, str], symbol: str, n: int) -> None:
    text = renderer(1, *channel, symbol)(n, NOON_MS)

    event = json.loads(text)
    assert next(iter(event.items())) == ("ev", channel[1])
    assert symbol in event.values()
    assert " " not in text
    assert not re.search(r"\d\.0[,}\]]", text)  # the vendor writes 298, not 298.0


def test_another_seed_is_another_tape() -> None:
    assert renderer(1, "stocks", "T", "AAPL")(1, NOON_MS) != renderer(2, "stocks", "T", "AAPL")(1, NOON_MS)


@pytest.mark.parametrize("channel", CHANNELS, ids=".".join)
def test_keys_stand_in_the_order_of_the_wire(channel: tuple[str, str]) -> None:
    pattern = re.sub(r"\[([^]]+)\]", r"(\1)?", KEY_ORDER[channel]).replace(" ", r" ?")

    for event in events(*channel, 300):
        assert re.fullmatch(pattern, " ".join(event)), " ".join(event)


@pytest.mark.parametrize("channel", [("stocks", "T"), ("stocks", "Q"), ("stocks", "LULD"), ("options", "T"),
                                     ("options", "Q"), ("futures", "T")], ids=".".join)  # fmt: skip
def test_sequence_numbers_rise_with_holes(channel: tuple[str, str]) -> None:
    sequence = [event["q"] for event in events(*channel, 1_000)]

    steps = [later - earlier for earlier, later in pairwise(sequence)]
    assert min(steps) >= 1
    assert max(steps) > 1


@pytest.mark.parametrize("channel", [("stocks", "T"), ("crypto", "XT"), ("stocks", "NOI")], ids=".".join)
def test_identities_are_unique(channel: tuple[str, str]) -> None:
    identities = [event["i"] for event in events(*channel, 5_000)]

    assert len(set(identities)) == 5_000


@pytest.mark.parametrize(("channel", "key"), [("T", "p"), ("Q", "bp"), ("AM", "c"), ("LV", "val")])
def test_prices_walk_around_the_level_of_their_symbol(channel: str, key: str) -> None:
    level = instrument("stocks", "AAPL").level

    prices = [event[key] for event in events("stocks", channel, 20_000, "AAPL")]

    assert all(abs(price / level - 1) < 0.05 for price in prices)
    assert len(set(prices)) > 20
    assert max(abs(a - b) for a, b in pairwise(prices)) < 0.01 * level


@pytest.mark.parametrize("channel", [("stocks", "AM"), ("options", "A"), ("indices", "AM"), ("forex", "CA"),
                                     ("crypto", "XA"), ("futures", "A")], ids=".".join)  # fmt: skip
def test_bars_are_consistent_and_open_where_the_last_one_closed(channel: tuple[str, str]) -> None:
    bars = events(*channel, 200)

    for before, bar in pairwise(bars):
        assert bar["l"] <= min(bar["o"], bar["c"]) <= max(bar["o"], bar["c"]) <= bar["h"]
        assert bar["o"] == before["c"]
        assert bar.get("v", 1) > 0
        if "av" in bar:
            assert bar["av"] == before["av"] + bar["v"]


def test_trade_sizes_include_fractions_that_the_whole_number_truncates() -> None:
    trades = events("stocks", "T", 1_000)

    assert all(int(float(trade["ds"])) == trade["s"] for trade in trades if "ds" in trade)
    assert any(float(trade["ds"]) != trade["s"] for trade in trades if "ds" in trade)
    assert any("ds" not in trade for trade in trades)


def test_some_off_exchange_trades_are_reported_minutes_late() -> None:
    trades = events("stocks", "T", 5_000)

    late = [trade for trade in trades if trade["t"] - trade["pt"] > 60_000]
    assert late
    assert all(trade["x"] == 4 and trade["t"] - trade["pt"] <= 900_000 for trade in late)
    assert all(trade["pt"] <= trade["t"] for trade in trades)


# --- time -----------------------------------------------------------------------------------------------------------


def take(tape: Tape, now_ms: float) -> list[str]:
    """What is due at that time, as ``topic text``."""
    return [f"{topic.name} {topic.advance()}" for topic in tape.take(now_ms, 100_000)]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(["wait", "pace", "pause", "resume", "name"]), st.integers(1, 900)), max_size=30)
)
def test_every_event_can_be_written_again_whatever_happened_to_the_pace(steps: list[tuple[str, int]]) -> None:
    tape, now_ms, sent = Tape(1, 1_000, minute_bars_every_s=0.3), float(NOON_MS), []
    tape.name("stocks", "T", "AAPL", now_ms)
    tape.name("stocks", "AM", "AAPL", now_ms)

    for what, amount in steps:
        now_ms += amount
        sent += take(tape, now_ms)
        match what:
            case "pace":
                tape.set_rate(amount * 10, now_ms)
            case "pause":
                tape.pause()
            case "resume":
                tape.resume(now_ms)
            case "name":
                tape.name("crypto", "XT", f"COIN{amount}-USD", now_ms)
    sent += take(tape, now_ms + 500)

    for topic in tape.topics.values():
        again = [f"{topic.name} {topic.text(n)}" for n in range(1, topic.count + 1)]
        assert again == [line for line in sent if line.startswith(topic.name + " ")]
        times = [topic.time_of(n) for n in range(1, topic.count + 1)]
        assert times == sorted(times)


def test_the_rate_is_shared_by_all_topics() -> None:
    tape = Tape(1, 1_000)
    for symbol in ("AAPL", "MSFT", "NVDA", "TSLA"):
        tape.name("stocks", "T", symbol, NOON_MS)

    for elapsed_ms in range(1, 2_001):
        take(tape, NOON_MS + elapsed_ms)

    assert all(topic.count in {500, 501} for topic in tape.topics.values())


def test_a_stalled_simulator_goes_on_from_now_instead_of_chasing_the_clock() -> None:
    tape = Tape(1, 1_000)
    tape.name("stocks", "T", "AAPL", NOON_MS)

    at_once = take(tape, NOON_MS + 3_600_000) + take(tape, NOON_MS + 3_600_001)

    assert len(at_once) <= 1


def test_a_text_that_has_not_ticked_yet_cannot_be_asked_for() -> None:
    topic = Tape(1, 1_000).name("stocks", "T", "AAPL", NOON_MS)

    with pytest.raises(IndexError, match="holds 1 to 0"):
        topic.text(1)


def test_minute_bars_come_at_the_turn_of_the_minute_for_the_minute_that_ended() -> None:
    tape = Tape(1, 0)
    start_ms = NOON_MS // 60_000 * 60_000
    tape.name("stocks", "AM", "AAPL", start_ms + 30_000)

    before, after = take(tape, start_ms + 59_999), take(tape, start_ms + 60_000)

    assert before == []
    assert [re.findall(r'"[se]":(\d+)', line) for line in after] == [[str(start_ms), str(start_ms + 60_000)]]


def test_minute_bars_in_a_hurry_have_one_window_after_the_other() -> None:
    tape = Tape(1, 0, minute_bars_every_s=0.1)
    tape.name("stocks", "AM", "AAPL", NOON_MS)

    lines = [line for elapsed_ms in range(0, 1_001, 10) for line in take(tape, NOON_MS + elapsed_ms)]

    starts = [int(re.findall(r'"s":(\d+)', line)[0]) for line in lines]
    assert len(starts) == 10
    assert starts == list(range(starts[0], starts[0] + 600_000, 60_000))


def test_symbols_that_nobody_trades_never_tick() -> None:
    tape = Tape(1, 1_000)

    for symbol in ("ZZTOP", "O:ZZ261218C00001000", 'quo"te', ""):
        assert not tape.name("stocks", "T", symbol, NOON_MS).is_known

    assert take(tape, NOON_MS + 100) == []


# --- faults ---------------------------------------------------------------------------------------------------------


@given(channels, numbers)
def test_a_float_for_an_integer_changes_the_spelling_and_not_the_value(channel: tuple[str, str], n: int) -> None:
    text = renderer(1, *channel, "X")(n, NOON_MS)

    spoilt = with_float(text)

    assert spoilt != text
    assert json.loads(spoilt) == json.loads(text)


@pytest.mark.parametrize(
    "channel", [c for c in CHANNELS if c[1] in {"A", "AM", "CA", "CAS", "XA", "XAS"}], ids=".".join
)
def test_a_corrected_bar_changes_values_and_keeps_its_window(channel: tuple[str, str]) -> None:
    for n in range(1, 100):
        text = renderer(1, *channel, universe(*channel)[0])(n, NOON_MS)
        before, after = json.loads(text), json.loads(corrected(text))

        assert list(before) == list(after)
        assert {key for key in before if before[key] != after[key]} >= {"h"}
        assert {key for key in before if before[key] != after[key]} <= {"h", "v", "av", "dv", "dav"}
        assert after["h"] > before["h"]


def test_bad_events_are_json_all_the_same() -> None:
    for fault in ("unknown-event", "missing-symbol", "wrong-type"):
        assert json.loads(bad_event(fault, "T", NOON_MS))

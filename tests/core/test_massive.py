"""The vendor's protocol, against its own words (massive-protocol.md, sections 1 to 4), and against nonsense."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.dialling import Reason
from mcm.core.events import EVENTS, EquityQuote, EquityTrade, Tick, tick_decoder
from mcm.core.markets import MARKETS
from mcm.core.massive import (
    FEEDS,
    Frame,
    FrameDecoder,
    Status,
    auth_message,
    line_url,
    meaning,
    slot_name,
    subscribe_message,
    unknown_keys,
    unsubscribe_message,
)
from mcm.core.session import Accepted, Acknowledged, Ending, Greeting, Refused, Said

GOOD = '{"ev":"T","sym":"AAPL","p":297.845,"s":40,"q":1}'


def stocks(*events: str) -> tuple[Frame, FrameDecoder]:
    decoder = FrameDecoder("stocks")
    return decoder.decode(f"[{','.join(events)}]".encode()), decoder


def symbols(frame: Frame) -> list[str]:
    return [tick.symbol for tick in frame.ticks]


# --- where to dial, what to say ---


@pytest.mark.parametrize(
    ("feed", "url", "slot"),
    [
        ("real-time", "wss://socket.massive.com/stocks", "massive.com"),
        ("delayed", "wss://delayed.massive.com/stocks", "massive.com"),
        ("business", "wss://business.massive.com/stocks", "massive.com"),
        ("ws://127.0.0.1:9000", "ws://127.0.0.1:9000/stocks", "127.0.0.1:9000"),
        ("ws://Localhost:9000/", "ws://Localhost:9000/stocks", "localhost:9000"),
        ("ws://[::1]:9000", "ws://[::1]:9000/stocks", "[::1]:9000"),
        ("wss://gateway.example", "wss://gateway.example/stocks", "gateway.example:443"),
        ("wss://polyfeed.massive.com", "wss://polyfeed.massive.com/stocks", "massive.com"),
        ("wss://socket.polygon.io", "wss://socket.polygon.io/stocks", "massive.com"),
        ("wss://notmassive.com", "wss://notmassive.com/stocks", "notmassive.com:443"),
    ],
)
def test_a_feed_has_an_address_per_market_and_one_who_counts_its_connections(feed: str, url: str, slot: str) -> None:
    assert line_url(feed, "stocks") == url
    assert slot_name(feed) == slot


@pytest.mark.parametrize("feed", ["", "realtime", "http://127.0.0.1:9000", "ws://", "ws://h:99999", "wss://h/?key=1"])
def test_what_is_no_feed_is_refused(feed: str) -> None:
    with pytest.raises(ValueError):
        line_url(feed, "stocks")
    with pytest.raises(ValueError):
        slot_name(feed)


def test_every_named_feed_is_the_vendors() -> None:
    assert {slot_name(feed) for feed in FEEDS} == {"massive.com"}


def test_messages_are_written_as_the_vendor_documents_them() -> None:
    assert auth_message("YOUR_API_KEY") == '{"action":"auth","params":"YOUR_API_KEY"}'
    assert subscribe_message(["T.AAPL", "A.AAPL"]) == '{"action":"subscribe","params":"T.AAPL,A.AAPL"}'
    assert unsubscribe_message(["A.AAPL"]) == '{"action":"unsubscribe","params":"A.AAPL"}'


def test_a_key_cannot_break_out_of_its_message() -> None:
    assert json.loads(auth_message('a","action":"b\n')) == {"action": "auth", "params": 'a","action":"b\n'}


# --- statuses ---

CAP = (
    "Maximum number of connections exceeded.",
    "Maximum number of websocket connections exceeded. ",
    "Maximum number of websocket connections exceeded. You have reached the connection limit for your account. "
    "Please contact support at https://polygon.io/contact to increase your limit.",
)
NO_PLAN = "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade."
FULL = "Subscription limit reached for feed. Please remove some subscriptions and try again."


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        ("connected", "Connected Successfully", Greeting()),
        ("auth_success", "authenticated", Accepted()),
        ("success", "authenticated", Accepted()),
        ("success", "subscribed to: T.MSFT", Acknowledged("T.MSFT", subscribed=True)),
        ("success", "subscribed to: T.BRK.B", Acknowledged("T.BRK.B", subscribed=True)),
        ("success", "unsubscribed to: T.MSFT", Acknowledged("T.MSFT", subscribed=False)),
        ("success", "welcome to: T.MSFT", None),
        ("error", "not authorized", Refused("not authorized")),
        ("error", FULL, Refused(FULL)),
        ("auth_failed", "authentication failed", Ending(Reason.AUTH_FAILED, "authentication failed")),
        ("auth_failed", NO_PLAN, Ending(Reason.AUTH_FAILED, NO_PLAN)),
        *[("max_connections", text, Ending(Reason.EVICTED, text.strip())) for text in CAP],
        (
            "disconnected",
            "Reason: Max connections reached",
            Ending(Reason.EVICTED, "Reason: Max connections reached"),
        ),
        ("disconnected", "bye", Ending(Reason.CLOSED, "disconnected: bye")),
        ("slow_consumer", "too slow", Ending(Reason.CLOSED, "slow_consumer: too slow")),
        ("force_disconnect", "", Ending(Reason.CLOSED, "force_disconnect")),
        (
            "auth_timeout",
            "No authentication request received.",
            Ending(Reason.CLOSED, "auth_timeout: No authentication request received."),
        ),
        ("auth_required", "", Ending(Reason.CLOSED, "auth_required")),
        ("newly_invented", "whatever", None),
    ],
)
def test_a_status_means_one_thing(status: str, message: str, said: Said | None) -> None:
    text = json.dumps({"ev": "status", "status": status, "message": message}, separators=(",", ":"))

    frame, decoder = stocks(text)

    assert [meaning(status) for status in frame.statuses] == [said]
    assert not frame.ticks
    assert not decoder.rejects


@pytest.mark.parametrize("rest", ["", ',"message":null', ',"message":""'])
@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("connected", Greeting()),
        ("auth_failed", Ending(Reason.AUTH_FAILED, "auth_failed")),
        ("max_connections", Ending(Reason.EVICTED, "max_connections")),
        ("error", Refused("error")),
        ("success", None),
    ],
)
def test_a_status_needs_no_message(status: str, said: Said | None, rest: str) -> None:
    frame, _ = stocks(f'{{"ev":"status","status":"{status}"{rest}}}')

    assert [meaning(status) for status in frame.statuses] == [said]


def test_acknowledgements_may_share_a_frame_with_each_other_and_with_ticks() -> None:
    acknowledged = '{"ev":"status","status":"success","message":"subscribed to: %s"}'

    frame, _ = stocks(acknowledged % "T.AAPL", GOOD, acknowledged % "A.AAPL")

    assert symbols(frame) == ["AAPL"]
    assert frame.statuses == [Status("success", "subscribed to: T.AAPL"), Status("success", "subscribed to: A.AAPL")]


@pytest.mark.parametrize(
    "text",
    [
        '{"status":"connected","message":"m","ev":"status"}',
        '{ "ev" : "status" , "status" : "connected" , "message" : "m" }',
        r'{"\u0065v":"\u0073tatus","status":"connected","message":"m"}',
    ],
)
def test_a_status_is_known_however_it_is_written(text: str) -> None:
    frame, _ = stocks(text)

    assert frame == Frame([], [Status("connected", "m")])


def test_a_broken_status_is_counted_and_its_neighbours_are_heard() -> None:
    frame, decoder = stocks('{"ev":"status"}', '{"ev":"status","status":"connected","message":5}', GOOD)

    assert symbols(frame) == ["AAPL"]
    assert not frame.statuses
    assert decoder.rejects == {
        "broken status: Object missing required field `status`": 1,
        "broken status: Expected `str | null`, got `int` - at `$.message`": 1,
    }


# --- broken events ---


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"ev":"T","p":1.5}', "broken T: Object missing required field `sym`"),
        ('{"ev":"T","sym":null}', "broken T: Expected `str`, got `null` - at `$.sym`"),
        ('{"ev":"T","sym":"A","t":1.5}', "broken T: Expected `int | null`, got `float` - at `$.t`"),
        ('{"ev":"T","sym":"A","p":"dear"}', "broken T: Expected `float | null`, got `str` - at `$.p`"),
        ('{"ev":"T","sym":"A","p":"nan"}', "broken T: not a finite number"),
        ('{"ev":"T","sym":"A","s":"-inf"}', "broken T: not a finite number"),
        ('{"ev":"T","sym":"A","p":1e999}', "broken T: Number out of range - at `$.p`"),
        ('{"ev":"T","sym":"A","q":1' + "0" * 30 + "}", "broken T: Expected `int` <= 9223372036854775807 - at `$.q`"),
        ('{"ev":"T","sym":"A","c":[1,"x"]}', "broken T: Expected `int`, got `str` - at `$.c[]`"),
        ('{"ev":"T","sym":"A","c":5}', "broken T: Expected `array | null`, got `int` - at `$.c`"),
        ('{"ev":"XT","pair":"BTC-USD"}', "unknown kind XT"),
        ('{"ev":"ZZ\\n' + "Z" * 100 + '"}', "unknown kind ZZ?ZZZZZZZZZZZZZ"),
        ('{"ev":"T","ev":"ZZ","sym":"A"}', "unknown kind ZZ"),
        ('{"sym":"A"}', "no kind"),
        ('{"ev":7}', "no kind"),
        ("null", "no kind"),
        ("[[]]", "no kind"),
        ("12", "no kind"),
    ],
)
def test_a_bad_event_costs_none_of_its_neighbours_and_is_counted(bad: str, reason: str) -> None:
    frame, decoder = stocks(GOOD, bad, GOOD.replace("AAPL", "MSFT"))

    assert symbols(frame) == ["AAPL", "MSFT"]
    assert decoder.rejects == {reason: 1}
    assert list(decoder.take_samples()) == [reason]


def test_a_text_that_is_no_unicode_costs_its_own_event_only() -> None:
    decoder = FrameDecoder("stocks")

    frame = decoder.decode(b'[{"ev":"T","sym":"\xff"},' + GOOD.encode() + b',{"ev":"\xff"}]')

    assert symbols(frame) == ["AAPL"]
    assert decoder.rejects == {"broken T: invalid UTF-8": 1, "no kind": 1}


@pytest.mark.parametrize(
    ("written", "read"), [("12.0", 12), ('"12"', 12), ('"12.0"', 12), ("null", None), ("1e3", 1000)]
)
def test_a_number_that_is_written_otherwise_is_understood(written: str, read: int | None) -> None:
    frame, decoder = stocks(GOOD, f'{{"ev":"T","sym":"MSFT","i":"12","z":{written}}}')

    [_, trade] = frame.ticks
    assert isinstance(trade, EquityTrade)
    assert (trade.tape, type(trade.tape)) == (read, type(read))
    assert trade.id == "12"  # a text where a text belongs stays one
    assert not decoder.rejects


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not JSON"),
        (b"\x00\xff", "not JSON"),
        (b"[" + GOOD.encode(), "not JSON"),
        (b"[" + GOOD.encode() + b"]]", "not JSON"),
        (b"[NaN]", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'[{"ev":"T","sym":"A","foo":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "not JSON"),
        (GOOD.encode(), "not an array"),
        (b"null", "not an array"),
    ],
)
def test_a_frame_that_cannot_be_taken_apart_is_counted_once(frame: bytes, reason: str) -> None:
    decoder = FrameDecoder("stocks")

    assert decoder.decode(frame) == Frame([])
    assert decoder.rejects == {reason: 1}


def test_the_same_kind_is_read_as_the_lines_market_has_it() -> None:
    bar = b'[{"ev":"A","sym":"X","dv":2700112.5}]'

    assert FrameDecoder("futures").decode(bar).ticks
    assert not FrameDecoder("stocks").decode(bar).ticks


def test_an_upstream_cannot_make_us_remember_more_and_more_reasons() -> None:
    _, decoder = stocks(*(f'{{"ev":"kind-{n}"}}' for n in range(10_000)), '{"ev":"T"}', "5")

    assert decoder.rejects.total() == 10_002
    assert len(decoder.rejects) < 70
    assert len(decoder.take_samples()) < 70
    assert decoder.rejects["unknown kind"] > 9_000
    assert decoder.rejects["broken T"] == decoder.rejects["no kind"] == 1


def test_samples_are_the_newest_of_each_reason_and_are_given_once() -> None:
    decoder = FrameDecoder("stocks")
    decoder.decode(b'[{"ev":"ZZ","n":1},{"ev":"ZZ","n":2},7]')

    first, second = decoder.take_samples(), decoder.take_samples()

    assert first == {"unknown kind ZZ": '{"ev":"ZZ","n":2}', "no kind": "7"}
    assert second == {}


def test_a_sample_is_short_and_breaks_no_log() -> None:
    decoder = FrameDecoder("stocks")
    decoder.decode(b'[{"ev":"ZZ",\n\n"n":"\xff\xe2\x82\xac' + b"n" * 10_000 + b'"}]')

    [sample] = decoder.take_samples().values()

    assert sample.startswith('{"ev":"ZZ",??"n":"\N{REPLACEMENT CHARACTER}€nnn')
    assert len(sample) == 300


# --- new keys ---


def test_new_keys_are_named_with_their_kind_and_known_ones_are_not() -> None:
    frame = (
        b'[{"ev":"T","sym":"A","foo":1},{"ev":"Q","sym":"A","bar":{"p":[]}},{"ev":"ZZ","zz":1},{"ev":["T"],"yy":1},'
        b'{"ev":"status","status":"error","code":7},' + GOOD.encode() + b"]"
    )

    assert unknown_keys("stocks", frame) == {"T.foo", "Q.bar", "status.code"}
    assert FrameDecoder("stocks").decode(frame).ticks  # and they did no harm


@pytest.mark.parametrize("frame", [b"", b"{}", b"[7]", b"[" * 100_000, b'[{"ev":"\xff"}]', b"[1e999]"])
def test_a_frame_that_cannot_be_read_has_no_new_keys(frame: bytes) -> None:
    assert unknown_keys("stocks", frame) == set()


def test_the_list_of_new_keys_is_bounded() -> None:
    event = {"ev": "T", "sym": "A"} | {f"key-{n}" + "y" * 100: 0 for n in range(1_000)}

    found = unknown_keys("stocks", json.dumps([event]).encode())

    assert len(found) == 20
    assert max(map(len, found)) < 20


# --- for every input ---

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)  # half a surrogate pair is no Unicode text
ODD = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
ODD |= st.sampled_from(["nan", "inf", "null", "12.0", 2**63, -(2**63) - 1, 10**30, 1e308, 12.0, "T", "status", "AAPL"])
NESTED = st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
KEYS = sorted({key for kinds in EVENTS.values() for kind in kinds for key in kind.__struct_encode_fields__})
TAGS = [*{channel: None for market in MARKETS.values() for channel in market.channels}, "status", "ZZ"]
EVENT_LIKE = st.builds(
    lambda tag, rest: {"ev": tag, **rest},
    st.sampled_from(TAGS),
    st.dictionaries(st.sampled_from([*KEYS, "status", "message", "foo"]), NESTED, max_size=6),
)


def check(market: str, frame: bytes) -> tuple[Frame, FrameDecoder]:
    """Decode, and see that whatever comes out can go on through the whole program."""
    decoder = FrameDecoder(market)
    decoded = decoder.decode(frame)
    assert tick_decoder(market).decode(msgspec.msgpack.encode(decoded.ticks)) == decoded.ticks
    for tick in decoded.ticks:
        assert isinstance(tick, Tick)
        assert tick.symbol.encode() is not None
    assert all(isinstance(status, Status) for status in decoded.statuses)
    assert set(decoder.take_samples()) == set(decoder.rejects)
    unknown_keys(market, frame)
    return decoded, decoder


@given(st.sampled_from(list(MARKETS)), st.binary(max_size=200))
def test_no_bytes_make_it_raise(market: str, frame: bytes) -> None:
    check(market, frame)


@given(st.sampled_from(list(MARKETS)), st.lists(EVENT_LIKE | NESTED, max_size=5) | NESTED)
def test_every_element_of_a_frame_is_a_tick_a_status_or_counted(market: str, value: Any) -> None:
    frame, decoder = check(market, json.dumps(value).encode())

    elements = len(value) if isinstance(value, list) else 1
    assert len(frame.ticks) + len(frame.statuses) + decoder.rejects.total() == elements


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_no_damage_to_a_good_frame_makes_it_raise(damages: list[tuple[int, int]]) -> None:
    frame = bytearray(f'[{GOOD},{{"ev":"status","status":"success","message":"subscribed to: T.A"}},{GOOD}]'.encode())

    for place, byte in damages:
        frame[place % len(frame)] = byte

    check("stocks", bytes(frame))


@given(
    st.lists(st.sampled_from(["good", '{"ev":"T"}', '{"ev":"ZZ"}', "null", '{"ev":"Q","sym":5}', '{"ev":"status"}']))
)
def test_among_any_bad_events_every_good_one_comes_through_in_order(events: list[str]) -> None:
    texts = [f'{{"ev":"Q","sym":"S{n}","z":12.0}}' if text == "good" else text for n, text in enumerate(events)]

    frame, decoder = stocks(*texts)

    assert symbols(frame) == [f"S{n}" for n, text in enumerate(events) if text == "good"]
    assert all(isinstance(tick, EquityQuote) for tick in frame.ticks)
    assert decoder.rejects.total() == len(events) - events.count("good")


def test_statuses_and_ticks_keep_their_order_in_a_long_mixed_frame() -> None:
    rng = random.Random(1)
    texts = [
        f'{{"ev":"status","status":"success","message":"{n}"}}' if rng.random() < 0.3 else f'{{"ev":"T","sym":"{n}"}}'
        for n in range(500)
    ]

    frame, _ = stocks(*texts)

    assert symbols(frame) == [str(n) for n, text in enumerate(texts) if '"T"' in text]
    assert [status.message for status in frame.statuses] == [str(n) for n, text in enumerate(texts) if "status" in text]

"""What the vendor answers to what clients say (massive-protocol 3.3 and 4.3), without a socket."""

import asyncio
import json
from typing import Any

import pytest

from mcm.simulator import SimulatorSettings
from mcm.simulator.connection import Acknowledging, Connection
from mcm.simulator.vendor import Vendor


class Wire(asyncio.Transport):
    """Keeps what is written, as frames."""

    def __init__(self) -> None:
        super().__init__()
        self.received = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.received += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def texts(self) -> list[str]:
        """The payloads of the text frames since the last call."""
        texts, data = [], self.received
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 10
            if data[0] == 0x81:
                texts.append(data[start : start + size].decode())
            data = data[start + size :]
        self.received = b""
        return texts


class Desk:
    """One vendor and one client of it."""

    def __init__(self, market: str, vendor: Vendor | None = None, number: int = 1) -> None:
        self.vendor = vendor or Vendor(SimulatorSettings(ticks_per_s=1_000))
        self.wire = Wire()
        self.connection = Connection(
            number=number, market=market, path=f"/{market}", transport=self.wire, since_ms=0,
            acknowledging=Acknowledging(), max_events_per_frame=50,
        )  # fmt: skip
        self.vendor.admit(self.connection)

    def say(self, action: str, params: str) -> list[dict[str, Any]]:
        """Send a message and return the statuses that come back, all frames together."""
        self.vendor.receive(self.connection, json.dumps({"action": action, "params": params}))
        return [event for text in self.wire.texts() for event in json.loads(text)]

    def subscribe(self, params: str) -> list[str]:
        return [event["message"] for event in self.say("subscribe", params)]

    def unsubscribe(self, params: str) -> list[str]:
        return [event["message"] for event in self.say("unsubscribe", params)]


@pytest.fixture
def stocks() -> Desk:
    desk = Desk("stocks")
    desk.say("auth", "key")
    return desk


def test_the_greeting_and_the_answer_to_the_key_are_the_vendors_own_bytes() -> None:
    desk = Desk("stocks")

    assert desk.wire.texts() == ['[{"ev":"status","status":"connected","message":"Connected Successfully"}]']
    desk.vendor.receive(desk.connection, b'{"action":"auth","params":"K"}')
    assert desk.wire.texts() == ['[{"ev":"status","status":"auth_success","message":"authenticated"}]']
    desk.vendor.receive(desk.connection, '{"action": "subscribe", "params": "T.AAPL,A.AAPL"}')
    assert desk.wire.texts() == [
        '[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"},'
        '{"ev":"status","status":"success","message":"subscribed to: A.AAPL"}]'
    ]
    desk.vendor.receive(desk.connection, '{"action":"unsubscribe","params":"A.AAPL"}')
    assert desk.wire.texts() == ['[{"ev":"status","status":"success","message":"unsubscribed to: A.AAPL"}]']


def test_who_subscribes_before_the_key_is_told_so() -> None:
    desk = Desk("stocks")
    desk.wire.texts()

    assert [event["status"] for event in desk.say("subscribe", "T.AAPL")] == ["auth_required"]
    assert desk.connection.items == set()


def test_spaces_after_commas_and_dots_in_tickers_are_fine(stocks: Desk) -> None:
    assert stocks.subscribe("T.AAPL, Q.MSFT,T.BRK.B") == [
        "subscribed to: T.AAPL", "subscribed to: Q.MSFT", "subscribed to: T.BRK.B",
    ]  # fmt: skip
    assert stocks.connection.items == {"T.AAPL", "Q.MSFT", "T.BRK.B"}


def test_an_unknown_ticker_is_acknowledged(stocks: Desk) -> None:
    assert stocks.subscribe("T.ZZUNKNOWN") == ["subscribed to: T.ZZUNKNOWN"]


@pytest.mark.parametrize("items", ["ZZ.AAPL", "XT.BTC-USD", "T", "T.", "", ",", "AAPL"])
def test_an_unknown_prefix_gets_no_answer(stocks: Desk, items: str) -> None:
    assert stocks.subscribe(items) == []


def test_an_item_already_held_gets_no_answer(stocks: Desk) -> None:
    stocks.subscribe("T.AAPL")

    assert stocks.subscribe("T.AAPL,T.MSFT,T.MSFT") == ["subscribed to: T.MSFT"]


def test_what_is_not_held_is_not_unsubscribed(stocks: Desk) -> None:
    stocks.subscribe("T.AAPL")

    assert stocks.unsubscribe("T.MSFT,T.AAPL,T.AAPL") == ["unsubscribed to: T.AAPL"]


def test_a_wildcard_released_twice_in_one_message_is_released_once(stocks: Desk) -> None:
    stocks.subscribe("T.*")

    assert stocks.unsubscribe("T.*,T.*") == ["unsubscribed to: T.*"]
    assert not any(topic.batches for topic in stocks.vendor.tape.topics.values())


@pytest.mark.parametrize("message", ["", "{", "[]", '{"action":1}', '{"action":"sing"}', b"\xff\xfe", '"auth"'])
def test_what_is_no_message_is_ignored(stocks: Desk, message: str | bytes) -> None:
    stocks.vendor.receive(stocks.connection, message)

    assert stocks.wire.texts() == []
    assert not stocks.wire.is_closed


def test_a_ticker_with_a_quotation_mark_is_acknowledged_as_good_json(stocks: Desk) -> None:
    assert stocks.subscribe('T.A"B\\C\n') == ['subscribed to: T.A"B\\C']


def test_options_quotes_beyond_a_thousand_held_refuse_the_whole_message() -> None:
    desk = Desk("options")
    desk.say("auth", "key")
    contracts = [f"Q.O:SPY261218C{strike:08d}" for strike in range(1_001)]

    assert len(desk.subscribe(",".join(contracts[:900]))) == 900
    refused = desk.say("subscribe", ",".join([*contracts[900:], "T.O:SPY261218C00000001"]))
    assert len(refused) == 1
    assert refused[0]["status"] == "error"
    assert refused[0]["message"].startswith("Subscription limit reached for feed.")
    assert len(desk.connection.items) == 900

    desk.unsubscribe(contracts[0])
    assert len(desk.subscribe(",".join(contracts[900:]))) == 101


def test_options_quotes_have_no_wildcard() -> None:
    desk = Desk("options")
    desk.say("auth", "key")

    assert desk.subscribe("Q.*,T.*") == ["subscribed to: T.*"]


def test_a_pair_with_a_dash_means_the_pair_with_a_slash() -> None:
    desk = Desk("forex")
    desk.say("auth", "key")

    assert desk.subscribe("C.EUR-USD") == ["subscribed to: C.EUR-USD"]
    assert desk.subscribe("C.EUR/USD") == []
    assert "forex.C.EUR/USD" in desk.vendor.tape.topics


def test_a_wildcard_holds_the_universe_and_whatever_is_named_later(stocks: Desk) -> None:
    other = Desk("stocks", stocks.vendor, number=2)
    other.say("auth", "key")

    stocks.subscribe("T.*")
    other.subscribe("T.NEWCOMER")

    newcomer = stocks.vendor.tape.topics["stocks.T.NEWCOMER"]
    assert len(newcomer.batches) == 2
    assert len(stocks.vendor.tape.topics) > 50


def test_a_wildcard_and_a_single_item_do_not_double_events(stocks: Desk) -> None:
    stocks.subscribe("T.*,T.AAPL")
    assert len(stocks.vendor.tape.topics["stocks.T.AAPL"].batches) == 1

    stocks.unsubscribe("T.*")
    assert len(stocks.vendor.tape.topics["stocks.T.AAPL"].batches) == 1
    assert stocks.vendor.tape.topics["stocks.T.MSFT"].batches == []

    stocks.unsubscribe("T.AAPL")
    assert stocks.vendor.tape.topics["stocks.T.AAPL"].batches == []


def test_a_connection_that_is_gone_holds_nothing(stocks: Desk) -> None:
    stocks.subscribe("T.*,Q.AAPL")

    stocks.vendor.forget(stocks.connection)

    assert not any(topic.batches for topic in stocks.vendor.tape.topics.values())
    assert stocks.vendor.connections == {}

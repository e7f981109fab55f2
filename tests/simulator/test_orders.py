"""Each order, given to a real simulator, as a client on a real socket sees it."""

import json
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from mcm.simulator.launch import Simulator
from mcm.simulator.orders import BadOrder

if TYPE_CHECKING:
    from tests.simulator.conftest import Dial

WaitUntil = Callable[..., None]


def post(simulator: Simulator, path: str, body: bytes) -> tuple[int, Any]:
    request = Request(simulator.rest_url + path, body)
    try:
        with urlopen(request) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012])
def test_a_drop_closes_with_the_code_that_was_ordered(simulator: Simulator, dial: "Dial", code: int) -> None:
    client = dial()

    assert simulator.remote.drop(code=code) == [1]

    ending = client.read_to_the_end()
    assert ending.rcvd is not None
    assert ending.rcvd.code == code
    assert isinstance(ending, ConnectionClosedOK if code in {1000, 1001} else ConnectionClosedError)


@pytest.mark.parametrize(("mode", "end"), [("abort", b""), ("reset", ConnectionResetError)])
def test_an_abort_is_a_bare_end_of_tcp_and_a_reset_a_reset(simulator: Simulator, mode: Any, end: object) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as plain:
        plain.sendall(
            b"GET /stocks HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        received = b""
        while b"Connected Successfully" not in received:
            received += plain.recv(65_536)

        assert simulator.remote.drop(mode=mode) == [1]

        assert end_of(plain) == end


def end_of(plain: socket.socket) -> object:
    try:
        return plain.recv(65_536)
    except ConnectionResetError as error:
        return type(error)


def test_a_report_says_how_a_connection_ended(simulator: Simulator, dial: "Dial", wait_until: WaitUntil) -> None:
    dial(), dial(), dial()
    leaver = dial()

    simulator.remote.drop(mode="abort", connection=1)
    simulator.remote.drop(mode="reset", connection=2)
    simulator.remote.drop(code=1012, connection=3)
    leaver.socket.close()
    wait_until(lambda: not simulator.remote.report().open_connections(), because="all four are gone")

    connections = sorted(simulator.remote.report().connections, key=lambda one: one.number)
    assert [one.ending for one in connections] == [
        "aborted", "reset", "closed with 1012", "the client closed with 1000",
    ]  # fmt: skip


def test_orders_choose_connections_by_number_market_and_key(simulator: Simulator, dial: "Dial") -> None:
    dial("stocks", "first-key"), dial("stocks", "second-key"), dial("crypto", "first-key")

    assert simulator.remote.silence() == [1, 2, 3]
    assert simulator.remote.silence(connection=2) == [2]
    assert simulator.remote.silence(market="stocks") == [1, 2]
    assert simulator.remote.silence(key="first-key") == [1, 3]
    assert simulator.remote.silence(key="first-key", market="crypto") == [3]
    assert simulator.remote.silence(market="options") == []


def test_a_silent_connection_answers_pings_and_speaks_again_with_a_gap(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")
    client.read_events(10)

    simulator.remote.silence()
    assert client.socket.ping().wait(5)
    assert simulator.remote.report().connections[0].pongs == 1
    before = simulator.remote.report().topics["stocks.T.AAPL"].count
    client.say("subscribe", "T.MSFT")
    client.read_until(lambda: client.statuses[-1].message == "subscribed to: T.MSFT", because="statuses still come")
    simulator.remote.speak()
    held = len(client.events)
    client.read_events(held + 100)

    (heard, again) = simulator.remote.report().connections[0].ranges["stocks.T.AAPL"]
    assert heard[1] <= before < again[0]
    assert simulator.remote.report().connections[0].state == "open"


def test_a_half_open_connection_stays_up_and_answers_nothing(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")

    assert simulator.remote.freeze() == [1]
    answered = client.socket.ping()
    held = simulator.remote.report().connections[0]

    assert not answered.wait(0.5)
    assert simulator.remote.report().connections[0].pongs == held.pongs == 0
    assert held.is_open
    assert held.state == "half-open"
    assert simulator.remote.drop(mode="abort") == [1]
    assert client.read_to_the_end().rcvd is None


def test_swallowed_acknowledgements_never_come_but_data_does(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.acknowledge("swallow", market="stocks")
    client = dial()

    client.say("subscribe", "T.AAPL")
    client.read_events(10)

    assert [status.status for status in client.statuses] == ["connected", "auth_success"]


def test_delayed_acknowledgements_come_after_data(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    simulator.remote.acknowledge("delay", delay_s=0.3, connection=1)

    asked = time.monotonic()
    client.subscribe("T.AAPL")

    assert time.monotonic() - asked >= 0.3
    assert client.events


def test_acknowledgements_share_a_frame_or_have_one_each(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.pause()
    client = dial()
    client.subscribe("T.AAPL", "T.MSFT", "T.NVDA")
    packed = len(client.frames)

    simulator.remote.acknowledge(packing="one")
    client.subscribe("Q.AAPL", "Q.MSFT", "Q.NVDA")

    assert packed == 2 + 1
    assert len(client.frames) == packed + 3


def test_a_malformed_frame_is_no_json_and_comes_between_good_ones(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")

    simulator.remote.fault("malformed-frame")
    client.read_until(lambda: not client.frames[-1].endswith("]"), because="the malformed frame comes")
    events = client.read_events(len(client.events) + 20)

    with pytest.raises(json.JSONDecodeError):
        json.loads(next(frame for frame in client.frames if not frame.endswith("]")))
    assert events == simulator.remote.tape("stocks.T.AAPL", 1, len(events))


@pytest.mark.parametrize(
    ("fault", "is_bad"),
    [
        ("unknown-event", lambda event: event["ev"] == "NEWS"),
        ("missing-symbol", lambda event: "sym" not in event),
        ("wrong-type", lambda event: event["sym"] == ["AAPL"]),
    ],
)
def test_a_bad_event_shares_its_frame_with_good_ones(
    simulator: Simulator, dial: "Dial", fault: Any, is_bad: Callable[[dict[str, Any]], bool]
) -> None:
    client = dial()
    client.subscribe("T.AAPL")

    simulator.remote.fault(fault, times=2)
    client.read_until(lambda: any(is_bad(json.loads(event)) for event in client.events), because="it comes")

    frame = json.loads(client.frames[-1])
    assert sum(map(is_bad, frame)) == 2
    assert len(frame) > 2
    good = [event for event in client.events if not is_bad(json.loads(event))]
    assert good == simulator.remote.tape("stocks.T.AAPL", 1, len(good))


def test_an_integer_written_as_a_float_keeps_its_value(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")

    simulator.remote.fault("float-integer", times=3)
    client.read_events(200)

    tape = simulator.remote.tape("stocks.T.AAPL", 1, len(client.events))
    different = [(ours, theirs) for ours, theirs in zip(client.events, tape, strict=True) if ours != theirs]
    assert len(different) == 3
    assert all(json.loads(ours) == json.loads(theirs) and ".0" in ours for ours, theirs in different)


def test_literal_frames_and_events_are_sent_as_they_are(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")
    notice = '{"ev":"T","sym":"AAPL","i":"mine","x":4,"p":1.0,"s":1,"t":1,"q":1,"z":3}'

    simulator.remote.inject(frames=("hello", "[]"), events=(notice,))
    client.read_until(lambda: notice in client.events, because="the literal event rides along")

    assert {"hello", "[]"} <= set(client.frames)
    assert notice in client.frames[-1]
    assert client.frames[-1] != f"[{notice}]"


def test_repeated_events_are_the_last_ones_once_more(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")
    client.read_events(50)
    simulator.remote.pause()
    sent = simulator.remote.report().connections[0].events_sent

    simulator.remote.repeat(5)
    events = client.read_events(sent + 5)

    assert events[-5:] == events[-10:-5] == simulator.remote.tape("stocks.T.AAPL", sent - 4, sent)


def test_a_corrected_bar_has_the_same_window_and_other_values(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("AM.AAPL")
    client.read_events(3)
    simulator.remote.pause()
    sent = simulator.remote.report().topics["stocks.AM.AAPL"].count

    bar = simulator.remote.correct("stocks.AM.AAPL")
    *_, last, again = client.read_events(sent + 1)

    assert again == bar
    before, after = json.loads(last), json.loads(again)
    assert list(before) == list(after)
    assert (before["s"], before["e"], before["o"]) == (after["s"], after["e"], after["o"])
    assert after["v"] == before["v"] + 100
    assert after["h"] > before["h"]


@pytest.mark.parametrize(
    ("status", "code"), [("slow_consumer", None), ("force_disconnect", 1008), ("max_connections", 1008)]
)
def test_a_kick_says_why_and_ends_the_connection(
    simulator: Simulator, dial: "Dial", status: Any, code: int | None
) -> None:
    client = dial()

    simulator.remote.kick(status)

    ending = client.read_to_the_end()
    assert client.last_status() == status
    assert (ending.rcvd.code if ending.rcvd else None) == code


def test_a_paused_tape_stands_still_and_goes_on_where_it_stopped(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")
    client.read_events(10)

    simulator.remote.pause()
    count = simulator.remote.report().topics["stocks.T.AAPL"].count
    client.read_events(count)
    with pytest.raises(TimeoutError):
        client.read_frame(0.3)
    simulator.remote.resume()

    assert client.read_events(count + 50) == simulator.remote.tape("stocks.T.AAPL", 1, count + 50)


def test_the_pace_of_the_tape_can_be_set_while_it_runs(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")

    simulator.remote.pace(100)
    first = len(client.read_events(len(client.events) + 20))
    simulator.remote.pace(50_000)
    client.read_events(first + 5_000)

    assert simulator.remote.report().ticks_per_s == 50_000
    assert client.events == simulator.remote.tape("stocks.T.AAPL", 1, len(client.events))
    assert any(frame.count('"ev"') > 10 for frame in client.frames)


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/orders/dorp", b"{}", "dorp is no order"),
        ("/orders/drop", b"{", "truncated"),
        ("/orders/drop", b'{"cde":1000}', "cde"),
        ("/orders/drop", b'{"code":3}', "$.code"),
        ("/orders/drop", b'{"connection":7}', "connection 7 is not open"),
        ("/orders/drop", b'{"market":"bonds"}', "bonds is no market"),
        ("/orders/pace", b"{}", "ticks_per_s"),
        ("/orders/plan", b'{"lacks":["stocks.XQ"]}', "stocks.XQ is no channel"),
        ("/orders/correct", b'{"topic":"stocks.T.AAPL"}', "has no bar yet"),
    ],
)
def test_a_bad_order_is_refused_with_problem_and_hint(
    simulator: Simulator, path: str, body: bytes, problem: str
) -> None:
    status, answer = post(simulator, path, body)

    assert status == 400
    assert problem in answer["error"]["problem"]
    assert answer["error"]["hint"]


def test_every_order_is_acknowledged(simulator: Simulator) -> None:
    assert post(simulator, "/orders/pause", b"") == (200, {"ok": {}})
    assert post(simulator, "/orders/drop", b"{}") == (200, {"ok": {"connections": []}})


def test_the_remote_raises_what_the_simulator_refuses(simulator: Simulator) -> None:
    with pytest.raises(BadOrder, match="connection 9 is not open"):
        simulator.remote.freeze(connection=9)
    with pytest.raises(BadOrder, match="nobody has subscribed"):
        simulator.remote.tape("stocks.T.AAPL", 1, 2)

"""Keys, plans, the connection cap, subscriptions and load, on a real simulator."""

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from mcm.core.markets import MARKETS
from mcm.simulator.launch import Simulator

if TYPE_CHECKING:
    from tests.simulator.conftest import Dial

WaitUntil = Callable[..., None]


def test_a_bad_key_is_told_so_and_cut_off_without_a_close_frame(simulator: Simulator, dial: "Dial") -> None:
    client = dial(key="bad-key")

    assert (client.last_status(), client.statuses[-1].message) == ("auth_failed", "authentication failed")
    assert client.read_to_the_end().rcvd is None


def test_only_listed_keys_are_good_where_keys_are_listed(launched: Callable[..., Simulator]) -> None:
    simulator = launched("--key", "alpha", "--key", "beta")

    assert [answer_to(simulator, key) for key in ("alpha", "beta", "gamma")] == [
        "auth_success", "auth_success", "auth_failed",
    ]  # fmt: skip


def answer_to(simulator: Simulator, key: str) -> str:
    with connect(simulator.url("stocks"), proxy=None) as socket:
        socket.recv(timeout=10)
        socket.send(json.dumps({"action": "auth", "params": key}).encode())  # a binary frame does as well
        answer: str = json.loads(socket.recv(timeout=10))[0]["status"]
        return answer


def test_a_refused_key_is_refused_until_it_is_accepted_again(simulator: Simulator) -> None:
    simulator.remote.refuse_key()
    refused = answer_to(simulator, "good-key")
    simulator.remote.accept_key()

    assert (refused, answer_to(simulator, "good-key")) == ("auth_failed", "auth_success")


def test_a_plan_without_the_market_fails_the_auth_with_its_own_words(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.plan("good-key", markets=("stocks",))

    assert dial("stocks").last_status() == "auth_success"
    refused = dial("options")
    assert refused.last_status() == "auth_failed"
    assert refused.statuses[-1].message.startswith("Your plan doesn't include websocket access.")
    assert refused.read_to_the_end().rcvd is None


def test_a_plan_without_a_channel_refuses_its_items_and_accepts_the_others(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.plan(lacks=("stocks.Q",))
    client = dial()

    client.subscribe("T.AAPL")
    client.say("subscribe", "Q.AAPL,T.MSFT")
    client.read_until(lambda: len(client.statuses) == 5, because="both items are answered")

    assert [(status.status, status.message) for status in client.statuses[3:]] == [
        ("error", "not authorized"),
        ("success", "subscribed to: T.MSFT"),
    ]


def test_one_connection_too_many_costs_the_oldest_its_place(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.cap(2)
    oldest, middle = dial(), dial()
    elsewhere, stranger = dial("crypto"), dial(key="other-key")

    newest = dial()

    ending = oldest.read_to_the_end()
    assert oldest.last_status() == "max_connections"
    assert ending.rcvd is not None
    assert ending.rcvd.code == 1008
    for client in (middle, newest, elsewhere, stranger):
        assert client.last_status() == "auth_success"
        client.socket.ping().wait(5)
    assert simulator.remote.report().counters["evictions"] == 1


def test_the_newest_is_refused_after_its_auth_where_that_is_ordered(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.cap(1, "refuse-newest")
    oldest = dial()

    newest = dial()

    assert newest.last_status() == "auth_success"
    ending = newest.read_to_the_end()
    assert newest.last_status() == "max_connections"
    assert ending.rcvd is not None
    assert ending.rcvd.code == 1008
    oldest.subscribe("T.AAPL")


def test_a_half_open_connection_keeps_its_place_until_it_is_dropped(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.cap(1, "refuse-newest")
    dial()
    simulator.remote.freeze()

    refused = dial()
    refused.read_to_the_end()
    simulator.remote.drop(mode="abort", connection=1)
    simulator.remote.cap(2)

    assert refused.last_status() == "max_connections"
    assert dial().last_status() == "auth_success"


def test_refused_upgrades_are_answered_with_503_and_counted_as_dials(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.refuse_upgrades("stocks")

    for _ in range(3):
        with pytest.raises(InvalidStatus) as refused:
            dial("stocks")
        assert refused.value.response.status_code == 503
    dial("crypto")
    simulator.remote.accept_upgrades()
    dial("stocks")

    report = simulator.remote.report()
    assert [(one.market, one.connection) for one in report.dials] == [
        ("stocks", None), ("stocks", None), ("stocks", None), ("crypto", 1), ("stocks", 2),
    ]  # fmt: skip
    assert report.dials_within(60) == 5
    assert report.dials_within(0) == 0


def test_an_unknown_path_is_not_found(simulator: Simulator) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(simulator.url("bonds"), proxy=None):
        pass

    assert refused.value.response.status_code == 404


@pytest.mark.parametrize("path", ["futures", "futures/cme", "futures/cbot", "futures/nymex", "futures/comex"])
def test_every_futures_venue_has_a_path(simulator: Simulator, dial: "Dial", path: str) -> None:
    client = dial(path)

    client.subscribe("T.ESZ6")

    assert client.read_events(1)[0].startswith('{"ev":"T","sym":"ESZ6","p":')


@pytest.mark.parametrize("market", MARKETS)
def test_every_channel_of_a_market_streams_exactly_its_tape(simulator: Simulator, dial: "Dial", market: str) -> None:
    client = dial(market)
    items = [f"{channel}.{MARKETS[market].example}" for channel in MARKETS[market].channels]

    client.subscribe(*items)
    client.read_until(
        lambda: {json.loads(event)["ev"] for event in client.events} == set(MARKETS[market].channels),
        because="every channel ticks",
    )

    events_of: dict[str, list[str]] = {}
    for event in client.events:
        events_of.setdefault(json.loads(event)["ev"], []).append(event)
    for channel, events in events_of.items():
        topic = f"{market}.{channel}.{MARKETS[market].example}"
        (held,) = simulator.remote.report().connections[0].ranges[topic]
        assert events == simulator.remote.tape(topic, held[0], held[0] + len(events) - 1)


def test_two_connections_that_hold_the_same_receive_the_same_bytes(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.pause()
    one, other = dial(), dial()
    one.subscribe("T.*")
    other.subscribe("T.*", "T.AAPL")
    simulator.remote.resume()

    assert one.read_events(2_000) == other.read_events(2_000)
    assert len({re.search(r'"sym":"([^"]+)"', event)[1] for event in one.events}) >= 50  # type: ignore[index]


def test_the_report_counts_what_ticked_and_gives_the_last_q(simulator: Simulator, dial: "Dial") -> None:
    client = dial()
    client.subscribe("T.AAPL")
    client.read_events(100)
    simulator.remote.pause()

    topic = simulator.remote.report().topics["stocks.T.AAPL"]
    events = client.read_events(topic.count)

    assert topic.last_q == json.loads(events[-1])["q"]
    assert simulator.remote.report().connections[0].items == ["T.AAPL"]
    assert simulator.remote.report().connections[0].events_sent == topic.count
    assert simulator.remote.report().connections[0].ranges == {"stocks.T.AAPL": [(1, topic.count)]}


def test_a_client_that_does_not_read_is_cut_and_others_are_not_held_up(
    launched: Callable[..., Simulator], wait_until: WaitUntil
) -> None:
    simulator = launched("--ticks-per-s", "150000", "--max-events-per-frame", "1000")
    with connect(simulator.url("stocks"), proxy=None, close_timeout=0.1) as sleeper:
        for message in ({"action": "auth", "params": "k"}, {"action": "subscribe", "params": "T.*"}):
            sleeper.send(json.dumps(message))

        wait_until(lambda: simulator.remote.report().counters["slow_consumers"] == 1, because="the sleeper is cut")

        assert answer_to(simulator, "other-key") == "auth_success"
        assert not simulator.remote.report().connections[0].is_open
        assert simulator.remote.report().connections[0].ending == "aborted"


def test_who_does_not_authenticate_is_told_so_and_closed(launched: Callable[..., Simulator]) -> None:
    simulator = launched("--auth-timeout-s", "0.1")
    with connect(simulator.url("stocks"), proxy=None) as socket:
        frames = [socket.recv(timeout=10), socket.recv(timeout=10)]
        with pytest.raises(ConnectionClosedError):
            socket.recv(timeout=10)

    assert frames[1] == '[{"ev":"status","status":"auth_timeout","message":"No authentication request received."}]'


def test_frames_hold_many_events_under_load_and_stay_within_the_limit(simulator: Simulator, dial: "Dial") -> None:
    simulator.remote.pace(50_000)
    client = dial()

    client.subscribe("T.*", "Q.*")
    client.read_events(20_000)

    frames = [frame for frame in client.frames if '"ev":"status"' not in frame]
    assert max(frame.count('"ev"') for frame in frames) == 50
    assert any(re.search(r'"ev":"T".*"ev":"Q"', frame) for frame in frames)

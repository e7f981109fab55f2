"""The drop-in classes against a vendor: what they promise, and what the earlier implementation got wrong."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mcm import MassiveWebSocketClient, MultiConnectionManager, TickData
from mcm.compat.spawning import KEY_VARIABLE
from mcm.core.errors import SettingsError
from mcm.simulator.launch import Simulator, launch
from tests.faces.compat_stack import Heard, Place, config_for, settled
from tests.processes.stack import wait_until

Connect = Callable[..., tuple[MultiConnectionManager, Heard]]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(monkeypatch)
    yield place
    left = place.processes()
    place.end()
    assert not left


@pytest.fixture
def vendor(place: Place) -> Iterator[Simulator]:
    with launch("--ticks-per-s", "300") as simulator:
        # Its process has the mark of the place as well, and is gone before that looks.
        yield simulator


@pytest.fixture
def connect(vendor: Simulator) -> Iterator[Connect]:
    managers: list[MultiConnectionManager] = []

    def make(*symbols: str, **more: object) -> tuple[MultiConnectionManager, Heard]:
        heard = Heard()
        config = config_for(vendor, *symbols, **more)
        managers.append(MultiConnectionManager(config, heard.on_tick, heard.on_status))
        assert managers[-1].connect()
        return managers[-1], heard

    yield make
    for manager in managers:
        manager.disconnect()


def wait_connected(manager: MultiConnectionManager, number: int) -> None:
    wait_until(lambda: manager.get_health_status()["connected_count"] == number, because=f"{number} are connected")


def held(vendor: Simulator) -> list[list[str]]:
    return sorted(one.items for one in vendor.remote.report().open_connections())


def test_ticks_come_once_in_order_also_of_a_symbol_on_two_connections_and_the_health_has_exactly_these_keys(
    place: Place, vendor: Simulator, connect: Connect
) -> None:
    manager, heard = connect("AAPL,MSFT", "AAPL,NVDA")
    wait_connected(manager, 2)
    wait_until(lambda: held(vendor) == [["T.AAPL", "T.MSFT"], ["T.NVDA"]], because="each is asked for once")
    wait_until(lambda: heard.tickers() == {"AAPL", "MSFT", "NVDA"}, because="all three tick")
    settled(vendor, heard, "AAPL", "MSFT", "NVDA")

    health = manager.get_health_status()
    assert list(health) == [
        "total_connections", "connected_count", "total_ticks_received", "total_errors", "connections"
    ]  # fmt: skip
    assert (health["total_connections"], health["connected_count"], health["total_errors"]) == (2, 2, 0)
    assert health["total_ticks_received"] == manager.total_ticks_received == len(heard.ticks)
    first = health["connections"]["connection_1"]
    assert list(first) == [
        "name", "status", "assigned_tickers", "message_count", "error_count", "last_message_time"
    ]  # fmt: skip
    assert (first["name"], first["status"], first["assigned_tickers"], first["error_count"]) == (
        "Line 1", "connected", 2, 0
    )  # fmt: skip
    assert first["message_count"] == len(heard.trades("AAPL")) + len(heard.trades("MSFT"))
    assert abs(first["last_message_time"] - heard.ticks[-1].timestamp) < 5
    assert manager.get_ticker_assignment("AAPL") == manager.get_connection_for_ticker("AAPL") == "connection_1"
    assert manager.get_ticker_assignment("IBM") is None
    assert manager.get_connection_tickers("connection_1") == {"AAPL", "MSFT"}
    assert manager.get_connection_tickers("nothing") == set()
    assert manager.get_subscribed_tickers() == {"AAPL", "MSFT", "NVDA"}
    assert manager.check_subscriptions()
    assert len(heard.threads) == 1
    assert threading.get_ident() not in heard.threads
    assert heard.of("connection_1") == heard.of("connection_2") == ["connected"]
    (run_dir,) = place.run_dirs()
    assert not any("a-key" in path.read_text(errors="replace") for path in run_dir.rglob("*") if path.is_file())
    assert not any("a-key" in line for line in place.processes().values())

    manager.disconnect()

    assert not manager.is_connected()
    assert heard.of("connection_1") == ["connected", "disconnected"]
    assert [name for name in place.processes().values() if "mcm.simulator" not in name] == []
    assert place.run_dirs() == []
    assert [one.name for one in threading.enumerate() if one.name.startswith("mcm:")] == ["mcm:spawner"]


def test_what_is_subscribed_twice_is_left_alone_and_the_live_operations_do_what_they_say(
    vendor: Simulator, connect: Connect
) -> None:
    manager, heard = connect("AAPL", "NVDA")
    wait_connected(manager, 2)
    assert manager.subscribe(["MSFT", "Q.AAPL", "BRK.B"])
    owners = dict(manager.ticker_to_connection)
    assert owners.keys() == {"AAPL", "NVDA", "MSFT", "BRK.B"}
    wait_until(lambda: manager.check_subscriptions(), because="all of it is confirmed")
    before = held(vendor)

    assert manager.subscribe(["AAPL", "MSFT", "NVDA", "BRK.B", "Q.AAPL"])
    assert manager.ticker_to_connection == owners
    assert held(vendor) == before
    assert len(vendor.remote.report().dials) == 2

    other = "connection_2" if owners["MSFT"] == "connection_1" else "connection_1"
    assert manager.subscribe_ticker("MSFT", other)
    assert manager.get_ticker_assignment("MSFT") == other
    assert manager.unsubscribe(["AAPL"])
    assert manager.unsubscribe_ticker("BRK.B")
    wait_until(
        lambda: sorted(item for items in held(vendor) for item in items) == ["T.MSFT", "T.NVDA"],
        because="the vendor is asked for nothing else",
    )
    settled(vendor, heard, "MSFT")
    vendor.remote.resume()

    assert manager.add_connection("connection_3", ["NVDA", "F"])
    assert not manager.add_connection("connection_4"), "max_connections is 3"
    wait_until(lambda: manager.get_connection_tickers("connection_3") == {"NVDA", "F"}, because="it was added for them")
    wait_until(lambda: manager.get_health_status()["connected_count"] == 3, because="it is there")
    assert manager.remove_connection(other)
    assert set(manager.connections) == {"connection_1", "connection_2", "connection_3"} - {other}
    wait_until(lambda: manager.get_ticker_assignment("MSFT") not in {None, other}, because="another one carries it")
    assert set(manager.rebalance_connections()) == {"moved", "reason"}
    assert not manager.subscribe(["has space"])
    assert manager.total_errors == 1


def test_a_drop_opens_one_socket_and_everything_is_subscribed_again(vendor: Simulator, connect: Connect) -> None:
    manager, heard = connect("AAPL", "NVDA", WEBSOCKET_FAILOVER_ENABLED=False)  # else the other line carries it
    wait_connected(manager, 2)
    assert manager.subscribe(["MSFT"])
    wait_until(lambda: manager.check_subscriptions(), because="all is confirmed")
    before = held(vendor)
    owner = manager.get_ticker_assignment("AAPL")
    victim = next(one.number for one in vendor.remote.report().open_connections() if "T.AAPL" in one.items)

    vendor.remote.drop(connection=victim)

    assert owner == "connection_1"
    wait_until(lambda: "disconnected" in heard.of(owner), because="the program is told")
    wait_until(lambda: heard.of(owner)[-1] == "connected", because="it comes back")
    wait_until(lambda: held(vendor) == before, because="the vendor is asked for the same again")
    assert len(vendor.remote.report().dials) == 3
    assert heard.of("connection_2") == ["connected"]
    assert manager.get_health_status()["connections"]["connection_1"]["error_count"] == 1
    settled(vendor, heard, "AAPL", "NVDA", "MSFT")


def test_eviction_neither_loops_nor_loses_what_is_wanted(vendor: Simulator, connect: Connect) -> None:
    vendor.remote.cap(1)
    manager, heard = connect("AAPL", "NVDA")

    wait_until(lambda: heard.tickers() == {"AAPL", "NVDA"}, because="the one that stands carries both")
    wait_until(lambda: held(vendor) == [["T.AAPL", "T.NVDA"]], because="it is asked for both")
    wait_until(lambda: len(set(manager.ticker_to_connection.values())) == 1, because="the program sees that")
    health = manager.get_health_status()

    assert sorted(one["status"] for one in health["connections"].values()) == ["connected", "error"]
    assert manager.get_subscribed_tickers() == {"AAPL", "NVDA"}
    assert vendor.remote.report().counters["evictions"] <= 1
    assert len(vendor.remote.report().dials) <= 3
    vendor.remote.pause()
    for ticker in ("AAPL", "NVDA"):
        assert len(heard.trades(ticker)) == len(set(heard.trades(ticker)))


def test_the_routing_strategy_decides_about_what_is_subscribed(connect: Connect) -> None:
    symbols = [f"S{number:02}" for number in range(30)]
    manager, _ = connect("", "", "", WEBSOCKET_ROUTING_STRATEGY="round_robin")
    wait_connected(manager, 3)

    assert manager.subscribe(symbols)

    owners = manager.ticker_to_connection
    assert [owners[symbol] for symbol in symbols] == [f"connection_{number % 3 + 1}" for number in range(30)]


def test_connect_does_not_wait_for_one_line_before_it_starts_the_next(vendor: Simulator, connect: Connect) -> None:
    delay_s = 2.5
    vendor.remote.pause()
    vendor.remote.acknowledge("delay", delay_s=delay_s)

    manager, _ = connect("AAPL", "MSFT", "NVDA")

    wait_connected(manager, 3)
    dials = [dial.at_s for dial in vendor.remote.report().dials]
    assert len(dials) == 3
    assert dials[-1] - dials[0] < delay_s


def test_what_a_callback_raises_is_counted_and_stops_nothing(
    vendor: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    def on_tick(tick: TickData) -> None:
        heard.on_tick(tick)
        raise SystemExit if len(heard.ticks) % 2 else ZeroDivisionError

    def on_status(status: str, data: dict[str, Any]) -> None:
        heard.on_status(status, data)
        raise KeyError

    with caplog.at_level(logging.ERROR), MultiConnectionManager(config_for(vendor, "AAPL"), on_tick, on_status) as one:
        wait_until(lambda: len(heard.ticks) > 20 and bool(heard.statuses), because="it goes on")
        settled(vendor, heard, "AAPL")
        wait_until(lambda: one.total_errors == len(heard.ticks) + 1, because="each is counted")
        assert one.is_connected()

    assert heard.of("connection_1") == ["connected", "disconnected"]
    assert len([record for record in caplog.records if "callback" in record.message]) == 3


def test_a_client_is_the_same_with_one_line_and_may_disconnect_in_its_callback(vendor: Simulator) -> None:
    heard, done = Heard(), threading.Event()

    def on_tick(tick: TickData) -> None:
        heard.on_tick(tick)
        if len(heard.ticks) == 10:
            client.disconnect()
            done.set()

    config = {"MASSIVE_WEBSOCKET_URL": vendor.url("stocks"), "WEBSOCKET_CHANNELS": ["T"]}
    client = MassiveWebSocketClient("a-key", on_tick, heard.on_status, config)
    assert not client.subscribe("AAPL"), "there is no connection yet"
    assert client.connect()
    assert client.connect()
    assert client.subscribe(["MSFT", "NVDA"])
    assert client.unsubscribe("NVDA")
    assert client.get_subscribed_tickers() == {"AAPL", "MSFT"}
    assert client.is_connected()

    assert done.wait(20)
    wait_until(lambda: not client.is_connected(), because="it has disconnected itself")
    assert len(heard.ticks) == 10
    assert client.config == config


def test_where_nothing_can_be_connected_it_says_no_and_leaves_nothing_running(
    place: Place, vendor: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    assert not MultiConnectionManager({}, heard.on_tick, heard.on_status).connect()
    assert heard.statuses[-1][0] == "error"
    assert "no connection is configured" in heard.statuses[-1][1]["message"]

    vendor.remote.refuse_key()
    refused = MultiConnectionManager(config_for(vendor, "AAPL"), heard.on_tick, heard.on_status)
    before = time.monotonic()
    assert not refused.connect()
    assert time.monotonic() - before < 15
    assert not refused.is_connected()
    assert any("refused the API key" in data["message"] for _, data in heard.statuses)

    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    keyless = MultiConnectionManager({"WEBSOCKET_CONNECTION_1_ENABLED": True}, heard.on_tick, heard.on_status)
    assert not keyless.connect()
    assert any("needs an API key" in data["message"] for _, data in heard.statuses)
    with pytest.raises(SettingsError, match="WEBSOCKET_ROUTING_STRATEGY"):
        MultiConnectionManager({"WEBSOCKET_ROUTING_STRATEGY": "clever"}, None, None)

    assert [name for name in place.processes().values() if "mcm.simulator" not in name] == []
    assert place.run_dirs() == []

"""The ``config`` dict of the drop-in classes, and the configuration that it becomes."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core import compat_config, settings
from mcm.core.compat_config import LineWish, distribute, document, items_of, read, symbols_of, toml
from mcm.core.errors import BadTopic, SettingsError, UsageError

THREE = {
    f"WEBSOCKET_CONNECTION_{n}_{key}": value
    for n, symbols in ((1, "AAPL, NVDA"), (2, ["MSFT"]), (3, None))
    for key, value in (("ENABLED", "true" if n == 1 else True), ("NAME", f"Line {n}"), ("SYMBOLS", symbols))
}


def ids(config: dict[str, Any], max_connections: int = 3) -> list[str]:
    return [line.connection_id for line in read(config, max_connections).lines]


def test_the_keys_are_read_whether_they_are_text_or_not() -> None:
    wish = read(
        THREE
        | {
            "WEBSOCKET_ROUTING_STRATEGY": "load_balanced", "WEBSOCKET_CONNECTIONS_MAX": 4.0, "OTHER": object(),
            "WEBSOCKET_FAILOVER_ENABLED": False, "WEBSOCKET_HEALTH_CHECK_INTERVAL": "15", "MCM_BACKFILLED": "yes",
            "WEBSOCKET_CONNECTION_3_UNIVERSE_KEY": "tech:us", "WEBSOCKET_CHANNELS": "T, Q",
        },
        3,
    )  # fmt: skip

    assert wish.lines == (
        LineWish("connection_1", "Line 1", ("AAPL", "NVDA")),
        LineWish("connection_2", "Line 2", ("MSFT",)),
        LineWish("connection_3", "Line 3", (), ("tech:us",)),
    )
    routing = wish.settings.routing
    assert (routing.strategy, routing.failover, routing.health_check_interval_s) == ("load-balanced", False, 15)
    assert (wish.settings.account.max_connections, wish.channels, wish.wants_backfilled) == (4, ("T", "Q"), True)
    assert (wish.run_dir, wish.left_out, wish.market) == (None, (), "stocks")


def test_what_is_disabled_or_set_to_nothing_is_not_there() -> None:
    assert ids({}) == []
    assert ids({"WEBSOCKET_CONNECTION_1_NAME": "", "WEBSOCKET_CONNECTION_2_SYMBOLS": None}) == []
    assert ids({"WEBSOCKET_CONNECTION_1_ENABLED": False, "WEBSOCKET_CONNECTION_1_SYMBOLS": "AAPL"}) == []
    assert ids(THREE | {"WEBSOCKET_CONNECTION_2_ENABLED": "false"}) == ["connection_1", "connection_3"]
    assert ids({"WEBSOCKET_CONNECTION_7_SYMBOLS": "AAPL"}) == ["connection_7"]


def test_no_more_connections_count_than_there_may_be() -> None:
    assert ids(THREE, 2) == ["connection_1", "connection_2"]
    assert read(THREE, 2).left_out == ("connection_3",)
    assert ids(THREE | {"WEBSOCKET_CONNECTIONS_MAX": 1}) == ["connection_1"]


def test_without_several_connections_everything_is_on_the_first() -> None:
    wish = read(THREE | {"USE_MULTI_CONNECTION": False, "WEBSOCKET_CONNECTION_1_ENABLED": False}, 3)

    assert wish.lines == (LineWish("connection_2", "Line 2", ("MSFT",)),)
    assert read(THREE | {"USE_MULTI_CONNECTION": "no"}, 3).lines[0].entries == ("AAPL", "NVDA", "MSFT")


@pytest.mark.parametrize(
    ("url", "feed", "market"),
    [
        ("", "real-time", "stocks"),
        ("simulator", "simulator", "stocks"),
        ("wss://socket.massive.com/stocks", "real-time", "stocks"),
        ("wss://socket.massive.com", "real-time", "stocks"),
        ("wss://delayed.massive.com/options/", "delayed", "options"),
        ("ws://127.0.0.1:9000/crypto", "ws://127.0.0.1:9000", "crypto"),
        ("ws://127.0.0.1:9000", "ws://127.0.0.1:9000", "stocks"),
        ("wss://proxy.example/a/forex", "wss://proxy.example/a", "forex"),
        ("ws://socket.massive.com/stocks", "ws://socket.massive.com", "stocks"),
    ],
)
def test_an_address_is_a_feed_and_a_market(url: str, feed: str, market: str) -> None:
    wish = read({"MASSIVE_WEBSOCKET_URL": url}, 3)

    assert (wish.settings.upstream.feed, wish.market) == (feed, market)


def test_minute_bars_are_the_default_in_every_market() -> None:
    assert read({}, 3).channels == ("AM",)
    assert read({"MASSIVE_WEBSOCKET_URL": "ws://127.0.0.1:1/forex"}, 3).channels == ("CA",)
    assert read({"MASSIVE_WEBSOCKET_URL": "ws://127.0.0.1:1/crypto"}, 3).channels == ("XA",)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("WEBSOCKET_ROUTING_STRATEGY", "round", "round"),
        ("WEBSOCKET_CONNECTIONS_MAX", "three", "no.* whole number"),
        ("WEBSOCKET_CONNECTIONS_MAX", 0, "from 1"),
        ("USE_MULTI_CONNECTION", "maybe", "neither true nor false"),
        ("WEBSOCKET_CHANNELS", "trades", "did you mean"),
        ("MASSIVE_WEBSOCKET_URL", "http://127.0.0.1", "base URL"),
        ("MASSIVE_WEBSOCKET_URL", "wss://user:hidden@host/stocks", "more than scheme"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(key: str, value: object, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"{key}.*{problem}") as refused:
        read({key: value}, 3)
    assert "hidden" not in str(refused.value)


def test_an_entry_is_a_symbol_on_the_channels_or_an_item() -> None:
    assert items_of("AAPL", "stocks", ("T", "Q")) == ("T.AAPL", "Q.AAPL")
    assert items_of(" T.AAPL ", "stocks", ("AM",)) == ("T.AAPL",)
    assert items_of("BRK.B", "stocks", ("AM",)) == ("AM.BRK.B",)
    assert items_of("T", "stocks", ("AM",)) == ("AM.T",)
    assert items_of("*", "stocks", ("AM",)) == ("AM.*",)
    with pytest.raises(BadTopic):
        items_of("A B", "stocks", ("AM",))


def test_a_universe_is_asked_for_as_written_and_then_by_its_parts() -> None:
    lists = {"leaders:top": ["AAPL"], "tech": "MSFT, NVDA", "banks": ("JPM", "MSFT")}

    assert symbols_of("leaders:top", lists) == ("AAPL",)
    assert symbols_of("tech:banks", lists) == ("MSFT", "NVDA", "JPM")
    assert symbols_of("tech:banks", lists.__getitem__) == ("MSFT", "NVDA", "JPM")
    assert symbols_of("anything", lambda key: [key.upper()]) == ("ANYTHING",)
    for universes in (lists, lists.__getitem__, None):
        with pytest.raises(UsageError, match="tehc"):
            symbols_of("tehc", universes)


def test_each_item_is_carried_by_the_first_that_names_it_and_a_wildcard_by_whoever_has_it() -> None:
    named = {"one": ["T.AAPL", "T.MSFT", "Q.AAPL"], "two": ["T.AAPL", "Q.*", "T.NVDA"], "three": ["Q.*", "Q.F"]}

    assert distribute(named) == {"one": ["T.AAPL", "T.MSFT"], "two": ["Q.*", "T.NVDA"], "three": []}


items = st.sampled_from([f"{channel}.{symbol}" for channel in ("T", "Q") for symbol in ("AAPL", "MSFT", "é", "*")])


@given(st.dictionaries(st.sampled_from(["connection_1", "connection_2"]), st.lists(items), min_size=1), st.lists(items))
def test_whatever_is_named_twice_the_configuration_is_accepted(named: dict[str, list[str]], free: list[str]) -> None:
    lines = distribute(named | {"": free})

    made = document(read({}, 3), lines, lines.pop(""))

    assert tomllib.loads(toml(made)) == made
    accepted = settings.read(tomllib.loads(toml(made)), "config")
    assert not accepted.gateway.enabled
    assert not accepted.dashboard.enabled
    assert not accepted.backfill.enabled


@given(st.text())
def test_any_text_survives_the_way_through_toml(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()

    assert tomllib.loads(toml({"key": text})) == {"key": text}


def test_an_account_has_three_places_unless_it_is_said() -> None:
    assert compat_config.ACCOUNT_CONNECTIONS == 3
    assert read({}, 1).settings.account.max_connections == 3
    assert read({}, 5).settings.account.max_connections == 5

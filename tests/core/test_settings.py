import math
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.errors import SettingsError
from mcm.core.settings import Connection, Settings, Watchlist, items, read

REPOSITORY = Path(__file__).resolve().parents[2]

LINE = '[[connections]]\nname = "primary"\n'
LIST = '[[watchlists]]\nname = "leaders"\nchannels = ["T"]\nsymbols = ["AAPL"]\n'


def settings(text: str) -> Settings:
    return read(tomllib.loads(text), "config.toml")


def refused(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        settings(text)
    assert caught.value.where == "config.toml"
    return caught.value


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_one_connection_is_a_configuration_and_everything_else_has_a_default() -> None:
    result = settings(LINE)

    assert (result.run_dir, result.upstream.feed, result.routing.strategy) == (".mcm", "simulator", "manual")
    assert (result.account.api_key_env, result.account.max_connections) == ("MASSIVE_API_KEY", 3)
    assert (result.connections[0].market, result.connections[0].enabled) == ("stocks", True)
    assert result.simulator.cap == 3


def test_the_repositorys_configuration_is_accepted() -> None:
    result = settings((REPOSITORY / "config.toml").read_text())

    assert [connection.name for connection in result.connections] == ["primary", "secondary", "tertiary"]
    assert [len(items(watchlist, result.universes)) for watchlist in result.watchlists] == [20, 20, 20]


def test_every_key_of_the_design_is_accepted() -> None:
    result = settings("""
        run_dir = ".mcm"
        [account]
        api_key_env = "MASSIVE_API_KEY"
        max_connections = 3
        [upstream]
        feed = "ws://127.0.0.1:9000"
        rest_url = "https://api.massive.com"
        [routing]
        strategy = "manual"
        failover = true
        auto_rebalance = true
        health_check_interval_s = 30
        [[connections]]
        name = "primary"
        market = "stocks"
        enabled = true
        tiers = ["premium"]
        max_symbols = 500
        [[watchlists]]
        name = "leaders"
        market = "stocks"
        channels = ["T", "Q"]
        symbols = ["AAPL", "NVDA", "TSLA"]
        universe = "tech"
        connection = "primary"
        tier = "premium"
        copies = 1
        conflate_ms = 0
        [universes]
        tech = ["AAPL", "MSFT"]
        [publish]
        endpoints = ["tcp://127.0.0.1:5555"]
        [journal]
        retention_bytes = 8_589_934_592
        retention_hours = 24
        [dashboard]
        enabled = true
        listen = "127.0.0.1:8765"
        [gateway]
        enabled = true
        listen = "[::1]:0"
        [simulator]
        seed = 1
        ticks_per_s = 0.5
        port = 9001
        orders_port = 9002
        cap = 0
        [testing]
    """)

    assert items(result.watchlists[0], result.universes)[-2:] == ("T.MSFT", "Q.MSFT")


@pytest.mark.parametrize(
    "feed",
    ["real-time", "delayed", "business", "wss://socket.massive.com", "ws://localhost:9000", "ws://[::1]:9000/base/"],
)
def test_a_feed_is_a_word_or_a_base_url(feed: str) -> None:
    assert settings(f'{LINE}[upstream]\nfeed = "{feed}"').upstream.feed == feed


def test_items_come_symbol_by_symbol_and_each_once() -> None:
    watchlist = Watchlist(name="x", channels=("T", "Q"), symbols=("AAPL", "AAPL"), universe="tech:finance")

    result = items(watchlist, {"tech": ("MSFT", "AAPL"), "finance": ("JPM", "MSFT")})

    assert result == ("T.AAPL", "Q.AAPL", "T.MSFT", "Q.MSFT", "T.JPM", "Q.JPM")


def test_a_topic_may_be_pinned_in_one_watchlist_and_free_in_another() -> None:
    pinned = LIST + 'connection = "primary"\n'

    assert settings(LINE + pinned + LIST.replace("leaders", "others"))


def test_a_wildcard_and_single_symbols_may_be_pinned_to_one_connection() -> None:
    pinned = LIST + 'connection = "primary"\n'

    assert settings(LINE + pinned + pinned.replace("leaders", "all").replace("AAPL", "*"))


# --- texts, word for word --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[account]\nmax_conections = 1",
            "config.toml: account.max_conections: there is no such key; did you mean max_connections?",
        ),
        (
            LINE + LIST.replace('"T"', '"trades"'),
            'config.toml: watchlists[0].channels[0]: "trades" is no channel of stocks; did you mean "T"? stocks has '
            "T (trades), Q (quotes), A (second bars), AM (minute bars), LULD (limit up, limit down), "
            "NOI (net order imbalance), FMV (fair market value), LV (launchpad value)",
        ),
        (
            LINE + '[upstream]\nfeed = "realtime"',
            'config.toml: upstream.feed: "realtime" is no feed; did you mean "real-time"? Allowed: simulator, '
            "real-time, delayed, business, or a base URL such as ws://127.0.0.1:9000",
        ),
        (
            LINE + '[routing]\nstrategy = "hashed"',
            'config.toml: routing.strategy: "hashed" is not known; did you mean "hash"? '
            "Allowed: manual, round-robin, hash, priority, load-balanced",
        ),
        (
            LINE + LIST + 'connection = "primery"',
            'config.toml: watchlists[0].connection: there is no connection "primery"; did you mean "primary"? '
            "Allowed: primary",
        ),
        (
            '[account]\nmax_connections = "3"',
            'config.toml: account.max_connections: "3" is not a whole number from 1 to 100; write it without quotes',
        ),
    ],
)
def test_an_error_names_file_key_value_what_is_allowed_and_what_was_meant(text: str, message: str) -> None:
    assert str(refused(text)) == message


# --- keys and types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[acount]", "acount", "did you mean account?"),
        ("[account]\nzzz = 1", "account.zzz", "known here: api_key_env, max_connections"),
        ('[account]\napi_key = "abc"', "account.api_key", "did you mean api_key_env?"),
        (LINE + 'maket = "stocks"', "connections[0].maket", "did you mean market?"),
        (LINE + "failover = true", "connections[0].failover", "it belongs below [routing]"),
        ('strategy = "manual"', "strategy", "it belongs below [routing]"),
        (
            LINE + 'run_dir = "x"',
            "connections[0].run_dir",
            "it belongs to the top of the file, above the first [section]",
        ),
        (
            "[testing]\ncrash = 1",
            "testing.crash",
            "known here: drop_push, drop_publish, high_water_mark, poison, arbitrate, splice, name_gaps, keep_links, "
            "market_is_open",
        ),
        ("[[connections]]", "connections[0].name", "give a text in quotes"),
        (LINE + '[[watchlists]]\nname = "x"', "watchlists[0].channels", "give a list of texts"),
    ],
)
def test_a_key_too_many_or_missing_is_refused(text: str, key: str, hint: str) -> None:
    error = refused(text)

    assert (error.key, error.hint) == (key, hint)


@pytest.mark.parametrize(
    ("text", "key", "problem", "hint"),
    [
        ('[connections]\nname = "a"', "connections", "a table is not a list of tables", "write [[connections]]"),
        ("[[routing]]\nfailover = true", "routing", "a list is not a table", "write [routing], with one bracket"),
        ("routing = 1", "routing", "1 is not a table", ""),
        (
            LINE + LIST.replace('["AAPL"]', '"AAPL, MSFT"'),
            "watchlists[0].symbols",
            '"AAPL, MSFT" is not a list of',
            '= ["AAPL", "MSFT"]',
        ),
        (LINE + LIST.replace('["AAPL"]', "[1]"), "watchlists[0].symbols[0]", "1 is not a text in quotes", ""),
        (LINE + 'enabled = "true"', "connections[0].enabled", '"true" is not true or false', "without quotes"),
        (LINE + "enabled = 1", "connections[0].enabled", "1 is not true or false", ""),
        ("[account]\nmax_connections = true", "account.max_connections", "true is not a whole number", ""),
        ("[account]\nmax_connections = 0", "account.max_connections", "0 is not a whole number from 1 to 100", ""),
        ("[account]\nmax_connections = 2.0", "account.max_connections", "2.0 is not a whole number", ""),
        ("[routing]\nhealth_check_interval_s = 0", "routing.health_check_interval_s", "from 1 to 3_600", ""),
        ("[simulator]\nport = 70000", "simulator.port", "70000 is not a whole number from 0 to 65_535", ""),
        ("[simulator]\nticks_per_s = nan", "simulator.ticks_per_s", "nan is not a number from 0 to 1_000_000", ""),
        ("[simulator]\nticks_per_s = -1", "simulator.ticks_per_s", "-1 is not a number", ""),
        ("[simulator]\nseed = 2024-01-01", "simulator.seed", "a date or time is not a whole number", ""),
        ("[journal]\nretention_hours = 0", "journal.retention_hours", "0 is not a whole number from 1 to 8_760", ""),
        ("[universes]\ntech = 5", "universes.tech", "5 is not a list of texts", ""),
        (LINE + "max_symbols = 0", "connections[0].max_symbols", "0 is not a whole number from 1", ""),
        (LINE + LIST + "copies = 0", "watchlists[0].copies", "0 is not a whole number from 1", ""),
    ],
)
def test_a_value_of_another_type_or_range_is_refused(text: str, key: str, problem: str, hint: str) -> None:
    error = refused(text)

    assert error.key == key
    assert problem in error.problem
    assert hint in error.hint


# --- single values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('run_dir = " "', "run_dir", '" " is no path'),
        ('[[connections]]\nname = "Primary"', "connections[0].name", '"Primary" cannot be a name'),
        (f'[[connections]]\nname = "{"x" * 33}"', "connections[0].name", "cannot be a name"),
        ('[[connections]]\nname = "a\\nb"', "connections[0].name", r'"a\nb" cannot be a name'),
        ('[[connections]]\nname = "router"', "connections[0].name", "the name of another part of mcm"),
        (LINE + 'market = "stock"', "connections[0].market", '"stock" is not known'),
        (LINE + 'tiers = ["Gold tier"]', "connections[0].tiers[0]", "cannot be a name"),
        (LINE + LIST.replace("leaders", "my list"), "watchlists[0].name", '"my list" cannot be a name'),
        (LINE + LIST + "copies = 2", "watchlists[0].copies", "is 2, but only 1 connections serve stocks"),
        (LINE + LIST + "conflate_ms = 100", "watchlists[0].conflate_ms", "100 is not yet available"),
        ('[routing]\nstrategy = "robin"', "routing.strategy", '"robin" is not known'),
        ('[universes]\n"a:b" = ["AAPL"]', "universes.a:b", "cannot be a universe's key"),
        ('[upstream]\nfeed = "http://127.0.0.1"', "upstream.feed", "is no base URL"),
        ('[upstream]\nfeed = "ws://127.0.0.1:99999"', "upstream.feed", "is no base URL"),
        ('[upstream]\nfeed = "wss://socket.massive.com/stocks"', "upstream.feed", "names a market"),
        ('[upstream]\nrest_url = "api.massive.com"', "upstream.rest_url", "is no base URL"),
        ('[dashboard]\nlisten = "0.0.0.0:8765"', "dashboard.listen", "Non-loopback listening is refused for now"),
        ('[gateway]\nlisten = "example.com:8766"', "gateway.listen", "Non-loopback listening is refused for now"),
        ('[gateway]\nlisten = "8766"', "gateway.listen", "is no address"),
        ('[gateway]\nlisten = "127.0.0.1:x"', "gateway.listen", "is no address"),
        (
            '[publish]\nendpoints = ["tcp://*:5555"]',
            "publish.endpoints[0]",
            "Non-loopback listening is refused for now",
        ),
        ('[publish]\nendpoints = ["ipc:///tmp/x"]', "publish.endpoints[0]", "is no endpoint"),
        ('[publish]\nendpoints = ["tcp://127.0.0.1:0"]', "publish.endpoints[0]", "is no endpoint"),
        ('[publish]\nendpoints = ["tcp://[::1]:5555"]', "publish.endpoints[0]", "needs IPv6"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(text: str, key: str, problem: str) -> None:
    error = refused(text)

    assert error.key == key
    assert problem in error.problem
    assert error.hint


def test_the_likely_meant_base_url_is_shown() -> None:
    error = refused('[upstream]\nfeed = "wss://socket.massive.com/stocks"')

    assert 'write "wss://socket.massive.com"' in error.hint


@pytest.mark.parametrize(
    "text",
    [
        '[account]\napi_key_env = "sEcReT123"',
        '[account]\napi_key_env = ["sEcReT123"]',
        '[account]\napi_key = "sEcReT123"',
        '[upstream]\nfeed = "wss://socket.massive.com?apiKey=sEcReT123"',
        '[upstream]\nfeed = "wss://user:sEcReT123@socket.massive.com"',
        '[upstream]\nrest_url = "https://api.massive.com/?apiKey=sEcReT123"',
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(text: str) -> None:
    error = refused(text)

    assert "sEcReT123" not in str(error) + repr(error)


# --- what must hold between values -----------------------------------------------------------------------------------

TWO = LINE + LINE.replace("primary", "secondary")
CRYPTO = '[[connections]]\nname = "coins"\nmarket = "crypto"\n'
OTHER = LIST.replace("leaders", "others")


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("", "connections", "there is no connection"),
        (LINE + "enabled = false", "connections", "every connection is disabled"),
        (LINE + LINE, "connections[1].name", '"primary" is already the name of connections[0]'),
        (LINE + LIST + LIST, "watchlists[1].name", '"leaders" is already the name of watchlists[0]'),
        (
            TWO + "[account]\nmax_connections = 1",
            "account.max_connections",
            "2 connections of stocks are enabled (primary, secondary)",
        ),
        (LINE + LIST + 'market = "crypto"', "watchlists[0].market", 'no enabled connection serves "crypto"'),
        (LINE + LIST.replace('"T"', ""), "watchlists[0].channels", "is empty"),
        (LINE + LIST.replace('"AAPL"', ""), "watchlists[0].symbols", "the watchlist has no symbols"),
        (LINE + LIST.replace("AAPL", "A B"), "watchlists[0].symbols[0]", "contains ' '"),
        (LINE + LIST.replace("AAPL", "A*"), "watchlists[0].symbols[0]", "mixes * with other text"),
        (LINE + LIST.replace("AAPL", ""), "watchlists[0].symbols[0]", "a symbol is empty"),
        (LINE + LIST + 'universe = "tech"', "watchlists[0].universe", 'there is no universe "tech"'),
        (
            LINE + LIST + 'universe = "tech:fin"\n[universes]\ntech = ["A"]\nfinance = ["B"]',
            "watchlists[0].universe",
            'no universe "fin"',
        ),
        (LINE + LIST + 'universe = "tech"\n[universes]\ntech = ["A", "B,C"]', "universes.tech[1]", "contains ','"),
        (LINE + CRYPTO + LIST + 'connection = "coins"', "watchlists[0].connection", '"coins" serves crypto'),
        (
            TWO + "enabled = false\n" + LIST + 'connection = "secondary"',
            "watchlists[0].connection",
            '"secondary" is disabled',
        ),
        (
            LINE + 'tiers = ["gold"]\n' + LIST + 'tier = "golden"',
            "watchlists[0].tier",
            'no connection of stocks has the tier "golden"',
        ),
        (LINE + LIST + 'tier = "gold"', "watchlists[0].tier", 'no connection of stocks has the tier "gold"'),
        (
            LINE + '[publish]\nendpoints = ["tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"]',
            "publish.endpoints[1]",
            "stands here twice",
        ),
        (LINE + '[upstream]\nfeed = "delayed"\n[testing]', "testing", 'refused with the feed "delayed"'),
    ],
)
def test_values_that_contradict_each_other_are_refused(text: str, key: str, problem: str) -> None:
    error = refused(text)

    assert error.key == key
    assert problem in error.problem
    assert error.hint


def test_options_quotes_as_a_whole_are_refused() -> None:
    error = refused(
        '[[connections]]\nname = "a"\nmarket = "options"\n'
        + LIST.replace('"T"', '"Q"').replace("AAPL", "*")
        + 'market = "options"'
    )

    assert (error.key, error.hint) == ("watchlists[0].symbols[0]", "name the symbols")


def test_one_topic_on_two_connections_is_refused() -> None:
    error = refused(TWO + LIST + 'connection = "primary"\n' + OTHER + 'connection = "secondary"')

    assert error.key == "watchlists[1].connection"
    assert error.problem == '"secondary" shall carry T.AAPL, which the watchlist "leaders" gives to "primary"'
    assert "copies = 2" in error.hint


@pytest.mark.parametrize("pin", ['connection = "secondary"', ""])
def test_a_pinned_symbol_under_a_wildcard_elsewhere_is_refused(pin: str) -> None:
    error = refused(TWO + LIST + 'connection = "primary"\n' + OTHER.replace("AAPL", "*") + pin)

    assert error.key == "watchlists[0].connection"
    assert '"primary" shall carry T.AAPL, but T.* has it too, which the watchlist "others"' in error.problem
    assert 'give T.* to "primary"' in error.hint


def test_a_section_for_tests_is_accepted_on_this_machine() -> None:
    assert settings(LINE + '[upstream]\nfeed = "ws://127.0.0.1:9000"\n[testing]').testing is not None


# --- for every input -------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    [*Settings.__struct_fields__, *Connection.__struct_fields__, *Watchlist.__struct_fields__, "listen", "seed", "x"]
)
WORDS = st.sampled_from(
    ["a", "T", "*", "stocks", "crypto", "manual", "ws://", "ws://[", "//", "127.0.0.1:1", "tcp://[:1"]
)
VALUES = st.recursive(
    WORDS | st.integers() | st.sampled_from([1.5, math.inf, math.nan, True, False, "", date(2024, 1, 1)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=5,
)
LINES = st.fixed_dictionaries({"name": WORDS}, optional={"market": WORDS, "tiers": VALUES, "max_symbols": VALUES})
LISTS = st.fixed_dictionaries(
    {"name": WORDS, "channels": st.lists(WORDS)},
    optional={"symbols": st.lists(WORDS), "universe": WORDS, "connection": WORDS, "tier": WORDS, "market": WORDS},
)
DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"connections": st.lists(LINES), "watchlists": st.lists(LISTS), "universes": VALUES}
)


def error_of(document: dict[str, object]) -> SettingsError | None:
    try:
        read(document, "config.toml")
    except SettingsError as error:
        return error
    return None


@given(st.dictionaries(KEYS, VALUES, max_size=3) | DOCUMENTS)
def test_every_document_is_either_accepted_or_refused_with_a_place_and_a_problem(document: dict[str, object]) -> None:
    error = error_of(document)

    assert error is None or (error.key and error.problem)


@pytest.mark.parametrize("section", ["upstream", "dashboard", "publish"])
@given(value=st.text(alphabet="wstcp:/[]@?#%*.0129a\x00 \n"))
def test_every_address_is_either_accepted_or_refused(section: str, value: str) -> None:
    keys: dict[str, tuple[str, object]] = {
        "upstream": ("feed", value),
        "dashboard": ("listen", value),
        "publish": ("endpoints", [value]),
    }
    key, content = keys[section]

    error = error_of({"connections": [{"name": "a"}], section: {key: content}})

    assert error is None or error.key.startswith(f"{section}.{key}")

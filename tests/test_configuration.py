import pickle
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from mcm import configuration
from mcm.configuration import Configuration, Secret, load, locate
from mcm.core import overrides
from mcm.core.errors import SettingsError
from mcm.core.settings import Settings, items

KEY = "k3yThatNobodyMayS33"

THREE = """
[[connections]]
name = "primary"
[[connections]]
name = "secondary"
[[connections]]
name = "tertiary"
[[watchlists]]
name = "leaders"
channels = ["T"]
symbols = ["AAPL"]
connection = "primary"
[[watchlists]]
name = "finance"
channels = ["T", "Q"]
symbols = ["JPM"]
connection = "secondary"
[universes]
tech = ["NVDA", "AMD"]
us = ["F"]
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a text beside the configuration file; without a name, it is that file."""

    def write(text: str, name: str = "config.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refused(path: Path, **environment: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(path, environment)
    assert KEY not in str(caught.value) + repr(caught.value)
    return caught.value


def carried(settings: Settings) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for watchlist in settings.watchlists:
        found.setdefault(watchlist.connection, []).extend(items(watchlist, settings.universes))
    return found


def names(result: Configuration) -> list[str]:
    return [connection.name for connection in result.settings.connections if connection.enabled]


# --- which file ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_named_is_taken(write: Write) -> None:
    path = write(THREE, "other.toml")

    result = load(path, {})

    assert (result.path, names(result)) == (path, ["primary", "secondary", "tertiary"])


def test_without_a_name_the_current_directory_comes_first(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(THREE)
    monkeypatch.chdir(path.parent)

    result = load(None, {})

    assert (result.path, result.run_dir) == (path, path.parent / ".mcm")


def test_elsewhere_the_checkouts_configuration_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    path = locate(None)

    assert path == Path(configuration.__file__).parents[1] / "config.toml"
    assert load(None, {}).run_dir == path.parent / ".mcm"


def test_the_packaged_default_runs_in_the_current_directory(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "work").mkdir()
    packaged = write(THREE, "site-packages/config.toml")
    write("WEBSOCKET_CONNECTION_3_ENABLED=no", "work/.env")
    monkeypatch.setattr(configuration, "_PACKAGED", packaged)
    monkeypatch.chdir(tmp_path / "work")

    result = load(None, {})

    assert (result.path, result.run_dir) == (packaged, tmp_path / "work" / ".mcm")
    assert names(result) == ["primary", "secondary"]


def test_the_wheel_holds_the_default_where_it_is_looked_for() -> None:
    project = tomllib.loads((Path(configuration.__file__).parents[1] / "pyproject.toml").read_text())

    packaged = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]["config.toml"]

    assert Path(configuration.__file__).parents[1] / packaged == configuration._PACKAGED


def test_the_run_directory_is_the_callers_then_the_environments_then_the_files(write: Write) -> None:
    path = write('run_dir = "here"' + THREE)

    assert load(path, {}).run_dir == path.parent / "here"
    assert load(path, {"MCM_RUN_DIR": "/else"}).run_dir == Path("/else")
    assert load(path, {"MCM_RUN_DIR": "/else"}, run_dir=Path("mine")).run_dir == Path.cwd() / "mine"


# --- files that cannot be read, word for word ------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path / "no.toml")

    assert str(error) == (
        f"{tmp_path}/no.toml: there is no such file; "
        "name a configuration file; without --config, mcm takes ./config.toml or its own"
    )


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path).problem == "cannot be read: Is a directory"


def test_bad_toml_is_named_with_line_and_column(write: Write) -> None:
    path = write('run_dir = ".mcm"\n[upstream]\nfeed = simulator\n')

    error = refused(path)

    assert str(error) == (
        f'{path}, line 3, column 8: no TOML: Invalid value; texts stand in quotes, as in market = "stocks"'
    )


def test_toml_that_ends_too_early_is_named_with_its_last_line(write: Write) -> None:
    path = write("[[connections]]\nname = [")

    assert refused(path).where == f"{path}, line 2, column 9"


def test_a_fault_in_the_file_is_named_with_its_key(write: Write) -> None:
    path = write(THREE.replace('"secondary"\n[universes]', '"secondry"\n[universes]'))

    assert str(refused(path)) == (
        f'{path}: watchlists[1].connection: there is no connection "secondry"; did you mean "secondary"? '
        "Allowed: primary, secondary, tertiary"
    )


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'run_dir = ".mcm"\n# caf\xe9\n')

    assert str(refused(path)) == f"{path}, line 2: is not UTF-8; save the file as UTF-8"


def test_a_byte_order_mark_is_no_fault(write: Write) -> None:
    assert load(write("\ufeff" + THREE), {})


# --- universes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tech.txt", "# leaders\nNVDA, AMD\n\nMSFT  # late\n"),
        ("tech.csv", "Name,Symbol\nNvidia,NVDA\nAdvanced Micro Devices,AMD\n\nMicrosoft,MSFT\n"),
        ("tech.csv", "NVDA\nAMD\nMSFT\n"),
        ("tech.csv", "\ufeffticker\r\nNVDA\r\nAMD\r\nMSFT\r\n"),
    ],
)
def test_a_universe_may_be_a_file_beside_the_configuration(write: Write, name: str, text: str) -> None:
    write(text, name)
    path = write(THREE.replace('["NVDA", "AMD"]', f'"{name}"'))

    assert load(path, {}).settings.universes["tech"] == ("NVDA", "AMD", "MSFT")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("tech.txt", "# nothing\n", "holds no symbols"),
        ("tech.csv", "NVDA,Nvidia\n", "which of 2 columns?"),
        ("tech.csv", "symbol\nNVDA\nA B\n", "contains ' '"),
        ("tech.txt", "NV*\n", "mixes *"),
    ],
)
def test_a_universe_file_without_clear_symbols_is_refused(write: Write, name: str, text: str, problem: str) -> None:
    file = write(text, name)

    error = refused(write(THREE.replace('["NVDA", "AMD"]', f'"{name}"')))

    assert error.where.startswith(str(file))
    assert problem in error.problem


def test_a_missing_universe_file_is_named_with_its_key(write: Write) -> None:
    path = write(THREE.replace('["NVDA", "AMD"]', '"gone.csv"'))

    error = refused(path)

    assert (error.where, error.key) == (str(path), "universes.tech")
    assert error.problem == f"there is no file {path.parent / 'gone.csv'}"


# --- the API key -----------------------------------------------------------------------------------------------------

REAL = '[upstream]\nfeed = "real-time"\n' + THREE


def test_the_key_comes_from_the_variable_that_the_file_names(write: Write) -> None:
    path = write('[account]\napi_key_env = "MY_KEY"\n' + REAL)

    assert load(path, {"MY_KEY": KEY, "MASSIVE_API_KEY": "another"}).api_key.reveal() == KEY


def test_the_environments_key_wins_over_the_one_in_the_env_file(write: Write) -> None:
    path = write(REAL)
    write("MASSIVE_API_KEY=from-file", ".env")

    assert load(path, {}).api_key.reveal() == "from-file"
    assert load(path, {"MASSIVE_API_KEY": KEY}).api_key.reveal() == KEY
    assert load(path, {"MASSIVE_API_KEY": ""}).api_key.reveal() == "from-file"


def test_a_real_feed_without_a_key_says_which_variable_and_how_to_set_it(write: Write) -> None:
    path = write(REAL)

    assert str(refused(path)) == (
        'MASSIVE_API_KEY: is not set, and the feed "real-time" needs an API key; '
        f"run `export MASSIVE_API_KEY=…`, or write the line MASSIVE_API_KEY=… into {path.parent}/.env"
    )


def test_the_simulator_never_gets_the_real_key(write: Write) -> None:
    assert load(write(THREE), {"MASSIVE_API_KEY": KEY}).api_key.reveal() == "simulator"


def test_an_upstream_on_this_machine_may_do_without_a_key(write: Write) -> None:
    path = write('[upstream]\nfeed = "ws://127.0.0.1:9000"\n' + THREE)

    assert load(path, {}).api_key.reveal() == "simulator"
    assert load(path, {"MASSIVE_API_KEY": KEY}).api_key.reveal() == KEY


def test_a_key_with_a_space_in_it_is_refused_and_not_shown(write: Write) -> None:
    error = refused(write(REAL), MASSIVE_API_KEY=f"{KEY} {KEY}")

    assert error.where == "MASSIVE_API_KEY"


def test_no_text_of_a_configuration_shows_the_key(write: Write) -> None:
    result = load(write(REAL), {"MASSIVE_API_KEY": KEY})

    assert KEY not in f"{result} {result!r} {result.api_key} {result.api_key!r}"
    assert pickle.loads(pickle.dumps(Secret(KEY))).reveal() == KEY


# --- variables -------------------------------------------------------------------------------------------------------


def test_the_routing_variables_win_over_the_file(write: Write) -> None:
    environment = {
        "WEBSOCKET_ROUTING_STRATEGY": "ROUND_ROBIN",
        "WEBSOCKET_CONNECTIONS_MAX": "7",
        "WEBSOCKET_HEALTH_CHECK_INTERVAL": "15",
        "WEBSOCKET_AUTO_REBALANCE": "no",
        "WEBSOCKET_FAILOVER_ENABLED": "False",
    }

    result = load(write(THREE), environment).settings

    assert (result.routing.strategy, result.account.max_connections) == ("round-robin", 7)
    assert result.routing.health_check_interval_s == 15
    assert (result.routing.auto_rebalance, result.routing.failover) == (False, False)


def test_an_empty_variable_counts_as_not_set(write: Write) -> None:
    result = load(write(THREE), {"WEBSOCKET_CONNECTIONS_MAX": "", "WEBSOCKET_CONNECTION_1_SYMBOLS": " "})

    assert result.settings.account.max_connections == 3
    assert carried(result.settings)["primary"] == ["T.AAPL"]


def test_symbols_of_a_connection_take_the_place_of_the_watchlists_pinned_to_it(write: Write) -> None:
    environment = {"WEBSOCKET_CONNECTION_1_SYMBOLS": "TSLA, META,", "WEBSOCKET_CONNECTION_3_UNIVERSE_KEY": "tech:us"}

    result = load(write(THREE), environment).settings

    assert carried(result) == {
        "secondary": ["T.JPM", "Q.JPM"],
        "primary": ["AM.TSLA", "AM.META"],
        "tertiary": ["AM.NVDA", "AM.AMD", "AM.F"],
    }


def test_the_channels_of_such_symbols_are_a_variable_too(write: Write) -> None:
    environment = {"WEBSOCKET_CHANNELS": "T,Q", "WEBSOCKET_CONNECTION_1_SYMBOLS": "TSLA"}

    assert carried(load(write(THREE), environment).settings)["primary"] == ["T.TSLA", "Q.TSLA"]


def test_a_name_is_made_to_fit_and_pins_follow_it(write: Write) -> None:
    environment = {"WEBSOCKET_CONNECTION_1_NAME": "Premium Tickers!", "WEBSOCKET_CONNECTION_2_NAME": "primary"}

    result = load(write(THREE), environment)

    assert names(result) == ["premium-tickers", "primary", "tertiary"]
    assert carried(result.settings) == {"premium-tickers": ["T.AAPL"], "primary": ["T.JPM", "Q.JPM"]}


def test_a_connection_that_the_file_does_not_have_is_added(write: Write) -> None:
    environment = {
        "WEBSOCKET_CONNECTIONS_MAX": "5",
        "WEBSOCKET_CONNECTION_9_NAME": "Ninth",
        "WEBSOCKET_CONNECTION_5_SYMBOLS": "TSLA",
    }

    result = load(write(THREE), environment)

    assert names(result) == ["primary", "secondary", "tertiary", "connection-5", "ninth"]
    assert carried(result.settings)["connection-5"] == ["AM.TSLA"]


def test_the_variables_alone_are_a_configuration(write: Write) -> None:
    result = load(write(""), {"WEBSOCKET_CONNECTION_1_SYMBOLS": "TSLA", "WEBSOCKET_CONNECTION_2_NAME": "b"})

    assert names(result) == ["connection-1", "b"]


def test_a_disabled_connection_takes_its_own_symbols_with_it(write: Write) -> None:
    environment = {"WEBSOCKET_CONNECTION_1_ENABLED": "false", "WEBSOCKET_CONNECTION_1_SYMBOLS": "TSLA"}

    result = load(write(THREE), environment)

    assert names(result) == ["secondary", "tertiary"]
    assert carried(result.settings) == {"secondary": ["T.JPM", "Q.JPM"]}


def test_without_multi_connection_everything_rides_on_the_first_of_each_market(write: Write) -> None:
    coins = '[[connections]]\nname = "coins"\nmarket = "crypto"\n'
    path = write("[account]\nmax_connections = 1\n" + THREE.replace("[universes]", coins + "[universes]"))

    result = load(path, {"USE_MULTI_CONNECTION": "false"})

    assert names(result) == ["primary", "coins"]
    assert carried(result.settings) == {None: ["T.AAPL", "T.JPM", "Q.JPM"]}


def test_with_multi_connection_nothing_changes(write: Write) -> None:
    path = write(THREE)

    assert load(path, {"USE_MULTI_CONNECTION": "true"}) == load(path, {})


def test_variables_of_others_are_left_alone(write: Write) -> None:
    assert load(write(THREE), {"WEBSOCKET_PORT": "80", "PATH": "/bin"}) == load(write(THREE), {})


def test_the_environment_wins_over_the_env_file(write: Write) -> None:
    path = write(THREE)
    write('export WEBSOCKET_CONNECTIONS_MAX="5"  # ours\nWEBSOCKET_FAILOVER_ENABLED=$NO\n', ".env")

    result = load(path, {"WEBSOCKET_FAILOVER_ENABLED": "off"}).settings

    assert (result.account.max_connections, result.routing.failover) == (5, False)


@pytest.mark.parametrize(
    ("environment", "where", "problem"),
    [
        ({"USE_MULTI_CONNECTION": "maybe"}, "USE_MULTI_CONNECTION", '"maybe" is neither true nor false'),
        ({"WEBSOCKET_FAILOVER_ENABLED": "2"}, "WEBSOCKET_FAILOVER_ENABLED", "neither true nor false"),
        ({"WEBSOCKET_CONNECTION_1_ENABLED": "x"}, "WEBSOCKET_CONNECTION_1_ENABLED", "neither true nor false"),
        ({"WEBSOCKET_CONNECTIONS_MAX": "three"}, "WEBSOCKET_CONNECTIONS_MAX", '"three" is not a whole number'),
        ({"WEBSOCKET_CONNECTIONS_MAX": "0"}, "WEBSOCKET_CONNECTIONS_MAX", "0 is not a whole number from 1 to 100"),
        ({"WEBSOCKET_CONNECTIONS_MAX": "2"}, "WEBSOCKET_CONNECTIONS_MAX", "3 connections of stocks are enabled"),
        ({"WEBSOCKET_HEALTH_CHECK_INTERVAL": "30s"}, "WEBSOCKET_HEALTH_CHECK_INTERVAL", "not a whole number"),
        ({"WEBSOCKET_ROUTING_STRATEGY": "hashed"}, "WEBSOCKET_ROUTING_STRATEGY", '"hashed" is not known'),
        ({"WEBSOCKET_CONNECTION_1_NAME": "Router"}, "WEBSOCKET_CONNECTION_1_NAME", "another part of mcm"),
        ({"WEBSOCKET_CONNECTION_1_NAME": "!"}, "WEBSOCKET_CONNECTION_1_NAME", "cannot be a name"),
        ({"WEBSOCKET_CONNECTION_1_NAME": "tertiary"}, "WEBSOCKET_CONNECTION_1_NAME", "another connection is called"),
        ({"WEBSOCKET_CONNECTION_1_SYMBOLS": "A B"}, "WEBSOCKET_CONNECTION_1_SYMBOLS", "contains ' '"),
        ({"WEBSOCKET_CONNECTION_1_SYMBOLS": ","}, "WEBSOCKET_CONNECTION_1_SYMBOLS", "has no symbols"),
        ({"WEBSOCKET_CONNECTION_2_UNIVERSE_KEY": "teck"}, "WEBSOCKET_CONNECTION_2_UNIVERSE_KEY", "no universe"),
        ({"WEBSOCKET_CONNECTION_1_ENABLED": "0"}, "WEBSOCKET_CONNECTION_1_ENABLED", 'the watchlist "leaders" needs'),
        ({"WEBSOCKET_CONNECTION_0_NAME": "a"}, "WEBSOCKET_CONNECTION_0_NAME", "counted from 1"),
        ({"WEBSOCKET_CONNECTION_1_SYMBOL": "A"}, "WEBSOCKET_CONNECTION_1_SYMBOL", "no such variable"),
        ({"WEBSOCKET_CONNECTION_MAX": "2"}, "WEBSOCKET_CONNECTION_MAX", "there is no such variable"),
        ({"USE_MULTI_CONNECTIONS": "no"}, "USE_MULTI_CONNECTIONS", "there is no such variable"),
        ({"WEBSOCKET_CHANNELS": "T"}, "WEBSOCKET_CHANNELS", "has no effect here"),
        (
            {"WEBSOCKET_CHANNELS": "T,ZZ", "WEBSOCKET_CONNECTION_1_SYMBOLS": "A"},
            "WEBSOCKET_CHANNELS",
            '"ZZ" is no channel of stocks',
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    write: Write, environment: dict[str, str], where: str, problem: str
) -> None:
    error = refused(write(THREE), **environment)

    assert (error.where, error.key) == (where, "")
    assert problem in error.problem


def test_a_variable_in_the_env_file_is_named_with_that_file(write: Write) -> None:
    path = write(THREE)
    dotenv = write("# ours\nUSE_MULTI_CONNECTION=maybe\n", ".env")

    error = refused(path)

    assert (error.where, error.key) == (str(dotenv), "USE_MULTI_CONNECTION")


def test_a_line_of_the_env_file_that_is_no_variable_is_named_and_not_shown(write: Write) -> None:
    path = write(THREE)
    dotenv = write(f"A=1\nMASSIVE_API_KEY {KEY}\n", ".env")

    assert refused(path).where == f"{dotenv}, line 2"


def test_faults_of_the_file_keep_its_numbering_when_variables_replace_watchlists(write: Write) -> None:
    path = write(THREE.replace('["T", "Q"]', '["T", "ZZ"]'))

    error = refused(path, WEBSOCKET_CONNECTION_1_SYMBOLS="TSLA")

    assert (error.where, error.key) == (str(path), "watchlists[1].channels[1]")


EXAMPLE = (Path(configuration.__file__).parents[1] / ".env.example").read_text()


def test_the_example_of_an_env_file_is_harmless_as_it_is(write: Write) -> None:
    path = write(THREE)
    plain = load(path, {})
    write(EXAMPLE, ".env")

    assert load(path, {}) == plain


def test_every_line_of_the_example_of_an_env_file_can_be_switched_on(write: Write) -> None:
    path = write(THREE)
    write(re.sub(r"^#(?=[A-Z])", "", EXAMPLE, flags=re.MULTILINE), ".env")

    result = load(path, {})

    assert names(result) == ["premium-tickers", "secondary", "tertiary"]
    assert carried(result.settings) == {
        "premium-tickers": ["T.AAPL", "Q.AAPL", "T.TSLA", "Q.TSLA"],
        "secondary": ["T.NVDA", "Q.NVDA", "T.AMD", "Q.AMD", "T.F", "Q.F"],
    }


def test_the_example_of_an_env_file_names_every_variable() -> None:
    per_connection = {f"WEBSOCKET_CONNECTION_n_{kind}" for kind in overrides._PER_CONNECTION}
    shown = set(re.sub(r"_\d+_", "_n_", EXAMPLE).replace("#", "").replace("=", " ").split())

    assert {*overrides._GENERAL, *per_connection, "MASSIVE_API_KEY", "MCM_RUN_DIR"} <= shown

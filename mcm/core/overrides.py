"""What variables of the environment (and of ``.env``) change in the settings, in the names the first users have.

Works on values that were handed in; core.settings then checks the outcome, and Overridden.blame() says which variable
a fault came from.  A variable that is set to nothing counts as not set.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from mcm.core.errors import SettingsError
from mcm.core.settings import Connection, Settings, Watchlist
from mcm.core.settings_values import nearest, shown, unlike

__all__ = ["Overridden", "override"]

DEFAULT_CHANNELS = ("AM",)
_GENERAL = (
    "USE_MULTI_CONNECTION",
    "WEBSOCKET_AUTO_REBALANCE",
    "WEBSOCKET_CHANNELS",
    "WEBSOCKET_CONNECTIONS_MAX",
    "WEBSOCKET_FAILOVER_ENABLED",
    "WEBSOCKET_HEALTH_CHECK_INTERVAL",
    "WEBSOCKET_ROUTING_STRATEGY",
)
_PER_CONNECTION = ("ENABLED", "NAME", "SYMBOLS", "UNIVERSE_KEY")
_NUMBERED = re.compile(r"WEBSOCKET_CONNECTION_(\d+)_(.*)")
_OURS = ("WEBSOCKET_", "USE_MULTI")
_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass
class Overridden:
    """Settings with the variables' values in them, not yet checked as a whole.

    Attributes:
        causes: key path → the variable that set it.
        moved: key path → what it was in the file, where the variables' watchlists have changed the numbering.
    """

    settings: Settings
    causes: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)

    def blame(self, error: SettingsError) -> SettingsError:
        """The same error, placed where people can mend it: at a variable, or at the key as the file counts it."""
        if (cause := _longest(self.causes, error.key)) is not None:
            return SettingsError(self.causes[cause], "", error.problem, error.hint)
        if (place := _longest(self.moved, error.key)) is not None:
            key = self.moved[place] + error.key.removeprefix(place)
            return SettingsError(error.where, key, error.problem, error.hint)
        return error


def _longest(places: Iterable[str], key: str) -> str | None:
    """Which of the *places* holds *key*, the innermost of them."""
    return max(
        (place for place in places if key == place or key.startswith((place + ".", place + "["))), default=None, key=len
    )


def override(settings: Settings, variables: Mapping[str, str]) -> Overridden:
    """Apply *variables*; raises SettingsError, with the variable as its place, for a value that cannot be read."""
    given = {name: value.strip() for name, value in variables.items() if value.strip()}
    _refuse_misspelt(given)
    result = Overridden(settings)
    _general(result, given)
    positions = _positions(len(settings.connections), _numbers(given, *_PER_CONNECTION))
    _connections(result, given, positions)
    _names(result, given, positions)
    _watchlists(result, given, positions)
    if _flag(given, "USE_MULTI_CONNECTION", default=True):
        _refuse_orphans(result.settings, given, positions)
    else:
        result.settings = _on_one_connection(result.settings)
    return result


def _refuse_misspelt(given: Mapping[str, str]) -> None:
    """Other programs have variables that begin like ours; what looks like one of ours must be one."""
    for variable in given:
        if (numbered := _NUMBERED.fullmatch(variable)) is not None:
            number, what = numbered.groups()
            if what not in _PER_CONNECTION:
                raise SettingsError(variable, "", "there is no such variable", unlike(what, _PER_CONNECTION))
            if number.startswith("0"):
                raise SettingsError(variable, "", "connections are counted from 1", "write the number without zeros")
        elif variable.startswith(_OURS) and variable not in _GENERAL:
            near = nearest(variable, _GENERAL, cutoff=0.85)
            if near is not None:
                raise SettingsError(variable, "", "there is no such variable", f"did you mean {near}?")


def _flag(given: Mapping[str, str], variable: str, *, default: bool) -> bool:
    text = given.get(variable)
    if text is None:
        return default
    if text.lower() not in _WORDS:
        raise SettingsError(variable, "", f"{shown(text)} is neither true nor false", f"write {' or '.join(_WORDS)}")
    return _WORDS[text.lower()]


def _number(given: Mapping[str, str], variable: str, default: int) -> int:
    text = given.get(variable)
    if text is None:
        return default
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise SettingsError(variable, "", f"{shown(text)} is not a whole number", f"write it like {default}")
    return int(text)


def _general(result: Overridden, given: Mapping[str, str]) -> None:
    account, routing = result.settings.account, result.settings.routing
    strategy = given.get("WEBSOCKET_ROUTING_STRATEGY", routing.strategy)
    result.settings = replace(
        result.settings,
        account=replace(account, max_connections=_number(given, "WEBSOCKET_CONNECTIONS_MAX", account.max_connections)),
        routing=replace(
            routing,
            strategy=strategy.lower().replace("_", "-"),
            failover=_flag(given, "WEBSOCKET_FAILOVER_ENABLED", default=routing.failover),
            auto_rebalance=_flag(given, "WEBSOCKET_AUTO_REBALANCE", default=routing.auto_rebalance),
            health_check_interval_s=_number(given, "WEBSOCKET_HEALTH_CHECK_INTERVAL", routing.health_check_interval_s),
        ),
    )
    keys = {
        "WEBSOCKET_CONNECTIONS_MAX": "account.max_connections",
        "WEBSOCKET_ROUTING_STRATEGY": "routing.strategy",
        "WEBSOCKET_HEALTH_CHECK_INTERVAL": "routing.health_check_interval_s",
    }
    result.causes.update({key: variable for variable, key in keys.items() if variable in given})


def _numbers(given: Mapping[str, str], *kinds: str) -> list[int]:
    found = (_NUMBERED.fullmatch(variable) for variable in given)
    return sorted({int(match[1]) for match in found if match is not None and match[2] in kinds})


def _connections(result: Overridden, given: Mapping[str, str], positions: Mapping[int, int]) -> None:
    """Add what the file does not have, enable and disable."""
    connections = list(result.settings.connections)
    for number, index in positions.items():
        if index == len(connections):
            connections.append(Connection(name=f"connection-{number}"))
            variables = (_variable(number, kind) for kind in _PER_CONNECTION)
            result.causes[f"connections[{index}]"] = next(variable for variable in variables if variable in given)
        enabled = _flag(given, _variable(number, "ENABLED"), default=connections[index].enabled)
        connections[index] = replace(connections[index], enabled=enabled)
    result.settings = replace(result.settings, connections=tuple(connections))


def _names(result: Overridden, given: Mapping[str, str], positions: Mapping[int, int]) -> None:
    """Rename connections; the file's pins follow."""
    connections = list(result.settings.connections)
    renamed: dict[str | None, str] = {}
    for number, index in positions.items():
        variable = _variable(number, "NAME")
        if variable in given:
            name = _slug(variable, given[variable])
            renamed[connections[index].name] = name
            connections[index] = replace(connections[index], name=name)
            result.causes[f"connections[{index}].name"] = variable
    names = [connection.name for connection in connections]
    for number, index in positions.items():
        variable = _variable(number, "NAME")
        if variable in given and names.count(names[index]) > 1:
            problem = f"another connection is called {shown(names[index])}, too"
            raise SettingsError(variable, "", problem, "give each its own name")
    watchlists = [
        replace(watchlist, connection=renamed.get(watchlist.connection, watchlist.connection))
        for watchlist in result.settings.watchlists
    ]
    result.settings = replace(result.settings, connections=tuple(connections), watchlists=tuple(watchlists))


def _variable(number: int, kind: str) -> str:
    return f"WEBSOCKET_CONNECTION_{number}_{kind}"


def _positions(known: int, numbers: Sequence[int]) -> dict[int, int]:
    """Number in the variables' names → index in the settings; those that have to be added follow the known ones."""
    added = [number for number in numbers if number > known]
    return {number: number - 1 if number <= known else known + added.index(number) for number in numbers}


def _slug(variable: str, title: str) -> str:
    slug = re.sub(r"[^a-z0-9_]+", "-", title.lower()).strip("-_")[:32].rstrip("-_")
    if not slug:
        raise SettingsError(variable, "", f"{shown(title)} cannot be a name", "write letters, digits, - and _")
    return slug


def _watchlists(result: Overridden, given: Mapping[str, str], positions: Mapping[int, int]) -> None:
    """What a connection carries by its variables takes the place of the file's watchlists that are pinned to it."""
    numbers = _numbers(given, "SYMBOLS", "UNIVERSE_KEY")
    if "WEBSOCKET_CHANNELS" in given and not numbers:
        raise SettingsError(
            "WEBSOCKET_CHANNELS",
            "",
            "has no effect here",
            "it goes with WEBSOCKET_CONNECTION_n_SYMBOLS; a file's watchlists have channels of their own",
        )
    channels = _list(given["WEBSOCKET_CHANNELS"]) if "WEBSOCKET_CHANNELS" in given else DEFAULT_CHANNELS
    owners = {number: result.settings.connections[positions[number]] for number in numbers}
    replaced = {connection.name for connection in owners.values()}
    watchlists: list[Watchlist] = []
    for index, watchlist in enumerate(result.settings.watchlists):
        if watchlist.connection not in replaced:
            result.moved[f"watchlists[{len(watchlists)}]"] = f"watchlists[{index}]"
            watchlists.append(watchlist)
    for number, connection in owners.items():
        if not connection.enabled:
            continue  # disabled with all that is its own, as ever in these variables
        symbols, universe = _variable(number, "SYMBOLS"), _variable(number, "UNIVERSE_KEY")
        key = f"watchlists[{len(watchlists)}]"
        result.causes[key] = symbols if symbols in given else universe
        result.causes[f"{key}.universe"] = universe
        if "WEBSOCKET_CHANNELS" in given:
            result.causes[f"{key}.channels"] = "WEBSOCKET_CHANNELS"
        watchlists.append(
            Watchlist(
                name=f"from-connection-{number}",
                channels=channels,
                market=connection.market,
                symbols=_list(given.get(symbols, "")),
                universe=given.get(universe),
                connection=connection.name,
            )
        )
    result.settings = replace(result.settings, watchlists=tuple(watchlists))


def _refuse_orphans(settings: Settings, given: Mapping[str, str], positions: Mapping[int, int]) -> None:
    """A connection that a variable disables must not leave watchlists of the file behind."""
    pinned = {watchlist.connection: watchlist.name for watchlist in settings.watchlists}
    for number, index in positions.items():
        variable, connection = _variable(number, "ENABLED"), settings.connections[index]
        if variable in given and not connection.enabled and connection.name in pinned:
            problem = f"disables {shown(connection.name)}, which the watchlist {shown(pinned[connection.name])} needs"
            raise SettingsError(variable, "", problem, "remove its `connection` in the file, and the strategy decides")


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _on_one_connection(settings: Settings) -> Settings:
    """Everything on the first enabled connection of each market, without pins; unknown ones stay to be refused."""
    names = {connection.name for connection in settings.connections}
    served: set[str] = set()
    connections: list[Connection] = []
    for connection in settings.connections:
        is_first = connection.enabled and connection.market not in served
        served.update({connection.market} if is_first else ())
        connections.append(replace(connection, enabled=is_first))
    watchlists = [
        replace(watchlist, connection=None) if watchlist.connection in names else watchlist
        for watchlist in settings.watchlists
    ]
    return replace(settings, connections=tuple(connections), watchlists=tuple(watchlists))

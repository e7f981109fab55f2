"""From settings, live changes and the plan to the records of core.overview."""

from collections.abc import Collection, Iterable, Mapping

from mcm.core.assignment import Wish
from mcm.core.live import Live, connections
from mcm.core.overview import Configured, ConfiguredLine, TopicRow
from mcm.core.settings import Connection, Settings, items

__all__ = ["configured", "rows", "watchlists"]


def configured(settings: Settings, live: Live) -> Configured:
    """The configuration as *live* changes have left it."""
    present = {one.name for one in connections(settings, live)}
    found = [_line(one, settings, _why_absent(one) if one.name not in present else "") for one in settings.connections]
    found += [_line(one, settings, "added by hand") for one in live.added]
    pins = {one.name: one.connection for one in settings.watchlists}
    return Configured(settings.routing.strategy, found, pins)


def _why_absent(connection: Connection) -> str:
    return "removed by hand" if connection.enabled else "disabled in the configuration"


def _line(one: Connection, settings: Settings, note: str) -> ConfiguredLine:
    pinned = [watchlist.name for watchlist in settings.watchlists if watchlist.connection == one.name]
    is_enabled = not note or note == "added by hand"
    return ConfiguredLine(one.name, one.market, is_enabled, note, one.tiers, one.max_symbols, pinned)


def watchlists(settings: Settings) -> dict[str, str]:
    """Topic → the first watchlist that wants it."""
    found: dict[str, str] = {}
    for watchlist in settings.watchlists:
        for item in items(watchlist, settings.universes):
            found.setdefault(f"{watchlist.market}.{item}", watchlist.name)
    return found


def rows(
    topics: Iterable[str],
    wanted: Mapping[str, Wish],
    carriers: Mapping[str, Collection[str]],
    rates: Mapping[str, float],
    names: Mapping[str, str],
) -> list[TopicRow]:
    """A row for each of *topics*; *names* are those of watchlists by topic."""
    return [
        TopicRow(topic, sorted(carriers.get(topic, ())), wanted[topic].copies, rates.get(topic), names.get(topic, ""))
        for topic in topics
    ]

"""From settings, live changes and the plan to the records of core.overview."""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from mcm.core.assignment import Wish
from mcm.core.gaps import GapClosed, GapOpened, GapRecord, GapRepaired, Gaps
from mcm.core.live import Live, connections
from mcm.core.overview import BriefGap, BriefGaps, Configured, ConfiguredLine, TopicRow
from mcm.core.settings import Connection, Settings, items

__all__ = ["brief_gaps", "configured", "rows", "watchlists"]


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
    *,
    names: Mapping[str, str],
    gaps: Gaps,
) -> list[TopicRow]:
    """A row for each of *topics*; *names* are those of watchlists by topic."""
    return [
        TopicRow(
            topic,
            sorted(carriers.get(topic, ())),
            wanted[topic].copies,
            rates.get(topic),
            names.get(topic, ""),
            gap.since_ns if (gap := gaps.gap_of(topic)) is not None else None,
        )
        for topic in topics
    ]


def brief_gaps(gaps: Gaps, recent: Iterable[GapRecord], names: int) -> BriefGaps:
    """Both with at most so many *names* of topics each: a line may hold ten thousand."""
    return BriefGaps(
        [
            BriefGap("open", gap.connection, gap.reason, list(islice(gap.topics, names)), len(gap.topics), gap.since_ns)
            for gap in gaps.open.values()
        ],
        [_brief(record, names) for record in recent],
    )


def _brief(record: GapRecord, names: int) -> BriefGap:
    match record:
        case GapOpened(_, line, reason, since_ns, topics):
            return BriefGap("gap_opened", line, reason, topics[:names], len(topics), since_ns)
        case GapClosed(_, line, since_ns, until_ns, how, topics):
            return BriefGap("gap_closed", line, how, topics[:names], len(topics), since_ns, until_ns)
        case GapRepaired(_, topic, since_ns, until_ns, fetched, _, published, how):
            return BriefGap("gap_repaired", "", how, [topic], 1, since_ns, until_ns, fetched, published)

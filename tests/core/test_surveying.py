from mcm.core import surveying
from mcm.core.assignment import Wish
from mcm.core.gaps import GapRecord, GapRepaired, Gaps
from mcm.core.live import Live
from mcm.core.settings import Connection, Settings, Watchlist

SETTINGS = Settings(
    connections=(Connection("one"), Connection("two"), Connection("off", enabled=False)),
    watchlists=(
        Watchlist("pinned", ("T", "Q"), symbols=("AAPL",), connection="one"),
        Watchlist("free", ("T",), symbols=("AAPL", "MSFT")),
    ),
)


def test_every_configured_connection_is_there_also_those_that_do_not_run() -> None:
    found = surveying.configured(SETTINGS, Live(added=(Connection("more"),), removed=("two",)))

    assert [(one.name, one.is_enabled, one.note) for one in found.connections] == [
        ("one", True, ""),
        ("two", False, "removed by hand"),
        ("off", False, "disabled in the configuration"),
        ("more", True, "added by hand"),
    ]
    assert found.connections[0].watchlists == ["pinned"]
    assert found.watchlists == {"pinned": "one", "free": None}


def test_a_topic_is_of_the_first_watchlist_that_wants_it() -> None:
    names = surveying.watchlists(SETTINGS)

    assert names == {"stocks.T.AAPL": "pinned", "stocks.Q.AAPL": "pinned", "stocks.T.MSFT": "free"}


def test_a_row_has_what_is_known_and_nothing_for_what_is_not() -> None:
    wanted = {topic: Wish("stocks", topic.partition(".")[2]) for topic in ("stocks.T.A", "stocks.T.B")}

    gaps = Gaps("g")
    gaps.line_ended("two", ["stocks.T.B"], since_ns=7, reason="closed")

    first, second = surveying.rows(
        wanted, wanted, {"stocks.T.A": {"two", "one"}}, {"stocks.T.A": 1.5}, names={}, gaps=gaps
    )

    assert (first.lines, first.ticks_per_s, first.copies) == (["one", "two"], 1.5, 1)
    assert (first.gap_since_ns, second.gap_since_ns) == (None, 7)
    assert (second.lines, second.ticks_per_s, second.watchlist) == ([], None, "")


def test_gaps_are_told_in_short_with_the_number_of_their_topics() -> None:
    topics = [f"stocks.T.S{number}" for number in range(1_000)]
    gaps = Gaps("g")
    recent: list[GapRecord] = gaps.line_ended("one", topics, since_ns=1, reason="closed")
    recent += gaps.carried("two", topics[:900], until_ns=5)
    recent.append(GapRepaired("g-1", topics[0], 1, 5, 9, 2, 7, "back-filled"))

    found = surveying.brief_gaps(gaps, recent, 3)

    (still,) = found.open
    opened, closed, repaired = found.recent
    assert (still.connection, still.detail, still.count, len(still.topics)) == ("one", "closed", 100, 3)
    assert (opened.ev, opened.count, len(opened.topics)) == ("gap_opened", 1_000, 3)
    assert (closed.connection, closed.detail, closed.until_ns, closed.count) == ("two", "other line", 5, 900)
    assert (repaired.topics, repaired.fetched, repaired.published) == ([topics[0]], 9, 7)

"""Live changes: what was asked for by hand beside the file, and what programs lease."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.errors import BadTopic, UsageError
from mcm.core.live import LEASE_S, Leases, Live, Subscription, connections, described, wanted
from mcm.core.settings import Connection, Settings, Watchlist

FILE = Settings(
    connections=(Connection("primary"), Connection("secondary"), Connection("spare", enabled=False)),
    watchlists=(
        Watchlist("one", ("T", "Q"), symbols=("AAPL", "MSFT"), connection="primary"),
        Watchlist("two", ("T",), symbols=("JPM",)),
    ),
)
CONFIGURED = ["stocks.T.AAPL", "stocks.Q.AAPL", "stocks.T.MSFT", "stocks.Q.MSFT", "stocks.T.JPM"]


def topics(live: Live, leased: tuple[str, ...] = ()) -> set[str]:
    return {f"{wish.market}.{wish.item}" for wish in wanted(FILE, live, leased)}


def pin(live: Live, item: str) -> str | None:
    return next(wish.connection for wish in wanted(FILE, live) if wish.item == item)


def test_without_changes_it_is_the_file() -> None:
    assert topics(Live()) == set(CONFIGURED)
    assert [one.name for one in connections(FILE, Live())] == ["primary", "secondary"]
    assert list(described(Live())) == []


def test_what_is_subscribed_is_wanted_and_what_is_unsubscribed_is_not() -> None:
    live = (
        Live()
        .subscribe(["stocks.T.NVDA"], Subscription("secondary", 2), CONFIGURED)
        .unsubscribe(["stocks.T.JPM"], CONFIGURED)
    )

    assert topics(live) == {*CONFIGURED, "stocks.T.NVDA"} - {"stocks.T.JPM"}
    (wish,) = [wish for wish in wanted(FILE, live) if wish.item == "T.NVDA"]
    assert (wish.connection, wish.copies) == ("secondary", 2)
    assert list(described(live)) == [
        "subscribed stocks.T.NVDA on secondary, 2 copies",
        "unsubscribed stocks.T.JPM",
    ]


def test_subscribing_what_was_unsubscribed_leaves_no_trace() -> None:
    live = Live().unsubscribe(["stocks.T.JPM"], CONFIGURED)

    assert live.subscribe(["stocks.T.JPM"], Subscription(), CONFIGURED) == Live()


def test_what_is_not_subscribed_cannot_be_unsubscribed() -> None:
    with pytest.raises(UsageError, match=r"stocks.T.AAPI is not subscribed; did you mean stocks.T.AAPL\?"):
        Live().unsubscribe(["stocks.T.AAPI"], CONFIGURED)


def test_a_move_is_a_pin_that_wins_over_the_file() -> None:
    live = Live().move(["stocks.T.AAPL"], "secondary")

    assert pin(live, "T.AAPL") == "secondary"
    assert pin(live, "Q.AAPL") == "primary"


def test_a_connection_that_is_removed_leaves_its_pins_to_the_strategy() -> None:
    live = Live().move(["stocks.T.JPM"], "primary").remove("primary", FILE)

    assert [one.name for one in connections(FILE, live)] == ["secondary"]
    assert pin(live, "T.AAPL") is None
    assert live.moved == {}
    assert live.add(Connection("primary"), FILE).removed == ()


def test_a_connection_is_added_once_and_paused_once() -> None:
    live = Live().add(Connection("more", "stocks"), FILE).pause("more")

    assert [one.name for one in connections(FILE, live)] == ["primary", "secondary", "more"]
    with pytest.raises(UsageError, match="there is a connection more already"):
        live.add(Connection("more"), FILE)
    with pytest.raises(UsageError, match="more is paused already; `mcm resume more` ends that"):
        live.pause("more")
    with pytest.raises(UsageError, match="primary is not paused"):
        live.resume("primary")
    assert live.remove("more", FILE) == Live()


def test_under_another_file_only_what_it_does_not_say_itself_is_left() -> None:
    live = (
        Live()
        .subscribe(["stocks.T.NVDA", "stocks.T.AMD"], Subscription(), CONFIGURED)
        .unsubscribe(["stocks.T.JPM", "stocks.Q.AAPL"], CONFIGURED)
        .add(Connection("more"), FILE)
        .move(["stocks.T.AAPL"], "more")
        .pause("secondary")
    )
    fresh = Settings(
        connections=(Connection("primary"), Connection("more")),
        watchlists=(Watchlist("one", ("T", "Q"), symbols=("AAPL", "NVDA")),),
    )

    left = live.kept_by(fresh)

    assert left == Live(
        subscribed={"stocks.T.AMD": Subscription()},
        unsubscribed=("stocks.Q.AAPL",),
        moved={"stocks.T.AAPL": "more"},
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["subscribe", "unsubscribe", "move", "pause", "resume", "add", "remove"]),
            st.sampled_from([*CONFIGURED, "stocks.T.NVDA", "stocks.T.AMD"]),
            st.sampled_from(["primary", "secondary", "more"]),
        ),
        max_size=15,
    )
)
def test_after_any_history_it_survives_the_file_and_names_no_connection_that_is_not_there(
    history: list[tuple[str, str, str]],
) -> None:
    live = Live()
    for what, topic, name in history:
        names = [one.name for one in connections(FILE, live)]
        try:
            match what:
                case "subscribe":
                    live = live.subscribe([topic], Subscription(), CONFIGURED)
                case "unsubscribe":
                    live = live.unsubscribe([topic], CONFIGURED)
                case "move" if name in names:
                    live = live.move([topic], name)
                case "pause" if name in names:
                    live = live.pause(name)
                case "resume" if name in names:
                    live = live.resume(name)
                case "add":
                    live = live.add(Connection(name), FILE)
                case "remove" if name in names:
                    live = live.remove(name, FILE)
        except UsageError:
            continue

    assert msgspec.json.decode(msgspec.json.encode(live), type=Live) == live
    names = [one.name for one in connections(FILE, live)]
    assert len(set(names)) == len(names)
    assert {wish.connection for wish in wanted(FILE, live)} <= {*names, None}
    assert live.kept_by(FILE) == live
    assert len(list(described(live))) == sum(
        map(len, (live.subscribed, live.unsubscribed, live.moved, live.paused, live.added, live.removed))
    )


def test_a_lease_lasts_half_a_minute_and_is_renewed_whole() -> None:
    leases = Leases()

    assert leases.renew("a", ["stocks.T.X", "stocks.T.Y"], 0.0)
    assert not leases.renew("a", ["stocks.T.Y", "stocks.T.X"], 10.0)
    assert leases.renew("b", ["stocks.T.Y"], 10.0)
    assert leases.topics == ["stocks.T.X", "stocks.T.Y"]
    assert dict(leases.holders) == {"a": 2, "b": 1}
    assert leases.renew("a", ["stocks.T.Y"], 20.0)
    assert not leases.expire(10.0 + LEASE_S - 0.1)
    assert leases.expire(10.0 + LEASE_S)
    assert dict(leases.holders) == {"a": 1}
    assert leases.release("a")
    assert not leases.release("a")
    assert leases.topics == []
    with pytest.raises(BadTopic):
        leases.renew("a", ["nonsense"], 0.0)


def test_what_is_leased_is_wanted_beside_all_else() -> None:
    assert topics(Live(), ("stocks.T.NVDA", "stocks.T.JPM")) == {*CONFIGURED, "stocks.T.NVDA"}

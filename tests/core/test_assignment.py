import time
from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.assignment import Plan, Wish, plan, wishes
from mcm.core.markets import MARKETS
from mcm.core.settings import Connection, Settings, Watchlist

A, B, C = (Connection(name=name) for name in ("a", "b", "c"))


def stocks(*items: str, pin: str | None = None) -> list[Wish]:
    return [Wish("stocks", item, pin) for item in items]


def carried(result: Plan) -> dict[str, list[str]]:
    return {name: list(items) for name, items in result.carries.items() if items}


# --- by example ------------------------------------------------------------------------------------------------------


def test_a_pinned_item_goes_to_its_connection_whatever_the_load() -> None:
    result = plan([A, B], stocks("T.X", "T.Y", "T.Z", pin="a"), strategy="manual")

    assert result == Plan({"a": ("T.X", "T.Y", "T.Z"), "b": ()}, {})


def test_manual_gives_free_symbols_to_the_emptiest_connection() -> None:
    wanted = stocks("T.X", "T.Y", pin="a") + stocks("T.M", "T.N", "T.O", "T.P")

    result = plan([A, B], wanted, strategy="manual")

    assert carried(result) == {"a": ["T.O", "T.X", "T.Y"], "b": ["T.M", "T.N", "T.P"]}


def test_round_robin_goes_in_turn_in_the_order_of_the_wishes() -> None:
    result = plan([A, B, C], stocks("T.Z", "T.Y", "T.X", "T.W"), strategy="round-robin")

    assert carried(result) == {"a": ["T.W", "T.Z"], "b": ["T.Y"], "c": ["T.X"]}


def test_round_robin_passes_over_a_full_connection() -> None:
    small = Connection(name="small", max_symbols=1)

    result = plan([small, A], stocks("T.W", "T.X", "T.Y", "T.Z"), strategy="round-robin")

    assert carried(result) == {"small": ["T.W"], "a": ["T.X", "T.Y", "T.Z"]}


def test_the_channels_of_one_symbol_stay_together() -> None:
    result = plan([A, B], stocks("T.X", "Q.X", "T.Y", "Q.Y"), strategy="round-robin")

    assert carried(result) == {"a": ["Q.X", "T.X"], "b": ["Q.Y", "T.Y"]}


def test_a_free_channel_joins_the_pinned_one_of_its_symbol() -> None:
    result = plan([A, B], stocks("T.X", pin="b") + stocks("Q.X"), strategy="manual")

    assert carried(result) == {"b": ["Q.X", "T.X"]}


def test_the_channels_part_when_only_one_of_them_has_room() -> None:
    line = Connection(name="line", market="options")
    wanted = [Wish("options", f"Q.O:S{number:04}") for number in range(1_000)]

    result = plan([line], [*wanted, Wish("options", "Q.O:Z"), Wish("options", "T.O:Z")], strategy="manual")

    assert "T.O:Z" in result.carries["line"]
    assert result.unplaced == {
        "options.Q.O:Z": "no room on line: 1,000 of Q are the upstream's limit for one connection"
    }


def test_a_connection_carries_its_own_market_only() -> None:
    coins = Connection(name="coins", market="crypto")

    result = plan([A, coins], [Wish("crypto", "XT.BTC-USD"), *stocks("T.X")], strategy="manual")

    assert carried(result) == {"a": ["T.X"], "coins": ["XT.BTC-USD"]}


def test_what_no_connection_serves_is_named() -> None:
    result = plan(
        [A, Connection(name="off", market="forex", enabled=False)], [Wish("forex", "C.EUR/USD")], strategy="manual"
    )

    assert result == Plan({"a": ()}, {"forex.C.EUR/USD": "no enabled connection serves forex"})


def test_a_pin_to_a_connection_that_is_not_there_is_named() -> None:
    result = plan([A], stocks("T.X", pin="gone"), strategy="manual")

    assert result.unplaced == {"stocks.T.X": "gone, where it is pinned, is no enabled connection of stocks"}


def test_more_symbols_than_all_connections_take_are_named() -> None:
    lines = [Connection(name="a", max_symbols=1), Connection(name="b", max_symbols=1)]

    result = plan(lines, stocks("T.X", "Q.X", "T.Y", "T.Z"), strategy="manual")

    assert carried(result) == {"a": ["Q.X", "T.X"], "b": ["T.Y"]}
    assert result.unplaced == {"stocks.T.Z": "no room on a, b: max_symbols is 1"}


def test_a_pinned_item_beyond_its_connections_limit_is_named_and_not_carried_elsewhere() -> None:
    lines = [Connection(name="a", max_symbols=1), B]

    result = plan(lines, stocks("T.X", "T.Y", pin="a"), strategy="manual")

    assert carried(result) == {"a": ["T.X"]}
    assert result.unplaced == {"stocks.T.Y": "no room on a, where it is pinned: max_symbols is 1"}


def test_a_wildcard_absorbs_the_single_symbols_of_its_channel() -> None:
    result = plan([A, B], stocks("T.X", "Q.X", "T.*", "T.Y"), strategy="manual")

    assert sorted(item for items in carried(result).values() for item in items) == ["Q.X", "T.*"]
    assert result.unplaced == {}


def test_wildcards_of_two_channels_share_the_load() -> None:
    result = plan([A, B], stocks("T.*", "Q.*"), strategy="manual")

    assert carried(result) == {"a": ["Q.*"], "b": ["T.*"]}


def test_a_wildcard_without_a_place_leaves_the_single_symbols_theirs() -> None:
    result = plan([Connection(name="a", max_symbols=5)], stocks("T.*", "T.X"), strategy="manual")

    assert carried(result) == {"a": ["T.X"]}
    assert "a wildcard is all symbols" in result.unplaced["stocks.T.*"]


# --- lines that are not available ------------------------------------------------------------------------------------


def test_the_items_of_a_lost_line_are_spread_over_the_others_and_nothing_else_moves() -> None:
    wanted = stocks("T.K", "T.L", "T.M", "T.N", pin="a") + stocks("T.X", pin="b") + stocks("T.Y", pin="c")

    result = plan([A, B, C], wanted, strategy="manual", available={"b", "c"})

    assert carried(result) == {"b": ["T.K", "T.M", "T.X"], "c": ["T.L", "T.N", "T.Y"]}


def test_a_line_that_comes_back_gets_its_own_items_again() -> None:
    wanted = stocks("T.K", "T.L", pin="a") + stocks("T.X")
    before = plan([A, B], wanted, strategy="manual")
    folded = plan([A, B], wanted, strategy="manual", available={"b"}, previous=before)

    after = plan([A, B], wanted, strategy="manual", available={"a", "b"}, previous=folded)

    assert folded.carries == {"a": (), "b": ("T.K", "T.L", "T.X")}
    assert after == before


def test_without_any_line_left_every_item_is_named() -> None:
    result = plan([A, B], stocks("T.X", "T.Y"), strategy="manual", available=())

    assert result.unplaced == dict.fromkeys(["stocks.T.X", "stocks.T.Y"], "no connection of stocks is available")


def test_what_the_others_have_no_room_for_is_named() -> None:
    lines = [A, Connection(name="b", max_symbols=1)]

    result = plan(lines, stocks("T.X", "T.Y", pin="a"), strategy="manual", available={"b"})

    assert carried(result) == {"b": ["T.X"]}
    assert result.unplaced == {"stocks.T.Y": "no room on b: max_symbols is 1"}


def test_a_folded_wildcard_meets_no_single_symbol_of_its_channel() -> None:
    wanted = stocks("T.*", pin="a") + stocks("T.X", "Q.X", pin="b")

    result = plan([A, B], wanted, strategy="manual", available={"b"})

    assert carried(result) == {"b": ["Q.X", "T.*"]}


# --- wishes ----------------------------------------------------------------------------------------------------------


def test_watchlists_become_wishes_each_once_and_a_pin_wins_over_none() -> None:
    settings = Settings(
        connections=(A, B),
        watchlists=(
            Watchlist(name="one", channels=("T", "Q"), symbols=("X",)),
            Watchlist(name="two", channels=("T",), symbols=("X", "Y"), connection="b"),
            Watchlist(name="three", channels=("T",), universe="tech"),
        ),
        universes={"tech": ("Y", "Z")},
    )

    assert wishes(settings) == [
        Wish("stocks", "T.X", "b"),
        Wish("stocks", "Q.X"),
        Wish("stocks", "T.Y", "b"),
        Wish("stocks", "T.Z"),
    ]


# --- for every input -------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
LINES = st.lists(
    st.builds(
        Connection,
        name=st.sampled_from(NAMES),
        market=st.sampled_from(["stocks", "crypto"]),
        enabled=st.sampled_from([True, True, True, False]),
        max_symbols=st.none() | st.integers(1, 6),
    ),
    unique_by=lambda line: line.name,
)
ITEMS = st.one_of(
    st.tuples(st.just("stocks"), st.sampled_from("TQ"), st.sampled_from("*UVWXYZ")),
    st.tuples(st.just("crypto"), st.sampled_from(["XT", "XQ"]), st.sampled_from("*UVWXYZ")),
).map(lambda parts: (parts[0], f"{parts[1]}.{parts[2]}"))
WISHES = st.dictionaries(ITEMS, st.none() | st.sampled_from(NAMES), max_size=25).map(
    lambda pins: [Wish(market, item, pin) for (market, item), pin in pins.items()]
)
STRATEGY = st.sampled_from(["manual", "round-robin"])
AVAILABLE = st.none() | st.sets(st.sampled_from(NAMES))


def is_covered(wish: Wish, lines: Sequence[Connection], result: Plan) -> bool:
    """Whether a wildcard carries it."""
    wildcard = f"{wish.item.partition('.')[0]}.*"
    mine = [line.name for line in lines if line.enabled and line.market == wish.market]
    in_force = any(wildcard in result.carries[name] for name in mine) or f"{wish.market}.{wildcard}" in result.unplaced
    return wish.item != wildcard and in_force


@given(LINES, WISHES, STRATEGY, AVAILABLE)
def test_every_wish_is_carried_once_or_unplaced_with_a_reason_or_covered_by_a_wildcard(
    lines: list[Connection], wanted: list[Wish], strategy: str, available: set[str] | None
) -> None:
    result = plan(lines, wanted, strategy=strategy, available=available)

    markets = {line.name: line.market for line in lines}
    times = Counter((markets[name], item) for name, items in result.carries.items() for item in items)
    assert set(times) <= {(wish.market, wish.item) for wish in wanted}
    for wish in wanted:
        reason = result.unplaced.get(f"{wish.market}.{wish.item}")
        if reason is not None:
            assert reason
            assert times[wish.market, wish.item] == 0
        elif times[wish.market, wish.item] == 0:
            assert is_covered(wish, lines, result)
        else:
            assert times[wish.market, wish.item] == 1


@given(LINES, WISHES, STRATEGY, AVAILABLE)
def test_no_line_is_ever_over_its_limit_and_only_available_ones_carry(
    lines: list[Connection], wanted: list[Wish], strategy: str, available: set[str] | None
) -> None:
    result = plan(lines, wanted, strategy=strategy, available=available)

    for line in lines:
        items = result.carries.get(line.name, ())
        assert len({item.partition(".")[2] for item in items}) <= (line.max_symbols or len(items))
        assert not items or (line.enabled and (available is None or line.name in available))


@given(st.integers(1, 3), st.integers(900, 3_500), STRATEGY)
def test_no_line_ever_holds_more_of_a_channel_than_the_upstream_allows(count: int, symbols: int, strategy: str) -> None:
    lines = [Connection(name=f"line-{number}", market="options") for number in range(count)]
    wanted = [Wish("options", f"Q.O:{number}") for number in range(symbols)]

    result = plan(lines, wanted, strategy=strategy)

    limit = MARKETS["options"].held_limit["Q"]
    assert max(map(len, result.carries.values())) <= limit
    assert len(result.unplaced) == max(0, symbols - count * limit)


@given(LINES, WISHES, STRATEGY, AVAILABLE)
def test_a_pin_holds_while_its_line_is_available(
    lines: list[Connection], wanted: list[Wish], strategy: str, available: set[str] | None
) -> None:
    result = plan(lines, wanted, strategy=strategy, available=available)

    for wish in wanted:
        if wish.connection is not None and (available is None or wish.connection in available):
            others = [line.name for line in lines if line.market == wish.market and line.name != wish.connection]
            assert not any(wish.item in result.carries.get(name, ()) for name in others)


@given(LINES, WISHES, STRATEGY, AVAILABLE)
def test_a_wildcard_and_a_single_symbol_of_its_channel_are_never_on_one_line(
    lines: list[Connection], wanted: list[Wish], strategy: str, available: set[str] | None
) -> None:
    result = plan(lines, wanted, strategy=strategy, available=available)

    for items in result.carries.values():
        whole = {item.partition(".")[0] for item in items if item.endswith(".*")}
        assert not [item for item in items if item.partition(".")[0] in whole and not item.endswith(".*")]


@given(LINES, WISHES, STRATEGY, st.sets(st.sampled_from(NAMES)))
def test_folding_takes_nothing_from_a_line_that_stays(
    lines: list[Connection], wanted: list[Wish], strategy: str, available: set[str]
) -> None:
    home = plan(lines, wanted, strategy=strategy)

    folded = plan(lines, wanted, strategy=strategy, available=available)

    for name in set(home.carries) & available:
        assert set(home.carries[name]) <= set(folded.carries[name])


@given(LINES, WISHES, STRATEGY, st.lists(st.sampled_from(NAMES), unique=True))
def test_one_line_lost_after_the_other_moves_only_the_items_of_that_line(
    lines: list[Connection], wanted: list[Wish], strategy: str, lost: list[str]
) -> None:
    left = set(NAMES)
    current = plan(lines, wanted, strategy=strategy)

    for name in lost:
        left.discard(name)
        then = plan(lines, wanted, strategy=strategy, available=left, previous=current)
        for other in set(current.carries) & left:
            assert set(current.carries[other]) <= set(then.carries[other])
        current = then


@given(LINES, WISHES, AVAILABLE, st.randoms())
def test_manual_does_not_depend_on_the_order_of_the_wishes(
    lines: list[Connection], wanted: list[Wish], available: set[str] | None, random: Random
) -> None:
    shuffled = random.sample(wanted, len(wanted))

    assert plan(lines, shuffled, strategy="manual", available=available) == plan(
        lines, wanted, strategy="manual", available=available
    )


def test_twice_as_many_items_cost_about_twice_as_much() -> None:
    lines = [Connection(name=f"line-{number}") for number in range(10)]

    def cost_s(symbols: int) -> float:
        wanted = [Wish("stocks", f"{channel}.S{number}") for number in range(symbols) for channel in "TQ"]
        started = time.process_time()
        result = plan(lines, wanted, strategy="manual", available=[line.name for line in lines[1:]])
        taken_s = time.process_time() - started
        assert sum(map(len, result.carries.values())) == 2 * symbols
        return taken_s

    assert min(cost_s(16_000) for _ in range(3)) < 5 * min(cost_s(8_000) for _ in range(3))


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=20),
    st.sets(st.integers(0, 3)),
    st.sampled_from(["manual", "round-robin"]),
)
def test_every_topic_is_on_as_many_available_lines_as_wanted_or_it_is_said_why_not(
    number: int, wanted: list[tuple[int, bool]], absent: set[int], strategy: str
) -> None:
    lines = [Connection(name=f"line-{index}", max_symbols=12) for index in range(number)]
    available = [line.name for index, line in enumerate(lines) if index not in absent]
    wishes = [
        Wish("stocks", f"T.S{index}", "line-0" if pinned else None, copies)
        for index, (copies, pinned) in enumerate(wanted)
    ]

    result = plan(lines, wishes, strategy=strategy, available=available)

    for wish in wishes:
        carriers = [line for line, items in result.carries.items() if wish.item in items]
        topic = f"stocks.{wish.item}"
        assert set(carriers) <= set(available)
        assert len(carriers) == wish.copies or topic in result.short or topic in result.unplaced
        assert len(carriers) <= wish.copies
    assert all(len(items) <= 12 for items in result.carries.values())


def test_while_a_copy_lives_nothing_moves_but_a_third_line_opens_another() -> None:
    lines = [Connection(name=name) for name in ("a", "b", "c")]
    wishes = [Wish("stocks", "T.AAPL", "a", 2)]
    home = plan(lines, wishes, strategy="manual")
    assert home.carries == {"a": ("T.AAPL",), "b": ("T.AAPL",), "c": ()}

    two = plan(lines[:2], wishes, strategy="manual", available=["b"])
    three = plan(lines, wishes, strategy="manual", available=["b", "c"])

    assert two.carries == {"a": (), "b": ("T.AAPL",)}
    assert two.short == {"stocks.T.AAPL": "1 of 2: no other connection is available"}
    assert three.carries == {"a": (), "b": ("T.AAPL",), "c": ("T.AAPL",)}
    assert three.short == {}

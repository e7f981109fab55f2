"""The plan while wishes, connections and what is available change: random configurations and histories."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcm.core.assignment import Difference, Plan, Wish, difference, fold, homes, plan
from mcm.core.settings import STRATEGIES, Connection
from mcm.core.strategies import ranking

NAMES = ("a", "b", "c", "d")
TIERS = ("gold", "silver", "bronze")
STRATEGY = st.sampled_from(STRATEGIES)
STICKY = st.sampled_from([name for name in STRATEGIES if name != "hash"])
LINES = st.lists(
    st.builds(
        Connection,
        name=st.sampled_from(NAMES),
        market=st.sampled_from(["stocks", "stocks", "crypto"]),
        enabled=st.sampled_from([True, True, True, False]),
        tiers=st.lists(st.sampled_from(TIERS), max_size=2, unique=True).map(tuple),
        max_symbols=st.none() | st.integers(1, 6),
    ),
    min_size=1,
    unique_by=lambda line: line.name,
)
UNLIMITED = LINES.map(lambda lines: [Connection(name=line.name, tiers=line.tiers) for line in lines])
SYMBOLS = st.sampled_from("*STUVWXYZ")
WISH = st.builds(
    lambda channel, symbol, pin, copies, tier: Wish(channel[0], f"{channel[1]}.{symbol}", pin, copies, tier),
    st.sampled_from([("stocks", "T"), ("stocks", "Q"), ("stocks", "A"), ("crypto", "XT"), ("crypto", "XQ")]),
    st.sampled_from("STUVWXYZ*"),
    st.sampled_from([None, None, None, *NAMES]),
    st.sampled_from([1, 1, 1, 2, 3]),
    st.none() | st.sampled_from(TIERS),
)
WISHES = st.lists(WISH, max_size=25, unique_by=lambda wish: (wish.market, wish.item))
FREE_SINGLES = st.lists(
    WISH.map(lambda wish: wish._replace(market="stocks", connection=None)).filter(lambda wish: "*" not in wish.item),
    max_size=20,
    unique_by=lambda wish: wish.item,
)
RATES = st.dictionaries(
    st.builds("stocks.{}.{}".format, st.sampled_from("TQA"), st.sampled_from("STUVWXYZ")), st.integers(0, 50).map(float)
)
AVAILABLE = st.sets(st.sampled_from(NAMES))


class Event(NamedTuple):
    """From here on: other connections and wishes, and these that are available."""

    connections: list[Connection]
    wanted: list[Wish]
    available: set[str]


HISTORY = st.lists(st.builds(Event, LINES, WISHES, AVAILABLE), min_size=1, max_size=4)


def markets(*settings: Sequence[Connection]) -> dict[str, str]:
    return {line.name: line.market for lines in settings for line in lines}


def carriers(result: Plan, wish: Wish, lines: Sequence[Connection]) -> list[str]:
    """The lines that carry it, by itself or by a wildcard."""
    items = {wish.item, f"{wish.item.partition('.')[0]}.*"}
    mine = [line.name for line in lines if line.market == wish.market]
    return [name for name in mine if items & set(result.carries.get(name, ()))]


def check(result: Plan, lines: Sequence[Connection], wanted: Sequence[Wish], living: set[str]) -> None:
    """All that must hold of any plan."""
    wishes = {(wish.market, wish.item) for wish in wanted}
    assert result.carries.keys() == {line.name for line in lines if line.enabled}
    for line in lines:
        items = result.carries.get(line.name, ())
        assert list(items) == sorted(set(items))
        assert {(line.market, item) for item in items} <= wishes
        assert not items or line.name in living
        if line.max_symbols is not None:
            assert len({item.partition(".")[2] for item in items}) <= line.max_symbols
        whole = {item.partition(".")[0] for item in items if item.endswith(".*")}
        assert not [item for item in items if item.partition(".")[0] in whole and not item.endswith(".*")]
    for wish in wanted:
        topic = f"{wish.market}.{wish.item}"
        there = carriers(result, wish, lines)
        if topic in result.unplaced:
            assert not any(wish.item in result.carries.get(name, ()) for name in there)
            assert result.unplaced[topic]
        elif topic in result.short:
            assert 1 <= len(there) < wish.copies
            assert result.short[topic].startswith(f"{len(there)} of {wish.copies}: ")
        elif not any(f"{wish.item.partition('.')[0]}.*" in result.carries.get(name, ()) for name in there):
            assert len(there) == wish.copies
        else:
            assert len(there) >= wish.copies


@settings(max_examples=200, deadline=None)
@given(HISTORY, STRATEGY, RATES)
def test_at_every_moment_every_topic_is_on_as_many_living_lines_as_possible_or_it_is_said_why_not(
    history: list[Event], strategy: str, rates: dict[str, float]
) -> None:
    home: Plan | None = None
    current: Plan | None = None

    for connections, wanted, available in history:
        home = homes(connections, wanted, strategy=strategy, previous=home, rates=rates)
        current = fold(home, connections, wanted, available=available, previous=current, rates=rates)

        enabled = {line.name for line in connections if line.enabled}
        check(home, connections, wanted, enabled)
        check(current, connections, wanted, enabled & available)


def apply(old: Plan, change: Difference, of_market: Mapping[str, str]) -> set[tuple[str, str]]:
    """What is carried after the change: line and topic."""
    carried = {(line, f"{of_market[line]}.{item}") for line, items in old.carries.items() for item in items}
    gone = change.removed | {topic: before for topic, (before, _) in change.moved.items()}
    come = change.added | {topic: after for topic, (_, after) in change.moved.items()}
    for topic, lines in gone.items():
        carried -= {(line, topic) for line in lines}
    for topic, lines in come.items():
        assert not {(line, topic) for line in lines} & carried
        carried |= {(line, topic) for line in lines}
    return carried


@settings(max_examples=200, deadline=None)
@given(LINES, st.tuples(WISHES, AVAILABLE), st.tuples(WISHES, AVAILABLE), STRATEGY)
def test_a_difference_applied_to_the_old_plan_gives_the_new_one(
    lines: list[Connection], before: tuple[list[Wish], set[str]], after: tuple[list[Wish], set[str]], strategy: str
) -> None:
    of_market = markets(lines)
    old, new = (plan(lines, wanted, strategy=strategy, available=up) for wanted, up in (before, after))

    change = difference(old, new, of_market)

    assert apply(old, change, of_market) == apply(new, Difference({}, {}, {}), of_market)
    assert difference(new, new, of_market) == Difference({}, {}, {})


@settings(max_examples=200, deadline=None)
@given(HISTORY, STRATEGY, RATES)
def test_when_all_lines_are_available_again_the_plan_is_that_of_the_homes(
    history: list[Event], strategy: str, rates: dict[str, float]
) -> None:
    connections, wanted, _ = history[0]
    home = homes(connections, wanted, strategy=strategy, rates=rates)
    current: Plan | None = None
    for event in history:
        current = fold(home, connections, wanted, available=event.available, previous=current, rates=rates)

    back = fold(home, connections, wanted, available=NAMES, previous=current, rates=rates)

    assert back == home


@settings(max_examples=200, deadline=None)
@given(
    st.builds(Event, LINES, WISHES, AVAILABLE), STRATEGY.filter(lambda name: name != "round-robin"), RATES, st.randoms()
)
def test_a_plan_does_not_depend_on_the_order_of_the_wishes(
    event: Event, strategy: str, rates: dict[str, float], by: Random
) -> None:
    lines, wanted, available = event
    mixed = by.sample(wanted, len(wanted))
    other_rates = dict(by.sample(sorted(rates.items()), len(rates)))

    once = plan(lines, wanted, strategy=strategy, available=available, rates=rates)
    again = plan(lines, mixed, strategy=strategy, available=available, rates=other_rates)

    assert once == again


@settings(max_examples=200, deadline=None)
@given(LINES, WISHES, STRATEGY, RATES)
def test_nothing_new_moves_nothing(
    lines: list[Connection], wanted: list[Wish], strategy: str, rates: dict[str, float]
) -> None:
    home = homes(lines, wanted, strategy=strategy, rates=rates)

    again = homes(lines, wanted, strategy=strategy, previous=home, rates=rates)

    assert again.carries == home.carries


def places(result: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, items in result.carries.items():
        for item in items:
            found.setdefault(item, []).append(name)
    return found


@settings(max_examples=200, deadline=None)
@given(LINES, FREE_SINGLES, STICKY.filter(lambda name: name != "priority"), RATES, st.data())
def test_one_wish_more_or_less_moves_no_other_item(
    lines: list[Connection], wanted: list[Wish], strategy: str, rates: dict[str, float], data: st.DataObject
) -> None:
    wanted = [wish._replace(copies=1, tier=None) for wish in wanted]
    fewer = [wish for wish in wanted if wish != data.draw(st.sampled_from(wanted))] if wanted else wanted
    before, after = data.draw(st.permutations([wanted, fewer]))
    home = homes(lines, before, strategy=strategy, rates=rates)

    then = homes(lines, after, strategy=strategy, previous=home, rates=rates)

    _, _, moved = difference(home, then, markets(lines))
    assert moved == {}


@settings(max_examples=200, deadline=None)
@given(UNLIMITED, FREE_SINGLES, STICKY, RATES, st.data())
def test_without_limits_only_a_tier_that_is_new_to_a_line_moves_others_from_it(
    lines: list[Connection], wanted: list[Wish], strategy: str, rates: dict[str, float], data: st.DataObject
) -> None:
    fewer = wanted[1:]
    before, after = data.draw(st.sampled_from([(wanted, fewer), (fewer, wanted)]))
    home = homes(lines, before, strategy=strategy, rates=rates)

    then = homes(lines, after, strategy=strategy, previous=home, rates=rates)

    rank = ranks_of(lines, wanted)
    _, _, moved = difference(home, then, markets(lines))
    assert strategy == "priority" or not moved
    for topic, (old, new) in moved.items():
        item = topic.partition(".")[2]
        for left in set(old) - set(new):
            highest = min((rank[other] for other in home.carries[left]), default=9)
            assert min(rank[other] for other in then.carries[left]) < min(highest, rank[item])


def ranks_of(lines: Sequence[Connection], wanted: Sequence[Wish]) -> dict[str, int]:
    ranks = ranking(lines)
    return {wish.item: ranks.get(wish.tier or "", len(ranks)) for wish in wanted}


@settings(max_examples=200, deadline=None)
@given(UNLIMITED, FREE_SINGLES, STICKY, RATES, st.integers(0, 3))
def test_a_connection_more_moves_nothing_and_one_less_only_what_it_had(
    lines: list[Connection], wanted: list[Wish], strategy: str, rates: dict[str, float], index: int
) -> None:
    gone = lines[index % len(lines)]
    fewer = [line for line in lines if line != gone]
    tierless = [Connection(name=line.name) for line in lines]
    home = homes(lines, wanted, strategy=strategy, rates=rates)
    few = homes(tierless[1:], wanted, strategy=strategy, rates=rates)

    without = homes(fewer, wanted, strategy=strategy, previous=home, rates=rates)
    more = homes(tierless, wanted, strategy=strategy, previous=few, rates=rates)

    if strategy != "priority":  # there other lines become those of the tier
        assert all(set(home.carries[line.name]) <= set(without.carries[line.name]) for line in fewer)
    assert all(set(items) <= set(more.carries[name]) for name, items in few.carries.items())


@settings(max_examples=200, deadline=None)
@given(UNLIMITED, FREE_SINGLES, FREE_SINGLES)
def test_priority_keeps_tiers_on_their_lines_and_apart(
    lines: list[Connection], before: list[Wish], wanted: list[Wish]
) -> None:
    wanted = [wish._replace(copies=1) for wish in wanted]
    ranks, rank = ranking(lines), ranks_of(lines, wanted)
    previous = homes(lines, before, strategy="priority")

    home = homes(lines, wanted, strategy="priority", previous=previous)

    bare = [line.name for line in lines if not line.tiers]
    lowest = max(ranks, key=lambda tier: ranks[tier], default="")
    own = {rank: [line.name for line in lines if tier in line.tiers] for tier, rank in ranks.items()}
    own[len(ranks)] = bare or [line.name for line in lines if lowest in line.tiers]
    highest = {name: min((rank[item] for item in items), default=9) for name, items in home.carries.items()}
    for item, (name,) in places(home).items():
        assert name in own[rank[item]]
        if highest[name] < rank[item]:
            assert all(highest[other] < rank[item] for other in own[rank[item]])


@settings(max_examples=200, deadline=None)
@given(LINES, WISHES, STRATEGY, AVAILABLE)
def test_where_room_is_short_no_lower_tier_has_a_place_that_a_higher_one_lacks(
    lines: list[Connection], wanted: list[Wish], strategy: str, available: set[str]
) -> None:
    lines = [Connection(name=line.name, tiers=line.tiers, max_symbols=line.max_symbols or 3) for line in lines]
    singles = {wish.item.partition(".")[2]: wish for wish in wanted}.values()
    wanted = [wish._replace(market="stocks", connection=None) for wish in singles if "*" not in wish.item]

    result = plan(lines, wanted, strategy=strategy, available=available)

    rank = ranks_of(lines, wanted)
    lacking = [rank[topic.partition(".")[2]] for topic in result.unplaced]
    assert max((rank[item] for item in places(result)), default=0) <= min(lacking, default=9)


@settings(max_examples=200, deadline=None)
@given(UNLIMITED, FREE_SINGLES, STRATEGY, AVAILABLE)
def test_folding_takes_nothing_from_a_line_that_stays_whatever_the_strategy(
    lines: list[Connection], wanted: list[Wish], strategy: str, available: set[str]
) -> None:
    home = homes(lines, wanted, strategy=strategy)

    folded = fold(home, lines, wanted, available=available)

    for name in home.carries.keys() & available:
        assert set(home.carries[name]) <= set(folded.carries[name])


# --- by example ------------------------------------------------------------------------------------------------------


A, B, C = (Connection(name=name) for name in ("a", "b", "c"))


def test_with_one_line_left_a_second_copy_is_named_as_missing_and_nothing_moves() -> None:
    wanted = [Wish("stocks", "T.AAPL", copies=2)]
    home = homes([A, B], wanted, strategy="manual")

    folded = fold(home, [A, B], wanted, available=["b"])

    assert folded.carries == {"a": (), "b": ("T.AAPL",)}
    assert folded.short == {"stocks.T.AAPL": "1 of 2: no other connection is available"}


def test_more_copies_than_connections_are_named() -> None:
    result = homes([A, B], [Wish("stocks", "T.AAPL", copies=3)], strategy="hash")

    assert result.short == {"stocks.T.AAPL": "2 of 3: only 2 connections serve stocks"}


def test_a_replacement_copy_stays_where_it_was_opened() -> None:
    lines = [A, B, C, Connection(name="d")]
    wanted = [Wish("stocks", "T.AAPL", "a", 2), Wish("stocks", "T.MSFT", "c")]
    home = homes(lines, wanted, strategy="manual")
    assert home.carries == {"a": ("T.AAPL",), "b": ("T.AAPL",), "c": ("T.MSFT",), "d": ()}
    current = fold(home, lines, wanted, available=["a", "c"], previous=home)
    assert current.carries["c"] == ("T.AAPL", "T.MSFT")

    then = fold(home, lines, wanted, available=["a", "c", "d"], previous=current)

    assert then.carries == current.carries


def test_a_folded_item_of_a_higher_tier_takes_the_place_of_a_lower_one_when_all_are_full() -> None:
    lines = [Connection(name="a", tiers=("gold",), max_symbols=1), Connection(name="b", max_symbols=1)]
    wanted = [Wish("stocks", "T.AAPL", tier="gold"), Wish("stocks", "T.ZZZZ")]
    home = homes(lines, wanted, strategy="priority")
    assert home.carries == {"a": ("T.AAPL",), "b": ("T.ZZZZ",)}

    folded = fold(home, lines, wanted, available=["b"])

    assert folded.carries == {"a": (), "b": ("T.AAPL",)}
    assert folded.unplaced == {"stocks.T.ZZZZ": "no room on b: max_symbols is 1"}


def test_a_wildcard_that_finds_no_room_leaves_its_single_symbols_to_themselves() -> None:
    lines = [A, Connection(name="b", max_symbols=5)]
    wanted = [Wish("stocks", "T.*"), Wish("stocks", "T.AAPL")]
    home = homes(lines, wanted, strategy="manual")

    folded = fold(home, lines, wanted, available=["b"])

    assert home.carries == {"a": ("T.*",), "b": ()}
    assert folded.carries == {"a": (), "b": ("T.AAPL",)}
    assert list(folded.unplaced) == ["stocks.T.*"]


def test_a_difference_names_all_lines_before_and_after() -> None:
    of_market = {"a": "stocks", "b": "stocks", "c": "crypto"}
    old = Plan({"a": ("T.X", "T.Y"), "b": ("T.Y",)}, {})
    new = Plan({"a": ("T.Z",), "b": ("T.Y",), "c": ("XT.X",)}, {})

    change = difference(old, new, of_market)

    assert change.added == {"stocks.T.Z": ("a",), "crypto.XT.X": ("c",)}
    assert change.removed == {"stocks.T.X": ("a",)}
    assert change.moved == {"stocks.T.Y": (("a", "b"), ("b",))}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_many_topics_are_all_carried_and_evenly(strategy: str) -> None:
    wanted = [Wish("stocks", f"{channel}.S{number}") for number in range(3_000) for channel in "TQ"]

    result = plan([A, B, C], wanted, strategy=strategy, available=["a", "b"])

    numbers = Counter({name: len(items) for name, items in result.carries.items()})
    assert numbers["c"] == 0
    assert min(numbers["a"], numbers["b"]) > 2_700
    assert numbers.total() == 6_000


def test_a_whole_channel_never_displaces_others_from_a_line_that_has_a_limit() -> None:
    lines = [A, Connection(name="b", max_symbols=2), Connection(name="c", tiers=("gold",))]
    wanted = [Wish("stocks", "T.S"), Wish("stocks", "T.T", copies=2), Wish("stocks", "T.*", tier="gold")]

    result = plan(lines, wanted, strategy="manual", available=["b"])

    assert result.carries["b"] == ("T.S", "T.T")
    assert "max_symbols" in result.unplaced["stocks.T.*"]

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from mcm.core.assignment import Plan, Wish, difference, homes
from mcm.core.rebalancing import Shift, load, rebalance
from mcm.core.settings import STRATEGIES, Connection
from mcm.core.strategies import ranking

A, B, C = (Connection(name=name) for name in ("a", "b", "c"))
MARKETS = {"a": "stocks", "b": "stocks", "c": "stocks"}


def stocks(*items: str, pin: str | None = None) -> list[Wish]:
    return [Wish("stocks", item, pin) for item in items]


def on_a(*items: str) -> tuple[Plan, list[Wish]]:
    """All on one line, and nothing pinned: the other came later."""
    return Plan({"a": tuple(sorted(items)), "b": ()}, {}), stocks(*items)


# --- by example ------------------------------------------------------------------------------------------------------


def test_the_load_of_a_line_is_the_sum_of_what_its_items_tick() -> None:
    plan = Plan({"a": ("T.X", "T.Y"), "b": ("Q.*",), "c": ()}, {})
    rates = {"stocks.T.X": 2.0, "stocks.T.Y": 3.0, "stocks.T.Z": 9.0, "stocks.Q.X": 4.0, "stocks.Q.Y": 0.5}

    assert load(plan, MARKETS, rates) == {"a": 5.0, "b": 4.5, "c": 0.0}


def test_nothing_moves_below_the_threshold() -> None:
    home = Plan({"a": ("T.X", "T.Y", "T.Z"), "b": ("T.W",)}, {})
    wanted = stocks("T.W", "T.X", "T.Y", "T.Z")

    assert rebalance(home, [A, B], wanted, {f"stocks.T.{symbol}": 1.0 for symbol in "WXYZ"}) == (home, [])


def test_one_large_item_goes_rather_than_many_small_ones() -> None:
    home, wanted = on_a("T.U", "T.V", "T.W", "T.X", "T.Y")
    rates = {"stocks.T.U": 1.0, "stocks.T.V": 1.0, "stocks.T.W": 4.0, "stocks.T.X": 1.0, "stocks.T.Y": 1.0}

    new, shifts = rebalance(home, [A, B], wanted, rates)

    assert shifts == [Shift("stocks.T.W", "a", "b")]
    assert new.carries == {"a": ("T.U", "T.V", "T.X", "T.Y"), "b": ("T.W",)}


def test_the_channels_of_a_symbol_go_together_where_it_makes_no_difference() -> None:
    home, wanted = on_a("Q.W", "Q.X", "Q.Y", "Q.Z", "T.W", "T.X", "T.Y", "T.Z")

    new, shifts = rebalance(home, [A, B], wanted, {f"stocks.{wish.item}": 1.0 for wish in wanted})

    assert len(shifts) == 4
    symbols = [{item.partition(".")[2] for item in items} for items in new.carries.values()]
    assert not symbols[0] & symbols[1]


def test_one_item_that_is_too_heavy_stays_and_the_others_leave_it() -> None:
    home, wanted = on_a("T.W", "T.X", "T.Y")
    rates = {"stocks.T.W": 10.0, "stocks.T.X": 1.0, "stocks.T.Y": 1.0}

    new, shifts = rebalance(home, [A, B], wanted, rates, threshold=1.0, target=1.0)

    assert sorted(load(new, MARKETS, rates).values()) == [2.0, 10.0]
    assert len(shifts) == 1


def test_pinned_items_stay_whatever_they_tick() -> None:
    home = Plan({"a": ("T.X", "T.Y"), "b": ()}, {})

    new, shifts = rebalance(
        home, [A, B], stocks("T.X", "T.Y", pin="a"), {"stocks.T.X": 1.0, "stocks.T.Y": 1.0}, threshold=1.0
    )

    assert (new, shifts) == (home, [])


def test_what_a_wildcard_carries_as_well_stays() -> None:
    home = Plan({"a": ("Q.Y", "T.X"), "b": ("T.*",), "c": ()}, {})
    wanted = [Wish("stocks", "T.*"), Wish("stocks", "T.X", None, 2), Wish("stocks", "Q.Y")]
    rates = {"stocks.T.X": 5.0, "stocks.Q.Y": 5.0}

    _, shifts = rebalance(home, [A, B, C], wanted, rates, threshold=1.0, target=1.0)

    assert shifts == [Shift("stocks.Q.Y", "a", "c")]


def test_a_full_line_takes_nothing() -> None:
    home, wanted = on_a("T.W", "T.X", "T.Y", "T.Z")
    small = Connection(name="b", max_symbols=1)

    _, shifts = rebalance(home, [A, small], wanted, {f"stocks.T.{symbol}": 1.0 for symbol in "WXYZ"})

    assert len(shifts) == 1


def test_a_copy_does_not_go_to_the_line_of_the_other() -> None:
    wanted = [Wish("stocks", "T.X", None, 2), Wish("stocks", "T.Y", None, 2)]
    home = Plan({"a": ("T.X", "T.Y"), "b": ("T.X", "T.Y"), "c": ()}, {})

    new, _ = rebalance(home, [A, B, C], wanted, {"stocks.T.X": 2.0, "stocks.T.Y": 1.0}, threshold=1.0, target=1.0)

    for item in ("T.X", "T.Y"):
        assert sum(item in items for items in new.carries.values()) == 2


def test_by_hand_it_ends_when_the_rest_is_not_worth_the_moves() -> None:
    home, wanted = on_a(*(f"T.S{number}" for number in range(1_000)))
    rates = {f"stocks.{wish.item}": 1.0 for wish in wanted}

    new, shifts = rebalance(home, [A, B], wanted, rates, threshold=1.0, target=1.0)

    assert len(shifts) == 475
    assert rebalance(new, [A, B], wanted, rates, threshold=1.0, target=1.0) == (new, [])


# --- for every input -------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
LINES = st.lists(
    st.builds(
        Connection,
        name=st.sampled_from(NAMES),
        market=st.sampled_from(["stocks", "stocks", "stocks", "crypto"]),
        enabled=st.sampled_from([True, True, True, False]),
        tiers=st.lists(st.sampled_from(["gold", "silver"]), max_size=2, unique=True).map(tuple),
        max_symbols=st.none() | st.integers(1, 8),
    ),
    min_size=1,
    unique_by=lambda line: line.name,
)
WISHES = st.lists(
    st.builds(
        lambda channel, symbol, pin, copies, tier: Wish(channel[0], f"{channel[1]}.{symbol}", pin, copies, tier),
        st.sampled_from([("stocks", "T"), ("stocks", "Q"), ("stocks", "A"), ("crypto", "XT")]),
        st.sampled_from("STUVWXYZ" * 2 + "*"),
        st.sampled_from([None, None, None, *NAMES]),
        st.sampled_from([1, 1, 1, 2]),
        st.none() | st.sampled_from(["gold", "silver"]),
    ),
    max_size=25,
    unique_by=lambda wish: (wish.market, wish.item),
)
RATE = st.sampled_from([0.0, 1.0, 1.0, 1.0, 2.0, 5.0, 30.0])
FACTORS = st.sampled_from([(1.5, 1.2), (1.0, 1.0), (1.2, 1.1)])


def shown(plan: Plan, lines: Sequence[Connection]) -> dict[str, str]:
    return {line.name: line.market for line in lines if line.name in plan.carries}


@settings(max_examples=300, deadline=None)
@given(LINES, WISHES, st.sampled_from(STRATEGIES), FACTORS, st.data())
def test_a_rebalance_keeps_every_rule_and_never_raises_the_maximum(
    lines: list[Connection], wanted: list[Wish], strategy: str, factors: tuple[float, float], data: st.DataObject
) -> None:
    rates = {f"{wish.market}.{wish.item}": data.draw(RATE) for wish in wanted}
    home = homes(lines, wanted, strategy=strategy)
    markets = shown(home, lines)

    new, shifts = rebalance(home, lines, wanted, rates, threshold=factors[0], target=factors[1])

    before, after = load(home, markets, rates), load(new, markets, rates)
    for market in set(markets.values()):
        mine = [name for name in markets if markets[name] == market]
        assert max(after[name] for name in mine) <= max(before[name] for name in mine)
        if [shift for shift in shifts if markets[shift.source] == market]:
            mean = sum(before[name] for name in mine) / len(mine)
            assert max(before[name] for name in mine) > factors[0] * mean
    assert (new.unplaced, new.short, new.strategy) == (home.unplaced, home.short, strategy)
    assert {(s.topic, s.source, s.target) for s in shifts} == moves(home, new, lines)
    assert len(shifts) == len({(shift.topic, shift.source) for shift in shifts})
    check_rules(home, new, lines, wanted, shifts)


def moves(home: Plan, new: Plan, lines: Sequence[Connection]) -> set[tuple[str, str, str]]:
    change = difference(home, new, shown(home, lines))
    assert not change.added
    assert not change.removed
    return {
        (topic, gone, come)
        for topic, (old, now) in change.moved.items()
        for gone, come in zip(sorted(set(old) - set(now)), sorted(set(now) - set(old)), strict=True)
    }


def check_rules(
    home: Plan, new: Plan, lines: Sequence[Connection], wanted: Sequence[Wish], shifts: Sequence[Shift]
) -> None:
    wishes = {f"{wish.market}.{wish.item}": wish for wish in wanted}
    by_name = {line.name: line for line in lines}
    ranks = ranking(lines)
    for line in lines:
        items = new.carries.get(line.name, ())
        assert line.max_symbols is None or len({item.partition(".")[2] for item in items}) <= line.max_symbols
        whole = {item.partition(".")[0] for item in items if item.endswith(".*")}
        assert not [item for item in items if item.partition(".")[0] in whole and not item.endswith(".*")]
    for topic, source, target in shifts:
        wish = wishes[topic]
        every = f"{wish.item.partition('.')[0]}.*"
        mine = [line.name for line in lines if line.enabled and line.market == wish.market]
        assert wish.connection is None
        assert source in mine
        assert target in mine
        assert wish.item == every or not any(every in home.carries[name] for name in mine)
        if home.strategy == "priority" and wish.tier in ranks:
            assert wish.tier in by_name[target].tiers or wish.tier not in by_name[source].tiers


@settings(max_examples=200, deadline=None)
@given(WISHES, st.sampled_from(["manual", "round-robin", "load-balanced"]), st.data())
def test_what_was_shifted_stays_there(wanted: list[Wish], strategy: str, data: st.DataObject) -> None:
    # A pinned second copy of what a wildcard carries has its own line only when the wildcard is elsewhere.
    wanted = [wish if wish.connection is None else wish._replace(copies=1) for wish in wanted]
    rates = {f"{wish.market}.{wish.item}": data.draw(RATE) for wish in wanted}
    home = homes([A, B, C], wanted, strategy=strategy)
    new, _ = rebalance(home, [A, B, C], wanted, rates, threshold=1.0, target=1.0)

    later = homes([A, B, C], wanted, strategy=strategy, previous=new, rates=rates)

    assert later.carries == new.carries


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=30, max_size=60), st.integers(2, 4))
def test_small_items_that_are_free_come_below_the_target(sizes: list[int], number: int) -> None:
    lines = [Connection(name=name) for name in NAMES[:number]]
    wanted = stocks(*(f"T.S{index}" for index in range(len(sizes))))
    rates = {f"stocks.T.S{index}": float(size) for index, size in enumerate(sizes)}
    home = homes(lines[:1], wanted, strategy="manual")

    new, shifts = rebalance(home, lines, wanted, rates, threshold=1.5, target=1.2)

    after = load(new, shown(new, lines), rates)
    assert max(after.values()) <= 1.2 * sum(sizes) / number + 5
    assert len(shifts) <= len(sizes)

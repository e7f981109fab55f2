import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcm.core.assignment import Plan, Wish, fold, homes, wishes
from mcm.core.settings import STRATEGIES, Connection, Settings, Watchlist
from mcm.core.strategies import BY_NAME, ranking, weights

A, B, C = (Connection(name=name) for name in ("a", "b", "c"))
GOLD = Connection(name="gold", tiers=("gold",))
SILVER = Connection(name="silver", tiers=("silver",))
MIXED = Connection(name="mixed", tiers=("gold", "silver"))


def stocks(*items: str, tier: str | None = None, copies: int = 1) -> list[Wish]:
    return [Wish("stocks", item, None, copies, tier) for item in items]


def carried(result: Plan) -> dict[str, list[str]]:
    return {name: list(items) for name, items in result.carries.items() if items}


def test_every_strategy_of_the_settings_is_here() -> None:
    assert set(BY_NAME) == set(STRATEGIES)


# --- manual and round-robin ------------------------------------------------------------------------------------------


def test_manual_leaves_everything_where_it_is_and_puts_what_is_new_on_the_emptiest() -> None:
    before = homes([A], stocks("T.X", "T.Y"), strategy="manual")

    after = homes([A, B], stocks("T.X", "T.Y", "T.Z"), strategy="manual", previous=before)

    assert carried(after) == {"a": ["T.X", "T.Y"], "b": ["T.Z"]}


def test_a_new_pin_moves_its_item_only() -> None:
    before = homes([A, B], stocks("T.X", "T.Y"), strategy="manual")
    wanted = [Wish("stocks", "T.X", "b"), Wish("stocks", "T.Y")]

    after = homes([A, B], wanted, strategy="manual", previous=before)

    assert carried(before) == {"a": ["T.X"], "b": ["T.Y"]}
    assert carried(after) == {"b": ["T.X", "T.Y"]}


def test_round_robin_goes_on_where_it_was() -> None:
    wanted = stocks("T.X", "T.Y")
    before = homes([A, B, C], wanted, strategy="round-robin")

    after = homes([A, B, C], [*wanted, *stocks("T.M", "T.N")], strategy="round-robin", previous=before)

    assert carried(after) == {"a": ["T.N", "T.X"], "b": ["T.Y"], "c": ["T.M"]}


# --- hash ------------------------------------------------------------------------------------------------------------


def test_hash_gives_the_same_on_every_machine() -> None:
    result = homes([A, B, C], stocks("T.AAPL", "Q.AAPL", "T.MSFT", "T.NVDA", "T.TSLA"), strategy="hash")

    assert carried(result) == {"a": ["T.MSFT"], "b": ["T.NVDA"], "c": ["Q.AAPL", "T.AAPL", "T.TSLA"]}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abcdefgh0123-", min_size=1, max_size=12), min_size=2, max_size=6, unique=True))
def test_with_hash_a_connection_that_comes_or_goes_moves_few_symbols_and_only_its_own(names: list[str]) -> None:
    lines = [Connection(name=name) for name in names]
    wanted = stocks(*(f"T.S{number}" for number in range(400)))
    all_of_them = homes(lines, wanted, strategy="hash")

    fewer = homes(lines[1:], wanted, strategy="hash")

    for line in lines[1:]:
        assert set(all_of_them.carries[line.name]) <= set(fewer.carries[line.name])
    assert len(all_of_them.carries[names[0]]) <= 2 / len(lines) * 400


@pytest.mark.parametrize("available", [["a", "b"], ["c"]])
def test_hash_folds_to_where_the_symbols_would_be_without_the_line(available: list[str]) -> None:
    lines, wanted = [A, B, C], stocks(*(f"T.S{number}" for number in range(300)))
    home = homes(lines, wanted, strategy="hash")

    folded = fold(home, lines, wanted, available=available)

    fewer = homes([line for line in lines if line.name in available], wanted, strategy="hash")
    assert carried(folded) == carried(fewer)


# --- priority --------------------------------------------------------------------------------------------------------


def test_tiers_rank_by_where_connections_name_them_first() -> None:
    assert ranking([SILVER, MIXED, GOLD]) == {"silver": 0, "gold": 1}


def test_priority_gives_each_tier_its_lines_and_keeps_the_higher_one_apart() -> None:
    wanted = stocks("T.X", "T.Y", tier="gold") + stocks("T.M", "T.N", "T.O", tier="silver")

    result = homes([MIXED, SILVER], wanted, strategy="priority")

    assert carried(result) == {"mixed": ["T.X", "T.Y"], "silver": ["T.M", "T.N", "T.O"]}


def test_priority_lets_a_lower_tier_in_where_no_higher_one_is() -> None:
    result = homes([MIXED, SILVER], stocks("T.M", "T.N", tier="silver"), strategy="priority")

    assert carried(result) == {"mixed": ["T.M"], "silver": ["T.N"]}


def test_priority_shares_a_line_with_a_higher_tier_when_its_own_are_full() -> None:
    small = Connection(name="small", tiers=("silver",), max_symbols=1)
    wanted = stocks("T.X", tier="gold") + stocks("T.M", "T.N", tier="silver")

    result = homes([MIXED, small], wanted, strategy="priority")

    assert carried(result) == {"mixed": ["T.N", "T.X"], "small": ["T.M"]}


def test_a_lower_tier_makes_way_when_a_higher_one_comes() -> None:
    low = stocks("T.M", "T.N", tier="silver")
    before = homes([MIXED, SILVER], low, strategy="priority")

    after = homes([MIXED, SILVER], low + stocks("T.X", tier="gold"), strategy="priority", previous=before)
    later = homes([MIXED, SILVER], low, strategy="priority", previous=after)

    assert carried(after) == {"mixed": ["T.X"], "silver": ["T.M", "T.N"]}
    assert carried(later) == {"silver": ["T.M", "T.N"]}


def test_priority_parts_the_channels_of_a_symbol_by_their_tiers() -> None:
    result = homes([GOLD, SILVER], stocks("T.X", tier="gold") + stocks("Q.X", tier="silver"), strategy="priority")

    assert carried(result) == {"gold": ["T.X"], "silver": ["Q.X"]}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [([GOLD, SILVER, A], "a"), ([GOLD, SILVER], "silver"), ([GOLD], "gold")],
    ids=["a line without tiers", "else of the lowest tier", "else the only one"],
)
def test_without_a_tier_a_wish_goes_to_the_least_of_lines(lines: list[Connection], expected: str) -> None:
    result = homes(lines, stocks("T.X"), strategy="priority")

    assert carried(result) == {expected: ["T.X"]}


def test_a_tier_whose_lines_are_all_down_goes_to_the_lowest_first() -> None:
    wanted = stocks("T.X", tier="gold")
    home = homes([GOLD, SILVER, A], wanted, strategy="priority")

    without_gold = fold(home, [GOLD, SILVER, A], wanted, available=["silver", "a"])
    silver_only = fold(home, [GOLD, SILVER, A], wanted, available=["silver"], previous=without_gold)

    assert carried(without_gold) == {"a": ["T.X"]}
    assert carried(silver_only) == {"silver": ["T.X"]}


def test_a_second_copy_leaves_the_lines_of_its_tier_when_there_is_only_one() -> None:
    result = homes([GOLD, SILVER, A], stocks("T.X", tier="gold", copies=2), strategy="priority")

    assert carried(result) == {"gold": ["T.X"], "a": ["T.X"]}


def test_the_tier_of_a_wish_is_the_highest_of_its_watchlists() -> None:
    def watchlist(name: str, tier: str | None) -> Watchlist:
        return Watchlist(name=name, channels=("T",), symbols=("X",), tier=tier)

    lists = tuple(watchlist(f"list-{number}", tier) for number, tier in enumerate([None, "silver", "gold", None]))

    (wish,) = wishes(Settings(connections=(GOLD, SILVER), watchlists=lists))

    assert wish.tier == "gold"


# --- load-balanced ---------------------------------------------------------------------------------------------------


def test_load_balanced_puts_the_heaviest_first_onto_the_line_with_the_least() -> None:
    rates = {"stocks.T.W": 9.0, "stocks.T.X": 5.0, "stocks.T.Y": 4.0, "stocks.T.Z": 1.0}

    result = homes([A, B], stocks("T.W", "T.X", "T.Y", "T.Z"), strategy="load-balanced", rates=rates)

    assert carried(result) == {"a": ["T.W", "T.Z"], "b": ["T.X", "T.Y"]}


def test_load_balanced_is_even_when_nothing_is_measured() -> None:
    result = homes([A, B], stocks("T.W", "T.X", "T.Y", "T.Z"), strategy="load-balanced")

    assert carried(result) == {"a": ["T.W", "T.Y"], "b": ["T.X", "T.Z"]}


def test_what_was_not_measured_counts_as_the_mean_and_what_is_silent_as_a_little() -> None:
    rates = {"stocks.T.W": 6.0, "stocks.T.X": 0.0, "crypto.XT.BTC-USD": 99.0}

    assert weights("stocks", ["T.W", "T.X", "T.Y"], rates) == {"T.W": 6.0, "T.X": 0.03, "T.Y": 3.0}
    assert weights("stocks", ["T.Y"], rates) == {"T.Y": 1.0}


def test_a_wildcard_counts_as_all_that_was_measured_of_its_channel() -> None:
    rates = {"stocks.T.W": 6.0, "stocks.T.X": 2.0, "stocks.Q.X": 1.0}

    assert weights("stocks", ["T.*", "Q.X"], rates) == {"T.*": 8.0, "Q.X": 1.0}


def test_load_balanced_folds_to_the_line_with_the_least_load_not_the_fewest_items() -> None:
    wanted = [Wish("stocks", "T.W", "a"), Wish("stocks", "T.X", "b"), Wish("stocks", "T.Y", "b"), *stocks("T.Z")]
    rates = {"stocks.T.W": 9.0, "stocks.T.X": 1.0, "stocks.T.Y": 1.0, "stocks.T.Z": 1.0}
    home = homes([A, B, C], wanted, strategy="load-balanced", rates=rates)
    assert home.carries["c"] == ("T.Z",)

    folded = fold(home, [A, B, C], wanted, available=["a", "b"], rates=rates)

    assert carried(folded) == {"a": ["T.W"], "b": ["T.X", "T.Y", "T.Z"]}

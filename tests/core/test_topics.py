import pytest

from mcm.core.errors import BadTopic
from mcm.core.topics import Topic, parse_item, parse_topic, prefixes


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("stocks.T.AAPL", Topic("stocks", "T", "AAPL")),
        ("stocks.T.BRK.B", Topic("stocks", "T", "BRK.B")),
        ("options.Q.O:SPY241220P00720000", Topic("options", "Q", "O:SPY241220P00720000")),
        ("forex.C.EUR/USD", Topic("forex", "C", "EUR/USD")),
        ("stocks.T.*", Topic("stocks", "T", "*")),
    ],
)
def test_a_topic_is_read_and_written_alike(text: str, topic: Topic) -> None:
    assert parse_topic(text) == topic
    assert str(topic) == text


def test_an_item_belongs_to_the_market_of_its_connection() -> None:
    assert parse_item("crypto", "XT.BTC-USD").item == "XT.BTC-USD"


@pytest.mark.parametrize(
    "text", ["", "AAPL", "T.AAPL", "stocks", "stocks.T", "stocks.T.", "stocks.ZZ.AAPL", "stocks.T.A,B", "stocks.T.A*"]
)
def test_what_is_no_topic_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BadTopic) as refused:
        parse_topic(text)

    assert refused.value.hint


def test_options_quotes_have_no_wildcard() -> None:
    with pytest.raises(BadTopic, match="does not offer"):
        parse_item("options", "Q.*")


def test_a_topic_selects_exactly_itself_and_not_longer_symbols() -> None:
    assert list(prefixes(["stocks.T.A"])) == [b"stocks.T.A\0"]


def test_wildcards_select_by_prefix() -> None:
    assert list(prefixes(["stocks.T.*", "crypto.*", "*"])) == [b"stocks.T.", b"crypto.", b""]


def test_a_bare_symbol_is_looked_for_in_every_channel_of_every_market() -> None:
    found = set(prefixes(["AAPL"]))

    assert {b"stocks.T.AAPL\0", b"stocks.Q.AAPL\0", b"options.T.AAPL\0"} <= found


def test_a_symbol_with_a_dot_that_starts_like_no_channel_is_a_symbol() -> None:
    assert b"stocks.T.BRK.B\0" in set(prefixes(["BRK.B"]))


def test_an_item_is_looked_for_in_the_markets_that_have_its_channel() -> None:
    assert set(prefixes(["T.AAPL", "T.AAPL"])) == {b"stocks.T.AAPL\0", b"options.T.AAPL\0", b"futures.T.AAPL\0"}


def test_a_wildcard_item_is_looked_for_in_the_markets_that_offer_it() -> None:
    assert set(prefixes(["V.*"])) == {b"indices.V."}

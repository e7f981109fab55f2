from mcm.core.cover import Cover


def test_a_topic_that_nobody_spoke_of_has_no_lines() -> None:
    cover = Cover()
    cover.put(b"stocks.T.MSFT", ["A", "B"], 0)

    assert not cover.lines_of(b"stocks.T.AAPL")


def test_one_line_is_no_cover() -> None:
    cover = Cover()
    cover.put(b"stocks.T.AAPL", ["A"], 0)

    assert not cover.lines_of(b"stocks.T.AAPL")


def test_a_wildcard_on_one_line_and_a_topic_on_another_cover_that_topic_only() -> None:
    cover = Cover()
    cover.put(b"stocks.T.*", ["A"], 0)
    cover.put(b"stocks.T.BRK.B", ["B"], 0)

    assert cover.lines_of(b"stocks.T.BRK.B") == {"A", "B"}
    assert not cover.lines_of(b"stocks.T.AAPL")
    assert not cover.lines_of(b"stocks.Q.BRK.B")


def test_what_is_said_later_counts_for_topics_asked_for_before() -> None:
    cover = Cover()
    cover.put(b"stocks.T.*", ["A", "B"], 0)
    before = cover.lines_of(b"stocks.T.AAPL")
    cover.remove(b"stocks.T.*")

    assert before == {"A", "B"}
    assert not cover.lines_of(b"stocks.T.AAPL")


def test_a_line_that_carried_a_topic_before_is_known_until_its_gap_and_for_a_while() -> None:
    cover = Cover()
    cover.put(b"stocks.T.*", ["A", "B"], 100, carried_by=["A"])
    at_first, later = cover.carried_by(b"stocks.T.AAPL", 100), cover.carried_by(b"stocks.T.AAPL", 101)
    cover.gap("A")

    assert at_first == {"A"}
    assert not later
    assert not cover.carried_by(b"stocks.T.AAPL", 100)

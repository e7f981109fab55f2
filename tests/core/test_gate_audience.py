"""Who hears what, and what has to be carried for all clients together."""

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.gate_audience import Audience, Wanted

TOPICS = ["stocks.T.A", "stocks.T.B", "stocks.T.*", "stocks.Q.A", "stocks.Q.*"]
CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from(TOPICS)))


def selects(item: str, topic: str) -> bool:
    return item == topic or (item.endswith("*") and topic.startswith(item[:-1]))


@given(CHANGES)
def test_a_client_hears_a_topic_once_by_its_name_or_by_its_channel(changes: list[tuple[bool, int, str]]) -> None:
    audience: Audience[int] = Audience()
    held: set[tuple[int, str]] = set()

    for joins, client, topic in changes:
        if joins:
            audience.join(client, [topic])
            held.add((client, topic))
        else:
            audience.leave(client, [topic])
            held.discard((client, topic))

    for topic in ("stocks.T.A", "stocks.T.B.C", "stocks.Q.A", "options.T.A"):
        expected = {client for client, item in held if selects(item, topic)}
        found = list(audience.of(topic.encode()))
        assert sorted(found) == sorted(expected)
        assert (topic.encode() in audience) == bool(expected)


def test_a_topic_is_wanted_until_some_time_after_its_last_client_has_left() -> None:
    wanted = Wanted(linger_s=30)
    wanted.add(["stocks.T.A"])
    wanted.add(["stocks.T.A", "stocks.T.B"])

    wanted.remove(["stocks.T.A"], 100)
    assert wanted.expires_at() is None
    wanted.remove(["stocks.T.A"], 101)
    assert wanted.topics(130.9) == ["stocks.T.A", "stocks.T.B"]
    assert wanted.expires_at() == 131
    assert wanted.topics(131) == ["stocks.T.B"]


def test_a_client_that_comes_back_in_time_ends_the_lingering() -> None:
    wanted = Wanted(linger_s=30)
    wanted.add(["stocks.T.A"])
    wanted.remove(["stocks.T.A"], 100)

    wanted.add(["stocks.T.A"])

    assert wanted.topics(1_000) == ["stocks.T.A"]


def test_what_nobody_can_carry_does_not_linger() -> None:
    wanted = Wanted(linger_s=30)
    wanted.add(["stocks.T.A", "stocks.T.B"])
    wanted.add(["stocks.T.B"])
    wanted.remove(["stocks.T.A", "stocks.T.B"], 100)

    wanted.forget(["stocks.T.A", "stocks.T.B"])

    assert wanted.topics(100) == ["stocks.T.B"]


@given(CHANGES)
def test_what_is_wanted_is_the_union_of_what_is_held(changes: list[tuple[bool, int, str]]) -> None:
    wanted, held = Wanted(linger_s=1), set[tuple[int, str]]()

    for joins, client, topic in changes:
        if joins and (client, topic) not in held:
            wanted.add([topic])
            held.add((client, topic))
        elif not joins and (client, topic) in held:
            wanted.remove([topic], 0)
            held.discard((client, topic))

    assert wanted.topics(1) == sorted({topic for _, topic in held})

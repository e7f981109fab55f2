from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.sequence import Numbering

MESSAGES = st.lists(st.tuples(st.sampled_from([b"stocks.T.A", b"stocks.T.B", b"crypto.XT.X"]), st.integers(1, 50)))


@given(MESSAGES)
def test_numbers_are_dense_per_topic_and_offsets_over_all(messages: list[tuple[bytes, int]]) -> None:
    numbering = Numbering(epoch=7)
    ticks_of: Counter[bytes] = Counter()

    for position, (topic, ticks) in enumerate(messages, start=1):
        offset, sequence = numbering.number(topic, ticks)
        assert offset == position
        assert sequence == ticks_of[topic] + 1
        ticks_of[topic] += ticks

    assert numbering.offset == len(messages)


def test_numbering_goes_on_where_an_earlier_router_stopped() -> None:
    numbering = Numbering(epoch=7, offset=41, next_of={b"stocks.T.A": 100})

    assert numbering.number(b"stocks.T.A", 3) == (42, 100)
    assert numbering.number(b"stocks.T.A", 1) == (43, 103)
    assert numbering.number(b"stocks.T.B", 1) == (44, 1)
